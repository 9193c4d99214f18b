//! Every field of every structure, set to its limits: an image that QEMU refuses for a reason inside the
//! file is not clean to qcheck, one that QEMU uses is, and no repair writes to what is clean.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use qcheck::check::{CheckOptions, CheckReport, Finding, Kind, Severity, Verb, check};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::damages::matrix::Case;
use crate::support::images::builder::{Builder, Built, Content, Snapshot};
use crate::support::images::bytes::{self, OFFSET_MASK, cluster_size, peek, poke};
use crate::support::images::fields::{self, Target};
use crate::support::programs::oracle::{IMAGE, LOCKED, SECRET, Scratch, guest_bytes};
use crate::support::programs::run::{Ran, qemu_io};
use crate::support::sample::sample;

/// An image, and the files that it names.
struct Base {
    name: &'static str,
    built: Built,
    targets: Vec<Target>,
    encrypted: bool,
}

/// What is changed in an image.
struct Change {
    name: String,
    what: What,
}

enum What {
    /// A number: where it is, its width and its value.
    Number(usize, usize, u64),
    /// No byte of a text is zero any more.
    Unterminated(std::ops::Range<usize>),
    /// Bytes of another structure.
    Overwritten(std::ops::Range<usize>),
    /// So many bytes less.
    Cut(usize),
}

impl Change {
    fn apply(&self, image: &[u8]) -> Vec<u8> {
        let mut bytes = image.to_vec();
        match &self.what {
            What::Number(at, width, value) => poke(&mut bytes, *at, *width, *value),
            What::Unterminated(text) => {
                bytes[text.clone()].iter_mut().filter(|b| **b == 0).for_each(|b| *b = b'x');
            }
            What::Overwritten(range) => {
                let other = bytes::header(image, "l1_table_offset") as usize;
                bytes.copy_within(other..other + range.len(), range.start);
            }
            What::Cut(cut) => bytes.truncate(image.len() - cut),
        }
        bytes
    }
}

/// What guest clusters of most bases hold.
const MIXED: &[(&str, u64)] =
    &[("data", 0), ("unallocated", 6), ("zero", 7), ("zero over data", 8), ("compressed", 9)];

fn mixed(builder: Builder) -> Builder {
    builder
        .data(0..5, 0x11)
        .at(7, Content::Zero)
        .at(8, Content::ZeroOver(0x22))
        .at(9, Content::Compressed(0x33))
}

fn base(name: &'static str, builder: Builder, guest: &[(&str, u64)]) -> Base {
    let built = builder.build();
    let image = &built.bytes;
    let mut targets = fields::header(image);
    targets.extend(fields::extensions(image));
    targets.extend(fields::entries(image, guest));
    if bytes::header(image, "nb_snapshots") > 0 {
        targets.extend(fields::snapshots(image));
    }
    if bytes::extension(image, 0x2385_2875).is_some() {
        targets.extend(fields::bitmaps(image));
    }
    Base { name, built, targets, encrypted: false }
}

/// LUKS images of qemu-img's, with small headers.
fn encrypted(name: &'static str, options: &str) -> Base {
    let common = "cluster_size=4k,encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let options = format!("{common},encrypt.cipher-alg=aes-128,{options}");
    let bytes = Case::encrypted(&options).image.bytes();
    let mut targets = fields::extensions(&bytes);
    targets.extend(fields::crypto_pointer(&bytes));
    targets.extend(fields::luks(&bytes));
    targets.retain(|target| !target.name.ends_with("of the feature names"));
    Base { name, built: Built { bytes, data: None }, targets, encrypted: true }
}

