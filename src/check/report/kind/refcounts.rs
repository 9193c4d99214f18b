//! Kinds of findings about refcounts and their structures.

use super::row::{Remedy, Row, Section, Severity};

/// All of them.
pub static SECTION: Section = Section {
    heading: "Refcounts",
    intro: "",
    rows: &[
        &LEAK,
        &REFCOUNT_TOO_LOW,
        &REFCOUNT_OVERFLOW,
        &REFTABLE_RESERVED_BITS,
        &REFBLOCK_UNALIGNED,
        &REFBLOCK_OUTSIDE,
        &REFBLOCK_SHARED,
    ],
};

pub static LEAK: Row = Row {
    code: "leak",
    severity: Severity::Leak,
    lesser: None,
    remedy: Remedy::Leaks,
    hides_references: false,
    is_entry: false,
    meaning: "A refcount is higher than the references found: space that nothing uses.",
    repair: "`-r leaks` and `-r all` release it. It is held while something is damaged, blank or \
             lost that may have referred to it; `-r all --allow-data-loss` gives it up.",
};

pub static REFCOUNT_TOO_LOW: Row = Row {
    code: "refcount-too-low",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A refcount is lower than the references found: the cluster may be allocated again \
              while it is in use. Do not write to the image.",
    repair: "`-r all` raises it. Where a pointer may be what is wrong, leaked clusters are held.",
};

pub static REFCOUNT_OVERFLOW: Row = Row {
    code: "refcount-overflow",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A cluster has more references than its refcount can express.",
    repair: "`-r all` gives some of its referrers copies where nothing is leaked.",
};

pub static REFTABLE_RESERVED_BITS: Row = Row {
    code: "reftable-reserved-bits",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "Reserved bits are set in an entry of the refcount table.",
    repair: "`-r all` rebuilds the refcount structures.",
};

pub static REFBLOCK_UNALIGNED: Row = Row {
    code: "refblock-unaligned",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A refcount block does not begin at a cluster.",
    repair: "`-r all` rebuilds the refcount structures.",
};

pub static REFBLOCK_OUTSIDE: Row = Row {
    code: "refblock-outside",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A refcount block is outside the file.",
    repair: "`-r all` rebuilds the refcount structures.",
};

pub static REFBLOCK_SHARED: Row = Row {
    code: "refblock-shared",
    severity: Severity::Corruption,
    lesser: None,
    remedy: Remedy::All,
    hides_references: false,
    is_entry: false,
    meaning: "A refcount block's cluster is used for something else too.",
    repair: "`-r all` rebuilds the refcount structures where the pointer to the block is what is \
             wrong. Where an L1 or L2 entry points to it, the block stays where it is; \
             `--reattach` or `--allow-data-loss` corrects the entry.",
};
