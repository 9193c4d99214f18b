//! The options of `convert`: what they do, and that nonsense ends as in qemu-img.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::convert::round::sample;
use crate::support::programs::run::{
    Ran, assert_clean, qcheck, qemu, qemu_create, qemu_io, qemu_ok,
};

fn convert(folder: &Path, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["convert"].iter().chain(args).copied().collect();
    qcheck(folder, &all)
}

fn convert_ok(folder: &Path, args: &[&str]) {
    let ran = convert(folder, args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
}

fn assert_same(folder: &Path, raw: &str, image: &str) {
    qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", "raw", "-F", "qcow2", raw, image]);
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn snapshots_are_read_by_id_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "a.qcow2", "2M"]);
    for (value, name) in [("1", "first"), ("2", "second,2")] {
        qemu_io(folder, "a.qcow2", &format!("write -P {value} 0 1M"));
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", name, "a.qcow2"]);
    }
    qemu_io(folder, "a.qcow2", "write -P 3 0 1M");
    for (args, value) in [
        (&["-l", "first"][..], 1),
        (&["-l", "2"], 2),
        (&["-l", "snapshot.name=second,,2"], 2),
        (&["-l", "snapshot.id=1,snapshot.name=first"], 1),
        (&["-s", "second,2"], 2),
        (&["--snapshot", "snapshot.name=second,,2"], 2),
        (&["--source-snapshot", "1"], 1),
        (&[], 3),
    ] {
        let all = [args, &["a.qcow2", "out.raw"]].concat();
        convert_ok(folder, &all);
        let mut expected = vec![value; 1 << 20];
        expected.resize(2 << 20, 0);
        assert!(read(folder, "out.raw") == expected, "{args:?}");
    }
    for args in [
        ["-l", "third", "a.qcow2", "none.raw"],
        ["-l", "snapshot.id=1,snapshot.name=x", "a.qcow2", "none.raw"],
        ["-l", "snapshot.foo=1", "a.qcow2", "none.raw"],
    ] {
        assert_eq!(convert(folder, &args).code, 1, "{args:?}");
        assert!(!folder.join("none.raw").exists());
    }
}

#[test]
fn only_what_differs_from_the_backing_file_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("base.raw"), 3, 8 << 20);
    fs::copy(folder.join("base.raw"), folder.join("disk.raw")).unwrap();
    qemu_ok(folder, "qemu-io", &["-f", "raw", "-c", "write -P 5 1M 100k", "disk.raw"]);
    qemu_ok(folder, "qemu-io", &["-f", "raw", "-c", "write -P 0 3M 2M", "disk.raw"]);
    fs::OpenOptions::new()
        .write(true)
        .open(folder.join("disk.raw"))
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    for options in
        ["compat=1.1", "compat=0.10", "extended_l2=on", "cluster_size=512", "cluster_size=2M"]
    {
        for more in [&[][..], &["-c"], &["-S", "0"]] {
            let base = ["-O", "qcow2", "-B", "base.raw", "-F", "raw", "-o", options];
            convert_ok(folder, &[&base, more, &["disk.raw", "top.qcow2"]].concat());
            assert_clean(folder, "top.qcow2");
            assert_same(folder, "disk.raw", "top.qcow2");
        }
    }
    let base = ["-O", "qcow2", "-B", "base.raw", "-F", "raw"];
    convert_ok(folder, &[&base[..], &["disk.raw", "top.qcow2"]].concat());
    assert!(fs::metadata(folder.join("top.qcow2")).unwrap().len() < 1 << 20);
    // An overlay of the same file is copied without looking at what it leaves to that.
    convert_ok(folder, &[&base[..], &["top.qcow2", "again.qcow2"]].concat());
    assert_same(folder, "disk.raw", "again.qcow2");
    assert_clean(folder, "again.qcow2");
    // Through a chain the disk is whole.
    convert_ok(folder, &["top.qcow2", "flat.raw"]);
    assert!(read(folder, "flat.raw") == read(folder, "disk.raw"));
}