fn bases() -> Vec<Base> {
    let disk = || Builder::new(4 << 20);
    let backed = |builder: Builder| builder.backing("base.raw", Some("raw"));
    let shared = || Snapshot::shared("shared");
    let mut old = backed(mixed(disk())).version(2).snapshot(shared());
    old.contents.retain(|(_, c)| !matches!(c, Content::Zero | Content::ZeroOver(_)));
    let parts = Content::Subclusters { allocated: 0xff, zero: 0xff00_0000, byte: 0x88 };
    let wide = Builder::new(8 << 20).cluster_bits(14).extended_l2();
    let external = |raw| Builder::new(1 << 20).data_file("data.raw", raw).data(0..5, 0x11);
    vec![
        base("version 3", backed(mixed(disk())).feature_names().snapshot(shared()), MIXED),
        base("version 2", old, &[("data", 0), ("unallocated", 6), ("compressed", 9)]),
        base("bitmaps", mixed(disk()).bitmap("day", 12, 0xf0).bitmap("hour", 16, 1), MIXED),
        base("subclusters", wide.data(0..3, 0x11).at(8, parts), &[("data", 0), ("parts", 8)]),
        base("data file", external(false), &[("data", 0), ("unallocated", 30)]),
        base("raw data file", external(true), &[("data", 1), ("unallocated", 30)]),
        encrypted("LUKS, CBC", "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain64"),
        encrypted("LUKS, ESSIV", "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv"),
    ]
}

/// The limits of a field, and numbers next to them and to the old one.
fn values(image: &[u8], target: &Target) -> Vec<u64> {
    let bits = 8 * target.width.min(8) as u32;
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let old = peek(image, target.at, target.width.min(8));
    let cluster = cluster_size(image);
    let end = (image.len() as u64).next_multiple_of(cluster);
    let flags = if target.offset { old & !OFFSET_MASK } else { 0 };
    let near = [1, 2, 8, 512, cluster].map(|step| [old.wrapping_add(step), old.wrapping_sub(step)]);
    let limits = [1 << 9, 1023, 1 << 16, 1 << 22, 1 << 27].map(|limit| [limit, limit + 1]);
    let mut values = vec![0, 1, 2, 4, mask, mask - 1, mask >> 1, (mask >> 1) + 1];
    values.extend(near.into_iter().chain(limits).flatten());
    values
        .extend([image.len() as u64, end, end + cluster, end + 64 * cluster].map(|at| at | flags));
    let flips =
        (0..bits).filter(|bit| bits <= 32 || [0, 1, 2, 9, 12, 55, 56, 62, 63].contains(bit));
    values.extend(flips.map(|bit| old ^ (1 << bit)));
    let distinct: BTreeSet<u64> = values.into_iter().map(|value| value & mask).collect();
    distinct.into_iter().filter(|&value| value != old).collect()
}

fn changes(base: &Base) -> Vec<Change> {
    let mut all = Vec::new();
    for target in &base.targets {
        let mut add = |value: String, what: What| {
            all.push(Change { name: format!("{}/{}/{value}", base.name, target.name), what });
        };
        // A derivation with millions of iterations takes its time.
        let slow = |value: &u64| target.name.ends_with("iterations") && *value > 1 << 16;
        for value in values(&base.built.bytes, target).into_iter().filter(|value| !slow(value)) {
            add(format!("{value:#x}"), What::Number(target.at, target.width.min(8), value));
        }
        if target.width > 8 {
            let text = target.at..target.at + target.width;
            add("not terminated".into(), What::Unterminated(text));
        }
    }
    if base.encrypted {
        let (pointer, _) = bytes::extension(&base.built.bytes, 0x0537_be77).unwrap();
        let at = bytes::be64(&base.built.bytes, pointer) as usize;
        let what = What::Overwritten(at..at + 4096);
        all.push(Change { name: format!("{}/another cluster for the header", base.name), what });
    }
    let cuts = [1, 7, 511, 512, 513].into_iter();
    all.extend(
        cuts.map(|cut| Change {
            name: format!("{}/cut by {cut}", base.name),
            what: What::Cut(cut),
        }),
    );
    all
}

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

/// Findings that qemu-img has too, or ends with an error for: `oracle` and `damage` compare them.
const QEMUS: &[&str] = &[
    "leak",
    "refcount-too-low",
    "beyond-end",
    "copied-data",
    "copied-l2-table",
    "l1-reserved-bits",
    "l2-reserved-bits",
    "l2-table-unaligned",
    "data-unaligned",
];

