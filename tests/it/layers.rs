//! The layers of `docs/design.md`: a room uses only what lies below it.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room of the library may use.
const ROOMS: [(&str, &[&str]); 19] = [
    ("error", &[]),
    ("codec", &[]),
    ("progress", &[]),
    ("format", &["error", "progress"]),
    ("storage", &["error", "progress"]),
    ("undo", &["storage", "error", "progress"]),
    ("tables", &["format", "storage", "error", "progress"]),
    ("check", &["tables", "format", "storage", "error", "progress"]),
    ("policy", &["check", "tables", "format", "storage", "error", "progress"]),
    ("layout", &["check", "tables", "format", "storage", "error", "progress"]),
    ("dump", &["check", "tables", "format", "storage", "error", "progress"]),
    ("repair", &["check", "tables", "format", "storage", "error", "progress"]),
    ("image", &["tables", "codec", "format", "storage", "error", "progress"]),
    ("create", &["image", "tables", "format", "storage", "error", "progress"]),
    ("convert", &["create", "image", "tables", "codec", "format", "storage", "error", "progress"]),
    (
        "verify",
        &["convert", "check", "image", "tables", "codec", "format", "storage", "error", "progress"],
    ),
    ("resize", &["image", "tables", "format", "storage", "error", "progress"]),
    ("snapshot", &["image", "tables", "format", "storage", "error", "progress"]),
    ("info", &["image", "tables", "format", "storage", "error", "progress"]),
];

/// Crates that only some files may name, and the beginnings of those files' paths.
const CRATES: [(&str, &[&str]); 16] = [
    ("clap", &["cli/", "main.rs"]),
    ("anstream", &["cli/"]),
    ("anstyle", &["cli/"]),
    ("anyhow", &["cli/", "main.rs"]),
    ("indicatif", &["cli/", "main.rs"]),
    ("env_logger", &["cli/", "main.rs"]),
    ("serde_json", &["cli/"]),
    ("jiff", &["cli/"]),
    ("signal_hook", &["cli/"]),
    ("flate2", &["codec/"]),
    ("libdeflater", &["codec/"]),
    ("zstd", &["codec/"]),
    ("quick_junit", &["cli/"]),
    ("byteorder", &["format/"]),
    ("sha2", &["undo/", "verify/"]),
    ("blake3", &["verify/"]),
];

/// Every source file with its path below `src` and its code, comments left out.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>();
            (path.strip_prefix(&root).unwrap().display().to_string(), code.join("\n"))
        })
        .collect()
}

/// The rooms that follow `crate::` in a file's code.
fn rooms_used(code: &str) -> Vec<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let mut used = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        // `$crate::` and `mycrate::` are other things.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        match rest.strip_prefix('{') {
            None => used.push(name(rest)),
            Some(group) => used.extend(top_level(group).map(|part| name(part.trim()))),
        }
    }
    used
}

/// The parts of a `use` group that are separated by commas outside of inner groups.
fn top_level(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.into_iter().filter(|part| !part.trim().is_empty())
}

fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