#[test]
fn a_target_that_exists_is_overwritten_and_never_shortened() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 4, 4 << 20);
    for options in
        ["compat=1.1", "compat=0.10", "extended_l2=on", "cluster_size=4k", "lazy_refcounts=on"]
    {
        for more in [&[][..], &["-c"], &["-S", "0"], &["-W", "-m", "4"]] {
            qemu_create(folder, &["-f", "qcow2", "-o", options, "there.qcow2", "4M"]);
            qemu_io(folder, "there.qcow2", "write -P 7 0 4M");
            convert_ok(
                folder,
                &[&["-n", "-O", "qcow2"], more, &["disk.raw", "there.qcow2"]].concat(),
            );
            assert_clean(folder, "there.qcow2");
            assert_same(folder, "disk.raw", "there.qcow2");
        }
    }
    fs::write(folder.join("there.raw"), vec![7; 5 << 20]).unwrap();
    convert_ok(folder, &["-n", "disk.raw", "there.raw"]);
    let written = read(folder, "there.raw");
    assert!(
        written[..4 << 20] == read(folder, "disk.raw") && written[4 << 20..] == vec![7; 1 << 20]
    );
    fs::write(folder.join("small.raw"), vec![7; 1 << 20]).unwrap();
    assert_eq!(convert(folder, &["-n", "disk.raw", "small.raw"]).code, 1);
    assert!(read(folder, "small.raw") == vec![7; 1 << 20]);
    assert_eq!(convert(folder, &["-n", "disk.raw", "absent.raw"]).code, 1);
}

#[test]
fn preallocated_targets_and_external_data_files_hold_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 5, 4 << 20);
    for options in [
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=4k",
        "preallocation=full,extended_l2=on",
        "data_file=data",
        "data_file=data,data_file_raw=on",
    ] {
        convert_ok(folder, &["-O", "qcow2", "-o", options, "disk.raw", "a.qcow2"]);
        assert_clean(folder, "a.qcow2");
        assert_same(folder, "disk.raw", "a.qcow2");
        convert_ok(folder, &["a.qcow2", "b.raw"]);
        assert!(read(folder, "b.raw") == read(folder, "disk.raw"), "{options}");
    }
    assert!(read(folder, "data") == read(folder, "disk.raw"));
    convert_ok(folder, &["-o", "preallocation=full", "disk.raw", "full.raw"]);
    assert!(fs::metadata(folder.join("full.raw")).unwrap().blocks() * 512 >= 4 << 20);
}

#[test]
fn zeroes_are_stored_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let mut disk = vec![0; 4 << 20];
    disk[1 << 20..(1 << 20) + 4096].fill(1);
    disk[(1 << 20) + 3 * 4096..(1 << 20) + 4 * 4096].fill(2);
    fs::write(folder.join("disk.raw"), &disk).unwrap();
    let room = |name: &str| fs::metadata(folder.join(name)).unwrap().blocks() * 512;
    // The first block is never a hole.
    for (sparse, ours) in
        [("0", 4 << 20), ("4k", 12288), ("512", 12288), ("16k", 20480), ("12k", 20480)]
    {
        let _ = fs::remove_file(folder.join("a.raw"));
        convert_ok(folder, &["-S", sparse, "disk.raw", "a.raw"]);
        assert_eq!(room("a.raw"), ours, "-S {sparse}");
        assert!(read(folder, "a.raw") == disk);
        convert_ok(folder, &["-S", sparse, "-O", "qcow2", "disk.raw", "a.qcow2"]);
        assert_same(folder, "disk.raw", "a.qcow2");
        assert_clean(folder, "a.qcow2");
    }
    // Of small clusters those between are stored where too few are zero together, as by qemu-img; where clusters are
    // compressed each counts for itself.
    for (more, sparse) in
        [(&[][..], "4k"), (&[], "8k"), (&[], "32k"), (&["-c"], "8k"), (&["-c"], "0")]
    {
        let base = ["-O", "qcow2", "-o", "cluster_size=1k", "-S", sparse];
        convert_ok(folder, &[&base, more, &["disk.raw", "a.qcow2"]].concat());
        qemu_ok(
            folder,
            "qemu-img",
            &[&["convert"], &base[..], more, &["disk.raw", "b.qcow2"]].concat(),
        );
        let map = |name: &str| {
            let json = qemu_ok(folder, "qemu-img", &["map", "--output=json", name]);
            let list: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
            let mut runs: Vec<(u64, bool)> = Vec::new();
            for run in list {
                let data = run["data"].as_bool().unwrap();
                if runs.last().is_none_or(|last| last.1 != data) {
                    runs.push((run["start"].as_u64().unwrap(), data));
                }
            }
            runs
        };
        assert_eq!(map("a.qcow2"), map("b.qcow2"), "{more:?} -S {sparse}");
    }
    convert_ok(folder, &["-S", "0", "-O", "qcow2", "disk.raw", "a.qcow2"]);
    assert!(room("a.qcow2") >= 4 << 20);
}

