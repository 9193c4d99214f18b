//! `qcheck resize` beside qemu-img.

use std::fs;
use std::path::Path;

use qcheck::storage::{Access, FileStorage, lock};

use crate::support::programs::run::{
    assert_clean, qcheck, qemu, qemu_create, qemu_io as io, qemu_ok,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Runs both programs, each on its own image, and compares what they print and leave.
fn both(folder: &Path, images: [&str; 2], args: &[&str], size: &str) {
    let all = |image| [&["resize"], args, &[image, size]].concat();
    let ours = qcheck(folder, &all(images[0]));
    let theirs = qemu(folder, "qemu-img", &all(images[1]));
    let told = format!("{args:?} {size}: {} {}", ours.err, theirs.err);
    assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{told}");
    assert_clean(folder, images[0]);
    assert_equal(folder, images);
}

/// Two disks have the same size and the same bytes.
fn assert_equal(folder: &Path, images: [&str; 2]) {
    let size = |image| {
        let info = qemu_ok(folder, "qemu-img", &["info", "--output", "json", image]);
        serde_json::from_str::<serde_json::Value>(&info).unwrap()["virtual-size"].clone()
    };
    assert_eq!(size(images[0]), size(images[1]));
    qemu_ok(folder, "qemu-img", &["compare", "-q", images[0], images[1]]);
}

#[test]
fn every_way_to_give_a_size_does_what_qemu_img_does() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"] {
        let dir = folder();
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a", "1M"]);
        io(dir.path(), "a", "write -q -P 1 0 1M");
        fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
        for (args, size) in [
            (&[][..], "3M"),
            (&["-q"], "+1M"),
            (&["--shrink"], "-512k"),
            (&["--shrink"], "1234432"),
            (&[], "+0"),
            (&[], "1M"),
            (&["--shrink"], "196608"),
            (&["-f", "qcow2"], "0.5G"),
            (&[], "0"),
            (&["--shrink"], "-1T"),
            (&[], "1k1"),
            (&[], "16000001"),
            (&["--preallocation=bogus"], "2G"),
            (&["--shrink", "--preallocation=full"], "1M"),
            (&["--preallocation=metadata"], "+0"),
        ] {
            both(dir.path(), ["a", "b"], args, size);
        }
        let after = qcheck(dir.path(), &["resize", "a", "-100M", "--shrink"]);
        assert_eq!((after.code, after.out.as_str()), (0, "Image resized.\n"), "{}", after.err);
    }
}

#[test]
fn what_a_shorter_disk_lost_does_not_come_back_when_it_grows() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    io(dir.path(), "a", "write -q -P 1 0 1M");
    assert_eq!(qcheck(dir.path(), &["resize", "-q", "--shrink", "a", "200704"]).code, 0);
    assert_eq!(qcheck(dir.path(), &["resize", "-q", "a", "1M"]).code, 0);
    io(dir.path(), "a", "read -q -P 1 0 200704");
    io(dir.path(), "a", "read -q -P 0 200704 847872");
    assert_clean(dir.path(), "a");
}

#[test]
fn the_new_part_is_preallocated_and_reads_as_zeroes() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"] {
        for mode in ["metadata", "falloc", "full"] {
            let dir = folder();
            qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a", "1000k"]);
            io(dir.path(), "a", "write -q -P 1 0 1000k");
            if mode == "full" {
                // Free clusters with old data in them.
                io(dir.path(), "a", "discard -q 0 512k");
            }
            fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
            both(dir.path(), ["a", "b"], &["--preallocation", mode], "+1200k");
            let length = fs::metadata(dir.path().join("a")).unwrap().len();
            io(dir.path(), "a", "write -q -P 9 1000k 1200k");
            let written = fs::metadata(dir.path().join("a")).unwrap().len();
            assert_eq!(written, length, "nothing is left to allocate: {options} {mode}");
            assert_clean(dir.path(), "a");
        }
    }
}

