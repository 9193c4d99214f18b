//! Round trips of `convert` over formats, geometries and features, compared with real qemu-img.

use std::fs;
use std::path::Path;

use crate::support::programs::run::{assert_clean, qcheck, qemu_ok};
use crate::support::rng::Rng;

/// A raw disk with data, zeroes, holes and what does not compress, of an odd number of sectors.
pub fn sample(path: &Path, seed: u64, bytes: usize) {
    let mut rng = Rng::new(seed);
    let mut disk = vec![0u8; bytes];
    let mut at = 0;
    while at < bytes {
        let length = (1 + rng.below(300_000) as usize).min(bytes - at);
        let part = &mut disk[at..at + length];
        match rng.below(4) {
            0 => {}
            1 => part.iter_mut().for_each(|b| *b = rng.below(256) as u8),
            2 => part.fill(1 + rng.below(255) as u8),
            _ => part.iter_mut().enumerate().for_each(|(n, b)| *b = b"some text, "[n / 3 % 11]),
        }
        at += length;
    }
    fs::write(path, disk).unwrap();
}

fn convert(folder: &Path, args: &[&str]) {
    let all: Vec<&str> = ["convert"].iter().chain(args).copied().collect();
    let ran = qcheck(folder, &all);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
}

fn assert_same(folder: &Path, one: (&str, &str), other: (&str, &str)) {
    qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", one.0, "-F", other.0, one.1, other.1]);
}

#[test]
fn every_geometry_holds_the_same_disk_plain_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 1, (5 << 20) + 512 * 3);
    for options in [
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=64k",
        "cluster_size=2M,refcount_bits=64",
        "compat=0.10",
        "cluster_size=512,compat=0.10",
        "refcount_bits=2",
        "refcount_bits=8,lazy_refcounts=on",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "compression_type=zstd",
        "compression_type=zstd,cluster_size=4k",
        "compression_type=zstd,extended_l2=on,cluster_size=128k",
    ] {
        for compress in [&["-o", options][..], &["-c", "-o", options]] {
            for threads in ["1", "5"] {
                let _ = fs::remove_file(folder.join("a.qcow2"));
                let mut args =
                    vec!["-f", "raw", "-O", "qcow2", "-m", threads, "disk.raw", "a.qcow2"];
                args.splice(0..0, compress.iter().copied());
                convert(folder, &args);
                assert_clean(folder, "a.qcow2");
                assert_same(folder, ("raw", "disk.raw"), ("qcow2", "a.qcow2"));
            }
            let once = fs::read(folder.join("a.qcow2")).unwrap();
            convert(folder, &["a.qcow2", "b.raw"]);
            assert!(
                fs::read(folder.join("b.raw")).unwrap()
                    == fs::read(folder.join("disk.raw")).unwrap()
            );
            // The number of threads is not to be seen in the image.
            let mut args = vec!["-f", "raw", "-O", "qcow2", "-m", "2", "disk.raw", "c.qcow2"];
            args.splice(0..0, compress.iter().copied());
            convert(folder, &args);
            assert!(fs::read(folder.join("c.qcow2")).unwrap() == once, "{compress:?}");
        }
    }
}

#[test]
fn images_of_qemu_are_read_in_every_geometry() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 2, 3 << 20);
    for options in [
        "cluster_size=512",
        "compat=0.10",
        "cluster_size=2M",
        "extended_l2=on",
        "compression_type=zstd",
    ] {
        for compress in [&[][..], &["-c"]] {
            let mut args = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options];
            args.extend(compress);
            args.extend(["disk.raw", "a.qcow2"]);
            qemu_ok(folder, "qemu-img", &args);
            convert(folder, &["a.qcow2", "b.raw"]);
            assert!(
                fs::read(folder.join("b.raw")).unwrap()
                    == fs::read(folder.join("disk.raw")).unwrap()
            );
            convert(folder, &["-c", "-O", "qcow2", "a.qcow2", "c.qcow2"]);
            assert_clean(folder, "c.qcow2");
            assert_same(folder, ("raw", "disk.raw"), ("qcow2", "c.qcow2"));
        }
    }
}
