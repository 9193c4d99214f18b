//! What a disk contains: partition tables and file systems that the real tools made, and bytes that
//! nobody made.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use qcheck::contents::{Contents, Part, Scheme};
use qcheck::disk::Disk;
use qcheck::storage::{FileStorage, MemoryStorage};
use serde_json::Value;

use crate::support::programs::run::{qcheck, qemu_ok, run};
use crate::support::rng::Rng;
use crate::support::servers::real::has;
use crate::support::skip::skip;

const MIB: u64 = 1 << 20;

fn read(path: &Path) -> Contents {
    Contents::of(&Disk::raw(Arc::new(FileStorage::open_read(path).unwrap())))
}

/// A disk that sfdisk divides.
fn divided(path: &Path, bytes: u64, script: &str) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
    let ran = assert_cmd::Command::new("sfdisk").arg("-q").arg(path).write_stdin(script).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Has a program make a file system of this many bytes, and puts it at an offset of a disk.
fn put(disk: &Path, offset: u64, bytes: u64, program: &str, args: &[&str]) -> bool {
    let is_here = Command::new("which").arg(program).stdout(Stdio::null()).status().unwrap();
    if !is_here.success() {
        skip("a file system", &format!("there is no {program}"));
        return false;
    }
    let folder = disk.parent().unwrap();
    let part = folder.join("part");
    fs::File::create(&part).unwrap().set_len(bytes).unwrap();
    let args: Vec<&str> = args.iter().copied().chain(["part"]).collect();
    let ran = run(folder, program, &args, std::time::Duration::from_secs(60));
    assert_eq!(ran.code, 0, "{program}: {}", ran.err);
    // Superblocks and their tables are at the beginning, but for what NTFS has in the middle.
    let content = fs::read(&part).unwrap();
    let file = fs::OpenOptions::new().write(true).open(disk).unwrap();
    for (at, piece) in (0..).zip(content.chunks(65536)) {
        if piece.iter().any(|&byte| byte != 0) {
            file.write_all_at(piece, offset + at * 65536).unwrap();
        }
    }
    fs::remove_file(part).unwrap();
    true
}

/// The kind, the label and the UUID of the file system in each part.
fn system(part: &Part) -> (&str, Option<&str>, Option<&str>) {
    let found = part.file_system.as_ref().expect("a file system");
    (found.kind, found.label.as_deref(), found.uuid.as_deref())
}

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

#[test]
fn file_systems_are_recognized_with_label_and_uuid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let cases: [(&str, &[&str], u64, &str, &str); 9] = [
        ("mke2fs", &["-q", "-F", "-t", "ext2", "-L", "two", "-U", UUID], 8, "ext2", "two"),
        ("mke2fs", &["-q", "-F", "-t", "ext3", "-L", "three", "-U", UUID], 8, "ext3", "three"),
        ("mke2fs", &["-q", "-F", "-t", "ext4", "-L", "root", "-U", UUID], 8, "ext4", "root"),
        (
            "mkfs.xfs",
            &["-q", "-f", "-L", "data", "-m", "uuid=01234567-89ab-cdef-0123-456789abcdef"],
            320,
            "xfs",
            "data",
        ),
        ("mkfs.btrfs", &["-q", "-f", "-L", "tree", "-U", UUID], 128, "btrfs", "tree"),
        ("mkswap", &["-q", "-L", "swapped", "-U", UUID], 8, "swap", "swapped"),
        ("mkfs.vfat", &["-F", "32", "-n", "EFI", "-i", "12345678"], 64, "FAT32", "EFI"),
        ("mkfs.vfat", &["-F", "16", "-n", "OLD", "-i", "12345678"], 16, "FAT16", "OLD"),
        ("mkntfs", &["-q", "-F", "-Q", "-L", "Windows"], 16, "NTFS", "Windows"),
    ];
    for (program, args, size, kind, label) in cases {
        for begin in [0, 3 * MIB] {
            fs::File::create(&path).unwrap().set_len(begin + size * MIB).unwrap();
            if !put(&path, begin, size * MIB, program, args) {
                continue;
            }
            if begin > 0 {
                // A partition table, so that the file system is found where the partition is.
                divided_by_hand(&path, begin, size * MIB);
            }
            let found = read(&path);
            let [part] = &found.parts[..] else { panic!("{program}: {found:?}") };
            let (is, named, uuid) = system(part);
            assert_eq!((is, named), (kind, Some(label)), "{program} at {begin}");
            let uuid = uuid.expect("a UUID");
            let wanted = match program {
                "mkfs.vfat" => "1234-5678",
                "mkntfs" => uuid,
                _ => UUID,
            };
            assert!(uuid == wanted && (program != "mkntfs" || uuid.len() == 16), "{uuid}");
            assert_eq!(part.number, (begin > 0).then_some(1), "{program}");
            assert_eq!(part.range, begin..begin + size * MIB, "{program}");
        }
    }
}

