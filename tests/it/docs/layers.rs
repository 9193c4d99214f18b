//! The layers of `docs/design.md`: a module uses only what is below it.

use crate::support::code::imports::{self, sources};

/// The modules that every other one may use. They use none.
const LEAVES: [&str; 5] = ["error", "progress", "sector", "setters", "threads"];

/// What each module of the library may use besides the leaves.
const ROOMS: [(&str, &[&str]); 30] = [
    ("codec", &[]),
    ("format", &[]),
    ("storage", &[]),
    ("remote", &["storage"]),
    ("medium", &["remote", "storage"]),
    ("undo", &["storage"]),
    ("crypt", &["format", "storage"]),
    ("tables", &["format", "storage"]),
    ("file", &["medium", "remote", "tables", "format", "storage"]),
    ("check", &["tables", "format", "storage"]),
    ("policy", &["check", "tables", "format", "storage"]),
    ("live", &["check", "format", "storage"]),
    ("layout", &["check", "tables", "format", "storage"]),
    ("dump", &["check", "tables", "format", "storage"]),
    ("repair", &["check", "tables", "format", "storage"]),
    ("chain", &["medium", "remote", "tables", "crypt", "format", "storage"]),
    ("image", &["file", "chain", "tables", "codec", "crypt", "format", "storage"]),
    ("disk", &["file", "image", "chain", "tables", "crypt", "format", "storage"]),
    ("contents", &["disk", "storage"]),
    ("create", &["image", "tables", "crypt", "format", "storage"]),
    ("convert", &["create", "crypt", "disk", "image", "tables", "codec", "format", "storage"]),
    ("compare", &["disk", "image", "format", "storage"]),
    ("measure", &["create", "crypt", "disk", "image", "format", "storage"]),
    (
        "verify",
        &[
            "convert", "crypt", "disk", "check", "image", "chain", "tables", "remote", "codec",
            "format", "storage",
        ],
    ),
    (
        "front",
        &[
            "verify", "crypt", "disk", "repair", "live", "policy", "check", "chain", "file",
            "medium", "remote", "undo", "tables", "format", "storage",
        ],
    ),
    ("edit", &["convert", "create", "disk", "image", "tables", "crypt", "format", "storage"]),
    ("commit", &["convert", "edit", "disk", "image", "chain", "remote", "tables", "storage"]),
    ("compact", &["convert", "repair", "check", "image", "codec", "format", "storage"]),
    ("rebase", &["convert", "disk", "image", "codec", "format", "storage"]),
    ("info", &["image", "tables", "format", "storage"]),
];

/// The submodules of a module: folders, and files beside them (`mod` is the module's own). Each uses only those before it.
const IMAGE: [&str; 12] = [
    "run", "damage", "raw", "options", "order", "meta", "space", "mod", "bitmaps", "guest",
    "change", "open",
];
const CONVERT: [&str; 8] =
    ["source", "flow", "options", "bitmaps", "target", "verify", "run", "mod"];

const CLI: [&str; 6] = ["terminal", "args", "files", "render", "commands", "mod"];
const RENDER: [&str; 13] = [
    "mod",
    "exit",
    "findings",
    "image",
    "inspected",
    "outcome",
    "plan",
    "verdict",
    "json",
    "extents",
    "text",
    "forms",
    "html",
];

const CHECK: [&str; 8] =
    ["parallel", "options", "report", "survey", "passes", "lost", "affected", "mod"];
const REPORT: [&str; 8] =
    ["place", "orphan", "kind", "finding", "tally", "words", "collector", "mod"];
const SURVEY: [&str; 13] = [
    "refcount_map",
    "data",
    "extent",
    "beyond",
    "plausible",
    "regions",
    "refcounts",
    "stored",
    "visits",
    "copied",
    "mapping",
    "context",
    "mod",
];
const PASSES: [&str; 13] = [
    "crypto",
    "header",
    "snapshots",
    "mapping",
    "bitmaps",
    "refcounts",
    "compare",
    "cut",
    "shared",
    "compressed",
    "overlaps",
    "copied",
    "mod",
];
const FRONT: [&str; 7] = ["class", "checked", "deep", "checker", "undo_file", "repair", "mod"];
const REPAIR: [&str; 9] =
    ["mode", "plan", "fix", "search", "request", "comparison", "outcome", "run", "mod"];

/// The folders whose submodules have an order.
const SUB_ROOMS: [(&str, &[&str]); 10] = [
    ("image", &IMAGE),
    ("convert", &CONVERT),
    ("cli", &CLI),
    ("cli/render", &RENDER),
    ("check", &CHECK),
    ("check/report", &REPORT),
    ("check/survey", &SURVEY),
    ("check/passes", &PASSES),
    ("repair", &REPAIR),
    ("front", &FRONT),
];

/// The modules in which no files import each other.
const WITHOUT_CIRCLES: [&str; 34] = [
    "chain", "check", "cli", "codec", "commit", "compact", "compare", "contents", "convert",
    "create", "crypt", "disk", "dump", "edit", "error", "file", "format", "front", "image", "info",
    "layout", "live", "measure", "medium", "policy", "progress", "rebase", "remote", "repair",
    "sector", "storage", "threads", "undo", "verify",
];

