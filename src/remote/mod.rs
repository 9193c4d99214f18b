//! Images that are not files: exports of NBD servers and objects of web servers.
//!
//! A name that begins with a protocol's scheme is opened here, and becomes a storage like a file's.
//! Which schemes there are depends on the features of the crate; without any of them, no name is
//! remote. `uri`: the parts of such names; `stream`: connections; [`Settings`]: how they are used;
//! `nbd`: `nbd://` and `nbd+unix://`; `http`: `http://` and `https://`, which are only read.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "nbd")]
pub mod nbd;
mod settings;
// Sockets in the file system, two directions at once and parameters of names are NBD's alone.
#[cfg(any(feature = "nbd", feature = "http"))]
#[cfg_attr(not(feature = "nbd"), allow(dead_code))]
mod stream;
#[cfg(any(feature = "nbd", feature = "http"))]
#[cfg_attr(not(feature = "nbd"), allow(dead_code))]
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

/// The name without what may be secret in it: user, password and, of a web server's, parameters.
pub fn without_secrets(name: &Path) -> PathBuf {
    // A scheme that is not supported may have a password after it too.
    let is_scheme =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let parts = name.to_str().and_then(|text| text.split_once("://"));
    let Some((scheme, rest)) = parts.filter(|(scheme, _)| is_scheme(scheme)) else {
        return name.to_owned();
    };
    let rest = if scheme.starts_with("http") { before(rest, &['?', '#']) } else { rest };
    let authority = before(rest, &['/', '?', '#']);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[authority.len()..]).into()
}

/// The file that a name relative to the folder of a remote image means: a path below the same
/// folder. `None`: the image is not in one, as an export of an NBD server is not.
#[cfg(feature = "http")]
pub fn beside(image: &Path, name: &str) -> Option<PathBuf> {
    let (scheme, text) = (scheme(image)?, image.to_str()?);
    if !scheme.starts_with("http") {
        return None;
    }
    let start = scheme.len() + "://".len();
    let whole = before(&text[start..], &['?', '#']);
    let folder = whole.rsplit_once('/').map_or(whole, |(folder, _)| folder);
    Some(format!("{scheme}://{folder}/{}", uri::encoded(name)).into())
}

/// What is before the first of these characters.
fn before<'a>(text: &'a str, marks: &[char]) -> &'a str {
    text.split(marks).next().unwrap_or_default()
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
            nbd::Address::parse(text).map_or_else(|_| name.to_owned(), |at| at.identity().into())
        }
        _ => name.to_owned(),
    }
}

/// The name that [`open`] takes for an export in QEMU's older form: `nbd:HOST:PORT` or
/// `nbd:unix:PATH`, with `:exportname=NAME` where it is not the default one. `None` for a name of
/// any other form; an error of the kind [`io::ErrorKind::InvalidInput`] for one that is not valid.
#[cfg(feature = "nbd")]
pub fn of_older_form(name: &str) -> Option<io::Result<PathBuf>> {
    let rest = name.strip_prefix("nbd:").filter(|rest| !rest.starts_with("//"))?;
    Some(nbd::Address::parse_older(rest).map(|address| address.name().into()))
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

/// Likewise: without web servers, no remote image is in a folder.
#[cfg(not(feature = "http"))]
pub fn beside(_image: &Path, _name: &str) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "http")]
    fn names_beside_an_image_have_its_folder_and_none_of_its_parameters() {
        for (image, want) in [
            ("http://h/a/top.qcow2?k=a/b", "http://h/a/b%20c%23"),
            ("http://h", "http://h/b%20c%23"),
            ("https://me:pw@h:8/x", "https://me:pw@h:8/b%20c%23"),
        ] {
            assert_eq!(beside(Path::new(image), "b c#"), Some(want.into()), "{image}");
        }
        assert_eq!(beside(Path::new("nbd://h/x"), "b"), None);
        for (name, shown) in [
            ("http://me:a@b@h/x?sig=1", "http://h/x"),
            ("https://h?sig=1", "https://h"),
            ("nbd://me:pw@h/x", "nbd://h/x"),
            ("nbd+unix:///x?socket=/a@b", "nbd+unix:///x?socket=/a@b"),
            ("ssh://me:pw@h/x", "ssh://h/x"),
            ("./ssh://me:pw@h/x", "./ssh://me:pw@h/x"),
            ("me:pw@h", "me:pw@h"),
        ] {
            assert_eq!(without_secrets(Path::new(name)), Path::new(shown), "{name}");
        }
    }

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
