//! `qcheck bitmap` beside qemu-img: the bitmaps afterwards, and what is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qcheck::convert::Control;
use qcheck::disk::Disk as ReadDisk;
use qcheck::edit::bitmap::{Action, bitmap};
use qcheck::error::{Error, Result};
use qcheck::image::{BackingPolicy, Image, Opened};
use qcheck::progress::{Progress, Silent};
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::bitmaps::{extension, number, stored};
use crate::image::invariants::violation;
use crate::image::tools::{Disk, assert_no_error, options};
use crate::support::programs::chains::{both, guest};
use crate::support::programs::run::{
    Ran, assert_clean, qcheck, qemu, qemu_create, qemu_io, qemu_ok,
};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

/// Header options, between which the extension is at different places of the first cluster.
const LAYOUTS: [&str; 4] =
    ["cluster_size=64k", "cluster_size=512", "cluster_size=4k", "extended_l2=on"];

/// Arguments that both programs take.
const CHANGES: [&str; 27] = [
    "--add a new",
    "--add -g 512 a new",
    "--add -g 2G a new",
    "--add -g 0 --disable a new",
    "--add --merge fine --merge coarse a new",
    "--add -g 1M --merge fine a new",
    "--remove a fine",
    "--remove a middle",
    "--remove --add a middle",
    "--clear a fine",
    "--clear a coarse",
    "--enable a coarse",
    "--enable --disable a coarse",
    "--disable a fine",
    "--merge fine a fine",
    "--merge fine a middle",
    "--merge fine a coarse",
    "--merge middle a fine",
    "--merge coarse a fine",
    "--merge coarse --enable --merge fine a middle",
    "--merge fine --clear --merge coarse a middle",
    "--add --clear --remove a new",
    "-b other -F qcow2 --merge fine a fine",
    "-b other --merge coarse a fine",
    "-b other -F qcow2 --merge fine --merge middle a coarse",
    "-b other -F qcow2 --add --merge fine -f qcow2 a new",
    "--image-opts --clear driver=qcow2,file.filename=a fine",
];

/// Arguments that both programs refuse, and a part of both errors.
const REFUSALS: &[(&str, &str)] = &[
    ("a fine", "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge"),
    ("-g 64k --clear a fine", "granularity only supported with --add"),
    ("-F qcow2 --merge fine a fine", "-F only supported with -b"),
    ("-b other --clear a fine", "Merge bitmap source file only supported with --merge"),
    ("--add a fine", "Operation add on bitmap fine failed: Bitmap already exists: fine"),
    ("--add --add a new", "Operation add on bitmap new failed: Bitmap already exists: new"),
    ("--add -g 256 a new", "Granularity must be power of 2 and at least 512"),
    ("--add -g 3k a new", "Granularity must be power of 2 and at least 512"),
    ("--add -g 4G a new", "Granularity must be power of 2 and at least 512"),
    ("--remove a no", "Operation remove on bitmap no failed: Dirty bitmap 'no' not found"),
    ("--clear a no", "Operation clear on bitmap no failed: Dirty bitmap 'no' not found"),
    ("--enable a no", "Operation enable on bitmap no failed: Dirty bitmap 'no' not found"),
    ("--disable a no", "Operation disable on bitmap no failed: Dirty bitmap 'no' not found"),
    ("--merge fine a no", "Operation merge on bitmap no failed: Dirty bitmap 'no' not found"),
    ("--merge no a fine", "Operation merge on bitmap fine failed: Dirty bitmap 'no' not found"),
    ("-b other --merge no a fine", "Dirty bitmap 'no' not found"),
    ("-b raw -F raw --merge fine a fine", "Dirty bitmap 'fine' not found"),
    ("-b small --merge day a fine", "Bitmaps are of different sizes (destination size is"),
    ("-b missing --merge day a fine", "Could not open 'missing'"),
    ("-b a -F qcow2 --merge fine a fine", "Failed to get shared \"write\" lock"),
    ("--add old new", "Cannot store dirty bitmaps in qcow2 v2 files"),
    ("--add -g 512 huge new", "Too much space will be occupied by the bitmap. Use larger"),
    ("--clear a broken", "Bitmap 'broken' is inconsistent and cannot be used"),
    ("--enable a broken", "Bitmap 'broken' is inconsistent and cannot be used"),
    ("--disable a broken", "Bitmap 'broken' is inconsistent and cannot be used"),
    ("--merge fine a broken", "Bitmap 'broken' is inconsistent and cannot be used"),
    ("--merge broken a fine", "Bitmap 'broken' is inconsistent and cannot be used"),
    ("--add a broken", "Bitmap already exists: broken"),
    ("--image-opts -f qcow2 --clear a fine", "--image-opts and --format are mutually exclusive"),
];