#[test]
fn no_room_uses_one_that_is_not_below_it() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let room = room_of(&path);
        if ["lib", "main", "cli"].contains(&room) {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{path}: the room '{room}' has no place in the layers"));
            continue;
        };
        for used in rooms_used(&code) {
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{path} uses crate::{used}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_of_one_room_are_named_in_no_other() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, homes) in CRATES {
            let at_home = homes.iter().any(|home| path.starts_with(home));
            let named = code.match_indices(name).any(|(at, _)| {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                !code[..at].ends_with(word) && code[at + name.len()..].starts_with("::")
            });
            if named && !at_home {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_command_line_has_no_private_way_into_the_library() {
    for (path, code) in sources() {
        if path.starts_with("cli/") {
            assert!(!code.contains("#[path"), "{path} includes a file of the library");
        }
    }
}

#[test]
fn uses_are_found_in_every_form() {
    let code =
        "use crate::format::{A, B};\nuse crate::{check::X, tables::{Y, Z}};\n crate::image::f()";
    assert_eq!(rooms_used(code), ["format", "check", "tables", "image"]);
}

/// What each room of a folder may use of the others in it; `mod` is the folder's own file.
type Order = [(&'static str, &'static [&'static str])];

/// The rooms of the command line.
const CLI: &Order = &[
    ("terminal", &[]),
    ("args", &["terminal"]),
    ("files", &["args", "terminal"]),
    ("render", &["args", "terminal"]),
    ("commands", &["render", "files", "args", "terminal"]),
    ("mod", &["commands", "render", "args", "terminal"]),
    ("generated", &["mod"]),
];

/// The rooms of what it prints.
const RENDER: &Order = &[
    ("exit", &[]),
    ("findings", &[]),
    ("image", &[]),
    ("inspected", &[]),
    ("outcome", &[]),
    ("plan", &[]),
    ("verdict", &["exit", "outcome"]),
    ("json", &["findings", "image", "inspected", "outcome", "plan", "verdict"]),
    ("text", &["json", "findings", "image", "inspected", "plan"]),
    ("junit", &["text", "exit", "verdict"]),
    ("sarif", &["text", "verdict"]),
];

/// The folders whose rooms have an order.
const ORDERS: [(&str, &Order); 2] = [("cli", CLI), ("cli/render", RENDER)];

/// The module of a source file, from the root of its crate.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// Every path that the code of a file names by `crate::` or `super::`, from the root of its crate.
fn paths_used(path: &str, code: &str) -> Vec<Vec<String>> {
    let tests = code.find("mod tests {").unwrap_or(code.len());
    let mut used = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c)) {
                continue;
            }
            let (mut base, mut rest) = (Vec::new(), &code[at + start.len()..]);
            if start == "super::" {
                base = module_of(path);
                base.extend((at > tests).then(|| "tests".to_owned()));
                base.pop();
                while let Some(further) = rest.strip_prefix("super::") {
                    (_, rest) = (base.pop(), further);
                }
            }
            follow(base, rest, &mut used);
        }
    }
    used
}

/// Adds the paths that begin with `base` and go on with what `rest` begins with.
fn follow(mut base: Vec<String>, rest: &str, used: &mut Vec<Vec<String>>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        return top_level(group).for_each(|part| follow(base.clone(), part, used));
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if !["", "self"].contains(&&rest[..end]) {
        base.push(rest[..end].to_owned());
    }
    match rest[end..].strip_prefix("::") {
        Some(further) => follow(base, further, used),
        None => used.push(base),
    }
}

/// The arrows between the rooms of a folder that are against its order.
fn against(folder: &str, order: &Order, sources: &[(String, String)]) -> Vec<String> {
    let above: Vec<&str> = folder.split('/').collect();
    let room = |module: &[String]| {
        let name = module.get(above.len()).map_or("mod", String::as_str);
        order.iter().find(|(room, _)| *room == name).map(|(room, _)| *room)
    };
    let mut wrong = Vec::new();
    for (path, code) in sources.iter().filter(|(path, _)| path.starts_with(folder)) {
        let mine = module_of(path);
        if mine == above && !order.iter().any(|(room, _)| *room == "mod") {
            continue;
        }
        let Some(mine) = room(&mine) else {
            wrong.push(format!("{path} has no place in the order of {folder}"));
            continue;
        };
        let allowed = order.iter().find(|(room, _)| *room == mine).map_or(&[][..], |(_, to)| to);
        for used in paths_used(path, code).iter().filter(|used| begins(used, &above)) {
            // What is no room is an item of the folder's own file.
            let to = room(used).unwrap_or("mod");
            if to != mine && !allowed.contains(&to) {
                wrong.push(format!("{path} uses {}, which is not below it", used.join("::")));
            }
        }
    }
    wrong
}

fn begins(path: &[String], words: &[&str]) -> bool {
    path.len() >= words.len() && path.iter().zip(words).all(|(mine, word)| mine == word)
}

/// The files of a folder that need each other in a circle; a folder's own file needs all in it.
fn circles(folder: &str, sources: &[(String, String)]) -> Vec<String> {
    let own: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with(folder)).collect();
    let file_of = |module: &[String]| {
        (1..=module.len()).rev().find_map(|length| {
            own.iter().position(|(path, _)| module_of(path)[..] == module[..length])
        })
    };
    let arrows: Vec<Vec<usize>> = own
        .iter()
        .map(|(path, code)| {
            let inner = code.lines().filter_map(|line| {
                let name =
                    line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')?;
                Some([module_of(path), vec![name.to_owned()]].concat())
            });
            inner.chain(paths_used(path, code)).filter_map(|used| file_of(&used)).collect()
        })
        .collect();
    let reached = |from: usize| {
        let mut seen: Vec<usize> = Vec::new();
        let mut next = arrows[from].clone();
        while let Some(file) = next.pop() {
            if !seen.contains(&file) {
                seen.push(file);
                next.extend(&arrows[file]);
            }
        }
        seen
    };
    let in_circle = (0..own.len()).filter(|&file| {
        reached(file).into_iter().any(|other| other != file && reached(other).contains(&file))
    });
    in_circle.map(|file| own[file].0.clone()).collect()
}

