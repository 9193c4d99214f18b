//! The damage matrix: what qcheck reports about a damaged image, and what its repair makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use crate::support::damages::damage::{Base, Damaged, bases, damages};
use crate::support::programs::oracle::{Scratch, all_guest_bytes, difference};
use crate::support::programs::run::Ran;
use crate::support::sample::sample;

/// Findings that qcheck has and qemu-img does not: what such a line contains, and the heading in
/// `docs/differences.md` that explains it. Whatever else is found must be what qemu-img finds.
const BEYOND: &[(&str, &str)] = &[
    ("use the same clusters", "More is found"),
    ("is used at another guest position too", "More is found"),
    ("overlaps other compressed data", "More is found"),
    ("zero flag", "More is found"),
    ("in the external data file is not the guest's", "More is found"),
    ("entries where its disk needs", "More is found"),
    ("another snapshot has the id", "More is found"),
    ("the file ends before", "A file that was cut off"),
    ("its name has a zero byte", "More is found"),
];

/// Where qcheck deliberately reports something other than qemu-img: the cases, `*` standing for anything, and
/// the heading in `docs/differences.md` that gives the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    // qemu-img can't read counts through such a table and gives up, or uses it.
    ("*/reftable[*", "refcount table"),
    ("*/whole the refcount table/*", "refcount table"),
    ("*/header refcount_table_offset/*", "refcount table"),
    ("version 2/header cluster_bits/*", "refcount table"),
    // qemu-img counts nothing of what reaches past the end of the file, qcheck the part inside it.
    ("*/header refcount_table_clusters/*", "past the end"),
    ("*/crypto header length/*", "past the end"),
    ("*/header l1_size/bit 12 flipped", "past the end"),
    ("snapshots/snapshot[1] l1_size/bit 12 flipped", "past the end"),
    ("*/file/cut by half", "past the end"),
    ("*/file/cut by all but a header", "past the end"),
    // qemu-img's counts in memory are as narrow as those in the image.
    ("1-bit counts/*/at a refcount block", "More is found"),
    ("1-bit counts/*/at the refcount table", "More is found"),
    // qemu-img reads the header as a table.
    ("*/L1[*/at the header", "offset 0"),
    ("*/L1[0]/bit 12 flipped", "offset 0"),
    ("* counts/L1[0]/bit 9 flipped", "offset 0"),
    ("snapshots/snapshot[*] l1_table_offset/zeroed", "offset 0"),
    // qemu-img gives up at a snapshot table it can't read, or reads whatever is there.
    ("*/header nb_snapshots/*", "snapshot table"),
    ("*/header snapshots_offset/*", "snapshot table"),
    ("snapshots/snapshot[*]*_size/*", "snapshot table"),
    ("snapshots/snapshot[*] l1_table_offset/bit 63 flipped", "snapshot table"),
    // qemu-img needs a key.
    ("*/header crypt_method/*", "What cannot be opened"),
];

/// Where qemu-img's repair ends clean and qcheck's deliberately does not.
const HELD: &[(&str, &str)] = &[
    // A pointer to another structure: what it pointed to before is leaked, and stays as it is.
    ("*L1[*]/at the refcount table", "references may hide"),
    ("*L1[*]/at a refcount block", "references may hide"),
    ("*L2 */at an L2 table", "references may hide"),
    ("*L2 */at a refcount block", "references may hide"),
    ("*L2 */at the L1 table", "references may hide"),
    ("bitmaps/bitmap table */at *", "references may hide"),
    // A snapshot that the header does not count, or that cannot be read: qemu-img releases what it has.
    ("snapshots/header nb_snapshots/off by one", "references may hide"),
    ("snapshots/snapshot[*] id_str_size/*", "references may hide"),
    ("snapshots/snapshot[*] name_size/*", "references may hide"),
    // A pointer to nothing: what it pointed to seems leaked.
    ("bitmaps/bitmap table entry/beyond the end of the file", "references may hide"),
    ("bitmaps/bitmap table offset/beyond the end of the file", "references may hide"),
    ("snapshots/file/cut by half", "references may hide"),
    // An L2 table that no L1 entry points to any more, and more than one that could: its data is kept.
    ("*/L1[*]/zeroed", "possible data"),
    ("*/whole the L1 table/zeroed", "possible data"),
    ("*/header l1_table_offset/at the end of the file", "possible data"),
    ("snapshots/snapshot[*] l1_table_offset/at the end of the file", "possible data"),
    // A snapshot table that can't be read: qemu-img drops the snapshots.
    ("*/header snapshots_offset/*", "references may hide"),
    ("snapshots/snapshot[*] extra_data_size/*", "references may hide"),
    // Encrypted data can be read at its place only, so that no copy of it can be made.
    ("key/L2 unallocated/at a refcount block", "Encrypted clusters stay"),
];

