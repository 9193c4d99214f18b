//! Options of a description.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Options by their names, which are paths with dots; `None` is the `null` of JSON.
pub(super) type Options = BTreeMap<String, Option<String>>;

/// Takes an option out.
pub(super) fn text(options: &mut Options, name: &str) -> Result<Option<String>> {
    match options.remove(name) {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(Error::Unsupported(format!("the option '{name}' is not supported"))),
    }
}

/// Takes the options of a child out, without what is before their names.
pub(super) fn children(options: &mut Options, prefix: &str) -> Options {
    let (own, rest) =
        std::mem::take(options).into_iter().partition(|(name, _)| name.starts_with(prefix));
    *options = rest;
    let own: Options = own;
    own.into_iter().map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
}

/// The option has the name of a node in place of options.
pub(super) fn node_error(node: &str) -> Error {
    Error::Unsupported(format!("'{node}' names a node of a running QEMU, not a file"))
}
