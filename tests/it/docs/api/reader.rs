//! A reader of the library's public items: what `docs/api.txt` lists. It reads Rust as `rustfmt`
//! lays it out, and no more.

use std::collections::{BTreeMap, BTreeSet};

/// What a line can begin an item with.
const ITEMS: [&str; 10] = [
    "const fn ",
    "unsafe fn ",
    "fn ",
    "struct ",
    "enum ",
    "trait ",
    "const ",
    "static ",
    "type ",
    "mod ",
];

const HIDDEN: &str = "#[doc(hidden)]";

/// A public item: the name under which it is reached, and its members.
#[derive(Debug)]
struct Item {
    name: String,
    lines: Vec<String>,
}

/// The public items of a library, by its files' paths below `src` and their code.
pub fn public_items(sources: &[(String, String)]) -> String {
    let files: BTreeMap<&str, &str> =
        sources.iter().map(|(path, code)| (path.as_str(), code.as_str())).collect();
    let mut found = BTreeMap::new();
    module(&files, "lib.rs", "qcheck", &mut found);
    let mut text = String::new();
    for (path, lines) in found {
        text += &format!("{path}\n");
        lines.iter().for_each(|line| text += &format!("    {line}\n"));
    }
    text
}

type Found = BTreeMap<String, Vec<String>>;

/// Adds what is reached through a public module.
fn module(files: &BTreeMap<&str, &str>, file: &str, path: &str, found: &mut Found) {
    let code = files[file];
    let folder = folder_of(file);
    for item in items(code) {
        match item.lines[0].strip_suffix(';').and_then(|line| line.strip_prefix("mod ")) {
            Some(_) if is_hidden(code, &item.name) => {}
            Some(_) => {
                let below =
                    [format!("{folder}{}.rs", item.name), format!("{folder}{}/mod.rs", item.name)];
                let below = below.iter().find(|path| files.contains_key(path.as_str()));
                let below = below.unwrap_or_else(|| panic!("{file}: mod {}", item.name));
                module(files, below, &format!("{path}::{}", item.name), found);
            }
            None => add(files, file, path, item, found),
        }
    }
    for name in exported(code) {
        let (from, name) = name.rsplit_once("::").unwrap_or(("", &name));
        let defined = files.iter().filter(|(other, _)| {
            from.starts_with("crate::") || other.starts_with(folder) && **other != file
        });
        let mut defined =
            defined.flat_map(|(file, code)| items(code).into_iter().map(move |item| (*file, item)));
        // Of several of the same name, the one whose file the path ends with.
        let last = from.rsplit("::").next().unwrap_or_default();
        let is_it = |file: &str, item: &Item| {
            item.name == name
                && (file.contains(&format!("{last}.rs")) || file.contains(&format!("{last}/")))
        };
        // What the root hands on is listed where it is defined, if that is public.
        let room = from.split("::").next().unwrap_or_default();
        let is_listed = file == "lib.rs" && !is_hidden(code, room);
        match defined.find(|(file, item)| !is_listed && is_it(file, item)) {
            Some((file, item)) => add(files, file, path, item, found),
            None => {
                drop(found.insert(format!("{path}::{name}"), vec![format!("use {from}::{name}")]))
            }
        }
    }
}

/// Adds an item with the public methods of its type, wherever they are implemented.
fn add(files: &BTreeMap<&str, &str>, file: &str, path: &str, item: Item, found: &mut Found) {
    let mut lines = item.lines;
    let room = file.split(['/', '.']).next().unwrap_or_default();
    let is_type = ["struct ", "enum "].iter().any(|kind| lines[0].starts_with(kind));
    for (other, code) in files.iter().filter(|_| is_type) {
        if other.split(['/', '.']).next() == Some(room)
            && (*other == file || !defines(code, &item.name))
        {
            lines.extend(methods(code, &item.name));
        }
    }
    found.insert(format!("{path}::{}", item.name), lines);
}

fn defines(code: &str, name: &str) -> bool {
    items(code).iter().any(|item| item.name == name)
}

fn folder_of(file: &str) -> &str {
    match file {
        "lib.rs" => "",
        _ => file.strip_suffix("mod.rs").unwrap_or_else(|| file.trim_end_matches(".rs")),
    }
}

fn is_hidden(code: &str, module: &str) -> bool {
    code.contains(&format!("{HIDDEN}\npub mod {module};"))
}

