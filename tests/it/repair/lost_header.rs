//! Images whose header is lost or damaged: what the file holds shows what it was.

use qcheck::check::{CheckOptions, Tally, check};
use qcheck::error::Result;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, RepairOutcome, repair};
use qcheck::storage::{MemoryStorage, Storage};
use qcheck::undo::{Durable, UndoLog};

use crate::support::damages::broken::{Sound, bases};
use crate::support::damages::matrix::{self, Case};
use crate::support::images::reader::Reader;
use crate::support::programs::oracle::{Scratch, guest_bytes};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};
use crate::support::storages::undo::undone;

const REBUILD: [&str; 3] = ["-r", "all", "--allow-data-loss"];

/// The image without its first 512 bytes.
fn headless(image: &Scratch) -> Scratch {
    let image = image.copy();
    let mut bytes = image.bytes();
    let end = bytes.len().min(512);
    bytes[..end].fill(0);
    image.write("image.qcow2", &bytes);
    image
}

/// Rebuilds the header with these options; what is wrong with the end.
fn rebuilt(case: &Case, hints: &[&str]) -> Vec<String> {
    let before = guest_bytes(&case.image, None).expect("a valid image");
    let image = headless(&case.image);
    let options: Vec<&str> = REBUILD.iter().chain(hints).copied().collect();
    let own = image.own_check(&options);
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("[{} {hints:?}] {what}", case.name));
    if own.code != 0 {
        say(format!("ends with {own:?}"));
        return wrong;
    }
    let qemu = image.qemu_check(&[]);
    if qemu.code != 0 {
        say(format!("qemu-img reports {qemu:?} after {}", own.err));
    }
    // Without a hint the disk may be longer, by zeroes.
    image.write("before.raw", &before);
    let ran = image.qemu_img(&["compare", "-f", "raw", "-F", "qcow2", "before.raw", "image.qcow2"]);
    if ran.code != 0 {
        say(format!("other bytes: {ran:?}, after {}", own.err));
    }
    if !hints.is_empty() && guest_bytes(&image, None) != Some(before) {
        say("other bytes with a hint".into());
    }
    wrong
}