#[test]
fn cache_modes_offloading_and_rate_do_not_change_the_bytes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 6, (3 << 20) + 512);
    convert_ok(folder, &["-c", "-O", "qcow2", "disk.raw", "packed.qcow2"]);
    for more in [
        &["-t", "none", "-T", "none"][..],
        &["-t", "directsync"],
        &["-t", "writeback"],
        &["-t", "writethrough", "-T", "directsync"],
        &["-r", "100M"],
        &["-r", "0"],
        &["-C"],
        &["-q"],
        &["--verify"],
    ] {
        for source in ["disk.raw", "packed.qcow2"] {
            convert_ok(folder, &[more, &["-O", "qcow2", source, "a.qcow2"]].concat());
            assert_clean(folder, "a.qcow2");
            assert_same(folder, "disk.raw", "a.qcow2");
            convert_ok(folder, &[more, &[source, "a.raw"]].concat());
            assert!(read(folder, "a.raw") == read(folder, "disk.raw"), "{more:?}");
        }
    }
}

#[test]
fn several_sources_are_one_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("a.raw"), 7, (1 << 20) + 1000);
    sample(&folder.join("b.raw"), 8, 2 << 20);
    convert_ok(folder, &["-O", "qcow2", "b.raw", "b.qcow2"]);
    convert_ok(folder, &["-O", "qcow2", "a.raw", "b.qcow2", "a.raw", "all.qcow2"]);
    assert_clean(folder, "all.qcow2");
    let mut expected = read(folder, "a.raw");
    expected.resize(expected.len().next_multiple_of(512), 0);
    let padded = expected.clone();
    expected.extend(read(folder, "b.raw"));
    expected.extend(padded);
    convert_ok(folder, &["all.qcow2", "all.raw"]);
    assert!(read(folder, "all.raw") == expected);
}

#[test]
fn bitmaps_are_copied_and_broken_ones_refused_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "a.qcow2", "64M"]);
    for args in [
        &["--add", "-g", "512", "a.qcow2", "fine"][..],
        &["--add", "a.qcow2", "coarse"],
        &["--add", "--disable", "a.qcow2", "off"],
    ] {
        qemu_ok(folder, "qemu-img", &[&["bitmap"], args].concat());
    }
    qemu_io(folder, "a.qcow2", "write 0 40M");
    let bitmaps = |name: &str| {
        let info = qemu_ok(folder, "qemu-img", &["info", name]);
        info.split("bitmaps:").nth(1).unwrap().split("refcount").next().unwrap().to_owned()
    };
    for options in ["cluster_size=64k", "cluster_size=4k", "cluster_size=2M"] {
        convert_ok(folder, &["--bitmaps", "-O", "qcow2", "-o", options, "a.qcow2", "b.qcow2"]);
        assert_clean(folder, "b.qcow2");
        assert_eq!(bitmaps("a.qcow2"), bitmaps("b.qcow2"));
        // QEMU counts the bits: a merge of both sides adds nothing to either.
        qemu_ok(folder, "qemu-img", &["convert", "--bitmaps", "-O", "qcow2", "b.qcow2", "c.qcow2"]);
        assert_eq!(bitmaps("a.qcow2"), bitmaps("c.qcow2"));
    }
    // Killed while it is in use, a bitmap is not consistent any more.
    let killed = ["-c", "write 0 1M", "-c", "sigraise 9", "a.qcow2"];
    let _ = std::process::Command::new("qemu-io").current_dir(folder).args(killed).output();
    let ran = convert(folder, &["--bitmaps", "-O", "qcow2", "a.qcow2", "d.qcow2"]);
    assert_eq!(ran.code, 1);
    assert!(!folder.join("d.qcow2").exists());
    let skip = ["--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "a.qcow2", "d.qcow2"];
    let ran = convert(folder, &skip);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("'fine'") && ran.err.contains("'off'"), "{}", ran.err);
    assert!(!qemu_ok(folder, "qemu-img", &["info", "d.qcow2"]).contains("bitmaps"));
    assert_clean(folder, "d.qcow2");
}

