//! Kinds of findings about L1 and L2 tables and what they map.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "L1 and L2 tables",
    intro: "",
    rows: &[
        &L1_TABLES_OVERLAP,
        &L1_RESERVED_BITS,
        &L2_TABLE_UNALIGNED,
        &L2_TABLE_TWICE,
        &L2_RESERVED_BITS,
        &L2_ZERO_FLAG_RESERVED,
        &L2_ZERO_FLAG_VERSION_2,
        &COMPRESSED_COPIED,
        &COMPRESSED_WITH_DATA_FILE,
        &COMPRESSED_WITH_SUBCLUSTERS,
        &COMPRESSED_OVERLAP,
        &SUBCLUSTER_CONFLICT,
        &SUBCLUSTERS_WITHOUT_CLUSTER,
        &DATA_UNALIGNED,
        &PREALLOCATED_UNALIGNED,
        &DATA_FILE_OFFSET,
        &BEYOND_END,
        &CUT_OFF,
        &COUNTED_BEYOND_END,
        &SHARED_DATA,
        &ORPHAN_L2_TABLE,
        &BLANK_TABLE,
        &UNACCOUNTED_CLUSTERS,
        &CROSS_LINKED_DATA,
        &OVERLAP,
        &COPIED_L2_TABLE,
        &COPIED_DATA,
    ],
};

pub static L1_TABLES_OVERLAP: Row = Row {
    code: "l1-tables-overlap",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "L1 tables overlap each other and are longer than the file together. The one named \
              was not read.",
    repair: "`-r all --allow-data-loss` drops the snapshot whose table it is.",
};

pub static L1_RESERVED_BITS: Row = Row {
    code: "l1-reserved-bits",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "Reserved bits are set in an L1 entry: it was overwritten with something else.",
    repair: "`-r all` clears them where nothing else points to the table and its refcount includes \
             this reference, or puts a lost table back where the entry proves it; else \
             `--allow-data-loss` drops the entry.",
};

pub static L2_TABLE_UNALIGNED: Row = Row {
    code: "l2-table-unaligned",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "An L1 entry points into the middle of a cluster; what it maps cannot be read.",
    repair: "`-r all` puts a lost table back where the entry proves that it pointed there; else \
             `--reattach` does, or `--allow-data-loss` drops the entry.",
};

pub static L2_TABLE_TWICE: Row = Row {
    code: "l2-table-twice",
    severity: Severity::Corruption,
    lesser: Some(Severity::Notice),
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "Two L1 entries of a disk use one L2 table: writing to one guest range changes the \
              other.",
    repair: "`-r all` gives each a table of its own, unless a table is held that may belong to one \
             of them: name it with `--reattach`. The data below stays shared and is reported; \
             `--allow-data-loss` copies it too.",
};

pub static L2_RESERVED_BITS: Row = Row {
    code: "l2-reserved-bits",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "Reserved bits are set in an L2 entry.",
    repair: "`-r all` corrects it where the cluster's refcount includes this reference; else \
             `--allow-data-loss` drops the entry.",
};

pub static L2_ZERO_FLAG_RESERVED: Row = Row {
    code: "l2-zero-flag-reserved",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "The zero flag is set in an extended L2 entry, where it is reserved.",
    repair: "`-r all` corrects it where the cluster's refcount includes this reference; else \
             `--allow-data-loss` drops the entry.",
};

pub static L2_ZERO_FLAG_VERSION_2: Row = Row {
    code: "l2-zero-flag-version-2",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: true,
    meaning: "The zero flag is set in an image of version 2, which does not have it: QEMU reports \
              an input/output error there. The flag or the version is wrong.",
    repair: "`-r all --allow-data-loss` clears the flag, so that the cluster that the entry points \
             to is read.",
};

pub static COMPRESSED_COPIED: Row = Row {
    code: "compressed-copied",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "COPIED is set on a compressed cluster, which is never rewritten in place.",
    repair: "`-r all` clears it.",
};

pub static COMPRESSED_WITH_DATA_FILE: Row = Row {
    code: "compressed-with-data-file",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: true,
    meaning: "A cluster is compressed in an image whose data is in an external file.",
    repair: "`-r all --allow-data-loss` drops the entry.",
};

pub static COMPRESSED_WITH_SUBCLUSTERS: Row = Row {
    code: "compressed-with-subclusters",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "A compressed cluster has subclusters, which cannot be.",
    repair: "`-r all` corrects it where the refcounts include this reference; else \
             `--allow-data-loss` drops the entry.",
};

pub static COMPRESSED_OVERLAP: Row = Row {
    code: "compressed-overlap",
    severity: Severity::Corruption,
    lesser: Some(Severity::Notice),
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "Two compressed clusters overlap: one of them has lost data.",
    repair: "`-r all` gives each a copy of its own, so that no later write changes both, unless \
             clusters are held that one of them may have pointed to.",
};

pub static SUBCLUSTER_CONFLICT: Row = Row {
    code: "subcluster-conflict",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: false,
    is_entry: true,
    meaning: "Subclusters are marked both allocated and zero.",
    repair: "`-r all --allow-data-loss` makes them allocated.",
};

pub static SUBCLUSTERS_WITHOUT_CLUSTER: Row = Row {
    code: "subclusters-without-cluster",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: true,
    meaning: "Subclusters are marked allocated where there is no cluster.",
    repair: "`-r all --allow-data-loss` makes them unallocated.",
};