#[test]
fn the_rooms_of_a_folder_keep_their_order() {
    let sources = sources();
    let wrong: Vec<String> =
        ORDERS.iter().flat_map(|(folder, order)| against(folder, order, &sources)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_the_command_line_need_each_other_in_a_circle() {
    // Completions and manual pages are tests of the whole command line, which declares them.
    let sources: Vec<_> =
        sources().into_iter().filter(|(path, _)| path != "cli/generated.rs").collect();
    let circles = circles("cli", &sources);
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn every_rule_is_about_rooms_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exists = |folder: &str, room: &str| {
        let path = root.join(folder).join(room);
        path.is_dir() || path.with_extension("rs").is_file()
    };
    let mut missing = Vec::new();
    let rules = [("", &ROOMS[..])].into_iter().chain(ORDERS);
    for (folder, order) in rules {
        for (at, (room, allowed)) in order.iter().enumerate() {
            if !exists(folder, room) {
                missing.push(format!("there is no room '{room}' in 'src/{folder}'"));
            }
            for used in *allowed {
                let below = order[..at].iter().any(|(name, _)| name == used);
                if !below {
                    missing.push(format!("{room} may use {used}, which is not listed before it"));
                }
            }
        }
    }
    for (name, homes) in CRATES {
        for home in homes.iter().filter(|home| !exists("", home.trim_end_matches(".rs"))) {
            missing.push(format!("{name} may be named in '{home}', which does not exist"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn an_arrow_against_the_order_and_a_circle_are_found() {
    let file = |path: &str, code: &str| (path.to_owned(), code.to_owned());
    let order: &Order = &[("low", &[]), ("high", &["low"])];
    let right = [
        file("x/high/mod.rs", "use crate::x::low::{a::A, b};\nuse super::low::c;"),
        file("x/low/a.rs", "use super::b;\nmod tests {\n use super::super::b;\n}"),
    ];
    assert_eq!(against("x", order, &right), Vec::<String>::new());
    for (path, code) in [
        ("x/low/a.rs", "use crate::x::{low::b, high::C};"),
        ("x/low/a.rs", "use super::super::high;"),
        ("x/low.rs", "mod tests {\n use super::super::high;\n}"),
        ("x/low.rs", "use super::Item;"),
        ("x/other.rs", ""),
    ] {
        assert_eq!(against("x", order, &[file(path, code)]).len(), 1, "{path}: {code}");
    }
    let circle = [
        file("x/mod.rs", "mod a;\nmod b;\nmod c;"),
        file("x/a.rs", "use super::b;"),
        file("x/b.rs", "use crate::x::a::A;"),
        file("x/c.rs", "use super::a;"),
    ];
    assert_eq!(circles("x", &circle), ["x/a.rs", "x/b.rs"]);
}