/// Whether the pattern, in which `*` stands for anything, matches the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && matches(rest, &tail[skip..]))
        }),
    }
}

fn listed(table: &[(&str, &str)], name: &str) -> bool {
    table.iter().any(|(pattern, _)| matches(pattern, name))
}

/// qemu-img gave no verdict because it could not even open the image.
fn could_not_open(ran: &Ran) -> bool {
    ran.code == 1 && ran.err.contains("Could not open")
}

/// The damage made it an encrypted image to which there is no key: valid, but it cannot be opened.
fn wants_key(base: &Base, qemu: &Ran) -> bool {
    !base.encrypted && qemu.err.contains("encrypt.key-secret")
}

fn scratch(base: &Base, damaged: &Damaged) -> Scratch {
    let mut scratch = Scratch::in_memory(&damaged.bytes);
    scratch.encrypted = base.encrypted;
    if let Some(data) = &base.data {
        scratch.write("data.raw", data);
    }
    scratch
}

/// The part of the damages that runs by default: each starts several programs.
const ONE_IN: u64 = 3;

/// Runs the damages of the bases of these names through a rule; panics with what broke it.
fn for_all(names: &[&str], rule: impl Fn(&Base, &Damaged) -> Vec<String>) {
    let mut broken = Vec::new();
    let mut cases = 0;
    for base in bases().iter().filter(|base| names.contains(&base.name)) {
        cases += damages(base).len();
        for damaged in sample(damages(base), ONE_IN) {
            broken
                .extend(rule(base, &damaged).iter().map(|why| format!("[{}] {why}", damaged.name)));
        }
    }
    assert!(cases > 50, "only {cases} cases: the matrix lost its contents");
    let count = broken.len();
    assert!(count == 0, "{count} rules broken in {cases} cases:\n{}", broken.join("\n"));
}

/// What qcheck would have reported without the findings that only it has. Such a finding counts as an error
/// unless another finding about the same clusters does already.
fn without_beyond(qemu: &Ran, own: &Ran) -> Ran {
    let beyond = |line: &&str| BEYOND.iter().any(|(text, _)| line.contains(text));
    let extra = own.err.lines().filter(beyond).count() as u64;
    // Where leaked clusters may be data qcheck does not report them as waste.
    let data = "Some of them may hold data to which damaged structures refer.";
    let waste = "This means waste of disk space, but no harm to data.";
    if own.out.contains(data) && own.err.contains("NOTICE") {
        let own = Ran { out: own.out.replace(data, waste), ..own.clone() };
        return without_beyond(qemu, &own);
    }
    if extra == 0 || !own.is_orderly() {
        return own.clone();
    }
    let rest: Vec<&str> = own.err.lines().filter(|line| !beyond(line)).collect();
    let summary = Summary::of(own);
    let least = summary.errors.saturating_sub(extra);
    let errors = Summary::of(qemu).errors.clamp(least, summary.errors);
    let summary = Summary { errors, ..summary };
    Ran { code: summary.code(), out: summary.text(), err: rest.join("\n") }
}