/// The code before its unit tests.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code)
}

/// The public items at the top level of a file.
fn items(code: &str) -> Vec<Item> {
    let lines: Vec<&str> = without_tests(code).lines().collect();
    let mut items = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub ") else { continue };
        let Some(kind) = ITEMS.iter().find(|kind| rest.starts_with(**kind)) else { continue };
        if *kind != "mod " && at > 0 && lines[at - 1] == HIDDEN {
            continue;
        }
        let name = identifier(&rest[kind.len()..]);
        let mut found = vec![signature(&lines[at..])];
        if *kind == "mod " && line.ends_with(';') {
            found = vec![rest.to_owned()];
        }
        if ["struct ", "enum ", "trait ", "mod "].contains(kind) && !found[0].ends_with(';') {
            found.extend(members(&lines[at..], kind));
        }
        items.push(Item { name, lines: found });
    }
    items
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// An item's or method's text up to its body, on one line, without `pub`.
fn signature(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let line = line.trim();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        text = format!(
            "{text}{}{line}",
            if text.is_empty() || text.ends_with('(') { "" } else { " " }
        );
        if let Some(head) = text.strip_suffix('{') {
            return head.trim_end().replace(", )", ")");
        }
        if text.ends_with(';') || text.ends_with("{}") || text.ends_with('}') {
            break;
        }
    }
    // Values of constants are in their docs.
    text.split(" = ").next().unwrap_or(&text).trim_end_matches(';').replace(", )", ")")
}

/// Public fields, variants with their fields, methods of a trait.
fn members(lines: &[&str], kind: &str) -> Vec<String> {
    let body = lines.iter().enumerate().skip(1).take_while(|(_, line)| **line != "}");
    let member = |(at, line): (usize, &&str)| {
        let text = line.strip_prefix("    ")?;
        let is_member = match kind {
            "struct " | "mod " => text.starts_with("pub ") && !text.starts_with("pub("),
            "enum " => text.starts_with(|c: char| c.is_ascii_uppercase()),
            _ => text.starts_with("fn "),
        };
        is_member.then(|| match kind {
            "trait " | "mod " => signature(&lines[at..]),
            "enum " if text.ends_with('{') => variant(&lines[at..]),
            _ => text.trim_start_matches("pub ").trim_end_matches(',').to_owned(),
        })
    };
    body.filter_map(member).collect()
}

/// A variant with named fields, on one line.
fn variant(lines: &[&str]) -> String {
    let fields = lines[1..].iter().take_while(|line| line.trim() != "},");
    let is_field = |line: &&str| !line.is_empty() && !line.starts_with(['#', '/']);
    let fields = fields.map(|line| line.trim()).filter(is_field);
    let fields: Vec<&str> = fields.map(|line| line.trim_end_matches(',')).collect();
    format!("{}{} }}", lines[0].trim(), format_args!(" {}", fields.join(", ")))
}

/// The public methods and constants in the `impl` blocks of a type.
fn methods(code: &str, name: &str) -> Vec<String> {
    let lines: Vec<&str> = without_tests(code).lines().collect();
    let mut found = Vec::new();
    let mut is_inside = false;
    for (at, line) in lines.iter().enumerate() {
        if let Some(of) = line.strip_prefix("impl") {
            let generic = of.starts_with('<');
            let of = of.split_once("> ").filter(|_| generic).map_or(of, |(_, of)| of);
            is_inside = !line.contains(" for ") && identifier(of.trim()) == name;
        }
        let Some(rest) = line.strip_prefix("    pub ").filter(|_| is_inside) else { continue };
        if ITEMS.iter().any(|kind| rest.starts_with(kind)) {
            found.push(signature(&lines[at..]));
        }
    }
    found
}

/// The paths that a module hands on.
fn exported(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let shown = without_tests(code).replace(&format!("{HIDDEN}\npub use "), "");
    for part in shown.split("\npub use ").skip(1) {
        let text: String = part.split(';').next().unwrap_or_default().split_whitespace().collect();
        match text.split_once('{') {
            Some((from, names)) => {
                for name in names.trim_end_matches('}').split(',').filter(|n| !n.is_empty()) {
                    found.insert(format!("{from}{name}"));
                }
            }
            None => drop(found.insert(text)),
        }
    }
    found
}