/// Rebuilds all headers with and without hints.
fn all_rebuilt(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| !case.name.starts_with("size 64G")) {
        let bytes = guest_bytes(&case.image, None).expect("a valid image").len();
        let size = bytes.to_string();
        if !case.name.starts_with("size ") {
            wrong.extend(rebuilt(case, &[]));
        }
        if bytes > 0 {
            wrong.extend(rebuilt(case, &["--hint-size", &size]));
        }
    }
    println!("{} images", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_lost_header_of_every_geometry_is_rebuilt() {
    all_rebuilt(&matrix::geometries());
}

#[test]
fn a_lost_header_of_an_image_with_compressed_clusters_is_rebuilt() {
    let mut cases = matrix::compressed();
    cases.retain(|case| !case.name.contains("zstd"));
    all_rebuilt(&cases);
}

#[test]
fn a_lost_header_of_preallocated_and_subcluster_images_is_rebuilt() {
    let mut cases = matrix::layouts();
    cases.retain(|case| !case.name.contains("data_file"));
    all_rebuilt(&cases);
}

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn run(storage: &dyn Storage) -> Result<RepairOutcome> {
    repair(storage, RepairMode::Lossy, &options(), &Silent)
}

fn tally(bytes: &[u8]) -> Option<Tally> {
    let storage = MemoryStorage::new(bytes.to_vec());
    check(&storage, &options(), &Silent).ok().map(|report| report.tally)
}

/// Images of the builder whose headers are lost in two ways.
fn lost() -> Vec<(String, Vec<u8>, &'static Sound)> {
    let mut all = Vec::new();
    for base in bases().iter().filter(|base| !base.name.contains("encrypted")) {
        let mut bytes = base.bytes.clone();
        bytes[..112].fill(0);
        all.push((format!("{} zeroed", base.name), bytes, base));
        let mut bytes = base.bytes.clone();
        bytes[0] ^= 1;
        bytes[23] ^= 3;
        all.push((format!("{} flipped", base.name), bytes, base));
    }
    all
}

/// What each view of an image reads, by the reader of the tests.
fn views(bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    Reader::new(bytes).views().to_vec()
}

#[test]
fn a_header_is_rebuilt_whatever_a_crash_leaves_of_it() {
    let mut images = 0;
    for (name, bytes, _) in lost() {
        let log = WriteLog::new(bytes.clone());
        if run(&log).is_err() {
            assert!(log.image() == bytes, "{name}: an error after a write");
            continue;
        }
        let end = log.image();
        let told = tally(&end).expect("a verdict");
        images += crash_images(&log, |image| {
            let again = MemoryStorage::new(image.bytes.clone());
            let outcome = run(&again);
            assert!(outcome.is_ok(), "{name}: {outcome:?}, when of {}", image.story);
            let bytes = again.into_inner();
            let now = tally(&bytes).expect("a verdict");
            assert_eq!(now.is_clean(), told.is_clean(), "{name}: when of {}", image.story);
            assert!(views(&bytes) == views(&end), "{name}: other bytes, when of {}", image.story);
        });
    }
    assert!(images > 20, "only {images} crash images");
}

#[test]
fn a_header_is_rebuilt_after_every_failure_of_the_disk() {
    let mut failures = 0;
    for (name, bytes, _) in lost() {
        let whole = MemoryStorage::new(bytes.clone());
        if run(&whole).is_err() {
            continue;
        }
        let end = views(&whole.into_inner());
        for class in [Class::Write, Class::Sync, Class::SetLen] {
            for n in 0.. {
                let disk = FailAfter::new(MemoryStorage::new(bytes.clone()), class, n);
                let result = run(&disk);
                if !disk.fired() {
                    break;
                }
                failures += 1;
                assert!(result.is_err(), "{name}: {class:?} {n} is not reported");
                let again = disk.into_inner();
                run(&again).unwrap_or_else(|error| panic!("{name}: {class:?} {n}: {error}"));
                assert!(views(&again.into_inner()) == end, "{name}: {class:?} {n}: other bytes");
            }
        }
    }
    assert!(failures > 20, "only {failures} failures");
}

#[test]
fn a_rebuilt_header_is_undone_to_the_byte() {
    let mut done = 0;
    for (name, bytes, _) in lost() {
        let image = MemoryStorage::new(bytes.clone());
        let file = MemoryStorage::default();
        let log = UndoLog::new(&image, Durable::assume(&file)).expect("an empty file");
        if run(&log).is_err() {
            continue;
        }
        log.finish().expect("memory does not fail");
        drop(log);
        let result = undone(&file.into_inner(), &image, false);
        assert!(result.is_ok(), "{name}: {result:?}");
        assert!(image.into_inner() == bytes, "{name}: not the same bytes");
        done += 1;
    }
    assert!(done > 5, "only {done} undone");
}

#[test]
fn the_builders_images_read_the_same_after_their_header_was_lost() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (name, bytes, base) in lost() {
        let image = MemoryStorage::new(bytes);
        match run(&image) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(outcome) => {
                let bytes = image.into_inner();
                let told = outcome.after.as_ref().expect("a header was written").tally;
                let (before, after) = (views(&base.bytes), views(&bytes));
                let alike = before.len() == after.len()
                    && before.iter().zip(&after).all(|(b, a)| {
                        let known = b.len().min(a.len());
                        b[..known] == a[..known]
                    });
                if !told.is_clean() || !alike {
                    wrong.push(format!("{name}: alike {alike}, {told:?}"));
                }
                read += 1;
            }
        }
    }
    assert!(wrong.is_empty() && read > 5, "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_search_is_begun_only_where_data_may_be_lost() {
    let base = &bases()[0];
    let mut bytes = base.bytes.clone();
    bytes[23] = 77;
    let image = Scratch::with_image(&bytes);
    for options in [&[][..], &["-r", "all"]] {
        let own = image.own_check(options);
        assert_eq!(own.code, 1, "{own:?}");
        assert!(own.err.contains("--allow-data-loss"), "{own:?}");
        assert!(image.bytes() == bytes, "something was written");
    }
    let own = image.own_check(&[&REBUILD[..], &["--output", "json"]].concat());
    let json = own.json().expect("JSON");
    assert!(json["rebuilt-header"]["cluster-size"].is_u64(), "{json}");
    assert!(own.err.contains("the header was set right"), "{own:?}");
}

