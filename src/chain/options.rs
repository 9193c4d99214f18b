//! Options of a description, and the file that they name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::remote::is_remote;

/// Drivers that are the bytes of a file or device.
const FILE_DRIVERS: [&str; 2] = ["file", "host_device"];
/// The driver that is the bytes of an export of a server.
const NBD: &str = "nbd";

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

/// Whether a driver is the bytes of a file, and no format.
pub(super) fn is_protocol(driver: &str) -> bool {
    FILE_DRIVERS.contains(&driver) || driver == NBD && cfg!(feature = "nbd")
}

/// Takes the file or export out that a driver opens, whose options begin with `prefix`. Without a
/// driver it is a file.
pub(super) fn path(driver: Option<&str>, options: &mut Options, prefix: &str) -> Result<PathBuf> {
    match driver {
        #[cfg(feature = "nbd")]
        Some(NBD) => return super::export::name(options, prefix),
        Some(other) if !is_protocol(other) => return Err(unsupported_driver(other)),
        _ => {}
    }
    let path = text(options, &format!("{prefix}filename"))?;
    let path = path.filter(|path| !path.is_empty() && !path.contains('\0'));
    let missing = || Error::Refused(format!("the option '{prefix}filename' has to name a file"));
    let path = PathBuf::from(path.ok_or_else(missing)?);
    // The option names a file, whatever is in it.
    Ok(if is_remote(&path) { PathBuf::from(".").join(path) } else { path })
}

pub(super) fn unsupported_driver(name: &str) -> Error {
    let nbd = if cfg!(feature = "nbd") { ", or of an nbd server" } else { "" };
    let why = format!("only qcow2, raw and luks in a file or on a host_device{nbd} are");
    Error::Unsupported(format!("the driver '{name}' is not supported: {why}"))
}

/// The option has the name of a node in place of options.
pub(super) fn node_error(node: &str) -> Error {
    Error::Unsupported(format!("'{node}' names a node of a running QEMU, not a file"))
}