#[test]
fn a_longer_backing_file_does_not_show_through_where_the_disk_grows() {
    for options in [
        "cluster_size=64k",
        "cluster_size=512",
        "extended_l2=on",
        "compat=0.10",
        "compat=0.10,cluster_size=512",
    ] {
        for mode in ["off", "metadata"] {
            let dir = folder();
            fs::write(dir.path().join("base"), vec![7; 3 << 20]).unwrap();
            let backing = ["-b", "base", "-F", "raw", "a", "1000k"];
            qemu_create(dir.path(), &[&["-f", "qcow2", "-o", options], &backing[..]].concat());
            io(dir.path(), "a", "write -q -P 1 0 10k");
            let args = ["resize", "--preallocation", mode, "a", "4M"];
            let ran = qcheck(dir.path(), &args);
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert_clean(dir.path(), "a");
            io(dir.path(), "a", "read -q -P 7 10k 990k");
            io(dir.path(), "a", "read -q -P 0 1000k 3096k");
        }
    }
}

#[test]
fn an_external_data_file_is_as_long_as_the_disk() {
    for options in ["data_file=d", "data_file=d,data_file_raw=on"] {
        let dir = folder();
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a", "1M"]);
        io(dir.path(), "a", "write -q -P 1 0 1M");
        for (args, size) in [
            (&[][..], 3 << 20),
            (&["--shrink"], 600 << 10),
            (&["--preallocation=metadata"], 2 << 20),
            (&["--preallocation=full"], 5 << 20),
        ] {
            let size_text = size.to_string();
            let ran = qcheck(dir.path(), &[&["resize"], args, &["a", &size_text]].concat());
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert_clean(dir.path(), "a");
            assert_eq!(fs::metadata(dir.path().join("d")).unwrap().len(), size);
            io(dir.path(), "a", "read -q -P 1 0 600k");
            if size > 1 << 20 {
                let rest = (size >> 10) - 1024;
                io(dir.path(), "a", &format!("read -q -P 0 1M {rest}k"));
            }
            if options.contains("raw") {
                qemu_ok(dir.path(), "qemu-img", &["compare", "-q", "-F", "raw", "a", "d"]);
            }
        }
    }
}

#[test]
fn with_snapshots_version_3_resizes_and_version_2_refuses() {
    let dir = folder();
    for (name, options) in [("v3", "compat=1.1"), ("v2", "compat=0.10")] {
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, name, "1M"]);
        io(dir.path(), name, "write -q -P 1 0 1M");
        qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", name]);
        fs::copy(dir.path().join(name), dir.path().join("b")).unwrap();
        both(dir.path(), [name, "b"], &[], "2M");
        if name == "v3" {
            both(dir.path(), [name, "b"], &["--shrink", "--preallocation=off"], "500k");
            both(dir.path(), [name, "b"], &["--preallocation=metadata"], "3M");
        }
        for (program, image) in [("qcheck", name), ("qemu-img", "b")] {
            let args = ["snapshot", "-a", "one", image];
            match program {
                "qcheck" => assert_eq!(qcheck(dir.path(), &args).code, 0),
                _ => drop(qemu_ok(dir.path(), program, &args)),
            }
        }
        assert_equal(dir.path(), [name, "b"]);
        assert_clean(dir.path(), name);
    }
}

#[test]
fn raw_images_are_resized_alike() {
    let dir = folder();
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), vec![5; 100_000]).unwrap();
    }
    for (args, size) in [
        (&[][..], "+1"),
        (&[], "1M"),
        (&[], "4k"),
        (&["--shrink"], "-1000k"),
        (&["--preallocation=metadata"], "2M"),
        (&["--preallocation=falloc"], "2M"),
        (&["--preallocation=full"], "+1M"),
        (&["--preallocation=falloc"], "+0"),
        (&["--shrink", "--preallocation=full"], "1k"),
        (&[], "3M"),
        (&["--shrink"], "0"),
    ] {
        let all = |image| [&["resize", "-f", "raw"], args, &[image, size]].concat();
        let (ours, theirs) =
            (qcheck(dir.path(), &all("a")), qemu(dir.path(), "qemu-img", &all("b")));
        assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{args:?} {}", ours.err);
        let read = |name| fs::read(dir.path().join(name)).unwrap();
        assert!(read("a") == read("b"), "{args:?} {size}");
    }
}

