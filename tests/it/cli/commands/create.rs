//! `qcheck create`: what it makes is what qemu-img makes, and what both checkers find clean.

use std::fs;
use std::path::Path;

use qcheck::create::{BackingName, CreateOptions, NewImage, Preallocation};
use qcheck::format::header::{Header, HeaderError};
use qcheck::progress::Silent;
use qcheck::storage::{Access, FileStorage, MemoryStorage, ReadAt, lock};

use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_ok};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn refusal(folder: &Path, args: &[&str]) -> Ran {
    let ran = qcheck(folder, args);
    assert_eq!(ran.code, 1, "{args:?}");
    assert_eq!(ran.err.lines().filter(|l| l.starts_with("qcheck: ")).count(), 1, "{}", ran.err);
    ran
}

/// The lines of `info` that do not depend on how much space an image takes.
fn told(text: &str) -> Vec<&str> {
    text.lines().filter(|l| !l.contains("disk size") && !l.contains("file length")).collect()
}

/// Makes the same image with both programs and compares what they print and what they make.
fn same(args: &[&str]) {
    let (ours, theirs) = (folder(), folder());
    for dir in [&ours, &theirs] {
        qemu_create(dir.path(), &["-f", "qcow2", "base", "5M"]);
        qemu_ok(dir.path(), "qemu-io", &["-c", "write -P 7 1M 1M", "base"]);
    }
    let args = [&["create"], args].concat();
    let ran = qcheck(ours.path(), &args);
    assert_eq!(ran, qemu(theirs.path(), "qemu-img", &args), "{args:?}");
    let info = |dir: &Path| qemu_ok(dir, "qemu-img", &["info", "image"]);
    let (our_info, their_info) = (info(ours.path()), info(theirs.path()));
    assert_eq!(told(&our_info), told(&their_info), "{args:?}");
    if our_info.contains("file format: raw") {
        let length = |dir: &Path| fs::metadata(dir.join("image")).unwrap().len();
        assert_eq!(length(ours.path()), length(theirs.path()), "{args:?}");
        return;
    }
    let check = |tool: &str| match tool {
        "qcheck" => qcheck(ours.path(), &["check", "image"]),
        tool => qemu(ours.path(), tool, &["check", "image"]),
    };
    assert_eq!(check("qemu-img").code, 0, "{args:?}: {}", check("qemu-img").err);
    assert_eq!(check("qcheck"), check("qemu-img"), "{args:?}");
    let bytes = |dir: &Path| {
        qemu_ok(dir, "qemu-img", &["convert", "-O", "raw", "image", "bytes"]);
        fs::read(dir.join("bytes")).unwrap()
    };
    assert_eq!(bytes(ours.path()), bytes(theirs.path()), "{args:?}");
}

#[test]
fn images_are_those_of_qemu_img_at_every_width_and_cluster_size() {
    for bits in ["1", "2", "4", "8", "16", "32", "64"] {
        for preallocation in ["off", "metadata"] {
            let options =
                format!("refcount_bits={bits},cluster_size=512,preallocation={preallocation}");
            same(&["-f", "qcow2", "-o", &options, "image", "2M"]);
        }
    }
    for size in ["512", "4k", "64k", "2M"] {
        for preallocation in ["off", "metadata", "falloc", "full"] {
            let options = format!("cluster_size={size},preallocation={preallocation}");
            same(&["-f", "qcow2", "-o", &options, "image", "3M"]);
        }
    }
}

