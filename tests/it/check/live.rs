//! Images that change while they are checked: what a check reads at different times fits only where
//! nothing was written in between.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;

use qcheck::live::LiveOptions;
use qcheck::medium::Medium;
use qcheck::progress::Progress;
use qcheck::remote::Settings;
use qcheck::storage::{Access, FileStorage, Storage, lock};
use qcheck::{Checked, Checker, Class};

use crate::support::programs::run::{assert_clean, qcheck, qemu_create, qemu_io};
use crate::support::rng::Rng;
use crate::support::servers::real::Server;

const COPIED: u64 = 1 << 63;
const DIRTY: u64 = 1;

/// An image of 4 MiB with data in its first 64 clusters of 4 KiB.
struct Image {
    folder: tempfile::TempDir,
    file: File,
    l2: u64,
    block: u64,
}

impl Image {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        qemu_create(folder.path(), &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "4M"]);
        qemu_io(folder.path(), "disk", "write -P 7 0 256k");
        let file = File::options().read(true).write(true).open(folder.path().join("disk")).unwrap();
        let mut image = Self { folder, file, l2: 0, block: 0 };
        image.l2 = image.word(image.word(40)) & !COPIED;
        image.block = image.word(image.word(48));
        image
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    }

    fn entry(&self, index: u64) -> u64 {
        self.word(self.l2 + 8 * index)
    }

    fn set_entry(&self, index: u64, entry: u64) {
        self.file.write_all_at(&entry.to_be_bytes(), self.l2 + 8 * index).unwrap();
    }

    /// Sets the refcount of the cluster that an entry refers to.
    fn set_refcount(&self, entry: u64, refcount: u16) {
        let cluster = (entry & !COPIED) >> 12;
        self.file.write_all_at(&refcount.to_be_bytes(), self.block + 2 * cluster).unwrap();
    }

    fn set_dirty(&self) {
        self.file.write_all_at(&DIRTY.to_be_bytes(), 72).unwrap();
    }

    fn check(&self, progress: &dyn Progress) -> Checked {
        let checker = Checker::new(self.path()).live(LiveOptions::default().rounds(3));
        checker.progress(progress).check().unwrap()
    }
}

/// What a writer does when a check begins a stage; it gets the stage's number for this name.
struct Writer<F>(Mutex<Vec<String>>, F);

fn at_stages<F: Fn(&str, usize) + Sync>(work: F) -> Writer<F> {
    Writer(Mutex::default(), work)
}

impl<F: Fn(&str, usize) + Sync> Progress for Writer<F> {
    fn stage(&self, what: &str, _total: u64) {
        let mut stages = self.0.lock().unwrap();
        let number = stages.iter().filter(|stage| *stage == what).count();
        stages.push(what.to_owned());
        (self.1)(what, number);
    }

    fn advance(&self, _bytes: u64) {}
}

const TABLES: &str = "L2 tables";
const BLOCKS: &str = "refcount blocks";

fn quiet() -> Writer<fn(&str, usize)> {
    at_stages(|_, _| ())
}

fn codes(checked: &Checked) -> Vec<&'static str> {
    checked.report().unwrap().findings.iter().map(|finding| finding.code()).collect()
}

#[test]
fn a_cluster_that_is_freed_between_its_table_and_its_refcount_is_not_reported() {
    let image = Image::new();
    let entry = image.entry(5);
    // The writer's order: the reference first, then the refcount.
    let discard = |what: &str, number| {
        if (what, number) == (BLOCKS, 0) {
            image.set_entry(5, 0);
            image.set_refcount(entry, 0);
        }
    };
    let shared = Checker::new(image.path()).share(true).progress(&at_stages(discard)).check();
    assert_eq!(shared.unwrap().class(), Class::Errors, "a check by itself compares two times");
    image.set_refcount(entry, 1);
    image.set_entry(5, entry);
    let checked = image.check(&at_stages(discard));
    assert_eq!(checked.class(), Class::Clean);
    assert_eq!(codes(&checked), [""; 0]);
    let view = checked.view.unwrap();
    assert_eq!((view.in_flux, view.is_open_for_writing), (0, Some(false)));
}