#[test]
fn an_image_in_use_is_not_resized() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let file = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&file, Access::Read).unwrap();
    let ran = qcheck(dir.path(), &["resize", "a", "2M"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("lock"), "{}", ran.err);
}

/// Bytes that a file takes on its file system.
fn room(folder: &Path, image: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder.join(image)).unwrap().blocks() * 512
}

#[test]
fn what_is_preallocated_has_its_space_on_the_disk_and_metadata_alone_has_not() {
    let new = 8 << 20;
    for (format, options) in [("qcow2", "compat=1.1"), ("qcow2", "data_file=d"), ("raw", "")] {
        for (mode, takes) in [("off", false), ("metadata", false), ("falloc", true), ("full", true)]
        {
            let dir = folder();
            let options: &[&str] = if options.is_empty() { &[] } else { &["-o", options] };
            qemu_create(dir.path(), &[&["-f", format], options, &["a", "1M"]].concat());
            let guest = if options.contains(&"data_file=d") { "d" } else { "a" };
            let before = room(dir.path(), guest);
            let args = ["resize", "-f", format, "--preallocation", mode, "a", "9M"];
            let ran = qcheck(dir.path(), &args);
            let refused = format == "raw" && mode == "metadata";
            assert_eq!(ran.code, i32::from(refused), "{}", ran.err);
            let added = room(dir.path(), guest) - before;
            assert_eq!(added >= new, takes, "{format} {options:?} {mode}: {added} bytes");
        }
    }
}

#[test]
fn a_dirty_image_is_repaired_first_and_reports_it() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "lazy_refcounts=on", "a", "1M"]);
    let crash = ["-c", "write -q -P 1 0 64k", "-c", "abort", "a"];
    // It ends by a signal, so it has no exit code.
    std::process::Command::new("qemu-io").current_dir(dir.path()).args(crash).output().unwrap();
    fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
    let ran = qcheck(dir.path(), &["resize", "a", "3M"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Image resized.\n"), "{}", ran.err);
    assert!(ran.err.starts_with("qcheck: NOTICE: "), "{}", ran.err);
    assert_clean(dir.path(), "a");
    qemu_ok(dir.path(), "qemu-img", &["resize", "-q", "b", "3M"]);
    assert_equal(dir.path(), ["a", "b"]);
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "a"]);
    assert!(!info.contains("cleanly shut down: no"), "{info}");
}