#[test]
fn every_option_makes_what_qemu_img_makes() {
    for args in [
        &["image", "1000"][..],
        &["-f", "raw", "-o", "preallocation=falloc", "image", "1M"],
        &["-f", "raw", "-o", "preallocation=full", "image", "1M"],
        &["-f", "qcow2", "image", "0"],
        &["-f", "qcow2", "image", "100"],
        &["-f", "qcow2", "-o", "size=1.5M", "image"],
        &["-q", "-f", "qcow2", "image", "1M"],
        &["-f", "qcow2", "-o", "compat=0.10", "image", "1M"],
        &["-f", "qcow2", "-o", "compat=v3,nocow=on,lazy_refcounts", "image", "1M"],
        &["-f", "qcow2", "-o", "extended_l2=on,compression_type=zstd", "image", "1M"],
        &["-f", "qcow2", "-o", "extended_l2=on,preallocation=metadata", "image", "9M"],
        &["-f", "qcow2", "-o", "data_file=data", "image", "1M"],
        &["-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "image", "1M"],
        &["-f", "qcow2", "-o", "data_file=data,preallocation=full", "image", "1M"],
        &["-f", "qcow2", "-b", "base", "-F", "qcow2", "image"],
        &["-f", "qcow2", "-b", "base", "-F", "qcow2", "image", "3M"],
        &["-f", "qcow2", "-o", "backing_file=base,backing_fmt=raw", "image"],
        &["-f", "qcow2", "-o", "cluster_size=512", "-b", "base", "-F", "qcow2", "image"],
        &[
            "-f",
            "qcow2",
            "-o",
            "extended_l2=on,preallocation=metadata",
            "-b",
            "base",
            "-F",
            "qcow2",
            "image",
            "9M",
        ],
    ] {
        same(args);
    }
}

#[test]
fn a_backing_file_that_is_not_to_be_opened_may_be_missing() {
    let dir = folder();
    let args = ["create", "-u", "-f", "qcow2", "-b", "missing", "-F", "raw", "a", "1M"];
    assert_eq!(qcheck(dir.path(), &args).code, 0);
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "a"]);
    assert!(info.contains("backing file: missing\nbacking file format: raw"), "{info}");
}

#[test]
fn what_does_not_fit_together_is_refused_and_leaves_no_file() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "base", "1M"]);
    for args in [
        &["-f", "qcow2", "a"][..],
        &["-f", "qcow2", "-o", "size=1M", "a", "2M"],
        &["-f", "qcow2", "a", "1x"],
        &["-f", "nonsense", "a", "1M"],
        &["-f", "vmdk", "a", "1M"],
        &["-f", "qcow2", "-o", "nonsense=1", "a", "1M"],
        &["-f", "qcow2", "-o", "cluster_size=3k", "a", "1M"],
        &["-f", "qcow2", "-o", "cluster_size=4M", "a", "1M"],
        &["-f", "qcow2", "-o", "cluster_size=512", "a", "1E"],
        &["-f", "qcow2", "-o", "refcount_bits=3", "a", "1M"],
        &["-f", "qcow2", "-o", "compat=v2,refcount_bits=8", "a", "1M"],
        &["-f", "qcow2", "-o", "compat=v2,lazy_refcounts=on", "a", "1M"],
        &["-f", "qcow2", "-o", "compat=v2,extended_l2=on", "a", "1M"],
        &["-f", "qcow2", "-o", "compat=4", "a", "1M"],
        &["-f", "qcow2", "-o", "extended_l2=on,cluster_size=8k", "a", "1M"],
        &["-f", "qcow2", "-o", "compression_type=rar", "a", "1M"],
        &["-f", "qcow2", "-o", "preallocation=some", "a", "1M"],
        &["-f", "qcow2", "-o", "data_file_raw=on", "a", "1M"],
        &["-f", "qcow2", "-o", "data_file=a", "a", "1M"],
        &["-f", "qcow2", "-o", "encrypt.format=luks", "a", "1M"],
        &["-f", "qcow2", "-b", "base", "a"],
        &["-f", "qcow2", "-b", "missing", "-F", "qcow2", "a"],
        &["-f", "qcow2", "-F", "qcow2", "a", "1M"],
        &["-f", "qcow2", "-o", "preallocation=full", "-b", "base", "-F", "qcow2", "a"],
        &["-f", "raw", "-b", "base", "-F", "qcow2", "a", "1M"],
        &["-f", "raw", "-o", "preallocation=metadata", "a", "1M"],
        &["-f", "qcow2", "missing/a", "1M"],
        &["-f", "qcow2", ".", "1M"],
    ] {
        let args = [&["create"], args].concat();
        refusal(dir.path(), &args);
        assert_eq!(qemu(dir.path(), "qemu-img", &args).code, i32::from(!args.contains(&"vmdk")));
        let _ = fs::remove_file(dir.path().join("a"));
        refusal(dir.path(), &args);
        assert!(!dir.path().join("a").exists(), "{args:?} leaves a file");
    }
    refusal(dir.path(), &["create", "-f", "qcow2", "-b", "base", "-F", "qcow2", "base"]);
    assert_eq!(qcheck(dir.path(), &["check", "base"]).code, 0, "the backing file is whole");
}

