//! Images that QEMU wrote, read by the engine: the same bytes as qemu-img reads.

use std::path::Path;

use qcheck::format::HostOffset;
use qcheck::image::{Image, RunKind};

use crate::support::images::bytes::{be64, header, l2_entry_at, poke};

use crate::image::tools::{Disk, assert_same, at, convert, options, qemu, read_all};

fn io(path: &Path, commands: &[&str]) {
    let mut args = vec!["-f", "qcow2"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(path.to_str().unwrap());
    qemu("qemu-io", &args);
}

fn same_as_qemu(disk: &Disk, path: &Path) -> Image {
    let image = Image::open_read(disk.files[path].clone(), &options(path), disk).unwrap();
    assert_same(&read_all(&image), &convert(path), &path.display().to_string());
    image
}

#[test]
fn every_way_in_which_qemu_stores_bytes_is_read() {
    for create in [
        "cluster_size=512",
        "cluster_size=64k,compression_type=zstd",
        "cluster_size=2M,refcount_bits=1",
        "cluster_size=64k,extended_l2=on",
        "cluster_size=16k,extended_l2=on,compression_type=zstd",
        "compat=0.10,cluster_size=4k",
        "preallocation=metadata",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.qcow2");
        let name = path.to_str().unwrap();
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, "9M"]);
        let mut commands = vec!["write -q -P 1 1000 70000", "write -q -P 2 3M 100k"];
        if !create.contains("prealloc") {
            commands.extend(["write -q -c -P 3 4M 2M", "write -q -P 4 5000000 600"]);
        }
        if !create.contains("0.10") {
            commands.extend(["write -q -z 3080k 20k", "write -q -z -u 3160k 4k"]);
        }
        commands.push("discard -q 0 8k");
        io(&path, &commands);
        let mut disk = Disk::default();
        disk.load(&path);
        same_as_qemu(&disk, &path);
    }
}

#[test]
fn reserved_bits_do_not_stop_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", name, "9M"]);
    io(&path, &["write -q -P 1 0 300k", "write -q -z 1M 100k"]);
    let mut image = std::fs::read(&path).unwrap();
    let l1 = header(&image, "l1_table_offset") as usize;
    let entry = l2_entry_at(&image, 1);
    for (at, bits) in [(l1, 1 << 57 | 2), (entry, 0x7e), (entry + 8, 1 << 58)] {
        let value = be64(&image, at);
        poke(&mut image, at, 8, value ^ bits);
    }
    std::fs::write(&path, image).unwrap();
    let mut disk = Disk::default();
    disk.load(&path);
    same_as_qemu(&disk, &path);
}

#[test]
fn compressed_images_of_qemu_are_read_and_reported_as_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    std::fs::write(&raw, (0..3_000_000u32).map(|n| (n / 777) as u8).collect::<Vec<_>>()).unwrap();
    for kind in ["zlib", "zstd"] {
        let path = folder.path().join(kind);
        let option = format!("compression_type={kind}");
        let (from, to) = (raw.to_str().unwrap(), path.to_str().unwrap());
        qemu("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &option, from, to]);
        let mut disk = Disk::default();
        disk.load(&path);
        let image = same_as_qemu(&disk, &path);
        let run = image.map(at(70_000), 1 << 20).unwrap();
        assert!(matches!(run.kind, RunKind::Compressed(_)), "{run:?}");
        assert_eq!(run.length, 131_072 - 70_000);
    }
}

#[test]
fn a_chain_of_overlays_is_read_through_to_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.raw");
    std::fs::write(&base, vec![0x55; 600_000]).unwrap();
    let mut disk = Disk::default();
    disk.load(&base);
    let mut below = ("base.raw", "raw");
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        let path = folder.path().join(name);
        let text = path.to_str().unwrap();
        let size = format!("{}k", 700 + n * 300);
        let create = ["create", "-q", "-f", "qcow2", "-b", below.0, "-F", below.1, text, &size];
        qemu("qemu-img", &create);
        let write = format!("write -q -P {} {}k 100k", n + 1, n * 130);
        io(&path, &[&write, "write -q -z 400k 64k"]);
        disk.load(&path);
        same_as_qemu(&disk, &path);
        below = (name, "qcow2");
    }
}

#[test]
fn a_snapshot_is_read_as_it_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", name, "1M"]);
    io(&path, &["write -q -P 1 0 300k"]);
    qemu("qemu-img", &["snapshot", "-c", "before", name]);
    qemu("qemu-img", &["resize", "-q", name, "2M"]);
    io(&path, &["write -q -P 2 100k 1500k"]);
    let mut disk = Disk::default();
    disk.load(&path);
    let active = same_as_qemu(&disk, &path);
    let before = active.snapshots().unwrap().remove(0);
    assert_eq!(before.name, b"before");
    let options = options(&path).snapshot(Some(before));
    let image = Image::open_read(disk.files[&path].clone(), &options, &disk).unwrap();
    let mut expected = vec![0; 1 << 20];
    expected[..300 << 10].fill(1);
    assert_same(&read_all(&image), &expected, "the snapshot");
    let broken = options.snapshot.clone().map(|mut entry| {
        entry.header.l1_table = HostOffset::new(512);
        entry
    });
    let options = options.snapshot(broken);
    assert!(Image::open_read(disk.files[&path].clone(), &options, &disk).is_err());
}