#[test]
fn a_backing_file_without_a_recorded_format_is_raw_or_refused() {
    for (format, code) in [("raw", 0), ("qcow2", 1)] {
        let dir = folder();
        qemu_create(dir.path(), &["-f", format, "base", "2M"]);
        let backing = ["-b", "base", "-F", format, "a", "1M"];
        qemu_create(dir.path(), &[&["-f", "qcow2"], &backing[..]].concat());
        let mut bytes = fs::read(dir.path().join("a")).unwrap();
        let at = bytes.windows(4).position(|w| w == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        // An extension of unknown type in its place.
        bytes[at..at + 4].copy_from_slice(b"none");
        fs::write(dir.path().join("a"), &bytes).unwrap();
        let ran = qcheck(dir.path(), &["resize", "a", "3M"]);
        assert_eq!(ran.code, code, "{}", ran.err);
        match code {
            0 => assert_clean(dir.path(), "a"),
            _ => {
                assert!(fs::read(dir.path().join("a")).unwrap() == bytes);
                assert!(ran.err.contains("base'"), "{}", ran.err);
            }
        }
    }
}

#[test]
fn what_nobody_uses_any_more_goes_back_to_the_file_system() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "20M"]);
    io(dir.path(), "a", "write -q -P 1 0 20M");
    fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
    both(dir.path(), ["a", "b"], &["--shrink"], "1M");
    let length = |image| fs::metadata(dir.path().join(image)).unwrap().len();
    assert!(length("a") <= length("b"), "{} and {}", length("a"), length("b"));
    assert!(room(dir.path(), "a") < 2 << 20);
    for last in [["-a", "one"], ["-d", "one"]] {
        qemu_create(dir.path(), &["-f", "qcow2", "a", "20M"]);
        io(dir.path(), "a", "write -q -P 1 0 20M");
        qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "a"]);
        io(dir.path(), "a", "write -q -P 2 0 20M");
        let before = room(dir.path(), "a");
        assert_eq!(qcheck(dir.path(), &["snapshot", last[0], last[1], "a"]).code, 0);
        assert!(room(dir.path(), "a") < before - (19 << 20), "{last:?}");
        assert_clean(dir.path(), "a");
        let value = if last[0] == "-a" { 1 } else { 2 };
        io(dir.path(), "a", &format!("read -q -P {value} 0 20M"));
    }
}

#[test]
fn an_encrypted_disk_grows_without_its_key_only_where_nothing_has_to_be_zeroed() {
    let dir = folder();
    let secret = ["--object", "secret,id=s,data=x"];
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let opts = "driver=qcow2,file.filename=a,encrypt.key-secret=s";
    let guest = |command: &str| {
        let args = [&secret[..], &["--image-opts", "-c", command, opts]].concat();
        let out = qemu_ok(dir.path(), "qemu-io", &args);
        assert!(!out.contains("failed"), "{command}: {out}");
    };
    let create = [&secret[..], &["-f", "qcow2", "-o", options, "a", "960k"]].concat();
    qemu_create(dir.path(), &create);
    guest("write -q -P 5 0 960k");
    for (args, code) in [
        (&["resize", "a", "2M"][..], 0),
        (&["resize", "--shrink", "a", "1000k"], 0),
        (&["resize", "a", "1020k"], 0),
        (&["resize", "--shrink", "a", "900k"], 0),
        (&["resize", "a", "2M"], 1),
        (&["resize", "--shrink", "a", "896k"], 0),
        (&["resize", "a", "2M"], 0),
        (&["resize", "--preallocation=metadata", "a", "3M"], 1),
    ] {
        let before = fs::read(dir.path().join("a")).unwrap();
        let ran = qcheck(dir.path(), args);
        assert_eq!(ran.code, code, "{args:?} {}", ran.err);
        assert!(code == 0 || fs::read(dir.path().join("a")).unwrap() == before, "{args:?}");
    }
    guest("read -q -P 5 0 896k");
    guest("read -q -P 0 896k 1152k");
}

#[test]
fn what_a_raw_data_file_has_past_the_disks_end_is_kept_when_the_disk_grows_over_it() {
    for how in ["off", "metadata", "falloc", "full"] {
        let dir = folder();
        let options = "data_file=data,data_file_raw=on,cluster_size=4k";
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a", "100k"]);
        io(dir.path(), "a", "write -q -P 7 0 100k");
        let mut disk = vec![7; 100 << 10];
        disk.resize(300 << 10, 9);
        fs::write(dir.path().join("data"), &disk).unwrap();
        let args = ["resize", "--preallocation", how, "a", "500k"];
        let ran = qcheck(dir.path(), &args);
        assert_eq!(ran.code, 0, "{how}: {}", ran.err);
        disk.resize(500 << 10, 0);
        assert!(fs::read(dir.path().join("data")).unwrap() == disk, "{how}");
        qemu_ok(dir.path(), "qemu-img", &["compare", "-f", "raw", "data", "-F", "qcow2", "a"]);
        assert_clean(dir.path(), "a");
    }
}