/// One primary partition in an MBR.
fn divided_by_hand(path: &Path, begin: u64, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut entry = [0; 16];
    entry[4] = 0x83;
    for (at, blocks) in [(8, begin / 512), (12, bytes / 512)] {
        let mut field = u32::try_from(blocks).unwrap().to_be_bytes();
        field.reverse();
        entry[at..at + 4].copy_from_slice(&field);
    }
    file.write_all_at(&entry, 446).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
}

#[test]
fn the_labels_of_lvm_and_luks_are_recognized() {
    let mut bytes = vec![0; 1 << 20];
    bytes[512..520].copy_from_slice(b"LABELONE");
    bytes[532] = 32;
    bytes[536..544].copy_from_slice(b"LVM2 001");
    bytes[544..576].copy_from_slice(b"abcdefghijklmnopqrstuvwxyz012345");
    let found = Contents::of(&Disk::raw(Arc::new(MemoryStorage::new(bytes))));
    let lvm = ("LVM2 physical volume", None, Some("abcdefghijklmnopqrstuvwxyz012345"));
    assert_eq!(system(&found.parts[0]), lvm);
    let mut bytes = vec![0; 1 << 20];
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    bytes[24..30].copy_from_slice(b"secret");
    bytes[168..204].copy_from_slice(UUID.as_bytes());
    let found = Contents::of(&Disk::raw(Arc::new(MemoryStorage::new(bytes))));
    assert_eq!(system(&found.parts[0]), ("LUKS", Some("secret"), Some(UUID)));
}

const GPT: &str = "label: gpt\n\
    start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
    start=4096, size=16384, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"system\"\n\
    start=20480, size=8192, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n";

