//! Kinds of findings about guest data and the files that an image names.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "Data",
    intro: "Only `--data` and `--digest` look for these.",
    rows: &[
        &COMPRESSED_DATA,
        &DATA_UNREADABLE,
        &DATA_BEYOND_END,
        &DATA_FILE,
        &BACKING_FILE,
        &NOT_OPENED,
        &NO_DIGEST,
    ],
};

pub static COMPRESSED_DATA: Row = Row {
    code: "compressed-data",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "A compressed cluster cannot be decompressed, or yields less than a cluster: guests \
              get an error there.",
    repair: "None. Restore the guest range from a backup.",
};

pub static DATA_UNREADABLE: Row = Row {
    code: "data-unreadable",
    severity: Severity::CheckError,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "The system could not read guest data. Copy the file to a disk that works first.",
    repair: "None.",
};

pub static DATA_BEYOND_END: Row = Row {
    code: "data-beyond-end",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "An entry points past the end of the external data file, which was cut off; \
              it reads as zeroes.",
    repair: "None. Restore the data file.",
};

pub static DATA_FILE: Row = Row {
    code: "data-file",
    severity: Severity::Corruption,
    lesser: Some(Severity::CheckError),
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "The external data file is missing, has no name or is not a file (a folder, a pipe, a \
              character device), or a raw one is shorter than the disk. A check error where it may \
              be right and could not be opened.",
    repair: "None. Restore the data file.",
};

pub static BACKING_FILE: Row = Row {
    code: "backing-file",
    severity: Severity::Corruption,
    lesser: Some(Severity::CheckError),
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "A file of the backing chain is missing or is not a file (a folder, a pipe, a \
              character device), is not of the recorded format, has no recorded format and begins \
              like one, or refers back into the chain. A check error where it may be right and \
              could not be opened, or has a format that is not supported.",
    repair: "None. Another name or format is recorded by `qemu-img rebase -u`.",
};

pub static NOT_OPENED: Row = Row {
    code: "not-opened",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "A file that the image names was not opened, or the data of a disk that holds too \
              much for its file not read, since the policy denies it: what is there was not \
              verified.",
    repair: "None.",
};

pub static NO_DIGEST: Row = Row {
    code: "no-digest",
    severity: Severity::Corruption,
    lesser: Some(Severity::CheckError),
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "A disk has no digest since a part of it cannot be read; the message names the part \
              and why. A check error where that is not damage of the image: a missing key, a file \
              that cannot be opened.",
    repair: "None. Repair the damage that the message names.",
};
