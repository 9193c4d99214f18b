//! Kinds of findings about bitmaps.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "Bitmaps",
    intro: "Persistent bitmaps record for a backup what changed. A damaged one costs a full \
            backup, never data: remove it with `bitmap --remove`.",
    rows: &[&BITMAP_DIRECTORY, &BITMAP_ENTRY, &BITMAP_TABLE, &BITMAP_DATA, &BITMAP_IN_USE],
};

pub static BITMAP_DIRECTORY: Row = Row {
    code: "bitmap-directory",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "The bitmap directory is damaged; the message gives the reason. Leaked clusters are held.",
    repair: "`-r all --allow-data-loss` drops all bitmaps.",
};

pub static BITMAP_ENTRY: Row = Row {
    code: "bitmap-entry",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A bitmap's directory entry is damaged; the message gives the reason. QEMU does not open the \
              image, or not for writing. Leaked clusters are held.",
    repair: "`-r all --allow-data-loss` drops the bitmap; the others stay.",
};

pub static BITMAP_TABLE: Row = Row {
    code: "bitmap-table",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "Entries of a bitmap's table are damaged. Leaked clusters are held.",
    repair: "`-r all --allow-data-loss` drops the bitmap; the others stay.",
};

pub static BITMAP_DATA: Row = Row {
    code: "bitmap-data",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "A bitmap has bits set past the disk's end, where the specification requires zeroes: its \
              data was overwritten. Only `--data` looks.",
    repair: "None. Remove the bitmap.",
};

pub static BITMAP_IN_USE: Row = Row {
    code: "bitmap-in-use",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: false,
    is_entry: false,
    meaning: "A bitmap is marked as in use: a program that has the image open records in it, or the \
              last one ended without storing it. QEMU opens the image and takes such a bitmap for \
              inconsistent: it neither records nor can be read.",
    repair: "Nothing is wrong with the disk, and `-r all` leaves the bitmap as it is, as QEMU does. \
             `bitmap --remove` removes it; `-r all --allow-data-loss` drops every such bitmap.",
};