/// The number before these words in the summary, or 0.
fn number_before(ran: &Ran, words: &str) -> u64 {
    let line = ran.out.lines().find(|line| line.contains(words));
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The numbers of a summary, and the lines that follow them.
struct Summary {
    errors: u64,
    leaks: u64,
    internal: u64,
    tail: String,
}

impl Summary {
    fn of(ran: &Ran) -> Self {
        let tail = ran.out.lines().filter(|l| l.contains(" allocated, ") || l.starts_with("Image"));
        Self {
            errors: number_before(ran, " errors were"),
            leaks: number_before(ran, " leaked clusters"),
            internal: number_before(ran, " internal errors"),
            tail: tail.map(|line| format!("{line}\n")).collect(),
        }
    }

    fn code(&self) -> i32 {
        match (self.internal, self.errors, self.leaks) {
            (0, 0, 0) => 0,
            (0, 0, _) => 3,
            (0, _, _) => 2,
            _ => 1,
        }
    }

    /// The summary as qemu-img prints it.
    fn text(&self) -> String {
        let mut text = String::new();
        if self.code() == 0 {
            text.push_str("No errors were found on the image.\n");
        }
        if self.errors > 0 {
            text.push_str(&format!("\n{} errors were found on the image.\n", self.errors));
            text.push_str(
                "Data may be corrupted, or further writes to the image may corrupt it.\n",
            );
        }
        if self.leaks > 0 {
            text.push_str(&format!("\n{} leaked clusters were found on the image.\n", self.leaks));
            text.push_str("This means waste of disk space, but no harm to data.\n");
        }
        if self.internal > 0 {
            text.push_str(&format!(
                "\n{} internal errors have occurred during the check.\n",
                self.internal
            ));
        }
        text + &self.tail
    }
}

/// Both checks report the same, or the difference is a listed one; nobody changes the file.
fn agreement(base: &Base, damaged: &Damaged) -> Vec<String> {
    let image = scratch(base, damaged);
    let qemu = image.copy().qemu_check(&[]);
    let own = image.own_check(&[]);
    let mut broken = Vec::new();
    if image.bytes() != damaged.bytes {
        broken.push("a check without -r changed the image".to_owned());
    }
    if could_not_open(&qemu) {
        let keyless = wants_key(base, &qemu) && listed(DIFFERENCES, &damaged.name);
        let sees = if keyless { own.is_orderly() } else { matches!(own.code, 1..=3) };
        if !sees {
            broken.push(format!("qemu-img can't open it, qcheck finds nothing: {own:?}"));
        }
    } else if let Some(difference) = difference(&qemu, &without_beyond(&qemu, &own), false) {
        // However the two differ, what is damaged to qemu-img is never clean to qcheck.
        let sees = own.code != 0 || qemu.code == 0;
        if own.is_orderly() && sees && listed(DIFFERENCES, &damaged.name) {
            return broken;
        }
        broken.push(difference);
    }
    broken
}

/// A repair reports the truth, gets as far as qemu-img's, loses no guest byte, and is done after one run.
fn repair(base: &Base, damaged: &Damaged) -> Vec<String> {
    let mut judge = Judge::new(base, damaged);
    let mut broken = Vec::new();
    let mut clean = false;
    for mode in ["leaks", "all"] {
        let image = judge.before.copy();
        let own = image.own_check(&["-r", mode]);
        if !own.is_orderly() {
            broken.push(format!("-r {mode} did not end in order: {own:?}"));
        }
        let once = image.bytes();
        let Judgement { qemu, lost } = judge.judge(&image, &once);
        // Leaks that are left on purpose, and reported as such: all else is clean to qemu-img.
        let held = own.err.contains(" not released, since ") && qemu.code == 3;
        clean = qemu.code == 0 || held;
        if own.code == 0 && qemu.code != 0 && !wants_key(base, &qemu) {
            broken.push(format!("-r {mode} reports clean, qemu-img then reports {qemu:?}"));
        }
        let new = |entry: &u64| !holds_entry(&damaged.bytes, *entry);
        if once != damaged.bytes && writable_in_place(&qemu).iter().any(new) {
            broken.push(format!("-r {mode} set COPIED on clusters with other counts: {qemu:?}"));
        }
        broken.extend(lost.iter().map(|why| format!("-r {mode} {why}")));
        if once != damaged.bytes {
            image.own_check(&["-r", mode]);
            // Without a sign of damage what was held is waste like any other.
            if image.bytes() != once && !(held && own.code == 3) {
                broken.push(format!("a second -r {mode} changed the image again"));
            }
        }
    }
    if !clean && !listed(HELD, &damaged.name) {
        let theirs = judge.before.copy();
        theirs.qemu_check(&["-r", "all"]);
        if theirs.qemu_check(&[]).code == 0 {
            broken.push("qemu-img -r all ends clean, qcheck -r all does not".to_owned());
        }
    }
    broken
}

/// Clusters that a writer would overwrite in place although they may be shared: COPIED and a count over one.
fn writable_in_place(qemu: &Ran) -> Vec<u64> {
    let lines = qemu.err.lines().filter(|l| l.starts_with("ERROR OFLAG_COPIED"));
    let shared = lines.filter(|l| !l.ends_with("refcount=0") && !l.ends_with("refcount=1"));
    let entries = shared.filter_map(|l| l.split_once("_entry=")?.1.split_once(' '));
    entries
        .filter_map(|(bits, _)| u64::from_str_radix(bits, 16).ok())
        .filter(|e| e >> 63 == 1)
        .collect()
}

/// Whether an entry with these very bits, COPIED among them, stood in the image already.
fn holds_entry(bytes: &[u8], entry: u64) -> bool {
    bytes.chunks_exact(8).any(|word| word == entry.to_be_bytes())
}

/// Whether each sector reads as before the repair, or as before the damage.
fn is_kept(old: &Option<Vec<u8>>, new: &Option<Vec<u8>>, sound: &Option<Vec<u8>>) -> bool {
    let sectors = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|b| b.chunks(512).map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    match (sectors(old), sectors(new), sectors(sound)) {
        (None, ..) => true,
        (Some(_), None, _) => false,
        (Some(old), Some(new), None) => old == new,
        (Some(old), Some(new), Some(sound)) => {
            let either = |at: usize| old.get(at) == new.get(at) || sound.get(at) == new.get(at);
            old.len() == new.len() && (0..new.len()).all(either)
        }
    }
}

/// What qemu-img makes of an image after a repair.
#[derive(Clone, Debug)]
struct Judgement {
    qemu: Ran,
    /// Views that were readable before the repair and read differently after it.
    lost: Option<String>,
}

/// Asks qemu-img once about each outcome: repairs of one image often end in the same bytes.
struct Judge<'a> {
    base: &'a Base,
    before: Scratch,
    old: Option<Vec<Option<Vec<u8>>>>,
    known: Vec<(Vec<u8>, Judgement)>,
}

