//! Images that are not files: exports of NBD servers and objects of web servers.
//!
//! A name that begins with a protocol's scheme is opened here, and becomes a storage like a file's.
//! Which schemes there are depends on the features of the crate; without any of them, no name is
//! remote. `uri`: the parts of such names; `stream`: connections; [`Settings`]: how they are used;
//! [`nbd`]: `nbd://` and `nbd+unix://`; [`http`]: `http://` and `https://`, which are only read.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "nbd")]
pub mod nbd;
mod settings;
#[cfg(any(feature = "nbd", feature = "http"))]
mod stream;
#[cfg(any(feature = "nbd", feature = "http"))]
pub(crate) mod uri;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::storage::Storage;

pub use settings::Settings;

/// The schemes of names that are opened here.
const SCHEMES: &[&str] = &[
    #[cfg(feature = "nbd")]
    "nbd",
    #[cfg(feature = "nbd")]
    "nbd+tcp",
    #[cfg(feature = "nbd")]
    "nbd+unix",
    #[cfg(feature = "http")]
    "http",
    #[cfg(feature = "http")]
    "https",
];

/// Whether a name is opened here and not as a file: it begins with a scheme and `://`.
pub fn is_remote(name: &Path) -> bool {
    scheme(name).is_some()
}

fn scheme(name: &Path) -> Option<&'static str> {
    let name = name.as_os_str().as_bytes();
    let begins = |scheme: &&&str| {
        name.strip_prefix(scheme.as_bytes()).is_some_and(|rest| rest.starts_with(b"://"))
    };
    SCHEMES.iter().find(begins).copied()
}

/// The protocol of a remote name, as QEMU calls it.
pub fn protocol(name: &Path) -> Option<&'static str> {
    scheme(name).map(|scheme| scheme.split('+').next().unwrap_or(scheme))
}

/// The name without what may be secret in it: user, password and parameters.
pub fn without_secrets(name: &Path) -> PathBuf {
    #[cfg(feature = "http")]
    if let Some("http" | "https") = scheme(name) {
        let shown = name.to_str().map(http::Location::parse);
        return match shown {
            Some(Ok(at)) => at.to_string().into(),
            // What is not valid is not shown either.
            _ => format!("{}://", scheme(name).unwrap_or_default()).into(),
        };
    }
    name.to_owned()
}

/// One name for each remote file, whatever the ways to write it.
pub fn identity(name: &Path) -> PathBuf {
    match (scheme(name), name.to_str()) {
        #[cfg(feature = "http")]
        (Some("http" | "https"), Some(text)) => {
            http::Location::parse(text).map_or_else(|_| name.to_owned(), |at| at.name().into())
        }
        #[cfg(feature = "nbd")]
        (Some(_), Some(text)) => {
            nbd::Address::parse(text).map_or_else(|_| name.to_owned(), |at| at.name().into())
        }
        _ => name.to_owned(),
    }
}

/// Opens what a name means, for reading or also for writing.
///
/// Fails with [`io::ErrorKind::InvalidInput`] for a name that is not valid, and with the error of
/// the connection or what the server refused.
pub fn open(name: &Path, write: bool, settings: Settings) -> io::Result<Box<dyn Storage>> {
    let not_text = || io::Error::new(io::ErrorKind::InvalidInput, "the name is not UTF-8");
    let text = name.to_str().ok_or_else(not_text)?;
    match scheme(name) {
        #[cfg(feature = "http")]
        Some("http" | "https") if write => {
            let why = "what a web server has is only read";
            Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, why))
        }
        #[cfg(feature = "http")]
        Some("http" | "https") => Ok(Box::new(http::Object::open(text, settings)?)),
        #[cfg(feature = "nbd")]
        Some(_) => Ok(Box::new(nbd::Export::open(&nbd::Address::parse(text)?, write, settings)?)),
        _ => {
            let _ = (write, settings);
            let why = format!("'{text}' does not begin with a scheme that is supported");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remote_by_its_scheme_alone() {
        for (name, is) in [
            ("nbd://host/x", cfg!(feature = "nbd")),
            ("nbd+unix:///x?socket=/s", cfg!(feature = "nbd")),
            ("https://host/x", cfg!(feature = "http")),
            ("nbd:/x", false),
            ("./nbd://host", false),
            ("nbd", false),
            ("/nbd://", false),
            ("ssh://host/x", false),
        ] {
            assert_eq!(is_remote(Path::new(name)), is, "{name}");
        }
    }
}
