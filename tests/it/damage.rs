//! The damage matrix: what qcheck says about a damaged image, and what its repair makes of it.

use std::fs;

use crate::support::damage::{Base, Damaged, bases, damages};
use crate::support::oracle::{Ran, Scratch, all_guest_bytes, difference};

/// Where qcheck deliberately says something other than qemu-img: the cases, `*` standing for anything, and
/// the heading in `docs/differences.md` that says why.
const DIFFERENCES: &[(&str, &str)] = &[];

/// Where qemu-img's repair ends clean and qcheck's deliberately does not.
const HELD: &[(&str, &str)] = &[];

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
    ran.code == Some(1) && ran.stderr.contains("Could not open")
}

fn scratch(base: &Base, damaged: &Damaged) -> Scratch {
    let mut scratch = Scratch::with_image(&damaged.bytes);
    scratch.encrypted = base.encrypted;
    if let Some(data) = &base.data {
        scratch.write("data.raw", data);
    }
    scratch
}

/// Runs every damage of the bases of these names through a rule; panics with what broke it.
fn for_all(names: &[&str], rule: impl Fn(&Base, &Damaged) -> Vec<String>) {
    let mut broken = Vec::new();
    let mut cases = 0;
    for base in bases().iter().filter(|base| names.contains(&base.name)) {
        for damaged in damages(base) {
            cases += 1;
            broken
                .extend(rule(base, &damaged).iter().map(|why| format!("[{}] {why}", damaged.name)));
        }
    }
    assert!(cases > 50, "only {cases} cases: the matrix lost its contents");
    let count = broken.len();
    assert!(count == 0, "{count} rules broken in {cases} cases:\n{}", broken.join("\n"));
}

/// Both checks say the same, or the difference is a listed one; nobody changes the file.
fn agreement(base: &Base, damaged: &Damaged) -> Vec<String> {
    let image = scratch(base, damaged);
    let qemu = image.copy().qemu_check(&[]);
    let own = image.own_check(&[]);
    let mut broken = Vec::new();
    if image.bytes() != damaged.bytes {
        broken.push("a check without -r changed the image".to_owned());
    }
    if could_not_open(&qemu) {
        if !matches!(own.code, Some(1..=3)) {
            broken.push(format!("qemu-img can't open it, qcheck finds nothing: {own:?}"));
        }
    } else if let Some(difference) = difference(&qemu, &own, false) {
        if own.is_orderly() && listed(DIFFERENCES, &damaged.name) {
            return broken;
        }
        broken.push(difference);
    }
    broken
}

/// A repair tells the truth, gets as far as qemu-img's, loses no guest byte, and is done after one run.
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
        clean = qemu.code == Some(0);
        if own.code == Some(0) && !clean {
            broken.push(format!("-r {mode} says clean, qemu-img then says {qemu:?}"));
        }
        broken.extend(lost.iter().map(|why| format!("-r {mode} {why}")));
        if once != damaged.bytes {
            image.own_check(&["-r", mode]);
            if image.bytes() != once {
                broken.push(format!("a second -r {mode} changed the image again"));
            }
        }
    }
    if !clean && !listed(HELD, &damaged.name) {
        let theirs = judge.before.copy();
        theirs.qemu_check(&["-r", "all"]);
        if theirs.qemu_check(&[]).code == Some(0) {
            broken.push("qemu-img -r all ends clean, qcheck -r all does not".to_owned());
        }
    }
    broken
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

    fn lost(&mut self, after: &Scratch, bytes: &[u8]) -> Option<String> {
        if self.before.bytes() == bytes {
            return None;
        }
        let snapshots = &self.base.snapshots;
        let old = self.old.get_or_insert_with(|| all_guest_bytes(&self.before, snapshots));
        let new = all_guest_bytes(after, snapshots);
        let views = std::iter::once("the active disk").chain(snapshots.iter().copied());
        let changed: Vec<_> = views
            .zip(old.iter().zip(&new))
            .filter(|(_, (old, new))| old.is_some() && old != new)
            .map(|(view, (_, new))| format!("{view} (now readable: {})", new.is_some()))
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
    for (pattern, reason) in DIFFERENCES.iter().chain(HELD) {
        assert!(headings.iter().any(|line| line.contains(reason)), "no heading says {reason:?}");
        assert!(names.iter().any(|name| matches(pattern, name)), "{pattern:?} matches no case");
    }
}

#[test]
fn every_base_is_clean_before_it_is_damaged() {
    for base in bases() {
        let whole = Damaged { name: base.name.into(), bytes: base.bytes.clone() };
        let ran = scratch(base, &whole).qemu_check(&[]);
        assert_eq!(ran.code, Some(0), "{}: {ran:#?}", base.name);
    }
}