#[test]
fn a_gpt_is_read_from_the_copy_too() {
    if !has("sfdisk") {
        return skip("partition tables", "there is no sfdisk: install fdisk");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    divided(&path, 32 * MIB, GPT);
    put(&path, 2 * MIB, 8 * MIB, "mke2fs", &["-q", "-F", "-t", "ext4", "-L", "root"]);
    let found = read(&path);
    assert_eq!(found.scheme, Some(Scheme::Gpt));
    let ranges: Vec<_> = found.parts.iter().map(|part| part.range.clone()).collect();
    assert_eq!(ranges, [MIB..2 * MIB, 2 * MIB..10 * MIB, 10 * MIB..14 * MIB]);
    let words: Vec<String> = found.parts.iter().map(ToString::to_string).collect();
    let third = "partition 3, Linux swap";
    assert_eq!(words, ["partition 1, BIOS boot partition", "partition 2, ext4 \"root\"", third]);
    assert_eq!(found.parts[1].label.as_deref(), Some("system"));
    assert_eq!(found.words(&(0..MIB)), ["gpt partition table"]);
    assert_eq!(found.words(&(10 * MIB - 1..10 * MIB + 1)).len(), 2);

    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for damaged in [vec![0; 512], vec![0xff; 512]] {
        file.write_all_at(&damaged, 512).unwrap();
        assert_eq!(read(&path), found, "by the copy at the end");
    }
    file.write_all_at(&[0; 512], 32 * MIB - 512).unwrap();
    assert_ne!(read(&path).scheme, Some(Scheme::Gpt));
}

#[test]
fn logical_partitions_are_counted_as_linux_counts_them() {
    if !has("sfdisk") {
        return skip("partition tables", "there is no sfdisk: install fdisk");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let script = "label: dos\nstart=2048, size=2048, type=83\nstart=4096, size=40960, type=5\n\
                  start=6144, size=2048, type=82\nstart=10240, size=4096, type=8e\n";
    divided(&path, 32 * MIB, script);
    let found = read(&path);
    assert_eq!(found.scheme, Some(Scheme::Mbr));
    let words: Vec<String> = found.parts.iter().map(ToString::to_string).collect();
    let logical = ["partition 5, Linux swap", "partition 6, Linux LVM"];
    assert_eq!(words, ["partition 1, Linux file system", logical[0], logical[1]]);
    assert_eq!(found.parts[2].range, 10240 * 512..14336 * 512);
}

#[test]
fn no_bytes_make_it_fail_or_run_for_long() {
    let mut rng = Rng::new(19);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let mut disks = vec![vec![0; 4 << 20]];
    if has("sfdisk") {
        divided(&path, 4 * MIB, "label: gpt\nstart=2048, size=2048\nstart=4096, size=1024\n");
        disks.push(fs::read(&path).unwrap());
        divided(
            &path,
            4 * MIB,
            "label: dos\nstart=2048, size=6000, type=5\nstart=4096, size=512\n",
        );
        disks.push(fs::read(&path).unwrap());
    }
    let magics: [(usize, &[u8]); 6] = [
        (3, b"NTFS    "),
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (0, b"XFSB"),
        (1080, b"\x53\xef"),
        (512, b"LABELONE"),
    ];
    for _ in 0..500 {
        let mut bytes = disks[usize::try_from(rng.below(disks.len() as u64)).unwrap()].clone();
        let (at, magic) = magics[usize::try_from(rng.below(6)).unwrap()];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        for _ in 0..rng.below(40) {
            let at = usize::try_from(rng.below(8192)).unwrap();
            let edge = [0, 1, 0x7f, 0x80, 0xff][usize::try_from(rng.below(5)).unwrap()];
            bytes[at] = edge;
        }
        let length = 1 + usize::try_from(rng.below(bytes.len() as u64)).unwrap();
        bytes.truncate(length);
        let found = Contents::of(&Disk::raw(Arc::new(MemoryStorage::new(bytes))));
        assert!(found.parts.len() <= 260, "{found:?}");
        let _ = found.words(&(0..u64::MAX));
    }
}

#[test]
fn an_explanation_names_the_partition_whose_data_is_at_risk() {
    if !has("sfdisk") {
        return skip("partition tables", "there is no sfdisk: install fdisk");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    divided(&path, 32 * MIB, GPT);
    put(&path, 2 * MIB, 8 * MIB, "mke2fs", &["-q", "-F", "-t", "ext4", "-L", "ro<b>ot"]);
    let convert = ["convert", "-O", "qcow2", "disk", "image"];
    qemu_ok(dir.path(), "qemu-img", &convert);
    // The reserved bit 1 of the L2 entry of 4 MiB, in the first L2 table, which is at 0x40000.
    let file = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("image"));
    let file = file.unwrap();
    let mut entry = [0; 8];
    let offset = 0x40000 + 8 * 64;
    file.read_exact_at(&mut entry, offset).unwrap();
    entry[7] |= 2;
    file.write_all_at(&entry, offset).unwrap();
    let human = qcheck(dir.path(), &["check", "--explain", "image"]);
    assert_eq!(human.code, 2, "{human:?}");
    let words = "guest data 0x400000 to 0x40ffff (partition 2, ext4 \"ro<b>ot\")";
    assert!(human.out.contains(words), "{}", human.out);
    let json = qcheck(dir.path(), &["check", "--explain", "--output", "json", "image"]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    let part = value["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| &finding["guest"]["contents"][0])
        .find(|part| !part.is_null())
        .expect("a finding with a guest range");
    assert_eq!((&part["partition"], &part["file-system"]), (&2.into(), &"ext4".into()));
    assert_eq!((&part["label"], &part["partition-label"]), (&"ro<b>ot".into(), &"system".into()));
    let plain = qcheck(dir.path(), &["check", "--output", "json", "image"]);
    assert!(!plain.out.contains("contents"), "guest data is not read without --explain");
}