pub static DATA_UNALIGNED: Row = Row {
    code: "data-unaligned",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "An entry points to data in the middle of a cluster.",
    repair: "`-r all` corrects it where the cluster's refcount includes this reference; else \
             `--allow-data-loss` drops the entry.",
};

pub static PREALLOCATED_UNALIGNED: Row = Row {
    code: "preallocated-unaligned",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: true,
    meaning: "A zero cluster has a host offset that does not begin at a cluster. It reads as \
              zeroes in any case.",
    repair: "`-r all` corrects the offset where the refcounts include this reference, or removes it \
             where nothing is leaked; else `--allow-data-loss` does.",
};

pub static DATA_FILE_OFFSET: Row = Row {
    code: "data-file-offset",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: true,
    meaning: "In an external data file the offset must be the guest's, and is not: QEMU reports an \
              input/output error there.",
    repair: "`-r all --allow-data-loss` takes the guest's offset.",
};

pub static BEYOND_END: Row = Row {
    code: "beyond-end",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: true,
    meaning: "A pointer refers past the end of the file: the file was cut off, or the \
              pointer is damaged. Leaked clusters are held.",
    repair: "`-r all --allow-data-loss` drops what points there; `-r all` puts a lost L2 table \
             back where a damaged L1 entry proves it.",
};

pub static CUT_OFF: Row = Row {
    code: "cut-off",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "The file ends within a table, or less than a cluster before one. What is missing \
              reads as if it had never been written, and QEMU reports nothing. Copy the file again.",
    repair: "`-r all --allow-data-loss` makes that final: it fills the table with zeroes.",
};

pub static COUNTED_BEYOND_END: Row = Row {
    code: "counted-beyond-end",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::None,
    hides_references: false,
    is_entry: false,
    meaning: "Clusters past the end of the file have refcounts: what wrote the image last may not \
              have ended, or the file was cut off and nothing points to what is missing. A repair \
              leaves these refcounts as they are.",
    repair: "None. Copy the file again.",
};

pub static SHARED_DATA: Row = Row {
    code: "shared-data",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "Several guest positions use the same clusters: legitimate where the refcount is \
              right and COPIED is clear, but QEMU never does it. Leaked clusters beside it are \
              held.",
    repair: "`-r all` gives each position a copy where the refcount or a COPIED flag shows that it \
             is a mistake, and nothing is leaked; `-r all --allow-data-loss` copies beside leaks \
             too.",
};

pub static ORPHAN_L2_TABLE: Row = Row {
    code: "orphan-l2-table",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "A leaked cluster has the form of an L2 table, and what it points to is leaked too: \
              guest data to which an L1 entry pointed before it was lost. The L1 entries that may \
              have pointed to it are named. It is held.",
    repair: "`-r all` puts it back only where a damaged L1 entry itself proves that it pointed \
             there. An empty L1 entry is valid and proves nothing: `-r all --reattach` puts back \
             each table that only one entry can have pointed to, `--reattach CLUSTER=L1INDEX` the \
             one that you name, with `@SNAPSHOTID` into the L1 table of a snapshot. `-r all \
             --allow-data-loss` gives the table up.",
};

pub static BLANK_TABLE: Row = Row {
    code: "blank-table",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "An L1 table, an L2 table or a part of one, or a bitmap table is all zeroes, and \
              leaked clusters hold data that it may have pointed to. They are held.",
    repair: "`-r all --allow-data-loss` gives the clusters up. Compare with a backup first.",
};

pub static UNACCOUNTED_CLUSTERS: Row = Row {
    code: "unaccounted-clusters",
    severity: Severity::Notice,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "Clusters seem leaked, and something else is damaged that may have pointed to them; \
              the damaged places are named. They are held.",
    repair: "`-r all` repairs what is certain; what is left is held. `-r all --allow-data-loss` \
             gives the clusters up.",
};

pub static CROSS_LINKED_DATA: Row = Row {
    code: "cross-linked-data",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::DataLoss,
    hides_references: true,
    is_entry: false,
    meaning: "After a repair: several guest positions use the same clusters, one of them lost its \
              own, and no copy could be made. Refcounts and COPIED flags agree with it, so that \
              later checks report `shared-data` only. Copy the image, and compare the guest's \
              files with a backup.",
    repair: "`-r all --allow-data-loss` gives each position a copy, and releases what is held.",
};

pub static OVERLAP: Row = Row {
    code: "overlap",
    severity: Severity::Corruption,
    lesser: Some(Severity::Notice),
    remedy: Remedy::All,
    hides_references: true,
    is_entry: false,
    meaning: "A cluster of metadata is used for something else too. Copy the image at once; do not \
              write to it. As a notice: the refcount of the same cluster reports it already. What \
              is in dispute is not written, and leaked clusters are held.",
    repair: "`-r all` gives guest data a copy elsewhere where nothing is leaked; \
             `--allow-data-loss` does so beside leaks, drops an encrypted cluster's entry, and \
             empties pointers to what is another structure.",
};

pub static COPIED_L2_TABLE: Row = Row {
    code: "copied-l2-table",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "COPIED of an L1 entry disagrees with the refcount of its table. Set on a shared \
              table, a write changes a snapshot.",
    repair: "`-r all` corrects it, `-r leaks` where no refcount is too low.",
};

pub static COPIED_DATA: Row = Row {
    code: "copied-data",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "COPIED of an L2 entry disagrees with the refcount of its cluster.",
    repair: "`-r all` corrects it, `-r leaks` where no refcount is too low.",
};
