//! Kinds of findings about the header.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "Header",
    intro: "",
    rows: &[
        &HEADER_FIELD,
        &BACKING_FORMAT,
        &DATA_FILE_UNNAMED,
        &ENCRYPTION_HEADER,
        &DIRTY,
        &MARKED_CORRUPT,
    ],
};

pub static HEADER_FIELD: Row = Row {
    code: "header-field",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "A header field or extension is out of range, or contradicts the rest of the image, \
              so that what it points to cannot be used.",
    repair: "`-r all` corrects it where the rest of the image proves the right value; where the \
             file fits another cluster size or refcount width, it is refused. `-r all \
             --allow-data-loss` searches the file for the value or for a whole header, and drops \
             what cannot be found. A compression type that does not exist stays where no \
             compressed cluster shows which is right.",
};

pub static BACKING_FORMAT: Row = Row {
    code: "backing-format",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::None,
    hides_references: true,
    is_entry: false,
    meaning: "The format recorded for the backing file has a name that no QEMU supports, or one that \
              is longer than QEMU takes, with or without a backing file: no QEMU opens the image.",
    repair: "None. Where the length is right, `qemu-img rebase -u` records another format.",
};

pub static DATA_FILE_UNNAMED: Row = Row {
    code: "data-file-unnamed",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "The data is in an external file that the image does not name. QEMU opens the image \
              only where the option `data-file.filename` names that file.",
    repair: "None.",
};

pub static ENCRYPTION_HEADER: Row = Row {
    code: "encryption-header",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::None,
    hides_references: true,
    is_entry: false,
    meaning: "The LUKS header is damaged; the message gives the reason. QEMU opens the image with no \
              passphrase. Salts, digests and the key material are not looked at, since only a \
              passphrase shows whether they are right.",
    repair: "None. Restore the header's clusters from a backup of the image.",
};

pub static DIRTY: Row = Row {
    code: "dirty",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::Leaks,
    hides_references: false,
    is_entry: false,
    meaning: "The image was not closed after writes with lazy refcounts; its refcounts may be \
              stale.",
    repair: "`-r leaks` and `-r all` clear the bit once the image has no errors.",
};

pub static MARKED_CORRUPT: Row = Row {
    code: "marked-corrupt",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::Leaks,
    hides_references: false,
    is_entry: false,
    meaning: "QEMU met damage while it was writing and set the corrupt bit; it refuses to write \
              the image until it is repaired. qcheck sets the bit while a repair is under way.",
    repair: "`-r leaks` and `-r all` clear the bit once the image has no errors.",
};
