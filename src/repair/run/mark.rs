//! The corrupt bit while a repair is under way: QEMU does not write to an image that has it, so
//! that a repair that was interrupted is not mistaken for one that has ended.

use crate::check::{Finding, Kind, Survey};
use crate::format::feature::incompatible::CORRUPT;
use crate::format::header::{HeaderField, encode_field};
use crate::repair::plan::step::{CountChange, Step, Write};

/// What the stage that sets the bit writes.
pub const WHAT: &str = "the corrupt bit in the header";

/// The position of the bits.
pub fn place() -> u64 {
    HeaderField::Incompatible.place().0
}

/// Whether a version 3 image has the bit.
pub fn is_set(survey: &Survey) -> bool {
    let header = &survey.area.header;
    header.version >= 3 && header.incompatible & CORRUPT != 0
}

/// Whether two checks found the same, but for the remark on the bit.
pub fn is_all_else_equal(one: &[Finding], other: &[Finding]) -> bool {
    let is_else = |finding: &&Finding| finding.kind != Kind::MarkedCorrupt;
    one.iter().filter(is_else).eq(other.iter().filter(is_else))
}

/// What sets the bit, where there is one and it is clear.
pub fn setting(survey: &Survey) -> Option<Vec<u8>> {
    let header = &survey.area.header;
    (header.version >= 3 && !is_set(survey))
        .then(|| encode_field(HeaderField::Incompatible, header.incompatible | CORRUPT))
}

/// Whether an image in which any part of this has arrived is as safe to write to as it was before.
/// Where nothing but leaks is wrong, a guest may go on after a crash as if nothing had happened.
pub fn is_harmless(step: &Step, survey: &Survey) -> bool {
    match &step.write {
        Write::Counts { change: CountChange::Raise, .. } | Write::Copied { set: false, .. } => true,
        Write::Counts { .. } => survey.report.tally.corruptions == 0,
        _ => false,
    }
}
