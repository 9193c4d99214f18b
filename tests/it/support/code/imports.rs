//! The imports of source files: which file uses a name that another one defines.
//!
//! Read from the text: `use` lines, and paths that begin with `crate`, `super`, `self` or a child
//! module. A name that a file only hands on (`pub use` in a `mod.rs`) is followed to the file that
//! defines it, which then does not import it. Unit tests do not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::support::code::source::files;

/// The files that each file imports, by their paths below `src`.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The parts of a path that are separated by `::`.
type Name = Vec<String>;

/// A statement: a path, and whether it hands the name on.
struct Use {
    name: Name,
    is_export: bool,
}

/// The modules of a crate and the names that they hand on.
struct Tree {
    files: HashMap<Name, String>,
    exports: HashMap<(Name, String), Name>,
}

/// Every source file with its path below `src` and its code, comments left out.
pub fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    files(&root, "rs")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>();
            (path.strip_prefix(&root).unwrap().display().to_string(), code.join("\n"))
        })
        .collect()
}

/// The import graph of files, each given by its path below `src` and its code without comments.
pub fn graph(sources: &[(String, String)]) -> Graph {
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .filter(|(path, _)| path != "main.rs")
        .map(|(path, code)| (path.as_str(), without_tests(code)))
        .collect();
    let files = sources.iter().map(|(path, _)| (module_of(path), (*path).to_owned())).collect();
    let mut tree = Tree { files, exports: HashMap::new() };
    for (path, code) in &sources {
        for used in uses(code).into_iter().filter(|used| used.is_export) {
            let last = used.name.last().cloned().unwrap_or_default();
            tree.exports.insert((module_of(path), last), used.name);
        }
    }
    let mut graph = Graph::new();
    for (path, code) in &sources {
        let module = module_of(path);
        let hands_on = path.ends_with("mod.rs") || *path == "lib.rs";
        let named = uses(code).into_iter().filter(|used| !(used.is_export && hands_on));
        let named = named.map(|used| used.name).chain(paths(code));
        let found = named.filter_map(|name| tree.resolve(&module, &name, 0));
        graph.insert((*path).to_owned(), found.filter(|file| file != path).collect());
    }
    graph
}

/// The circles of a graph: groups of files each of which imports every other, directly or through
/// others.
pub fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|file| (file, reach(graph, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, all) in &reached {
        if all.contains(file) {
            let both =
                all.iter().filter(|other| reached.get(**other).is_some_and(|r| r.contains(file)));
            circles.insert(both.map(|other| (**other).clone()).collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

fn reach<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(graph.get(file).into_iter().flatten());
        }
    }
    reached
}

impl Tree {
    /// The file that defines what a path in a module means; `None` outside of the crate.
    fn resolve(&self, module: &[String], name: &[String], depth: usize) -> Option<String> {
        let first = name.first()?.as_str();
        let supers = name.iter().take_while(|part| *part == "super").count();
        let (mut at, mut rest) = match first {
            "crate" => (Name::new(), &name[1..]),
            "self" => (module.to_vec(), &name[1..]),
            "super" => (module[..module.len().checked_sub(supers)?].to_vec(), &name[supers..]),
            _ => {
                let here = (module.to_vec(), first.to_owned());
                let is_child = self.files.contains_key(&child(module, first));
                if !is_child && !self.exports.contains_key(&here) {
                    return None;
                }
                (module.to_vec(), name)
            }
        };
        while let Some((part, after)) = rest.split_first() {
            if self.files.contains_key(&child(&at, part)) {
                at.push(part.clone());
                rest = after;
                continue;
            }
            let handed_on = self.exports.get(&(at.clone(), part.clone()));
            // A name that hands itself on is defined elsewhere: an item and a module of one name.
            return match handed_on.filter(|_| depth < 16) {
                Some(target) => self.resolve(&at, &[target.as_slice(), after].concat(), depth + 1),
                None => self.files.get(&at).cloned(),
            };
        }
        self.files.get(&at).cloned()
    }
}

fn child(module: &[String], name: &str) -> Name {
    let mut child = module.to_vec();
    child.push(name.to_owned());
    child
}

fn module_of(path: &str) -> Name {
    let mut parts: Name = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests {").map_or(code, |end| &code[..end])
}

/// The `use` statements of a file, one for each name.
fn uses(code: &str) -> Vec<Use> {
    let names = |(range, is_export): (Range<usize>, bool)| {
        expand(&code[range]).into_iter().map(move |name| Use { name, is_export })
    };
    statements(code).into_iter().flat_map(names).collect()
}

/// Where the code between `use` and the semicolon is, and whether it is public.
fn statements(code: &str) -> Vec<(Range<usize>, bool)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let text = line.trim_start();
        let after = match text.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.find(')').map(|end| &rest[end + 1..]),
            Some(rest) => Some(rest),
            None => Some(text),
        };
        if let Some(rest) = after.and_then(|after| after.trim_start().strip_prefix("use ")) {
            let begin = start + line.len() - rest.len();
            let end = code[begin..].find(';').map_or(code.len(), |end| begin + end);
            found.push((begin..end, text.starts_with("pub")));
        }
        start += line.len();
    }
    found
}

/// The names of a statement, groups taken apart.
fn expand(statement: &str) -> Vec<Name> {
    let statement = statement.trim();
    let Some((before, group)) = statement.split_once('{') else {
        let path = statement.split(" as ").next().unwrap_or(statement);
        let parts = path.split("::").map(|part| part.trim().to_owned());
        let mut name: Name = parts.filter(|part| !part.is_empty()).collect();
        if name.len() > 1 && name.last().is_some_and(|last| last == "self" || last == "*") {
            name.pop();
        }
        return if name.is_empty() { Vec::new() } else { vec![name] };
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    parts(group).into_iter().flat_map(|part| expand(&format!("{before}{part}"))).collect()
}

/// The parts of a group, separated by commas outside of inner groups.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[start..]);
    found.retain(|part| !part.trim().is_empty());
    found
}

/// The paths in a file's code outside of `use` statements.
fn paths(code: &str) -> Vec<Name> {
    let mut code = code.to_owned();
    for (range, _) in statements(&code).into_iter().rev() {
        code.replace_range(range, "");
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(colons) = code[at..].find("::") {
        let middle = at + colons;
        let start = code[..middle].trim_end_matches(is_word).len();
        let mut end = middle;
        while code[end..].starts_with("::") {
            let rest = &code[end + 2..];
            end += 2 + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        }
        // `$crate::` is another crate's, and `pub(in path)` limits who may use a name.
        let before = &code[..start];
        if start < middle && !before.ends_with(['$', ':']) && !before.ends_with("pub(in ") {
            let parts = code[start..end].split("::").filter(|part| !part.is_empty());
            found.push(parts.map(str::to_owned).collect());
        }
        at = end;
    }
    found
}
