//! The builder is a second opinion only as long as qemu-img agrees with it.

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes;
use crate::support::programs::oracle::{Scratch, compare_check, guest_bytes};

const CLUSTER: usize = 4096;

/// One of everything a plain image can hold.
fn rich() -> Builder {
    Builder::new(4 << 20)
        .data(0..5, 0x11)
        .at(7, Content::Zero)
        .at(8, Content::ZeroOver(0x22))
        .at(9, Content::Compressed(0x33))
        .at(10, Content::Compressed(0x44))
        .at(700, Content::Data(0x55))
        .feature_names()
        .extension(0x1234_5678, b"unknown")
}

/// Everything the builder can build, by name, that qemu-img can open.
fn openable() -> Vec<(String, Builder)> {
    let mut all = vec![
        ("rich".to_owned(), rich()),
        ("version 2".into(), Builder { extensions: Vec::new(), ..rich() }.version(2).no_zeroes()),
        (
            "shared snapshots".into(),
            rich().snapshot(Snapshot::shared("a")).snapshot(Snapshot::shared("b")),
        ),
        ("own snapshot".into(), rich().snapshot(Snapshot::own("own", &[(1, Content::Data(9))]))),
        ("VM state".into(), rich().snapshot(Snapshot { vm_clusters: 3, ..Snapshot::shared("vm") })),
        (
            "extra data".into(),
            rich().snapshot(Snapshot { extra: vec![7; 40], ..Snapshot::shared("x") }),
        ),
        ("bitmaps".into(), rich().bitmap("day", 16, 0xf0).bitmap("hour", 9, 0)),
        ("empty".into(), Builder::new(0)),
        ("corrupt bit".into(), Builder { incompatible: 2, ..rich() }),
        ("lazy".into(), Builder { compatible: 1, ..rich() }),
    ];
    for bits in [9, 10, 12, 16, 21] {
        let builder = Builder::new(4 << 20).cluster_bits(bits).data(0..2, 0x66);
        all.push((format!("cluster bits {bits}"), builder));
    }
    for order in 0..=6 {
        all.push((format!("refcount order {order}"), rich().uncompressed().refcount_order(order)));
    }
    let subclusters = Content::Subclusters { allocated: 0xff, zero: 0xff00_0000, byte: 0x88 };
    let extended = Builder::new(4 << 20).cluster_bits(14).extended_l2().data(0..3, 1);
    all.push(("subclusters".into(), extended.at(4, subclusters).at(5, Content::Zero)));
    for raw in [false, true] {
        let builder = Builder::new(4 << 20).data_file("data.raw", raw).data(0..3, 0x99);
        all.push((format!("data file, raw {raw}"), builder));
    }
    all
}

impl Builder {
    /// Without zero clusters, which version 2 lacks.
    fn no_zeroes(mut self) -> Self {
        self.contents.retain(|(_, c)| !matches!(c, Content::Zero | Content::ZeroOver(_)));
        self
    }

    /// Without compressed clusters, which share host clusters and which encrypted images can't have.
    fn uncompressed(mut self) -> Self {
        self.contents.retain(|(_, c)| !matches!(c, Content::Compressed(_)));
        self
    }
}

#[test]
fn every_built_image_is_clean_to_qemu_img() {
    for (name, builder) in openable() {
        let ran = Scratch::with_built(&builder.build()).qemu_check(&[]);
        assert_eq!(ran.code, 0, "{name}: {ran:#?}");
    }
}

#[test]
fn qcheck_agrees_that_every_built_image_is_clean() {
    let mut differences = Vec::new();
    for (name, builder) in openable() {
        let scratch = Scratch::with_built(&builder.build());
        differences.extend(compare_check(&scratch, &[]).map(|d| format!("{name}: {d}")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn a_built_image_whose_backing_file_is_missing_is_clean_to_qcheck() {
    for format in [None, Some("raw")] {
        let built = rich().backing("nowhere.raw", format).build();
        let ran = Scratch::with_built(&built).own_check(&[]);
        assert_eq!(ran.code, 0, "{ran:#?}");
    }
}

#[test]
fn a_built_image_whose_key_is_missing_is_clean_to_qcheck() {
    let scratch = Scratch::with_built(&rich().uncompressed().encrypted().build());
    let ran = scratch.own_check(&[]);
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn the_guest_reads_what_the_builder_put_there() {
    let built = rich().snapshot(Snapshot::own("own", &[(1, Content::Data(9))])).build();
    let scratch = Scratch::with_built(&built);
    let active = guest_bytes(&scratch, None).expect("the active disk is readable");
    for (cluster, byte) in
        [(0, 0x11), (4, 0x11), (6, 0), (7, 0), (8, 0), (9, 0x33), (10, 0x44), (700, 0x55)]
    {
        let got = &active[cluster * CLUSTER..(cluster + 1) * CLUSTER];
        assert!(got.iter().all(|b| *b == byte), "guest cluster {cluster} is not all {byte:#x}");
    }
    let own = guest_bytes(&scratch, Some("own")).expect("the snapshot is readable");
    assert_eq!((own[0], own[CLUSTER], own[2 * CLUSTER]), (0, 9, 0));
}

#[test]
fn the_readers_find_entries_counts_and_extensions() {
    let built = rich().snapshot(Snapshot::shared("a")).bitmap("day", 16, 0xf0).build();
    let mut image = built.bytes;
    let entry = bytes::be64(&image, bytes::l2_entry_at(&image, 0));
    let host = (entry & bytes::OFFSET_MASK) / bytes::cluster_size(&image);
    assert_eq!(entry & bytes::COPIED, 0, "a shared cluster has no COPIED");
    assert_eq!(bytes::refcount(&image, host), 2);
    assert_eq!(bytes::snapshot_entries(&image).len(), 1);
    assert_eq!(bytes::extension(&image, 0x2385_2875).expect("bitmaps").1, 24);
    bytes::set_refcount(&mut image, host, 5);
    let ran = Scratch::with_image(&image).qemu_check(&[]);
    assert_eq!(ran.finding_lines(), [format!("Leaked cluster {host} refcount=5 reference=2")]);
}

#[test]
fn narrow_counts_are_patched_where_qemu_img_reads_them() {
    for order in 1..=6 {
        let mut image = rich().uncompressed().refcount_order(order).build().bytes;
        let host = 3;
        bytes::set_refcount(&mut image, host, 3);
        assert_eq!(bytes::refcount(&image, host), 3, "order {order}");
        let ran = Scratch::with_image(&image).qemu_check(&[]);
        let leak = format!("Leaked cluster {host} refcount=3 reference=1");
        assert!(ran.finding_lines().contains(&leak.as_str()), "order {order}: {ran:?}");
    }
}