#[test]
fn what_changes_in_the_same_way_in_both_checks_is_not_an_error() {
    let image = Image::new();
    let entry = image.entry(5);
    let there_and_back = at_stages(|what, _| match what {
        TABLES => {
            image.set_refcount(entry, 1);
            image.set_entry(5, entry);
        }
        BLOCKS => {
            image.set_entry(5, 0);
            image.set_refcount(entry, 0);
        }
        _ => {}
    });
    let checked = image.check(&there_and_back);
    assert_eq!(checked.class(), Class::Clean, "{:?}", checked.report());
    assert!(codes(&checked).iter().all(|&code| code == "in-flux"));
    assert!(checked.view.unwrap().in_flux > 0);
}

#[test]
fn tables_that_a_deleted_snapshot_leaves_refer_to_nothing() {
    let image = Image::new();
    let folder = image.folder.path();
    assert_eq!(qcheck(folder, &["snapshot", "-c", "s", "disk"]).code, 0);
    qemu_io(folder, "disk", "write -P 8 0 4k");
    let before = fs::read(image.path()).unwrap();
    assert_eq!(qcheck(folder, &["snapshot", "-d", "s", "disk"]).code, 0);
    let mut after = fs::read(image.path()).unwrap();
    // What is free keeps its content.
    after.resize(before.len().max(after.len()), 0);
    let end = before.len();
    let with_old = |bytes: &[u8]| {
        fs::write(image.path(), bytes).unwrap();
    };
    with_old(&before);
    let swap = at_stages(|what, number| {
        let is_late = what == BLOCKS;
        if is_late || what == TABLES && number > 0 {
            let bytes = if is_late { &after[..] } else { &before[..end] };
            image.file.write_all_at(bytes, 0).unwrap();
        }
    });
    let checked = image.check(&swap);
    assert_ne!(checked.class(), Class::Errors, "{:?}", codes(&checked));
}

#[test]
fn damage_stays_while_other_clusters_come_and_go() {
    let image = Image::new();
    let (entry, other) = (image.entry(5), image.entry(40));
    let damages: [(&str, &dyn Fn()); 5] = [
        ("refcount-too-low", &|| image.set_refcount(entry, 0)),
        ("refcount-too-low", &|| image.set_entry(5, image.entry(6))),
        ("l2-reserved-bits", &|| image.set_entry(5, entry | 2)),
        ("beyond-end", &|| image.set_entry(5, COPIED | 1 << 40)),
        ("copied-data", &|| image.set_entry(5, entry & !COPIED)),
    ];
    for (code, damage) in damages {
        damage();
        let checked = image.check(&at_stages(|what, number| {
            let is_there = what == TABLES || number % 2 == 1;
            image.set_entry(40, if is_there { other } else { 0 });
            image.set_refcount(other, is_there.into());
        }));
        assert_eq!(checked.class(), Class::Errors, "{code}");
        assert!(codes(&checked).contains(&code), "{code}: {:?}", codes(&checked));
        image.set_refcount(entry, 1);
        image.set_entry(5, entry);
        image.set_refcount(other, 1);
        image.set_entry(40, other);
    }
}

#[test]
fn a_leak_may_be_what_the_writer_has_in_memory() {
    let image = Image::new();
    image.set_entry(5, 0);
    assert_eq!(image.check(&quiet()).class(), Class::Leaks);
    let writer = FileStorage::open_write(&image.path()).unwrap();
    lock(&writer, Access::Write).unwrap();
    let checked = image.check(&quiet());
    assert_eq!((checked.class(), codes(&checked)), (Class::Clean, vec!["in-flux"]));
    assert_eq!(checked.view.unwrap().is_open_for_writing, Some(true));
}

#[test]
fn lazy_refcounts_show_nothing_but_two_entries_for_one_cluster_do() {
    let image = Image::new();
    let entry = image.entry(5);
    image.set_dirty();
    image.set_refcount(entry, 0);
    let checked = image.check(&quiet());
    assert_eq!(checked.class(), Class::Clean, "{:?}", codes(&checked));
    assert!(codes(&checked).contains(&"in-flux"));
    image.set_refcount(entry, 1);
    image.set_entry(5, image.entry(6));
    let checked = image.check(&quiet());
    assert_eq!(checked.class(), Class::Errors);
    assert!(codes(&checked).contains(&"refcount-too-low"));
}

