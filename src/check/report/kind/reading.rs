//! Kinds of findings about reading an image.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section =
    Section { heading: "Reading", intro: "", rows: &[&UNREADABLE, &IN_FLUX] };

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

pub static IN_FLUX: Row = Row {
    code: "in-flux",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "Only `--live` has these. Another program writes the image, and what was found can be \
              seen of an image without errors too: the message names the kind. It changed while it \
              was read, or it is a refcount that is too high, whose reference may still be in the \
              other program's memory, or a refcount of an image with lazy refcounts.",
    repair: "None. Check the image once nothing writes it.",
};