/// Where qcheck is stricter than QEMU on purpose: the code of a finding and a part of its line. QEMU does not
/// look, and the specification does not allow it.
const STRICTER: &[(&str, &str)] = &[
    ("bitmap-entry", "has a zero byte"), // for writing it does where the name gets much shorter
    ("cut-off", ""),
    ("data-file-offset", ""), // until a guest reads it
    ("encryption-header", "past the start of the payload"), // over 32 bits
    ("header-field", "is not a multiple of 8"),
    ("header-field", "is inside the header"),
    ("l2-zero-flag-reserved", ""),
    ("l2-zero-flag-version-2", ""), // until a guest reads it
    ("snapshot-id-twice", ""),
    ("snapshot-l1-too-small", ""),
];

/// Runs a tool of QEMU on the image, opened with what it needs.
fn qemu(image: &Scratch, tool: &str, args: &[&str]) -> Ran {
    let locked: &[&str] = &["--object", SECRET, "--image-opts", LOCKED];
    let open = if image.encrypted { locked } else { &["-f", "qcow2", IMAGE] };
    image.run(tool, &[args, open].concat())
}

/// QEMU's message about an image that it does not open or check without complaint, for a reason inside the
/// file; nothing where it does.
fn complaint(base: &Base, change: &Change, bytes: &[u8], report: &CheckReport) -> Option<String> {
    let mut image = Scratch::in_memory(bytes);
    image.encrypted = base.encrypted;
    image.write("base.raw", &[0x99; 4 << 10]);
    image.write("data.raw", base.built.data.as_deref().unwrap_or_default());
    let ran = [("qemu-img", &["check"][..]), ("qemu-io", &["-c", "length"])];
    let mut ran = ran.into_iter().map(|(tool, args)| qemu(&image, tool, args));
    let ran = ran.find(|ran| ran.code != 0)?;
    let has = |wanted: &Kind| report.findings.iter().any(|finding| finding.kind == *wanted);
    let excused = ran.err.contains("No such file or directory")
        || ran.err.contains("encrypt.key-secret' is required")
        || change.name.contains("iterations") && ran.err.contains("Invalid password")
        // An image that is marked can be read. The notice reports that.
        || ran.err.contains("Image is corrupt; cannot be opened read/write") && has(&Kind::MarkedCorrupt)
        || ran.err.contains("'data-file' is required") && has(&Kind::DataFileUnnamed)
        || ran.err.contains("driver requires a file name") && has(&Kind::DataFileUnnamed);
    (!excused).then(|| format!("{}{}", ran.out, ran.err))
}

/// No repair writes to an image that is clean, except the bits that ask for a repair.
fn writes_nothing(bytes: &[u8], report: &CheckReport) -> Option<String> {
    let marked = |f: &Finding| matches!(f.kind, Kind::Dirty | Kind::MarkedCorrupt);
    if report.findings.iter().any(marked) {
        return None;
    }
    // With leave a repair drops what was left in use.
    let in_use = |f: &Finding| matches!(f.kind, Kind::BitmapInUse { .. });
    let lossy = (!report.findings.iter().any(in_use)).then_some(RepairMode::Lossy);
    [RepairMode::Leaks, RepairMode::All].into_iter().chain(lossy).find_map(|mode| {
        let image = MemoryStorage::new(bytes.to_vec());
        let end = repair(&image, mode, &options(), &Silent);
        (image.into_inner() != bytes || end.is_err()).then(|| format!("{mode:?} writes"))
    })
}

/// What is wrong with qcheck's result for a changed image.
fn judged(base: &Base, change: &Change) -> Option<String> {
    let bytes = change.apply(&base.built.bytes);
    let Ok(report) = check(&MemoryStorage::new(bytes.clone()), &options(), &Silent) else {
        return None;
    };
    if report.tally.is_clean() {
        let refused =
            || complaint(base, change, &bytes, &report).map(|said| format!("QEMU: {said}"));
        return writes_nothing(&bytes, &report).or_else(refused);
    }
    let wrong: Vec<_> =
        report.findings.iter().filter(|f| f.severity() > Severity::Notice).collect();
    let is_known = |finding: &&Finding| {
        let line = finding.line(0, Verb::Tell);
        QEMUS.contains(&finding.code())
            || STRICTER.iter().any(|(code, text)| finding.code() == *code && line.contains(text))
    };
    if wrong.iter().any(is_known) || complaint(base, change, &bytes, &report).is_some() {
        return None;
    }
    let lines: Vec<String> = wrong.iter().map(|f| f.line(0, Verb::Tell)).collect();
    Some(format!("QEMU has no complaint, qcheck: {:?}", lines))
}

