//! Files that were cut off at any place: the check tells of it, and no repair puts anything where pointers lead.

use qcheck::check::{CheckOptions, CheckReport, Kind, Place, check};
use qcheck::error::{Error, Result};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::builder::{Builder, Content, Snapshot};
use crate::support::bytes::{cluster_size, header, poke, refcount};
use crate::support::run::{qemu_create, qemu_io};

fn options() -> CheckOptions {
    CheckOptions { threads: 1, ..CheckOptions::default() }
}

fn report(bytes: &[u8]) -> Result<CheckReport> {
    check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent)
}

/// Repairs what is left; `None` where that is refused.
fn repaired(bytes: &[u8], mode: RepairMode) -> Option<Vec<u8>> {
    let image = MemoryStorage::new(bytes.to_vec());
    match repair(&image, mode, &options(), &Silent) {
        Ok(_) => Some(image.into_inner()),
        Err(error @ (Error::NoRoom { .. } | Error::Refused(_))) => {
            let after = image.into_inner();
            let begun = after.iter().zip(bytes).position(|(is, was)| is != was);
            let (length, was) = (after.len(), bytes.len());
            assert!(
                begun.is_none() && length == was,
                "begun at {begun:?}, {was} to {length}, {mode:?}: {error}"
            );
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn images() -> Vec<Vec<u8>> {
    let base = |bits| Builder::new(80_u64 << bits).cluster_bits(bits).data(0..30, 0x11);
    let snapshot = Snapshot::own("own", &[(0, Content::Data(0x66)), (70, Content::Data(0x67))]);
    [
        base(9),
        base(9).snapshot(snapshot).at(75, Content::Compressed(0x33)),
        base(10).refcount_order(6).bitmap("day", 10, 0xf0),
        Builder::new(8 << 14).cluster_bits(14).extended_l2().data(0..6, 0x11),
    ]
    .map(|builder| builder.build().bytes)
    .into()
}

/// Every cut of every image, beside the image: at each quarter of a cluster.
fn for_all_cuts(mut look: impl FnMut(&[u8], &[u8])) {
    for image in images() {
        let step = (cluster_size(&image) / 4) as usize;
        for length in (cluster_size(&image) as usize..image.len()).step_by(step) {
            look(&image, &image[..length]);
        }
    }
}

/// Whether clusters that lie past the end as a whole were in use.
fn lost_clusters(image: &[u8], cut: &[u8]) -> bool {
    let size = cluster_size(image) as usize;
    (cut.len().div_ceil(size)..image.len() / size).any(|c| refcount(image, c as u64) > 0)
}

#[test]
fn no_image_that_was_cut_off_passes_for_sound() {
    let mut silent = Vec::new();
    for_all_cuts(|image, cut| {
        let Ok(report) = report(cut) else { return };
        if lost_clusters(image, cut) && report.tally.corruptions == 0 {
            silent.push((image.len(), cut.len(), report.findings));
        }
    });
    assert!(silent.is_empty(), "{}: {silent:#?}", silent.len());
}

/// The counts tell of it where the table that led to everything is gone.
#[test]
fn counts_past_the_end_are_an_error_where_the_l1_table_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    qemu_create(folder.path(), &["-f", "qcow2", "cut.qcow2", "1G"]);
    qemu_io(folder.path(), "cut.qcow2", "write -q 0 1M");
    let image = std::fs::read(folder.path().join("cut.qcow2")).unwrap();
    let l1 = header(&image, "l1_table_offset") as usize;
    let report = report(&image[..l1]).unwrap();
    let counted = |kind: &Kind| matches!(kind, Kind::CountedBeyondEnd { table: true });
    assert!(report.findings.iter().any(|f| counted(&f.kind)), "{:?}", report.findings);
}

/// Whether a pointer leads past the end, to more than a refcount structure, which a repair makes anew.
fn leads_past(report: &CheckReport) -> bool {
    let mut past = report.findings.iter().filter(|f| matches!(f.kind, Kind::BeyondEnd { .. }));
    past.any(|finding| !matches!(finding.place, Place::Reftable | Place::Refblock(_)))
}

#[test]
fn a_repair_makes_nothing_worse_and_takes_no_place_that_pointers_lead_to() {
    let mut refused = 0;
    for_all_cuts(|_, cut| {
        let size = cluster_size(cut) as usize;
        let table = header(cut, "refcount_table_offset") as usize;
        let mut lost = cut.to_vec();
        if table + size <= lost.len() {
            poke(&mut lost, table, 8, 0);
        }
        for (bytes, mode) in [cut, &lost[..]].into_iter().flat_map(|bytes| {
            [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy].map(|mode| (bytes, mode))
        }) {
            let Ok(before) = report(bytes) else { continue };
            let Some(after) = repaired(bytes, mode) else {
                refused += 1;
                continue;
            };
            let what = format!("{} of clusters of {size}, {mode:?}", cut.len());
            let end = report(&after).unwrap();
            assert!(
                end.tally.corruptions <= before.tally.corruptions,
                "{what}: {:#?}",
                end.findings
            );
            let shared = |kind: &Kind| matches!(kind, Kind::Overlap { .. } | Kind::SharedData);
            assert!(!end.findings.iter().any(|f| shared(&f.kind)), "{what}: {:#?}", end.findings);
            if mode != RepairMode::Lossy && leads_past(&before) {
                assert!(end.tally.corruptions > 0, "{what}: nothing tells of it any more");
            }
            assert!(repaired(&after, mode).is_none_or(|again| again == after), "{what}: no end");
        }
    });
    assert!(refused > 0, "there was room everywhere");
}
