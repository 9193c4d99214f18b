//! The sizes of `docs/design.md`: of a function, a file and a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::code::imports::sources;
use crate::support::code::source::files;

/// Lines of a function, from `fn` to its brace.
const FUNCTION: usize = 60;
/// Lines of a file.
const FILE: usize = 500;
/// Files and folders in a folder.
const FOLDER: usize = 13;

/// Columns of a line of prose.
const COLUMNS: usize = 100;

/// Functions that are longer, each with the reason: tables, with an arm for each of many variants.
const LONG_FUNCTIONS: [(&str, &str, &str); 1] =
    [("check/report/kind/mod.rs", "row", "an arm for each kind of finding, each one line")];

/// Folders with more in them, each with the reason.
const FULL_FOLDERS: [(&str, &str); 2] = [
    ("", "the modules of the crate: the operations are in a folder or a file each"),
    ("cli/commands", "a file or a folder for each subcommand, and no other"),
];

/// The functions of a file in rustfmt's form, each with its name and its length in lines.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest == "}");
        let is_whole = line.trim_end().ends_with(['}', ';']);
        let length = if is_whole { 0 } else { lines[at..].iter().position(ends).unwrap_or(0) };
        found.push((name, length + 1));
    }
    found
}

/// The name of the function that begins in a line.
fn function_name(line: &str) -> Option<&str> {
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern"];
    let is_before_fn = |word: &str| words.contains(&word) || word.starts_with("pub(in");
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_function =
        before.split_whitespace().all(|word| is_before_fn(word) || word.ends_with(')'));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_function && end > 0).then(|| &after[..end])
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut wrong = Vec::new();
    let mut listed = Vec::new();
    for (path, code) in sources() {
        for (name, length) in functions(&code).into_iter().filter(|(_, length)| *length > FUNCTION)
        {
            match LONG_FUNCTIONS.iter().find(|(at, of, _)| *at == path && *of == name) {
                Some(exception) => listed.push(exception),
                None => wrong.push(format!("src/{path}: {name} has {length} lines")),
            }
        }
    }
    for (path, name, _) in LONG_FUNCTIONS.iter().filter(|one| !listed.contains(one)) {
        wrong.push(format!("src/{path}: {name} is listed and has not more than {FUNCTION} lines"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_its_one_noun_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|folder| files(&root.join(folder), "rs")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > FILE {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_is_too_full_to_be_seen_at_once() {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, _) in sources() {
        let parts: Vec<&str> = path.split('/').collect();
        for depth in 0..parts.len() {
            let entries = folders.entry(parts[..depth].join("/")).or_default();
            if !entries.iter().any(|entry| entry == parts[depth]) {
                entries.push(parts[depth].to_owned());
            }
        }
    }
    let full = |(_, entries): &(&String, &Vec<String>)| entries.len() > FOLDER;
    let full: Vec<&str> = folders.iter().filter(full).map(|(folder, _)| folder.as_str()).collect();
    assert_eq!(full, FULL_FOLDERS.map(|(folder, _)| folder), "folders with more than {FOLDER}");
}

/// The lines of a document that are prose: no table, and not in a code block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with('|')
    })
}

#[test]
fn comments_and_documents_wrap() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut measure = |path: &Path, line: &str| {
        if line.chars().count() > COLUMNS {
            wrong.push(format!("{}: {line}", path.display()));
        }
    };
    for path in files(&root.join("src"), "rs") {
        let code = fs::read_to_string(&path).unwrap();
        let comments = code.lines().filter(|line| line.trim_start().starts_with("//"));
        comments.for_each(|line| measure(&path, line));
    }
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let documents = files(&root.join("docs"), "md").into_iter();
    for path in documents.chain(top.map(|name| root.join(name))) {
        let text = fs::read_to_string(&path).unwrap();
        prose(&text).for_each(|line| measure(&path, line));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let code = "pub(in crate::a) const fn one() -> u8 {\n    1\n}\n\nimpl A {\n    fn two(\n        \
                self,\n    ) {\n        if x {\n        }\n    }\n    fn three();\n    fn four() {}\n\
                }\nlet f = |fn_: fn(u8)| 1;\n";
    assert_eq!(functions(code), [("one", 3), ("two", 6), ("three", 1), ("four", 1)]);
}