#[test]
fn a_file_in_use_is_refused_and_keeps_its_content() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let before = fs::read(dir.path().join("a")).unwrap();
    let user = FileStorage::open_read(&dir.path().join("a")).unwrap();
    lock(&user, Access::Read).unwrap();
    let ran = refusal(dir.path(), &["create", "-q", "-f", "qcow2", "a", "2M"]);
    assert!(ran.err.contains("lock"), "{}", ran.err);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), before);
}

#[test]
fn an_old_image_is_replaced() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "preallocation=full", "a", "4M"]);
    assert_eq!(qcheck(dir.path(), &["create", "-q", "-f", "qcow2", "a", "1M"]).code, 0);
    assert!(fs::metadata(dir.path().join("a")).unwrap().len() < 1 << 20);
    assert_eq!(qemu(dir.path(), "qemu-img", &["check", "a"]).code, 0);
}

#[test]
fn a_data_file_is_where_qemu_looks_for_it() {
    let dir = folder();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let args = ["create", "-q", "-f", "qcow2", "-o", "data_file=data", "sub/a", "1M"];
    assert_eq!(qcheck(dir.path(), &args).code, 0);
    assert_eq!(fs::metadata(dir.path().join("data")).unwrap().len(), 1 << 20);
    qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 64k", "sub/a"]);
}

#[test]
fn help_lists_the_options_of_the_format() {
    let dir = folder();
    for file in [&["a"][..], &[]] {
        let args = [&["create", "-f", "qcow2", "-o", "size=x,help"], file].concat();
        let ran = qcheck(dir.path(), &args);
        assert_eq!(ran.code, 0);
        let theirs = qemu_ok(dir.path(), "qemu-img", &args);
        assert_eq!(ran.out.lines().next(), theirs.lines().next());
        let names = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|l| l.starts_with("  "));
            lines.map(|l| l.split(" - ").next().unwrap().trim().to_owned()).collect()
        };
        assert_eq!(names(&ran.out), names(&theirs));
    }
}

fn mapped(size: u64) -> NewImage {
    let preallocation = Preallocation::Metadata;
    let options =
        CreateOptions::default().size(size).cluster_bytes(512).preallocation(preallocation);
    NewImage::new(&options).unwrap()
}

/// An image whose header is longer than a sector.
fn overlay() -> NewImage {
    let name = b"a-backing-file-with-a-name".repeat(8);
    let backing = Some(BackingName { name, format: b"raw".to_vec() });
    NewImage::new(&CreateOptions::default().size(1 << 20).backing(backing)).unwrap()
}

#[test]
fn a_crash_leaves_no_image_or_the_finished_one() {
    for new in [mapped(20 << 10), overlay()] {
        let log = WriteLog::new(Vec::new());
        new.write(&log, None, &Silent).unwrap();
        let finished = log.image();
        let mut good = 0;
        let tried = crash_images(&log, |crash| match Header::decode(&crash.bytes) {
            Err(HeaderError::NoMagic) => {}
            _ => {
                assert!(crash.bytes == finished, "{}", crash.story);
                good += 1;
            }
        });
        assert!(tried > 10 && good == 1, "{tried} crashes, {good} good images");
    }
}

