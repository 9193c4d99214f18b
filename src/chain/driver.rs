//! What a driver of a description opens: a file, a device, or an export of a server.

use std::path::PathBuf;

use super::options::{Options, text};
use crate::error::{Error, Result};
use crate::remote::is_remote;

/// Drivers that are the bytes of a file or device.
const FILE_DRIVERS: [&str; 2] = ["file", DEVICE];
/// The one for devices alone.
const DEVICE: &str = "host_device";
/// The driver that is the bytes of an export of a server.
const NBD: &str = "nbd";

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
    if driver == Some(DEVICE) && path.is_file() {
        // qemu-img's words.
        let why = "to be either a character or block device";
        return Err(Error::Refused(format!(
            "'{DEVICE}' driver requires '{}' {why}",
            path.display()
        )));
    }
    // The option names a file, whatever is in it.
    Ok(if is_remote(&path) { PathBuf::from(".").join(path) } else { path })
}

pub(super) fn unsupported_driver(name: &str) -> Error {
    let nbd = if cfg!(feature = "nbd") { ", or of an nbd server" } else { "" };
    let why = format!("only qcow2, raw and luks in a file or on a host_device{nbd} are");
    Error::Unsupported(format!("the driver '{name}' is not supported: {why}"))
}