impl<'a> Judge<'a> {
    fn new(base: &'a Base, damaged: &Damaged) -> Self {
        Self { base, before: scratch(base, damaged), old: None, known: Vec::new() }
    }

    fn judge(&mut self, image: &Scratch, bytes: &[u8]) -> Judgement {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| known == bytes) {
            return known.clone();
        }
        let qemu = image.qemu_check(&[]);
        let lost = self.lost(image, bytes);
        let judgement = Judgement { qemu, lost };
        self.known.push((bytes.to_vec(), judgement.clone()));
        judgement
    }

    /// What could be read before the damage: a repair may bring it back.
    fn undamaged(&self) -> &'static [Option<Vec<u8>>] {
        static READ: Mutex<BTreeMap<&str, &[Option<Vec<u8>>]>> = Mutex::new(BTreeMap::new());
        let mut read = READ.lock().expect("no test panicked in here");
        read.entry(self.base.name).or_insert_with(|| {
            let sound = Damaged { name: String::new(), bytes: self.base.bytes.clone() };
            let all = all_guest_bytes(&scratch(self.base, &sound), &self.base.snapshots);
            Vec::leak(all)
        })
    }

    fn lost(&mut self, after: &Scratch, bytes: &[u8]) -> Option<String> {
        if self.before.bytes() == bytes {
            return None;
        }
        let snapshots = &self.base.snapshots;
        let sound = self.undamaged();
        let old = self.old.get_or_insert_with(|| all_guest_bytes(&self.before, snapshots));
        let new = all_guest_bytes(after, snapshots);
        let views = std::iter::once("the active disk").chain(snapshots.iter().copied());
        let changed: Vec<_> = views
            .zip(old.iter().zip(&new))
            .zip(sound)
            .filter(|((_, (old, new)), sound)| !is_kept(old, new, sound))
            .map(|((view, (_, new)), _)| format!("{view} (now readable: {})", new.is_some()))
            .collect();
        (!changed.is_empty()).then(|| format!("changed guest bytes of {}", changed.join(", ")))
    }
}

