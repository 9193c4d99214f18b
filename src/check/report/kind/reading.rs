//! Kinds of findings about reading an image.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section { heading: "Reading", intro: "", rows: &[&UNREADABLE] };

pub static UNREADABLE: Row = Row {
    code: "unreadable",
    severity: Severity::CheckError,
    lesser: None,
    remedy: Remedy::None,
    hides_references: true,
    is_entry: false,
    meaning: "The system could not read a structure; the message has the offset and the cause. \
              Copy the file to a disk that works first.",
    repair: "None, and of nothing else while there is one.",
};
