//! `qcheck dump`: the metadata alone, which checks like the image and gives no guest data away.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use qcheck::check::{CheckOptions, Kind, check};
use qcheck::dump::{CheckOutcome, Dump, DumpOptions};
use qcheck::progress::{Progress, Silent};
use qcheck::storage::MemoryStorage;

use crate::support::damages::damage::{bases, damages, scrambled};
use crate::support::damages::matrix::Case;
use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    be64, cluster_size, header, l2_entry_at, peek, poke, refblock_at,
};
use crate::support::programs::oracle::Scratch;
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::rng::Rng;

/// Whether it is cancelled from the start.
struct Cancelled(bool);

impl Progress for Cancelled {
    fn stage(&self, _what: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn is_cancelled(&self) -> bool {
        self.0
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn dump_of(bytes: &[u8], blank_names: bool) -> Result<Vec<u8>, String> {
    let source = MemoryStorage::new(bytes.to_vec());
    let dump = Dump::of(&source, &Silent).map_err(|error| error.to_string())?;
    let target = MemoryStorage::new(Vec::new());
    let options = DumpOptions::default().blank_names(blank_names);
    dump.write(&target, &options, &Silent).map_err(|error| error.to_string())?;
    Ok(target.into_inner())
}

/// The whole result of a check of an image.
fn said(bytes: &[u8]) -> String {
    let storage = MemoryStorage::new(bytes.to_vec());
    match check(&storage, &CheckOptions::default(), &Silent) {
        Ok(mut report) => {
            report.snapshots.clear();
            // A dump has no data that a blank table may have pointed to.
            let (found, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut report.findings).into_iter().partition(|f| {
                    matches!(f.kind, Kind::BlankTable { .. } | Kind::Unaccounted { .. })
                });
            report.findings = kept;
            report.tally.notices -= found.len() as u64;
            report.hides_references = false;
            format!("{report:#?}")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_dump_of_every_damaged_image_checks_like_the_image() {
    let mut cases = 0;
    for base in bases() {
        for damaged in damages(base) {
            cases += 1;
            let dump = match dump_of(&damaged.bytes, false) {
                Ok(dump) => dump,
                Err(error) => {
                    let no_image = damaged.name.contains("header magic");
                    assert!(no_image, "{}: {error}", damaged.name);
                    continue;
                }
            };
            assert_eq!(dump.len(), damaged.bytes.len(), "{}", damaged.name);
            assert_eq!(said(&dump), said(&damaged.bytes), "{}", damaged.name);
            let differ = dump.iter().zip(&damaged.bytes).any(|(d, o)| *d != 0 && d != o);
            assert!(!differ, "{}: what is there is the image's", damaged.name);
        }
    }
    assert!(cases > 1000, "{cases}");
}

#[test]
fn without_names_it_still_checks_like_the_image() {
    let (mut cases, mut refused) = (0, Vec::new());
    for base in bases() {
        for damaged in damages(base) {
            cases += 1;
            match dump_of(&damaged.bytes, true) {
                Ok(dump) => assert_eq!(dump.len(), damaged.bytes.len(), "{}", damaged.name),
                // A header that points to no names, tables of names that are damaged or overlap other tables.
                Err(error) => {
                    let known = [
                        "names cannot be blanked",
                        "no magic",
                        "names overlap other",
                        "may hold names that cannot be found",
                    ];
                    let known = known.iter().any(|known| error.contains(known));
                    assert!(known, "{}: {error}", damaged.name);
                    refused.push(damaged.name);
                }
            }
        }
    }
    // Every damage of a table that holds names is among them, and of what may hide one.
    assert!(refused.len() * 11 < cases, "{} of {cases}: {refused:#?}", refused.len());
}

#[test]
fn qemu_img_reports_the_same_of_the_dump() {
    let mut broken = Vec::new();
    for base in bases().iter().filter(|base| ["plain", "bitmaps"].contains(&base.name)) {
        for (number, damaged) in damages(base).into_iter().enumerate() {
            // Every third one: they take their time.
            let Some(dump) = dump_of(&damaged.bytes, false).ok().filter(|_| number % 3 == 0) else {
                continue;
            };
            let image = Scratch::in_memory(&damaged.bytes);
            let copy = Scratch::in_memory(&dump);
            let (was, is) = (image.qemu_check(&[]), copy.qemu_check(&[]));
            let same = (was.code, &was.out, &was.err) == (is.code, &is.out, &is.err);
            // qemu-img takes the header, and what follows it, for a snapshot table.
            if !same && !damaged.name.contains("header nb_snapshots/") {
                broken.push(format!("{}: {} became {}", damaged.name, was.err, is.err));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// How many bytes stand in runs of at least 16 of this one.
fn marked(bytes: &[u8], marker: u8) -> usize {
    let runs = bytes.chunk_by(|a, b| a == b);
    runs.filter(|run| run[0] == marker && run.len() >= 16).map(<[u8]>::len).sum()
}

#[test]
fn no_guest_byte_is_in_it() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "8M"]);
    qemu_io(dir.path(), "a", "write -P 0xa5 0 4M");
    qemu_io(dir.path(), "a", "write -c -P 0xa5 4M 64k");
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "a"]);
    qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "-g", "512", "a", "day"]);
    qemu_io(dir.path(), "a", "write -P 0xa5 1M 1M");
    let ran = qcheck(dir.path(), &["dump", "a", "b"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.starts_with("b: ") && ran.out.contains("checks alike: no errors"),
        "{}",
        ran.out
    );
    let (image, dump) =
        (fs::read(dir.path().join("a")).unwrap(), fs::metadata(dir.path().join("b")));
    let dump = dump.unwrap();
    assert!(marked(&image, 0xa5) >= 5 << 20);
    assert_eq!(dump.len(), image.len() as u64);
    assert!(dump.blocks() * 512 < 256 << 10, "{} KiB", dump.blocks() / 2);
    let dump = fs::read(dir.path().join("b")).unwrap();
    assert_eq!(marked(&dump, 0xa5), 0);
    let (ours, theirs) = (
        qemu_ok(dir.path(), "qemu-img", &["check", "a"]),
        qemu_ok(dir.path(), "qemu-img", &["check", "b"]),
    );
    assert_eq!(ours, theirs);
}

#[test]
fn the_unused_rest_of_metadata_clusters_is_in_it_only_where_that_is_asked_for() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "base", "8M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "base", "-F", "qcow2", "image.one", "8M"]);
    qemu_io(dir.path(), "image.one", "write -P 1 0 1M");
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "image.one"]);
    qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "image.one", "day"]);
    let mut image = fs::read(dir.path().join("image.one")).unwrap();
    let field = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    // The header, the active L1 table and the snapshot table; of each the second half.
    let clusters = [0, field(40), field(64)];
    for start in clusters {
        image[start + 32768..start + 65536].fill(0xa5);
    }
    fs::write(dir.path().join("image.one"), &image).unwrap();
    for (args, marks) in [(&["dump", "-q"][..], 0), (&["dump", "-q", "--keep-slack"], 3 * 32768)] {
        let ran = qcheck(dir.path(), &[args, &["image.one", "image.two"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        let dump = fs::read(dir.path().join("image.two")).unwrap();
        assert_eq!(marked(&dump, 0xa5), marks, "{args:?}");
        for option in ["--output=human", "--output=json"] {
            let said = |name| qcheck(dir.path(), &["check", option, name]).out.replace(name, "");
            assert_eq!(said("image.one"), said("image.two"));
        }
        fs::remove_file(dir.path().join("image.two")).unwrap();
    }
}

#[test]
fn lost_tables_are_in_it_and_the_data_below_them_is_not() {
    let mut bytes = Builder::new(4 << 20).data(0..40, 0xa5).build().bytes;
    let l1 = header(&bytes, "l1_table_offset") as usize;
    let table = (be64(&bytes, l1) & 0x00ff_ffff_ffff_fe00) as usize;
    poke(&mut bytes, l1, 8, 0);
    let dump = dump_of(&bytes, false).unwrap();
    assert_eq!(marked(&dump, 0xa5), 0);
    assert_eq!(dump[table..table + 4096], bytes[table..table + 4096]);
    assert!(said(&dump).contains("OrphanTable"));
}

#[test]
fn leaked_clusters_that_are_not_tables_are_not_in_it_though_they_were_examined() {
    let mut bytes = Builder::new(4 << 20).data(0..8, 0xa5).build().bytes;
    // An L1 entry that points to nothing makes the check look for a lost table among what is leaked; one
    // leaked cluster begins like a table, and points to what is in use.
    for guest in [2, 3] {
        let at = l2_entry_at(&bytes, guest * 4096);
        let data = (be64(&bytes, at) & 0x00ff_ffff_ffff_fe00) as usize;
        poke(&mut bytes, at, 8, 0);
        if guest == 2 {
            bytes[data..data + 4096].fill(0);
            poke(&mut bytes, data + 16, 8, 0x8000_0000_0000_0000 | 4096);
        }
    }
    let l1 = header(&bytes, "l1_table_offset") as usize;
    poke(&mut bytes, l1 + 8, 8, 1 << 40 | 1 << 63);
    let dump = dump_of(&bytes, false).unwrap();
    assert_eq!(marked(&dump, 0xa5), 0);
    assert_eq!(said(&dump), said(&bytes));
    let storage = MemoryStorage::new(bytes.clone());
    let report = check(&storage, &CheckOptions::default(), &Silent).unwrap();
    let leaks = report.findings.iter().filter(|f| matches!(f.kind, Kind::Count { .. }));
    for finding in leaks {
        let (first, count) = report.clusters(finding).unwrap();
        let range = first as usize * 4096..(first + count.get()) as usize * 4096;
        assert!(dump[range].iter().all(|&byte| byte == 0), "{finding:?}");
    }
    assert_eq!(report.tally.leaks, 2);
}

#[test]
fn nothing_that_helps_to_open_an_encrypted_image_is_in_it() {
    let options = "cluster_size=4k,encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let bytes = Case::encrypted(options).image.bytes();
    let dump = dump_of(&bytes, false).unwrap();
    let luks = bytes.windows(6).position(|w| w == b"LUKS\xba\xbe").expect("a header");
    let key = peek(&bytes, luks + 208 + 40, 4) as usize * 512 + luks;
    assert!(bytes[key..key + 4096].iter().any(|&byte| byte != 0));
    // Digest, salt and identifier, the salt of each slot, and the key material.
    let salts = (0..8).map(|slot| luks + 208 + 48 * slot + 8).map(|at| at..at + 32);
    let hidden = [luks + 112..luks + 164, luks + 168..luks + 208, key..key + 4096];
    assert!(hidden.into_iter().chain(salts).all(|at| dump[at].iter().all(|&byte| byte == 0)));
    assert_eq!(said(&dump), said(&bytes));
}

#[test]
fn names_are_blanked_and_nothing_moves() {
    let own = Snapshot::own("secret-snapshot", &[(0, Content::Data(1))]);
    let bytes = Builder::new(4 << 20)
        .data(0..8, 0xa5)
        .backing("secret-backing", Some("qcow2"))
        .extension(0x1234_5678, b"secret-extension")
        .bitmap("secret-day", 12, 1)
        .bitmap("secret-two", 12, 1)
        .snapshot(own)
        .build()
        .bytes;
    let secrets = |bytes: &[u8]| bytes.windows(6).filter(|w| w == b"secret").count();
    assert_eq!((secrets(&bytes), secrets(&dump_of(&bytes, false).unwrap())), (5, 5));
    let dump = dump_of(&bytes, true).unwrap();
    assert_eq!(secrets(&dump), 0);
    let at = header(&dump, "backing_file_offset") as usize;
    assert_eq!(&dump[at..at + 14], b"xxxxxxxxxxxxxx");
    assert_eq!(said(&dump), said(&bytes));
    // A name that the header has lost its way to goes too.
    let mut lost = bytes;
    poke(&mut lost, 8, 8, 0);
    assert_eq!(secrets(&dump_of(&lost, true).unwrap()), 0);
    let data = Builder::new(1 << 20).data_file("secret.raw", true).data(0..5, 0x11).build();
    assert_eq!(secrets(&dump_of(&data.bytes, true).unwrap()), 0);
}

#[test]
fn bitmaps_without_names_can_still_be_distinguished() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "8M"]);
    for name in ["one", "two", "six"] {
        qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "a", name]);
        qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", name, "a"]);
    }
    assert_eq!(qcheck(dir.path(), &["dump", "-q", "--blank-names", "a", "b"]).code, 0);
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "b"]);
    for name in ["name: xxx", "name: xxb", "name: xxc"] {
        assert!(info.contains(name), "{info}");
    }
    assert_eq!(
        qemu_ok(dir.path(), "qemu-img", &["check", "a"]),
        qemu_ok(dir.path(), "qemu-img", &["check", "b"])
    );
}