#[test]
fn a_dry_run_reports_the_data_that_a_shorter_disk_would_lose() {
    let dir = folder();
    fs::write(dir.path().join("base"), [vec![0; 700 << 10], vec![7; 4096]].concat()).unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "base", "-F", "raw", "a", "1M"]);
    io(dir.path(), "a", "write -q -P 1 0 64k");
    io(dir.path(), "a", "write -q -P 0 512k 64k");
    io(dir.path(), "a", "write -q -P 2 600k 1k");
    qemu_ok(dir.path(), "qemu-img", &["convert", "-O", "raw", "a", "raw"]);
    let before =
        [fs::read(dir.path().join("a")).unwrap(), fs::read(dir.path().join("raw")).unwrap()];
    for (args, printed) in [
        (
            &["--shrink", "a", "512k"][..],
            "A disk of 512 KiB (524288 bytes) instead of 1 MiB (1048576 bytes) would lose 5 KiB (5120 bytes) of data \
             between guest offsets 614400 and 720896.\n",
        ),
        (&["--shrink", "a", "-324k"], "would lose 4 KiB (4096 bytes) of data"),
        (&["--shrink", "a", "-128k"], "would lose nothing.\n"),
        (&["a", "+1M"], "would lose nothing.\n"),
        (&["-f", "raw", "--shrink", "raw", "512k"], "would lose 5 KiB (5120 bytes) of data"),
    ] {
        let ran = qcheck(dir.path(), &[&["resize", "--dry-run"], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(printed), "{args:?}: {}", ran.out);
    }
    for args in [["--dry-run", "a", "512k"], ["--dry-run", "a", "1000"]] {
        assert_eq!(qcheck(dir.path(), &[&["resize"], &args[..]].concat()).code, 1, "{args:?}");
    }
    let after =
        [fs::read(dir.path().join("a")).unwrap(), fs::read(dir.path().join("raw")).unwrap()];
    assert!(before == after, "something was written");
}

/// Puts a refcount table of a million entries at the end of an image, whose blocks are so many bytes apart.
fn with_long_reftable(image: &Path, apart: u64) {
    let mut bytes = fs::read(image).unwrap();
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let block = number(number(48) as usize);
    let at = bytes.len().next_multiple_of(65536);
    bytes.resize(at, 0);
    (0..1_u64 << 20).for_each(|n| bytes.extend((block + n * apart).to_be_bytes()));
    bytes[48..56].copy_from_slice(&(at as u64).to_be_bytes());
    bytes[56..60].copy_from_slice(&128_u32.to_be_bytes());
    fs::write(image, bytes).unwrap();
}

#[test]
fn a_refcount_table_that_names_a_block_twice_or_past_the_end_is_refused_as_damaged() {
    for (why, apart) in [
        ("entry 1 points to the refcount block of another entry", 0),
        ("entry 1 points past the end of the file", 1 << 30),
    ] {
        let dir = folder();
        qemu_create(dir.path(), &["-f", "qcow2", "a", "4M"]);
        io(dir.path(), "a", "write -q 0 4M");
        with_long_reftable(&dir.path().join("a"), apart);
        let before = fs::read(dir.path().join("a")).unwrap();
        for args in [
            &["resize", "a", "1T"][..],
            &["resize", "--shrink", "a", "1M"],
            &["resize", "--preallocation=metadata", "a", "64M"],
            &["snapshot", "-c", "one", "a"],
        ] {
            let ran = qcheck(dir.path(), args);
            assert_eq!(ran.code, 1, "{args:?}");
            assert!(ran.err.contains(why) && ran.err.contains("needs a repair"), "{}", ran.err);
            assert!(fs::read(dir.path().join("a")).unwrap() == before, "{args:?}");
        }
    }
}