#[test]
fn a_failing_disk_is_an_error_and_leaves_no_image() {
    let attempt = |n: u64| {
        let storage = FailAfter::new(MemoryStorage::new(Vec::new()), Class::AnyWrite, n);
        let result = mapped(20 << 10).write(&storage, None, &Silent);
        let fired = storage.fired();
        (result, fired, storage.into_inner().into_inner())
    };
    let mut with_header = 0;
    for n in 0.. {
        let (result, fired, bytes) = attempt(n);
        if !fired {
            result.unwrap();
            assert!(n > 6, "{n} operations");
            break;
        }
        result.unwrap_err();
        with_header += u32::from(Header::decode(&bytes).is_ok());
    }
    assert_eq!(with_header, 1, "only the flush after the header fails with the header there");
}

#[test]
fn a_device_with_an_old_content_holds_a_clean_image_and_one_too_small_is_left_alone() {
    let new = mapped(100 << 10);
    let device = MemoryStorage::fixed(vec![0xFF; 400 << 10]);
    new.write(&device, None, &Silent).unwrap();
    let mut bytes = vec![0; 400 << 10];
    device.read_exact_at(0, &mut bytes).unwrap();
    let dir = folder();
    fs::write(dir.path().join("a"), bytes).unwrap();
    let ran = qemu(dir.path(), "qemu-img", &["check", "a"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    let small = MemoryStorage::fixed(vec![0xFF; 100 << 10]);
    new.write(&small, None, &Silent).unwrap_err();
    let mut bytes = vec![0; 100 << 10];
    small.read_exact_at(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&b| b == 0xFF), "nothing was written");
}

#[test]
fn the_name_of_a_data_file_is_seen_from_the_current_folder_as_in_qemu() {
    let dir = folder();
    fs::create_dir(dir.path().join("sub")).unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "data_file=d", "sub/a", "1M"]);
    assert!(dir.path().join("d").exists());
    let convert = ["convert", "-O", "raw", "sub/a", "raw"];
    assert_eq!(qcheck(dir.path(), &convert).code, 0);
    fs::rename(dir.path().join("d"), dir.path().join("sub/d")).unwrap();
    assert_eq!(qemu(dir.path(), "qemu-img", &convert).code, 1);
    assert_eq!(qcheck(dir.path(), &convert).code, 1);
    assert_eq!(qcheck(dir.path(), &["check", "--data", "sub/a"]).code, 2);
}

#[test]
fn what_has_another_format_is_refused_with_the_formats_that_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "vdi", "x.vdi", "1M"]);
    qemu_create(folder, &["-f", "raw", "x.raw", "1M"]);
    let (both, qcow2) = (": qcow2 and raw are supported", ": only qcow2 is supported");
    let new = ": qcow2, raw and luks are supported";
    for (args, end) in [
        (&["check", "-f", "bogus", "x.vdi"][..], both),
        (&["create", "-f", "bogus", "new", "1M"], both),
        (&["create", "-f", "vmdk", "new", "1M"], new),
        (&["create", "-f", "qcow2", "-b", "x.vdi", "-F", "vdi", "new"], new),
        (&["create", "-f", "qcow2", "-b", "x.vdi", "-F", "bogus", "new"], both),
        (&["convert", "-O", "bogus", "x.raw", "new"], both),
        (&["convert", "-O", "vmdk", "x.raw", "new"], new),
        (&["convert", "-f", "bogus", "x.raw", "new"], both),
        (&["convert", "x.vdi", "new"], both),
        (&["info", "x.vdi"], both),
        (&["resize", "x.vdi", "2M"], new),
        (&["snapshot", "-l", "x.vdi"], both),
        (&["snapshot", "-c", "a", "x.vdi"], qcow2),
        (&["info", "--layout", "x.vdi"], qcow2),
        (&["info", "--metadata", "x.raw"], qcow2),
        (&["dump", "x.vdi", "new"], qcow2),
        (&["dump", "-f", "bogus", "x.vdi", "new"], both),
    ] {
        let ran = qcheck(folder, args);
        let first = ran.err.lines().next().unwrap_or("");
        assert!(ran.code == 1 && first.ends_with(end), "{args:?}: {}", ran.err);
    }
}