#[test]
fn a_terabyte_that_is_mapped_everywhere_has_a_small_dump() {
    let dir = folder();
    let options = "size=1T,cluster_size=2M,preallocation=metadata";
    qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a"]);
    let begun = Instant::now();
    let ran = qcheck(dir.path(), &["dump", "a", "b"]);
    let took = begun.elapsed();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let (image, dump) =
        (fs::metadata(dir.path().join("a")).unwrap(), fs::metadata(dir.path().join("b")).unwrap());
    assert_eq!(dump.len(), image.len());
    assert!(dump.len() > 1 << 40 && dump.blocks() * 512 < 16 << 20, "{}", dump.blocks());
    assert!(took.as_secs() < 20, "{took:?}");
}

#[test]
fn nothing_is_overwritten_and_what_fails_leaves_nothing() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    fs::write(dir.path().join("there"), "kept").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    for (target, why) in
        [("there", "exists"), ("a", "exists"), ("link", "exists"), ("-", "into a file")]
    {
        let ran = qcheck(dir.path(), &["dump", "a", target]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{target}");
        assert!(ran.err.contains(why) && ran.err.lines().count() == 1, "{}", ran.err);
    }
    assert_eq!(fs::read(dir.path().join("there")).unwrap(), b"kept");
    fs::write(dir.path().join("raw"), [0; 512]).unwrap();
    let mut bytes = Builder::new(1 << 20).data(0..4, 0x11).build().bytes;
    poke(&mut bytes, 20, 4, 77);
    fs::write(dir.path().join("bad"), bytes).unwrap();
    for source in ["raw", "missing", "bad"] {
        let ran = qcheck(dir.path(), &["dump", "--blank-names", source, "b"]);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{source}: {}", ran.err);
        assert!(
            ran.err.contains(&format!("'{source}'")) && !ran.err.contains("'b'"),
            "{}",
            ran.err
        );
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    let ran = qcheck(dir.path(), &["dump", "bad", "b"]);
    assert!(ran.code == 0 && ran.out.contains("no verdict"), "{}", ran.err);
}

/// A storage that another program changes while it is read.
struct Changing<'a> {
    before: &'a MemoryStorage,
    after: &'a MemoryStorage,
    checked: AtomicBool,
}