#[test]
fn a_file_without_any_table_is_left_alone() {
    let bytes = vec![0x5A; 1 << 20];
    let image = Scratch::with_image(&bytes);
    let own = image.own_check(&REBUILD);
    assert_eq!(own.code, 1, "{own:?}");
    assert!(image.bytes() == bytes, "something was written");
}

#[test]
fn a_lost_header_of_qemus_images_has_snapshots_a_backing_file_and_the_compression_type_again() {
    for method in ["zlib", "zstd"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        qemu_ok(folder, "qemu-img", &["create", "-q", "-f", "raw", "base", "8M"]);
        let options = format!("compression_type={method}");
        qemu_create(folder, &["-f", "qcow2", "-o", &options, "-b", "base", "-F", "raw", "image"]);
        qemu_io(folder, "image", "write -q -P 3 1M 1M");
        qemu_io(folder, "image", "write -q -c -P 4 4M 128k");
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", "before", "image"]);
        qemu_io(folder, "image", "write -q -P 5 2M 512k");
        let raw = |name: &str, from: &[&str]| {
            let args = [&["convert", "-O", "raw"], from, &["image", name]].concat();
            qemu_ok(folder, "qemu-img", &args);
            std::fs::read(folder.join(name)).unwrap()
        };
        let views = |n: u8| {
            let active = raw(&format!("active{n}"), &[]);
            (active, raw(&format!("snapshot{n}"), &["-l", "snapshot.name=before"]))
        };
        let before = views(0);
        let mut bytes = std::fs::read(folder.join("image")).unwrap();
        bytes[..512].fill(0);
        std::fs::write(folder.join("image"), bytes).unwrap();
        let args = [
            "check",
            "-f",
            "qcow2",
            "-r",
            "all",
            "--allow-data-loss",
            "--hint-size",
            "8M",
            "image",
        ];
        let ran = qcheck(folder, &args);
        assert_eq!(ran.code, 0, "{method}: {}", ran.err);
        let info = qemu_ok(folder, "qemu-img", &["info", "image"]);
        for told in [&format!("compression type: {method}"), "backing file: base", "before"] {
            assert!(info.contains(told), "{method}: {told}: {info}");
        }
        assert!(views(1) == before, "{method}: other bytes");
    }
}

/// Rebuilds a header of which nothing is left; the same bytes have to be read through it.
fn assert_named(image: &Scratch, hints: &[&str]) {
    let before = guest_bytes(image, None).expect("a clean image");
    let image = image.copy();
    let mut bytes = image.bytes();
    bytes[..65536].fill(0);
    image.write("image.qcow2", &bytes);
    let options: Vec<&str> = REBUILD.iter().chain(hints).copied().collect();
    let own = image.own_check(&options);
    assert_eq!(own.code, 0, "{own:?}");
    assert_eq!(image.qemu_check(&[]).code, 0, "{hints:?}");
    assert_eq!(guest_bytes(&image, None), Some(before), "{hints:?}");
    for (hint, word) in [("--hint-backing", "a backing file"), ("--hint-data-file", "data file")] {
        let is_unknown = own.err.contains(&format!("({hint} names it)"));
        assert_eq!(is_unknown, !hints.contains(&hint), "{word}: {}", own.err);
    }
}

#[test]
fn files_that_only_the_header_named_are_named_again_by_hints() {
    let image = Scratch::new();
    qemu_create(image.path(), &["-f", "raw", "base.raw", "4M"]);
    qemu_io(image.path(), "base.raw", "write -P 1 0 4M");
    // More than a sector of the header.
    let long = format!("{}base.raw", "./".repeat(400));
    for name in ["base.raw", &long] {
        qemu_create(image.path(), &["-f", "qcow2", "-b", name, "-F", "raw", "image.qcow2"]);
        qemu_io(image.path(), "image.qcow2", "write -P 2 1M 64k");
        let hints = ["--hint-backing", name, "--hint-backing-format", "raw"];
        assert_named(&image, &[&hints[..], &["--hint-size", "4M"]].concat());
    }
    let options = "data_file=data.raw";
    qemu_create(image.path(), &["-f", "qcow2", "-o", options, "image.qcow2", "4M"]);
    qemu_io(image.path(), "image.qcow2", "write -P 3 1M 192k");
    assert_named(&image, &["--hint-data-file", "data.raw", "--hint-size", "4M"]);
}