/// Crates that only some files may name, and the beginnings of those files' paths.
const CRATES: [(&str, &[&str]); 24] = [
    ("clap", &["cli/", "main.rs"]),
    ("anstream", &["cli/"]),
    ("anstyle", &["cli/"]),
    ("anyhow", &["cli/", "main.rs"]),
    ("indicatif", &["cli/", "main.rs"]),
    ("env_logger", &["cli/", "main.rs"]),
    ("serde_json", &["chain/", "cli/"]),
    ("jiff", &["cli/"]),
    ("signal_hook", &["cli/"]),
    ("flate2", &["codec/"]),
    ("libdeflater", &["codec/"]),
    ("zstd", &["codec/"]),
    ("quick_junit", &["cli/"]),
    ("byteorder", &["format/"]),
    ("sha2", &["cli/files/", "crypt/", "undo/", "verify/"]),
    ("blake3", &["verify/"]),
    ("aes", &["crypt/"]),
    ("cbc", &["crypt/"]),
    ("sha1", &["crypt/"]),
    ("pbkdf2", &["crypt/"]),
    ("base64", &["crypt/", "remote/http/"]),
    ("rustls", &["remote/http/"]),
    ("rustls_native_certs", &["remote/http/"]),
    ("zeroize", &["crypt/", "cli/args/"]),
];

/// The modules that follow `crate::` in a file's code.
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
fn no_module_uses_one_that_is_not_below_it() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let room = room_of(&path);
        if ["lib", "main", "cli"].contains(&room) {
            continue;
        }
        let allowed = match ROOMS.iter().find(|(name, _)| *name == room) {
            Some((_, allowed)) => [*allowed, &LEAVES].concat(),
            None if LEAVES.contains(&room) => Vec::new(),
            None => {
                wrong.push(format!("{path}: the module '{room}' has no place in the layers"));
                continue;
            }
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
fn rules_are_about_modules_that_exist_and_point_only_down() {
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        for used in *allowed {
            let below = ROOMS[..at].iter().any(|(name, _)| name == used);
            assert!(below, "{room} may use {used}, which is not listed before it");
        }
    }
    let sources = sources();
    let exists =
        |room: &str| sources.iter().any(|(path, _)| is_in(room.trim_end_matches('/'), path));
    let homes = CRATES.iter().flat_map(|(_, homes)| homes.iter().copied());
    let homes = homes.filter(|home| home.ends_with('/'));
    for room in
        ROOMS.iter().map(|(room, _)| *room).chain(LEAVES).chain(WITHOUT_CIRCLES).chain(homes)
    {
        assert!(exists(room), "there is a rule for '{room}', which does not exist");
    }
}

/// The import graph of some folders.
fn imports_within(folders: &[&str]) -> imports::Graph {
    let mut graph = imports::graph(&sources());
    graph.retain(|file, _| folders.iter().any(|folder| is_in(folder, file)));
    graph
}

/// Whether a file is a module or in its folder.
fn is_in(folder: &str, file: &str) -> bool {
    file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// What points upwards in a folder whose submodules have this order: folders, and files beside them.
fn against_the_order(folder: &str, order: &[&str]) -> Vec<String> {
    let graph = imports_within(&[folder]);
    let name = |path: &str| room_of(&path[folder.len() + 1..]).to_owned();
    let place = |path: &str| order.iter().position(|room| *room == name(path));
    let exists = |room: &&&str| graph.keys().any(|path| name(path) == **room);
    let missing = order.iter().filter(|room| !exists(room));
    let mut wrong: Vec<String> =
        missing.map(|room| format!("{folder} has no submodule '{room}'")).collect();
    for (path, used) in &graph {
        // What only unit tests need stands outside of the order.
        if ["testing", "generated"].contains(&name(path).as_str()) {
            continue;
        }
        if place(path).is_none() {
            wrong.push(format!("{path} has no place in the order of {folder}"));
        }
        let upwards =
            used.iter().filter(|other| is_in(folder, other) && place(other) > place(path));
        wrong.extend(upwards.map(|other| format!("{path} uses {other}, which is not below it")));
    }
    wrong
}

#[test]
fn no_submodule_uses_one_that_is_not_below_it() {
    let wrong = SUB_ROOMS.iter().flat_map(|(room, order)| against_the_order(room, order));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_a_module_import_each_other() {
    let circles = imports::circles(&imports_within(&WITHOUT_CIRCLES));
    let lines: Vec<String> = circles.iter().map(|files| files.join(" <-> ")).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn imports_are_followed_to_the_file_that_defines_a_name() {
    let sources = [
        ("lib.rs", "pub mod a;\npub mod b;"),
        ("a/mod.rs", "mod one;\nmod two;\npub use one::{One, f};\nuse two::Two;"),
        ("a/one.rs", "use super::{Two, two::T};\nuse crate::b::{self, B};"),
        (
            "a/two.rs",
            "pub(in crate::b) struct T;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}",
        ),
        ("b.rs", "fn f() {\n    crate::a::f();\n    $crate::a::two::f();\n}"),
    ];
    let sources = sources.map(|(path, code)| (path.to_owned(), code.to_owned()));
    let graph = imports::graph(&sources);
    let used = |path: &str| graph[path].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(used("lib.rs"), [""; 0]);
    assert_eq!(used("a/mod.rs"), ["a/two.rs"]);
    assert_eq!(used("a/one.rs"), ["a/mod.rs", "a/two.rs", "b.rs"]);
    assert_eq!(used("a/two.rs"), [""; 0]);
    assert_eq!(used("b.rs"), ["a/one.rs"]);
    assert_eq!(imports::circles(&graph), [["a/one.rs", "b.rs"]]);
}

#[test]
fn crates_of_one_module_are_named_in_no_other() {
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
fn two_files_have_unsafe_code() {
    let allows = |(path, code): (String, String)| code.contains("unsafe_code").then_some(path);
    let files: Vec<String> = sources().into_iter().filter_map(allows).collect();
    assert_eq!(files, ["codec/tuned.rs", "storage/extent_size.rs"]);
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
