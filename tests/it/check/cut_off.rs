//! Files that were cut off at any place: the check reports it, and no repair puts anything where pointers refer.

use qcheck::check::{
    CheckOptions, CheckReport, Finding, Kind, Place, RegionKind, Severity, Source, check,
};
use qcheck::error::{Error, Result};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{cluster_size, header, poke, refcount, set_refcount};
use crate::support::programs::run::{qemu_create, qemu_io};

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
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

/// Whether clusters that are past the end as a whole were in use.
fn lost_clusters(image: &[u8], cut: &[u8]) -> bool {
    let size = cluster_size(image) as usize;
    (cut.len().div_ceil(size)..image.len() / size).any(|c| refcount(image, c as u64) > 0)
}

#[test]
fn no_image_that_was_cut_off_is_called_clean() {
    let mut silent = Vec::new();
    for_all_cuts(|image, cut| {
        let Ok(report) = report(cut) else { return };
        if lost_clusters(image, cut) && report.tally.corruptions == 0 {
            silent.push((image.len(), cut.len(), report.findings));
        }
    });
    assert!(silent.is_empty(), "{}: {silent:#?}", silent.len());
}

/// The table that pointed to everything is gone as a whole, and takes less than a cluster.
#[test]
fn a_file_that_ends_before_its_l1_table_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    qemu_create(folder.path(), &["-f", "qcow2", "cut.qcow2", "1G"]);
    qemu_io(folder.path(), "cut.qcow2", "write -q 0 1M");
    let image = std::fs::read(folder.path().join("cut.qcow2")).unwrap();
    let l1 = header(&image, "l1_table_offset") as usize;
    let report = report(&image[..l1]).unwrap();
    let cut = |f: &&Finding| matches!(f.kind, Kind::CutOff { bytes: 16, .. });
    let place = report.findings.iter().find(cut).map(|finding| finding.place);
    assert_eq!(place, Some(Place::L1Table(Source::Active)), "{:?}", report.findings);
}

/// QEMU counts in sectors of 512 bytes, and so sees a whole table where the last one ends early.
#[test]
fn a_table_that_lacks_a_byte_is_cut_off() {
    let image = Builder::new(4 << 20).data(0..30, 0x11).bitmap("day", 12, 1).build().bytes;
    for missing in [1, 7, 511] {
        let report = report(&image[..image.len() - missing]).unwrap();
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        let cut = Kind::CutOff { owner: RegionKind::Reftable, bytes: missing as u64 };
        assert_eq!((&finding.kind, finding.severity()), (&cut, Severity::Corruption));
    }
}

/// Refcounts past the end are the only sign of what is missing where nothing points to it.
#[test]
fn refcounts_past_the_end_stay_as_they_are() {
    let image = Builder::new(4 << 20).data(0..9, 0x11).build().bytes;
    let mut counted = image.clone();
    let clusters = image.len() as u64 / cluster_size(&image);
    (clusters + 2..clusters + 6).for_each(|cluster| set_refcount(&mut counted, cluster, 1));
    let modes = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];
    for mode in modes {
        assert!(repaired(&counted, mode).is_some_and(|after| after == counted), "{mode:?}");
    }
    // Beside a leak in the same block.
    let mut leaking = counted.clone();
    set_refcount(&mut leaking, 4, 2);
    for mode in modes {
        assert!(repaired(&leaking, mode).is_some_and(|after| after == counted), "{mode:?}");
    }
}

/// Whether a pointer refers past the end, to more than a refcount structure, which a repair rebuilds.
fn leads_past(report: &CheckReport) -> bool {
    let mut past = report.findings.iter().filter(|f| matches!(f.kind, Kind::BeyondEnd { .. }));
    past.any(|finding| !matches!(finding.place, Place::Reftable | Place::Refblock(_)))
}

#[test]
fn a_repair_makes_nothing_worse_and_takes_no_cluster_that_pointers_refer_to() {
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
                assert!(end.tally.corruptions > 0, "{what}: nothing reports it any more");
            }
            assert!(repaired(&after, mode).is_none_or(|again| again == after), "{what}: no end");
        }
    });
    assert!(refused > 0, "there was free space everywhere");
}
