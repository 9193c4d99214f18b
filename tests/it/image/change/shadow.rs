//! Random writes, zeroes, discards and compressed writes on every kind of image, against a shadow in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use qcheck::edit::resize::{ResizeOptions, resize};
use qcheck::edit::snapshot;
use qcheck::image::Image;

use crate::image::tools::{
    Disk, assert_clean, assert_same, at, convert, open_write, options, qemu, read_all,
};

#[derive(Debug, Clone)]
enum Op {
    Write { at: u64, length: u64, value: u8 },
    Zeroes { at: u64, length: u64, unmap: bool },
    Discard { at: u64, length: u64 },
    Compressed { cluster: u64, value: u8 },
    Flush,
    Reopen,
    Snapshot,
    Apply(usize),
    Delete(usize),
    Resize(u64),
}

/// Positions are in thousandths of the disk, lengths in bytes.
fn op() -> impl Strategy<Value = Op> {
    let place = (0..1000u64, prop_oneof![1..2000u64, 1000..300_000u64]);
    prop_oneof![
        6 => (place.clone(), 1..=255u8)
            .prop_map(|((at, length), value)| Op::Write { at, length, value }),
        2 => (place.clone(), any::<bool>())
            .prop_map(|((at, length), unmap)| Op::Zeroes { at, length, unmap }),
        2 => place.prop_map(|(at, length)| Op::Discard { at, length }),
        2 => (0..1000u64, 1..=255u8).prop_map(|(cluster, value)| Op::Compressed { cluster, value }),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => Just(Op::Snapshot),
        1 => any::<usize>().prop_map(Op::Apply),
        1 => any::<usize>().prop_map(Op::Delete),
        1 => (1..2000u64).prop_map(Op::Resize),
    ]
}

#[derive(Debug, Clone)]
struct Kind {
    cluster_bits: u32,
    refcount_order: u32,
    extended: bool,
    version_2: bool,
    zstd: bool,
    lazy: bool,
    data_file: Option<bool>,
    backing: Option<&'static str>,
    odd_size: bool,
}

fn kind() -> impl Strategy<Value = Kind> {
    let bits = (9..=21u32, 0..=6u32, any::<bool>(), prop::bool::weighted(0.2));
    let data_file = prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let backing = prop_oneof![2 => Just(None), 1 => Just(Some("raw")), 1 => Just(Some("qcow2"))];
    (bits, any::<bool>(), any::<bool>(), data_file, backing, any::<bool>()).prop_map(
        |(
            (cluster_bits, refcount_order, extended, version_2),
            zstd,
            lazy,
            data_file,
            backing,
            odd_size,
        )| {
            let extended = extended && cluster_bits >= 14 && !version_2;
            let data_file = if version_2 { None } else { data_file };
            Kind {
                cluster_bits,
                refcount_order: if version_2 { 4 } else { refcount_order },
                extended,
                version_2,
                zstd: zstd && !version_2,
                lazy: lazy && !version_2,
                data_file,
                backing: if data_file == Some(true) { None } else { backing },
                odd_size,
            }
        },
    )
}

impl Kind {
    fn create(&self, folder: &Path) -> (Disk, PathBuf, Vec<u8>) {
        let path = folder.join("image.qcow2");
        let size: u64 = if self.odd_size { (3 << 20) + 512 * 37 } else { 4 << 20 };
        let mut list = vec![
            format!("cluster_size={}", 1u64 << self.cluster_bits),
            format!("refcount_bits={}", 1 << self.refcount_order),
            format!("compat={}", if self.version_2 { "0.10" } else { "1.1" }),
        ];
        let mut disk = Disk::default();
        if self.extended {
            list.push("extended_l2=on".into());
        }
        if self.zstd {
            list.push("compression_type=zstd".into());
        }
        if self.lazy {
            list.push("lazy_refcounts=on".into());
        }
        if let Some(raw) = self.data_file {
            list.push(format!("data_file={}", folder.join("data.raw").display()));
            list.push(format!("data_file_raw={}", if raw { "on" } else { "off" }));
        }
        let mut shadow = vec![0; size as usize];
        let mut args: Vec<String> = ["create", "-q", "-f", "qcow2"].map(String::from).into();
        if let Some(format) = self.backing {
            let base = folder.join("base");
            shadow = self.create_base(&base, format, &mut disk, size);
            args.extend(["-b", "base", "-F", format].map(String::from));
        }
        args.extend(["-o".into(), list.join(",")]);
        args.extend([path.display().to_string(), size.to_string()]);
        qemu("qemu-img", &args.iter().map(String::as_str).collect::<Vec<_>>());
        disk.load(&path);
        if self.data_file.is_some() {
            disk.load(&folder.join("data.raw"));
        }
        (disk, path, shadow)
    }

    /// A backing file shorter than the disk; returns what the guest sees.
    fn create_base(&self, base: &Path, format: &str, disk: &mut Disk, size: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..(2u32 << 20) + 1024).map(|n| (n / 512) as u8).collect();
        if format == "raw" {
            std::fs::write(base, &bytes).unwrap();
        } else {
            let raw = base.with_extension("raw");
            std::fs::write(&raw, &bytes).unwrap();
            let (from, to) = (raw.to_str().unwrap(), base.to_str().unwrap());
            let args =
                ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", from, to];
            qemu("qemu-img", &args);
        }
        disk.load(base);
        bytes.resize(size as usize, 0);
        bytes
    }
}