impl qcheck::storage::ReadAt for Changing<'_> {
    fn len(&self) -> std::io::Result<u64> {
        self.before.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let now = if self.checked.load(std::sync::atomic::Ordering::Relaxed) {
            self.after
        } else {
            self.before
        };
        now.read_at(offset, buf)
    }
}

#[test]
fn a_dump_that_does_not_check_alike_is_refused() {
    let mut bytes = Builder::new(4 << 20).data(0..8, 0xa5).build().bytes;
    let before = MemoryStorage::new(bytes.clone());
    let count = refblock_at(&bytes, 0) + 2;
    poke(&mut bytes, count, 2, 7);
    let after = MemoryStorage::new(bytes);
    let source = Changing { before: &before, after: &after, checked: AtomicBool::new(false) };
    let dump = Dump::of(&source, &Silent).unwrap();
    assert!(matches!(dump.verdict(), CheckOutcome::Report(report) if report.tally.is_clean()));
    source.checked.store(true, std::sync::atomic::Ordering::Relaxed);
    let write = |cancel| {
        let target = MemoryStorage::new(Vec::new());
        dump.write(&target, &DumpOptions::default(), &Cancelled(cancel))
    };
    let error = write(false).unwrap_err().to_string();
    assert!(error.contains("does not check like the image"), "{error}");
    assert_eq!(write(true).unwrap_err().to_string(), "interrupted");
}

#[test]
fn the_folder_of_examples_dumps_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "qcow2") {
            let bytes = fs::read(&path).unwrap();
            let dump = dump_of(&bytes, false).unwrap();
            assert_eq!(said(&dump), said(&bytes), "{}", path.display());
            assert_eq!(cluster_size(&dump), cluster_size(&bytes));
        }
    }
}

#[test]
fn whatever_is_scrambled_the_dump_checks_alike() {
    let mut rng = Rng::new(31);
    let mut dumped = 0;
    for round in 0..1500 {
        let all = bases();
        let base = &all[rng.below(all.len() as u64) as usize];
        let bytes = scrambled(&base.bytes, &mut rng);
        match dump_of(&bytes, false) {
            Ok(dump) => {
                dumped += 1;
                assert_eq!(said(&dump), said(&bytes), "{} in round {round}", base.name);
            }
            Err(error) => assert!(!error.contains("alike"), "{} in {round}: {error}", base.name),
        }
    }
    assert!(dumped > 1000, "{dumped}");
}