/// The formats that this qemu-img has, and others.
#[test]
fn formats_of_a_backing_file_are_those_that_qemu_has() {
    let image = Scratch::new();
    let help = image.qemu_img(&["--help"]).out;
    let (_, known) = help.split_once("Supported image formats:").expect("a list of formats");
    let (known, _) = known.split_once("\n\nSee").expect("an end of it");
    let known: Vec<&str> = known.split_whitespace().filter(|name| name.len() < 16).collect();
    assert!(known.contains(&"qcow2") && known.len() > 20, "{known:?}");
    let found = |format: &str| {
        let bytes = Builder::new(1 << 20).backing("base.raw", Some(format)).build().bytes;
        let report = check(&MemoryStorage::new(bytes), &options(), &Silent).unwrap();
        report.findings.iter().map(Finding::code).collect::<Vec<_>>()
    };
    for format in known.into_iter().chain(["", "raw\0", "\0nothing"]) {
        assert_eq!(found(format), Vec::<&str>::new(), "{format}");
    }
    let long = format!("raw{}", "\0".repeat(13));
    for format in ["Raw", "raw ", "qcow3", "a name of sixteen", &long] {
        assert_eq!(found(format), ["backing-format"], "{format}");
    }
    // QEMU looks at the length of what no backing file needs.
    let long = Builder::new(1 << 20).extension(0xe279_2aca, &[b'x'; 16]).build().bytes;
    let report = check(&MemoryStorage::new(long), &options(), &Silent).unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
}

/// A flipped bit in the entry, or a version that is not the image's: QEMU's check does not look.
#[test]
fn a_zero_flag_in_version_2_is_found_where_qemu_cannot_read() {
    for guest in [4096, 1 << 20] {
        let image = Scratch::new();
        let options = "compat=0.10,cluster_size=4k";
        image.qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "2M"]);
        qemu_io(image.path(), IMAGE, "write -q -P 0x41 0 64k");
        let whole = guest_bytes(&image, None).expect("QEMU reads it");
        let mut bytes = image.bytes();
        let at = bytes::l2_entry_at(&bytes, guest);
        bytes[at + 7] ^= 1;
        image.write(IMAGE, &bytes);
        assert_eq!(image.qemu_check(&[]).code, 0);
        assert_eq!(guest_bytes(&image, None), None, "QEMU reports an error");
        for mode in [&[][..], &["-r", "leaks"], &["-r", "all"]] {
            let ran = image.qcheck(&[&["check"], mode, &[IMAGE]].concat());
            assert_eq!(ran.code, 2, "{mode:?}");
            assert!(ran.err.contains("zero flag, which version 2 does not have"), "{}", ran.err);
            assert!(image.bytes() == bytes, "the flag or the version is wrong: {mode:?}");
        }
        let ran = image.qcheck(&["check", "-q", "-r", "all", "--allow-data-loss", IMAGE]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(guest_bytes(&image, None), Some(whole));
    }
}

/// The part of the changes that runs by default: most start two programs.
const ONE_IN: u64 = 4;

#[test]
fn what_qemu_refuses_is_not_clean_and_what_it_uses_is() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for base in bases() {
        let changes = changes(&base);
        cases += changes.len();
        let changes = sample(changes, ONE_IN);
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(change) = changes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let judged = judged(&base, change);
                        let line = judged.map(|why| format!("[{}] {why}", change.name));
                        found.lock().unwrap().extend(line);
                    }
                });
            }
        });
        wrong.extend(found.into_inner().unwrap());
    }
    assert!(cases > 5000, "only {cases} cases: the test lost its contents");
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}