#[test]
fn the_result_describes_how_the_image_was_seen() {
    let image = Image::new();
    let folder = image.folder.path();
    let ran = qcheck(folder, &["check", "--live", "disk"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("Seen within 0.1 s; no other program has"), "{}", ran.out);
    image.set_refcount(image.entry(5), 0);
    let ran = qcheck(folder, &["check", "--live", "--live-rounds", "2", "--output=json", "disk"]);
    let result = ran.json().unwrap();
    assert_eq!((ran.code, &result["live"]["rounds"]), (2, &2.into()));
    assert_eq!(result["live"]["is-open-for-writing"], false);
    fs::copy(image.path(), folder.join("other")).unwrap();
    let ran = qcheck(folder, &["check", "--live", "disk", "other"]);
    assert_eq!((ran.code, ran.out.matches("Seen within").count()), (2, 2), "{}", ran.out);
    for option in [&["--repair"][..], &["--data"], &["--digest=blake3"]] {
        let ran = qcheck(folder, &[&["check", "--live", "disk"], option].concat());
        assert_eq!(ran.code, 1, "{option:?}");
    }
}

/// Writes to a disk at full speed until it is to stop. While `pause` is held for writing, no request
/// is under way.
fn write_on(name: &str, seed: u64, pause: &RwLock<()>, stop: &AtomicBool) {
    let (from, end) = (32 << 20, 64 << 20);
    let disk = Medium::open_write(Path::new(name), Settings::default()).unwrap();
    let mut rng = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let _under_way = pause.read().unwrap();
        let length = [4096, 65536, 262_144][rng.below(3) as usize];
        let at = from + rng.below((end - from - length) / 4096) * 4096;
        match rng.below(10) {
            0..=4 => disk.write_at(at, &vec![rng.next() as u8; length as usize]),
            5..=7 => disk.discard(at, length),
            8 => disk.write_zeroes(at, length),
            _ => disk.sync(),
        }
        .unwrap();
    }
    disk.sync().unwrap();
}

/// Stops the writers, also where a check fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const SNAPSHOTS: [&str; 2] = [
    r#"{"execute": "blockdev-snapshot-internal-sync",
        "arguments": {"device": "disk", "name": "s"}}"#,
    r#"{"execute": "blockdev-snapshot-delete-internal-sync",
        "arguments": {"device": "disk", "name": "s"}}"#,
];

/// Checks an image while two writers and snapshots change its second half; the exit codes.
fn check_under_load(folder: &Path, format: &str, file: &str, snapshots: bool) -> Vec<i32> {
    let server = Server::machine(&folder.join("disk"), format, file);
    let (name, stop) = (server.name("disk"), AtomicBool::new(false));
    let pause = RwLock::new(());
    thread::scope(|scope| {
        let _ended = Ended(&stop);
        for seed in 0..2 {
            let (name, pause, stop) = (&name, &pause, &stop);
            scope.spawn(move || write_on(name, seed, pause, stop));
        }
        let check = |_| {
            if snapshots {
                // QEMU 10.0 can stay in a snapshot for ever that is made during writes.
                let _pause = pause.write().unwrap();
                server.monitor(
                    &SNAPSHOTS
                        .map(|command| command.replace('\n', " "))
                        .each_ref()
                        .map(String::as_str),
                );
            }
            let ran = qcheck(folder, &["check", "--live", "--live-rounds=3", "disk"]);
            if ran.code != 0 {
                eprintln!("{}{}", ran.out, ran.err);
            }
            ran.code
        };
        (0..4).map(check).collect()
    })
}

#[test]
fn a_disk_that_qemu_writes_at_full_speed_has_no_errors() {
    for (lazy, direct) in [("off", "off"), ("off", "on"), ("on", "off"), ("on", "on")] {
        let dir = tempfile::tempdir().unwrap();
        qemu_create(dir.path(), &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "64M"]);
        let format = format!(",lazy-refcounts={lazy},cache.direct={direct}");
        let file = format!(",cache.direct={direct}");
        let found = check_under_load(dir.path(), &format, &file, lazy == direct);
        assert_eq!(found, [0; 4], "lazy refcounts {lazy}, direct {direct}");
    }
}

#[test]
fn damage_is_found_while_qemu_writes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "64M"]);
    qemu_io(dir.path(), "disk", "write 0 1M");
    assert_clean(dir.path(), "disk");
    let file = File::options().read(true).write(true).open(dir.path().join("disk")).unwrap();
    let word = |at| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let l2 = word(word(40)) & !COPIED;
    file.write_all_at(&word(l2 + 8).to_be_bytes(), l2 + 16).unwrap();
    assert_eq!(check_under_load(dir.path(), "", "", false), [2; 4]);
}
