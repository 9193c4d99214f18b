//! The public API does not change unseen: `docs/api.txt` lists it.

mod reader;

use std::fs;
use std::path::Path;

use crate::support::code::imports::sources;
use reader::public_items;

#[test]
fn the_list_of_public_items_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.txt");
    let now = public_items(&sources());
    if std::env::var_os("QCHECK_REGENERATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<&str> = now
        .lines()
        .filter(|line| !listed.lines().any(|l| l == *line))
        .chain(listed.lines().filter(|line| !now.lines().any(|l| l == *line)))
        .collect();
    assert!(
        now == listed,
        "the public API changed; QCHECK_REGENERATE=1 cargo test --test it api:: writes the list, and \
         CHANGELOG.md describes what changed:\n{}",
        changed.join("\n")
    );
}

#[test]
fn items_are_read_wherever_they_are_defined() {
    let sources = [
        ("lib.rs", "pub mod a;\n#[doc(hidden)]\npub mod b;\npub use a::One;"),
        (
            "a/mod.rs",
            "mod one;\npub use one::{One, Three};\npub(crate) struct Four;\n\
             impl One {\n    pub fn two(&self) -> u8 {\n        2\n    }\n    fn five(&self) {}\n}",
        ),
        (
            "a/one.rs",
            "pub struct One {\n    /// A field.\n    pub size: u64,\n    inner: u8,\n}\n\
             pub enum Three {\n    Plain,\n    Named {\n        /// A field.\n        at: u64,\n    },\n}\n\
             pub struct Unseen;",
        ),
        ("b.rs", "pub fn hidden() {}"),
    ];
    let sources = sources.map(|(path, code)| (path.to_owned(), code.to_owned()));
    let list = public_items(&sources);
    let one = "    struct One\n    size: u64\n    fn two(&self) -> u8\n";
    assert_eq!(
        list,
        format!(
            "qcheck::One\n    use a::One\nqcheck::a::One\n{one}qcheck::a::Three\n    enum Three\n    Plain\n    \
             Named {{ at: u64 }}\n"
        )
    );
}