#[test]
fn bitmaps_are_added_to_images_that_exist_and_to_preallocated_ones() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "a.qcow2", "64M"]);
    for args in
        [&["--add", "-g", "512", "a.qcow2", "fine"][..], &["--add", "--disable", "a.qcow2", "off"]]
    {
        qemu_ok(folder, "qemu-img", &[&["bitmap"], args].concat());
    }
    qemu_io(folder, "a.qcow2", "write -P 5 3M 40M");
    let has_all = |name: &str, disk: &str| {
        assert_clean(folder, name);
        qemu_ok(folder, "qemu-img", &["compare", "a.qcow2", disk]);
        let map = ["map", "--output=json", "--image-opts"];
        for bitmap in ["fine", "off"] {
            let map = |file: &str| {
                let image = format!("driver=nbd,server.type=unix,server.path={file}.sock");
                let image = format!("{image},export=x,x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}");
                let socket = format!("{}/{file}.sock", folder.display());
                let _ = std::fs::remove_file(&socket);
                let mut server = std::process::Command::new("qemu-nbd")
                    .current_dir(folder)
                    .args(["-r", "-f", "qcow2", "-x", "x", "-B", bitmap, "-k", &socket, file])
                    .spawn()
                    .unwrap();
                while !std::path::Path::new(&socket).exists() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let told = qemu_ok(folder, "qemu-img", &[&map[..], &[&image]].concat());
                server.wait().unwrap();
                told
            };
            assert_eq!(map("a.qcow2"), map(name), "{bitmap} of {name}");
        }
    };
    for options in
        ["preallocation=metadata", "data_file=c.data,data_file_raw=on", "cluster_size=4k"]
    {
        let _ = std::fs::remove_file(folder.join("c.qcow2"));
        let made = ["--bitmaps", "-O", "qcow2", "-o", options, "a.qcow2", "c.qcow2"];
        convert_ok(folder, &made);
        has_all("c.qcow2", "c.qcow2");
    }
    qemu_create(folder, &["-f", "raw", "a-backing-file-with-a-long-name", "64M"]);
    for (base, options) in [
        (None, "cluster_size=64k"),
        (None, "cluster_size=1k"),
        (Some("a-backing-file-with-a-long-name"), "cluster_size=2M,refcount_bits=1"),
    ] {
        let base = base.map_or(vec![], |base| vec!["-b", base, "-F", "raw"]);
        let target = [&["-f", "qcow2", "-o", options][..], &base, &["d.qcow2", "64M"]].concat();
        qemu_create(folder, &target);
        convert_ok(folder, &["-n", "--bitmaps", "-O", "qcow2", "a.qcow2", "d.qcow2"]);
        has_all("d.qcow2", "d.qcow2");
        let ran = convert(folder, &["-n", "--bitmaps", "-O", "qcow2", "a.qcow2", "d.qcow2"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("there is a bitmap 'fine' in the target already"), "{}", ran.err);
        has_all("d.qcow2", "d.qcow2");
        qemu_create(folder, &target);
        qemu_ok(folder, "qemu-img", &["bitmap", "--add", "d.qcow2", "mine"]);
        convert_ok(folder, &["-n", "--bitmaps", "-O", "qcow2", "a.qcow2", "d.qcow2"]);
        has_all("d.qcow2", "d.qcow2");
        assert!(qemu_ok(folder, "qemu-img", &["info", "d.qcow2"]).contains("name: mine"));
        assert_eq!(
            qemu_ok(folder, "qemu-img", &["info", "d.qcow2"]).contains("backing file:"),
            !base.is_empty()
        );
    }
}

