//! Kinds of findings about the snapshot table.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "Snapshots",
    intro: "",
    rows: &[
        &TOO_MANY_SNAPSHOTS,
        &SNAPSHOT_TABLE_TOO_BIG,
        &SNAPSHOT_TABLE_BROKEN,
        &SNAPSHOT_BLANK,
        &SNAPSHOTS_UNCOUNTED,
        &SNAPSHOT_EXTRA_TOO_LARGE,
        &SNAPSHOT_INCOMPLETE,
        &SNAPSHOT_ID_TWICE,
        &SNAPSHOTS_WITH_DATA_FILE,
        &SNAPSHOT_L1_UNALIGNED,
        &SNAPSHOT_L1_TOO_LARGE,
        &SNAPSHOT_L1_TOO_SMALL,
    ],
};

pub static TOO_MANY_SNAPSHOTS: Row = Row {
    code: "too-many-snapshots",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "The header counts more snapshots than QEMU opens (65,536).",
    repair: "`-r all` drops those over the limit; what they have is held.",
};

pub static SNAPSHOT_TABLE_TOO_BIG: Row = Row {
    code: "snapshot-table-too-big",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "The table is longer than QEMU's limit of 64 MiB.",
    repair: "`-r all` drops the entries over it; what they have is held.",
};

pub static SNAPSHOT_TABLE_BROKEN: Row = Row {
    code: "snapshot-table-broken",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "The table ends early or does not begin at a cluster. Snapshots after the break are \
              lost to every program. What they may have is held.",
    repair: "`-r all --allow-data-loss` keeps the snapshots before the break.",
};

pub static SNAPSHOT_BLANK: Row = Row {
    code: "snapshot-blank",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A snapshot table entry has no ID: the table was overwritten, most likely with \
              zeroes. What snapshots may have is held.",
    repair: "`-r all --allow-data-loss` drops the snapshots that cannot be read.",
};

pub static SNAPSHOTS_UNCOUNTED: Row = Row {
    code: "snapshots-uncounted",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "After the last snapshot that the header counts there is a complete entry in the \
              snapshot table, whose L1 table is leaked: the number of snapshots in the header may \
              be damaged. What the snapshot may have is held.",
    repair: "`-r all --allow-data-loss` gives the snapshot up.",
};

pub static SNAPSHOT_EXTRA_TOO_LARGE: Row = Row {
    code: "snapshot-extra-too-large",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "An entry has more extra data than QEMU takes (1,024 bytes).",
    repair: "`-r all` drops the rest of that data.",
};

pub static SNAPSHOT_INCOMPLETE: Row = Row {
    code: "snapshot-incomplete",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A version 3 entry lacks the size of VM state or disk.",
    repair: "`-r all` adds them.",
};

pub static SNAPSHOT_ID_TWICE: Row = Row {
    code: "snapshot-id-twice",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "Two snapshots have the same id, so commands cannot distinguish them by it.",
    repair: "`-r all` gives the later one an id of its own.",
};

pub static SNAPSHOTS_WITH_DATA_FILE: Row = Row {
    code: "snapshots-with-data-file",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "An image with an external data file cannot have snapshots: their data is not kept.",
    repair: "`-r all --allow-data-loss` drops them.",
};

pub static SNAPSHOT_L1_UNALIGNED: Row = Row {
    code: "snapshot-l1-unaligned",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A snapshot's L1 table does not begin at a cluster; the snapshot cannot be read.",
    repair: "`-r all --allow-data-loss` drops the snapshot; until then leaked clusters are held.",
};

pub static SNAPSHOT_L1_TOO_LARGE: Row = Row {
    code: "snapshot-l1-too-large",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A snapshot's L1 table is over QEMU's limit of 32 MiB; the snapshot cannot be read.",
    repair: "`-r all --allow-data-loss` corrects the length where the snapshot's sizes give it, \
             else drops the snapshot; until then leaked clusters are held.",
};

pub static SNAPSHOT_L1_TOO_SMALL: Row = Row {
    code: "snapshot-l1-too-small",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A snapshot's L1 table does not cover its disk; what is past its end reads as nothing.",
    repair: "`-r all --allow-data-loss` corrects the length where the snapshot's sizes give it, \
             else drops the snapshot; until then leaked clusters are held.",
};