/// Snapshots and sizes. What the engine refuses changes nothing.
fn change_state(image: &mut Image, op: &Op, shadow: &mut Vec<u8>, saved: &mut Vec<Vec<u8>>) {
    let ids = |image: &Image| -> Vec<String> {
        image.snapshots().unwrap().iter().map(|entry| entry.id_text()).collect()
    };
    match *op {
        Op::Snapshot => {
            let taken = snapshot::create(image, "taken", Duration::from_secs(1));
            saved.extend(taken.ok().map(|_| shadow.clone()));
        }
        Op::Apply(n) if !saved.is_empty() => {
            let n = n % saved.len();
            if snapshot::apply(image, &ids(image)[n]).is_ok() {
                shadow.clone_from(&saved[n]);
            }
        }
        Op::Delete(n) if !saved.is_empty() => {
            let n = n % saved.len();
            snapshot::delete(image, &ids(image)[n]).unwrap();
            saved.remove(n);
        }
        Op::Resize(sectors) => {
            let size = sectors * 4096 + 512;
            if resize(image, size, ResizeOptions::default().shrink(true)).is_ok() {
                shadow.resize(size as usize, 0);
            }
        }
        _ => {}
    }
}

fn run(kind: &Kind, ops: &[Op]) {
    let folder = tempfile::tempdir().unwrap();
    let (disk, path, mut shadow) = kind.create(folder.path());
    let mut saved = Vec::new();
    let cluster = 1u64 << kind.cluster_bits;
    // Small caches, so that tables come and go.
    let options = options(&path).l2_cache_bytes(1).refblock_cache_bytes(1);
    let mut image = open_write(&disk, &path, &options);
    for (n, op) in ops.iter().enumerate() {
        let size = shadow.len() as u64;
        let clip = |start: u64, length: u64| {
            let start = start * size / 1000;
            start..(start + length).min(size)
        };
        match *op {
            Op::Write { at: start, length, value } => {
                let range = clip(start, length);
                let bytes: Vec<u8> = range.clone().map(|n| value ^ (n / 512) as u8).collect();
                image.write(at(range.start), &bytes).unwrap();
                shadow[range.start as usize..range.end as usize].copy_from_slice(&bytes);
            }
            Op::Zeroes { at: start, length, unmap } => {
                let range = clip(start, length);
                image.write_zeroes(at(range.start), range.end - range.start, unmap).unwrap();
                shadow[range.start as usize..range.end as usize].fill(0);
            }
            Op::Discard { at: start, length } => {
                let range = clip(start, length);
                image.discard(at(range.start), range.end - range.start).unwrap();
                let end = if range.end == size { size } else { range.end / cluster * cluster };
                let start = range.start.next_multiple_of(cluster);
                if start < end && !(kind.version_2 && kind.backing.is_some()) {
                    shadow[start as usize..end as usize].fill(0);
                }
            }
            Op::Compressed { cluster: n, value } if kind.data_file.is_none() => {
                let start = n * size / 1000 / cluster * cluster;
                let end = (start + cluster).min(size);
                let bytes: Vec<u8> = (start..end).map(|n| value ^ (n / 700) as u8).collect();
                image.write_compressed(at(start), &bytes).unwrap();
                shadow[start as usize..end as usize].copy_from_slice(&bytes);
            }
            Op::Compressed { .. } => {}
            Op::Flush => image.flush().unwrap(),
            Op::Reopen => {
                image.close().unwrap();
                image = open_write(&disk, &path, &options);
            }
            Op::Snapshot | Op::Apply(_) | Op::Delete(_) | Op::Resize(_) => {
                change_state(&mut image, op, &mut shadow, &mut saved);
            }
        }
        if n % 8 == 0 {
            assert_same(&read_all(&image), &shadow, "the engine's reading");
        }
    }
    assert_same(&read_all(&image), &shadow, "the engine's reading");
    image.close().unwrap();
    disk.store_all();
    assert_clean(&path);
    let snapshots =
        Image::open_read(disk.files[&path].clone(), &options, &disk).unwrap().snapshots().unwrap();
    assert_eq!(snapshots.len(), saved.len());
    for (entry, bytes) in snapshots.into_iter().zip(&saved) {
        let options = options.clone().snapshot(Some(entry));
        let image = Image::open_read(disk.files[&path].clone(), &options, &disk).unwrap();
        assert_same(&read_all(&image), bytes, "the engine's reading of a snapshot");
    }
    assert_same(&convert(&path), &shadow, "qemu-img's reading");
    if kind.data_file == Some(true) {
        let mut data = std::fs::read(folder.path().join("data.raw")).unwrap();
        data.resize(shadow.len(), 0);
        assert_same(&data, &shadow, "the raw data file");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guest_sees_what_was_written_and_qemu_finds_the_image_clean(
        kind in kind(),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        run(&kind, &ops);
    }
}
