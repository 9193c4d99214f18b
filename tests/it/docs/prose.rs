//! The words of `CONTRIBUTING.md`: help texts, messages, documents and comments have none that is
//! listed here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::code::source::{Part, files, parts};
use crate::support::programs::run::qcheck;

/// A phrase that is not used, and what to write.
const BANNED: [(&str, &str); 68] = [
    ("told", "reported, printed, returned"),
    ("tell", "report, print, return, distinguish"),
    ("tells", "reports, prints, returns"),
    ("telling", "reporting"),
    ("say", "report, mean"),
    ("says", "reports, means, contains"),
    ("said", "reported"),
    ("saying", "reporting"),
    ("knows", "has, records, supports"),
    ("knew", "had, recorded"),
    ("believe", "rely on"),
    ("believes", "relies on"),
    ("believed", "relied on"),
    ("trusts", "relies on"),
    ("want", "need, request"),
    ("wants", "needs, requires"),
    ("wanted", "needed, requested"),
    ("takes it for", "reads it as"),
    ("takes them for", "reads them as"),
    ("taken for", "mistaken for, read as"),
    ("learn", "find"),
    ("learns", "finds"),
    ("lie", "are at"),
    ("lies", "is at"),
    ("lay", "were at"),
    ("lying", "at"),
    ("lives", "is at"),
    ("behind", "after, following"),
    ("beyond", "past"),
    ("lead to", "point to, refer to"),
    ("leads to", "points to, refers to"),
    ("leading to", "pointing to"),
    ("led to", "pointed to, caused"),
    ("lead nowhere", "point to nothing"),
    ("leads nowhere", "points to nothing"),
    ("mend", "repair"),
    ("mends", "repairs"),
    ("mended", "repaired"),
    ("mending", "repairing"),
    ("room", "space, free space, module"),
    ("rooms", "modules"),
    ("unpack", "decompress"),
    ("unpacks", "decompresses"),
    ("unpacked", "decompressed"),
    ("unpacking", "decompression"),
    ("pack", "compress"),
    ("packs", "compresses"),
    ("packed", "compressed"),
    ("packing", "compression"),
    ("sound", "consistent, clean, valid"),
    ("unsound", "inconsistent"),
    ("anew", "again, rebuilt"),
    ("owner", "referrer"),
    ("owners", "referrers"),
    ("judge", "check, compare"),
    ("judges", "checks, compares"),
    ("judged", "checked, compared"),
    ("judgement", "verdict"),
    ("is there already", "exists"),
    ("that is there", "existing"),
    ("that are there", "existing"),
    ("that was there", "former, existing"),
    ("that were there", "former, existing"),
    ("is none", "is not one"),
    ("are none", "are not"),
    ("as many as there are", "one for each"),
    ("is no", "is not a"),
    ("are no", "are not"),
];

/// Words after "no" that make it a plain comparison.
const AFTER_NO: [&str; 9] =
    ["longer", "more", "less", "worse", "bigger", "larger", "shorter", "higher", "lower"];

/// A line that a person reads, and where it is.
#[derive(Debug)]
struct Line {
    place: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> (String, String) {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    (name, fs::read_to_string(path).unwrap())
}

/// The lines of a text that begins at a line of a file.
fn lines<'a>(name: &'a str, first: usize, text: &'a str) -> impl Iterator<Item = Line> + 'a {
    let line = move |(at, text): (usize, &str)| Line {
        place: format!("{name}:{}", first + at),
        text: text.to_owned(),
    };
    text.lines().enumerate().map(line)
}

/// Comments of all Rust files, and the string literals of the library and the program.
fn sources() -> Vec<Line> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz/src", "fuzz/fuzz_targets"] {
        for path in files(&root().join(folder), "rs") {
            let (name, code) = read(&path);
            for (part, range) in parts(&code) {
                if part == Part::Comment || folder == "src" {
                    let first = code[..range.start].matches('\n').count() + 1;
                    found.extend(lines(&name, first, &code[range]));
                }
            }
        }
    }
    found
}

/// The names of the tests, which are sentences.
fn names_of_tests() -> Vec<Line> {
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        for path in files(&root().join(folder), "rs") {
            let (name, code) = read(&path);
            let mut is_test = false;
            for (at, line) in code.lines().enumerate() {
                let sentence =
                    line.trim().strip_prefix("fn ").and_then(|rest| rest.split_once('('));
                if let (true, Some((sentence, _))) = (is_test, sentence) {
                    found.extend(lines(&name, at + 1, &sentence.replace('_', " ")));
                }
                is_test = line.trim() == "#[test]";
            }
        }
    }
    found
}

/// The documents and the manual pages.
fn documents() -> Vec<Line> {
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut paths: Vec<PathBuf> = top.iter().map(|name| root().join(name)).collect();
    paths.push(root().join("tests/data/README.md"));
    paths.extend(files(&root().join("docs"), "md"));
    paths.extend(files(&root().join("docs/man"), "1"));
    let texts: Vec<(String, String)> = paths.iter().map(|path| read(path)).collect();
    texts.iter().flat_map(|(name, text)| lines(name, 1, text)).collect()
}

/// The help of the program and of every command, as it prints them.
fn help() -> Vec<Line> {
    let mut found = Vec::new();
    for path in files(&root().join("docs/man"), "1") {
        let page = path.file_stem().unwrap().to_string_lossy().into_owned();
        let command = page.strip_prefix("qcheck-");
        let args: Vec<&str> = command.into_iter().chain(["--help"]).collect();
        let ran = qcheck(root(), &args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        found.extend(lines(&args.join(" "), 1, &ran.out));
    }
    found
}

/// The words of a line in lower case, with `.` for punctuation, without what is in backticks or
/// braces.
fn words(text: &str) -> Vec<String> {
    let outside = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let outside: String = outside.split('{').map(|part| part.rsplit('}').next().unwrap()).collect();
    let outside = outside.replace([',', ';', ':', '.'], " . ");
    let is_inside = |c: char| c.is_alphanumeric() || "'-_.".contains(c);
    let words = outside.split(|c| !is_inside(c)).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The first banned phrase of a line, and what to write.
fn banned(text: &str) -> Option<(&'static str, &'static str)> {
    let words = words(text);
    BANNED.into_iter().find(|(phrase, _)| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        words.windows(phrase.len()).enumerate().any(|(at, window)| {
            let before = at.checked_sub(1).map(|at| words[at].as_str());
            let after = words.get(at + phrase.len()).map(String::as_str);
            let is_plain = phrase.last().is_some_and(|last| last.starts_with("no"))
                && (before == Some("there") || after.is_some_and(|w| AFTER_NO.contains(&w)));
            window == phrase && !is_plain
        })
    })
}

#[test]
fn no_text_has_a_banned_phrase() {
    let mut wrong = Vec::new();
    let all = [sources(), names_of_tests(), documents(), help()].into_iter().flatten();
    for Line { place, text } in all {
        if let Some((phrase, instead)) = banned(&text) {
            wrong.push(format!("{place}: \"{phrase}\" (write: {instead}) in: {}", text.trim()));
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn phrases_are_found_in_words_only() {
    let found = |text| banned(text).map(|(phrase, _)| phrase);
    assert_eq!(found("//! The file Says so."), Some("says"));
    assert_eq!(found("A page is no block."), Some("is no"));
    assert_eq!(found("It lies over others"), Some("lies"));
    for text in [
        "There is none",
        "it is no longer used",
        "what it is; none",
        "`beyond`",
        "{told:?}",
        "beyond-end",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}