#[test]
fn arguments_that_do_not_fit_end_as_in_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("a.raw"), 9, 1 << 20);
    qemu_create(folder, &["-f", "qcow2", "b.qcow2", "1M"]);
    for args in [
        &["a.raw"][..],
        &[],
        &["-m", "17", "a.raw", "o"],
        &["-m", "0", "a.raw", "o"],
        &["-S", "100", "a.raw", "o"],
        &["-S", "64M", "a.raw", "o"],
        &["-n", "-o", "size=5M", "a.raw", "o"],
        &["--target-is-zero", "a.raw", "o"],
        &["-B", "b.qcow2", "-O", "qcow2", "a.raw", "o"],
        &["-B", "b.qcow2", "-F", "qcow2", "-O", "qcow2", "a.raw", "a.raw", "o"],
        &["-B", "b.qcow2", "a.raw", "o"],
        &["-F", "qcow2", "a.raw", "o"],
        &["-c", "a.raw", "o"],
        &["-C", "-S", "4k", "a.raw", "o"],
        &["-C", "-c", "-O", "qcow2", "a.raw", "o"],
        &["--skip-broken-bitmaps", "-O", "qcow2", "a.raw", "o"],
        &["--bitmaps", "-O", "qcow2", "a.raw", "a.raw", "o"],
        &["--bitmaps", "-O", "qcow2", "a.raw", "o"],
        &["--bitmaps", "b.qcow2", "o"],
        &["-O", "nonsense", "a.raw", "o"],
        &["-t", "foo", "a.raw", "o"],
        &["-T", "foo", "a.raw", "o"],
        &["-r", "foo", "a.raw", "o"],
        &["-c", "-O", "qcow2", "-o", "preallocation=metadata", "a.raw", "o"],
        &["-f", "qcow2", "a.raw", "o"],
        &["-f", "foo", "a.raw", "o"],
        &["absent", "o"],
        &["a.raw", "a.raw"],
        &["a.raw", "absent/o"],
    ] {
        let ours = convert(folder, args);
        let theirs = qemu(folder, "qemu-img", &[&["convert"], args].concat());
        assert_eq!((ours.code, ours.out.as_str()), (1, ""), "{args:?}: {}", ours.err);
        assert_eq!(theirs.code, 1, "{args:?}");
        assert_eq!(ours.err.lines().filter(|l| l.starts_with("qcheck: ")).count(), 1, "{args:?}");
        let _ = fs::remove_file(folder.join("o"));
    }
    convert_ok(folder, &["-f", "foo", "-f", "raw", "-O", "foo", "-O", "qcow2", "a.raw", "o"]);
    let ran = convert(folder, &["-O", "vmdk", "a.raw", "o"]);
    assert!(ran.code == 1 && ran.err.contains("qcow2, raw and luks are supported"), "{}", ran.err);
}

#[test]
fn progress_is_the_line_of_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("a.raw"), 10, 4 << 20);
    let out = convert(folder, &["-p", "a.raw", "b.raw"]).out;
    assert!(
        out.starts_with("    (0.00/100%)\r") && out.ends_with("    (100.00/100%)\r\n"),
        "{out:?}"
    );
    assert_eq!(convert(folder, &["-p", "-q", "a.raw", "b.raw"]).out, "");
}

#[test]
fn the_long_options_of_qemu_img_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "a", "2M"]);
    let args = ["--output-format", "qcow2", "--options", "compat=v2", "--output-cache", "none"];
    let with = |target| [&["convert"][..], &args, &["a", target]].concat();
    qemu_ok(folder, "qemu-img", &with("theirs"));
    assert_eq!(qcheck(folder, &with("ours")).code, 0);
    for target in ["theirs", "ours"] {
        assert_eq!(&read(folder, target)[..8], b"QFI\xfb\0\0\0\x02", "{target}");
    }
}