/// `a` has a fine, a middle and a coarse bitmap with bits, `other` one more of each granularity.
fn make(folder: &Path, layout: &str) {
    for image in ["a", "other"] {
        qemu_create(folder, &["-f", "qcow2", "-o", layout, image, "9000k"]);
        for (name, granularity) in [("fine", "512"), ("middle", "4k"), ("coarse", "256k")] {
            qemu_ok(folder, "qemu-img", &["bitmap", "--add", "-g", granularity, image, name]);
            let at = if image == "a" { 7 } else { 800 } + name.len() * 900;
            qemu_io(folder, image, &format!("write -q -P 1 {at}k 3k"));
            qemu_io(folder, image, &format!("write -q -P 1 {}k 300k", at + 1200));
            qemu_ok(folder, "qemu-img", &["bitmap", "--disable", image, name]);
        }
        qemu_io(folder, image, "write -q 8990k 10k");
    }
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

/// Where the flags of the bitmap of this name are; the entries have no extra data.
fn flags_of(bytes: &[u8], name: &str) -> usize {
    let mut entry = number(bytes, extension(bytes).unwrap() + 16, 8);
    loop {
        let length = number(bytes, entry + 18, 2);
        let at = entry as usize + 24;
        if &bytes[at..at + length as usize] == name.as_bytes() {
            return entry as usize + 12;
        }
        entry += (24 + length).next_multiple_of(8);
    }
}

/// Makes one bitmap of an image one that was left in use.
fn leave_in_use(folder: &Path, image: &str, name: &str) {
    let mut bytes = read(folder, image);
    let at = flags_of(&bytes, name);
    bytes[at + 3] |= 1;
    fs::write(folder.join(image), bytes).unwrap();
}

#[test]
fn bitmaps_are_changed_as_by_qemu_img() {
    for (number, args) in CHANGES.into_iter().enumerate() {
        let layout = LAYOUTS[number % LAYOUTS.len()];
        let what = format!("{layout}: {args}");
        let words: Vec<&str> = ["bitmap"].into_iter().chain(args.split(' ')).collect();
        let (folders, [real, own]) = both(|folder| make(folder, layout), &words);
        assert_eq!((real.code, &*real.err), (0, ""), "{what}");
        assert_eq!((own.code, &*own.out, &*own.err), (0, "", ""), "{what}");
        let [theirs, ours] = folders.each_ref().map(|folder| {
            qemu_ok(folder.path(), "qemu-img", &["check", "-q", "a"]);
            stored(&read(folder.path(), "a"))
        });
        assert!(ours == theirs, "{what}");
        assert_clean(folders[1].path(), "a");
        // QEMU goes on with it, and records the same.
        for folder in &folders {
            qemu_io(folder.path(), "a", "write -q 5000k 100k");
        }
        let [theirs, ours] = folders.each_ref().map(|folder| stored(&read(folder.path(), "a")));
        assert!(ours == theirs, "{what}: after a write");
    }
}

#[test]
fn the_last_bitmap_leaves_no_trace_for_qemu_to_warn_of() {
    for layout in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        qemu_create(at, &["-f", "qcow2", "-o", layout, "a", "1M"]);
        for round in 0..2 {
            assert_eq!(qcheck(at, &["bitmap", "--add", "a", "one"]).err, "", "{layout} {round}");
            assert_clean(at, "a");
            assert_eq!(qcheck(at, &["bitmap", "--remove", "a", "one"]).err, "", "{layout} {round}");
            assert_clean(at, "a");
        }
        let ran = qemu(at, "qemu-io", &["-c", "write -q 0 64k", "a"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{layout}");
        assert!(!qemu_ok(at, "qemu-img", &["info", "a"]).contains("bitmaps"), "{layout}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_in_qemu_imgs_words_and_nothing_is_written() {
    for (args, phrase) in REFUSALS {
        let made = |folder: &Path| {
            make(folder, "cluster_size=64k");
            qemu_create(folder, &["-f", "raw", "raw", "9000k"]);
            qemu_create(folder, &["-f", "qcow2", "-o", "compat=0.10", "old", "1M"]);
            qemu_create(folder, &["-f", "qcow2", "huge", "3T"]);
            qemu_create(folder, &["-f", "qcow2", "small", "1M"]);
            qemu_ok(folder, "qemu-img", &["bitmap", "--add", "small", "day"]);
            qemu_ok(folder, "qemu-img", &["bitmap", "--add", "a", "broken"]);
            leave_in_use(folder, "a", "broken");
            fs::copy(folder.join("a"), folder.join("before")).unwrap();
        };
        let words: Vec<&str> = ["bitmap"].into_iter().chain(args.split(' ')).collect();
        let (folders, [real, own]) = both(made, &words);
        assert_eq!((real.code, own.code), (1, 1), "{args}: {}", own.err);
        assert!(real.err.contains(phrase), "{args}: {}", real.err);
        assert!(own.err.contains(phrase), "{args}: {}", own.err);
        assert_eq!(own.err.lines().count(), 1, "{args}: {}", own.err);
        let at = folders[1].path();
        assert!(read(at, "a") == read(at, "before"), "{args}");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, "cluster_size=64k");
    fs::copy(at.join("a"), at.join("before")).unwrap();
    // qemu-img does the actions before the one that fails.
    let ran = qcheck(at, &["bitmap", "--clear", "--merge", "no", "a", "fine"]);
    assert!(ran.code == 1 && read(at, "a") == read(at, "before"), "{}", ran.err);
    // qemu-img takes the name for a bitmap that cannot be stored, and ends with another error.
    let long = "x".repeat(1024);
    let ran = qcheck(at, &["bitmap", "--add", "a", &long]);
    assert!(ran.code == 1 && ran.err.contains("Name length exceeds maximum"), "{}", ran.err);
    assert_eq!(qemu(at, "qemu-img", &["bitmap", "--add", "a", &long]).code, 1);
    let empty = qcheck(at, &["bitmap", "--add", "a", ""]);
    assert!(empty.code == 1 && empty.err.contains("Bitmap name cannot be empty"), "{}", empty.err);
    fs::write(at.join("raw"), [1; 512]).unwrap();
    let raw = qcheck(at, &["bitmap", "--add", "-f", "raw", "raw", "x"]);
    assert!(raw.code == 1 && raw.err.contains("has no bitmaps"), "{}", raw.err);
}

#[test]
fn a_bitmap_left_in_use_is_reported_kept_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, "cluster_size=64k");
    leave_in_use(at, "a", "middle");
    let left = read(at, "a");
    let disk = guest(at, "a", "qcow2");
    let check = |args: &[&str]| -> Ran { qcheck(at, &[&["check"], args, &["a"]].concat()) };
    let text = check(&[]);
    assert_eq!(text.code, 0, "{}", text.out);
    assert!(format!("{}{}", text.out, text.err).contains("middle: it was left in use"));
    let json = check(&["--output", "json"]);
    assert!(json.code == 0 && json.out.contains("\"bitmap-in-use\""), "{}", json.out);
    assert_eq!(check(&["-r", "all"]).code, 0);
    assert!(read(at, "a") == left, "-r all wrote something");
    let flags = |args: &[&str]| {
        let text = qemu_ok(at, "qemu-img", args);
        let info: serde_json::Value = serde_json::from_str(&text).unwrap();
        info["format-specific"]["data"]["bitmaps"].clone()
    };
    let own = qcheck(at, &["info", "--output=json", "a"]);
    let own: serde_json::Value = serde_json::from_str(&own.out).unwrap();
    let real = flags(&["info", "--output=json", "a"]);
    assert_eq!(own["format-specific"]["data"]["bitmaps"], real);
    // QEMU leaves the mark as it is when it opens the image for writing.
    qemu_io(at, "a", "write -q 0 64k");
    assert_eq!(number(&read(at, "a"), flags_of(&read(at, "a"), "middle") as u64, 4) & 1, 1);
    fs::write(at.join("a"), &left).unwrap();
    assert_eq!(qcheck(at, &["bitmap", "--remove", "a", "middle"]).err, "");
    assert_clean(at, "a");
    let names = |value: serde_json::Value| -> Vec<String> {
        let list = value.as_array().unwrap().iter();
        list.map(|bitmap| bitmap["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(flags(&["info", "--output=json", "a"])), ["fine", "coarse"]);
    fs::write(at.join("a"), &left).unwrap();
    let dropped = check(&["-r", "all", "--allow-data-loss"]);
    assert_eq!(dropped.code, 0, "{}{}", dropped.out, dropped.err);
    assert_clean(at, "a");
    assert_eq!(names(flags(&["info", "--output=json", "a"])), ["fine", "coarse"]);
    assert!(guest(at, "a", "qcow2") == disk);
    // Added again, and the others stay.
    assert_eq!(qcheck(at, &["bitmap", "--add", "a", "middle"]).err, "");
    assert_eq!(names(flags(&["info", "--output=json", "a"])), ["fine", "coarse", "middle"]);
}

/// Images in memory and what is done with a bitmap.
struct Case {
    bytes: Vec<u8>,
    other: Vec<u8>,
    name: &'static str,
    actions: Vec<Action>,
}

fn cases() -> Vec<Case> {
    let merge = |name: &str| Action::Merge(name.into());
    let add = Action::Add { granularity: Some(1024) };
    let lists = [
        ("new", vec![add.clone(), merge("fine")]),
        ("coarse", vec![Action::Remove]),
        ("fine", vec![Action::Clear, merge("coarse"), Action::Enable]),
        ("middle", vec![Action::Remove, add]),
    ];
    let mut cases = Vec::new();
    for layout in ["cluster_size=512", "cluster_size=8k"] {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), layout);
        let [bytes, other] = ["a", "other"].map(|name| read(folder.path(), name));
        cases.extend(lists.clone().map(|(name, actions)| {
            let (bytes, other) = (bytes.clone(), other.clone());
            Case { bytes, other, name, actions }
        }));
    }
    for (name, actions) in [("one", vec![Action::Remove]), ("two", cases[0].actions.clone())] {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), "cluster_size=8k");
        let other = read(folder.path(), "other");
        qemu_create(folder.path(), &["-f", "qcow2", "b", "9000k"]);
        if name == "one" {
            qemu_ok(folder.path(), "qemu-img", &["bitmap", "--add", "b", "one"]);
        }
        cases.push(Case { bytes: read(folder.path(), "b"), other, name, actions });
    }
    cases
}

impl Case {
    fn run(
        &self,
        storage: Arc<dyn Storage>,
        progress: &dyn Progress,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let path = Path::new("a");
        let disk = Disk::default();
        let leave = options(path).backing(BackingPolicy::Leave);
        let other = Arc::new(MemoryStorage::new(self.other.clone()));
        let source = ReadDisk::Qcow2(Box::new(Image::open_read(other, &leave, &disk)?));
        let Opened::Ready(image) = Image::open_write(storage, &leave, &disk)? else {
            return Err(Error::NeedsRepair);
        };
        bitmap(
            *image,
            self.name.as_bytes(),
            &self.actions,
            Some(&source),
            Control { cancel, progress },
        )
    }

    fn run_silently(&self, storage: Arc<dyn Storage>) -> Result<()> {
        self.run(storage, &Silent, &AtomicBool::new(false))
    }

    /// The image is valid, and has the bitmaps of before or of after.
    fn assert_old_or_new(&self, bytes: &[u8], after: &[u8], what: &str) {
        let what = format!("{} {:?}: {what}", self.name, self.actions);
        if let Some(violation) = violation(bytes) {
            panic!("{what}: {violation}");
        }
        assert_no_error(bytes, &what);
        let now = bitmaps(bytes);
        assert!(now == bitmaps(&self.bytes) || now == bitmaps(after), "{what}: {now:?}");
    }
}

/// The bitmaps that count.
fn bitmaps(bytes: &[u8]) -> Vec<crate::image::bitmaps::Stored> {
    if number(bytes, 88, 8) & 1 == 0 { Vec::new() } else { stored(bytes) }
}

#[test]
fn a_crash_leaves_every_bitmap_old_or_new() {
    let mut count = 0;
    for case in cases() {
        let log = Arc::new(WriteLog::new(case.bytes.clone()));
        case.run_silently(log.clone()).unwrap();
        let after = log.image();
        assert!(bitmaps(&after) != bitmaps(&case.bytes), "{}", case.name);
        count += crash_images(&log, |crash| {
            case.assert_old_or_new(&crash.bytes, &after, &crash.story);
        });
    }
    assert!(count > 40, "only {count} crash images");
}

#[test]
fn a_failure_leaves_every_bitmap_old_or_new() {
    for case in cases() {
        let sound = Arc::new(MemoryStorage::new(case.bytes.clone()));
        case.run_silently(sound.clone()).unwrap();
        let after = sound.to_vec();
        for class in [Class::AnyWrite, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(case.bytes.clone()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.run_silently(failing.clone());
                case.assert_old_or_new(&memory.to_vec(), &after, &format!("{class:?} {n}"));
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
            }
        }
    }
}

/// Cancels at the first report.
struct AtOnce<'a>(&'a AtomicBool);

impl Progress for AtOnce<'_> {
    fn stage(&self, _: &str, _: u64) {}

    fn advance(&self, _: u64) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_change_that_is_cancelled_leaves_the_image_as_it_was() {
    for case in cases() {
        let memory = Arc::new(MemoryStorage::new(case.bytes.clone()));
        let cancel = AtomicBool::new(false);
        let outcome = case.run(memory.clone(), &AtOnce(&cancel), &cancel);
        assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
        let now = memory.to_vec();
        assert!(bitmaps(&now) == bitmaps(&case.bytes), "{}", case.name);
        assert_no_error(&now, case.name);
    }
}