const PLAIN: &[&str] = &["plain"];
const SNAPSHOTS: &[&str] = &["snapshots"];
const EXTENSIONS: &[&str] = &["bitmaps", "key"];
const KINDS: &[&str] = &["subclusters", "data file"];
const GEOMETRIES: &[&str] = &["version 2", "wide counts", "1-bit counts"];

#[test]
fn both_agree_on_a_damaged_plain_image() {
    for_all(PLAIN, agreement);
}

#[test]
fn both_agree_on_damaged_snapshots() {
    for_all(SNAPSHOTS, agreement);
}

#[test]
fn both_agree_on_damaged_extensions() {
    for_all(EXTENSIONS, agreement);
}

#[test]
fn both_agree_on_damaged_subclusters_and_data_file_images() {
    for_all(KINDS, agreement);
}

#[test]
fn both_agree_on_damaged_images_of_other_geometries() {
    for_all(GEOMETRIES, agreement);
}

#[test]
fn repair_of_a_damaged_plain_image_is_truthful_and_loses_nothing() {
    for_all(PLAIN, repair);
}

#[test]
fn repair_of_damaged_snapshots_is_truthful_and_loses_nothing() {
    for_all(SNAPSHOTS, repair);
}

#[test]
fn repair_of_damaged_extensions_is_truthful_and_loses_nothing() {
    for_all(EXTENSIONS, repair);
}

#[test]
fn repair_of_damaged_subclusters_and_data_file_images_is_truthful_and_loses_nothing() {
    for_all(KINDS, repair);
}

#[test]
fn repair_of_damaged_images_of_other_geometries_is_truthful_and_loses_nothing() {
    for_all(GEOMETRIES, repair);
}

#[test]
fn every_listed_difference_is_explained_in_the_documentation_and_matches_a_case() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/differences.md");
    let text = fs::read_to_string(path).expect("docs/differences.md");
    let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
    let names: Vec<_> = bases().iter().flat_map(damages).map(|damaged| damaged.name).collect();
    let held = ("", "Leaks stay where references may hide");
    for (_, reason) in BEYOND.iter().chain(DIFFERENCES).chain(HELD).chain([&held]) {
        assert!(headings.iter().any(|line| line.contains(reason)), "no heading has {reason:?}");
    }
    for (pattern, _) in DIFFERENCES.iter().chain(HELD) {
        assert!(names.iter().any(|name| matches(pattern, name)), "{pattern:?} matches no case");
    }
}

#[test]
fn every_base_is_clean_before_it_is_damaged() {
    for base in bases() {
        let whole = Damaged { name: base.name.into(), bytes: base.bytes.clone() };
        let ran = scratch(base, &whole).qemu_check(&[]);
        assert_eq!(ran.code, 0, "{}: {ran:#?}", base.name);
    }
}

/// Where even a repair that may lose data does not end clean, and why.
const BEYOND_REPAIR: &[(&str, &str)] = &[
    ("*/header incompatible_features/*", "an unsupported feature is not damage"),
    ("key/file/cut by half", "the LUKS header is cut off, and nothing can be read without it"),
    ("key/file/cut by all but a header", "the LUKS header is cut off"),
    ("key/L2 */at an L2 table", "encrypted clusters can be read at their place only"),
    ("1-bit counts/L1[1]/at an L2 table", "a table that is used twice cannot be counted"),
];

/// A repair that may lose data ends clean by both checkers, wherever the header leads somewhere.
fn is_clean_after_losses(base: &Base, damaged: &Damaged) -> Vec<String> {
    let image = scratch(base, damaged);
    let own = image.own_check(&["-r", "all", "--allow-data-loss"]);
    if listed(BEYOND_REPAIR, &damaged.name) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if own.code != 0 {
        wrong.push(format!(
            "qcheck ends with {:?}: {}",
            own.code,
            own.err.lines().last().unwrap_or("")
        ));
    } else {
        let qemu = image.qemu_check(&[]);
        if qemu.code != 0 && !could_not_open(&qemu) && !wants_key(base, &qemu) {
            wrong.push(format!("qemu-img ends with {:?}: {}", qemu.code, qemu.err));
        }
    }
    wrong
}

#[test]
fn a_repair_that_may_lose_data_ends_clean() {
    let names: Vec<_> = bases().iter().map(|base| base.name).collect();
    for_all(&names, is_clean_after_losses);
}
