//! Names of images on the command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use qcheck::remote::{is_remote, of_older_form, without_secrets};

/// What qemu-img takes for something else than a file when a name begins with it and a colon.
const PROTOCOLS: [&str; 21] = [
    "blkdebug",
    "blkverify",
    "fat",
    "ftp",
    "ftps",
    "gluster",
    "http",
    "https",
    "iscsi",
    "json",
    "nbd",
    "nbd+tcp",
    "nbd+unix",
    "nfs",
    "null-aio",
    "null-co",
    "nvme",
    "rbd",
    "sheepdog",
    "ssh",
    "tftp",
];

/// Takes a name as qemu-img does: after `file:` everything is a file's name,
/// whatever it has in it.
pub fn parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse)
}

/// A name as qemu-img takes it, as a path.
pub fn parse(name: OsString) -> Result<PathBuf, String> {
    let bytes = name.as_bytes();
    if let Some(rest) = bytes.strip_prefix(b"file:") {
        return Ok(match protocol(rest) {
            Some(_) => PathBuf::from(".").join(OsStr::from_bytes(rest)),
            None => PathBuf::from(OsString::from_vec(rest.to_vec())),
        });
    }
    let Some(protocol) = protocol(bytes) else { return Ok(PathBuf::from(name)) };
    if is_remote(Path::new(&name)) {
        return Ok(PathBuf::from(name));
    }
    if let Some(path) = name.to_str().and_then(of_older_form) {
        return path.map_err(|error| format!("an NBD server: {error}"));
    }
    match PROTOCOLS.iter().any(|known| known.as_bytes() == protocol) {
        true => Err("of remote files, those of nbd://, nbd+unix://, http:// and https:// are \
                 opened; qemu-storage-daemon can show others so"
            .into()),
        false => {
            let (protocol, name) = (String::from_utf8_lossy(protocol), name.to_string_lossy());
            Err(format!("Unknown protocol '{protocol}': write './{name}' for a file of this name"))
        }
    }
}

/// What is before a colon in the first part of a path.
fn protocol(name: &[u8]) -> Option<&[u8]> {
    let colon = name.iter().position(|&byte| byte == b':' || byte == b'/')?;
    (name[colon] == b':').then(|| &name[..colon])
}

/// A file name in messages, quoted, without what may be secret in it.
pub fn quoted(path: &Path) -> impl fmt::Display {
    format!("'{}'", without_secrets(path).display())
}

/// The beginning of qemu-img's line for a file that cannot be opened, which programs match.
pub fn could_not_open(path: &Path) -> String {
    format!("Could not open {}", quoted(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_as_by_qemu_img() {
        let parsed = |name: &str| parse(name.into()).map(|path| path.display().to_string());
        for (name, file) in [
            ("disk", "disk"),
            ("file:disk", "disk"),
            ("file:/a:b", "/a:b"),
            ("file:a:b", "./a:b"),
            ("./a:b", "./a:b"),
            ("a/b:c", "a/b:c"),
            ("./nbd:b", "./nbd:b"),
            ("nbd://host/x", "nbd://host/x"),
            ("file:nbd://host", "./nbd://host"),
            ("nbd:unix:/s:exportname=x", "nbd+unix:///x?socket=/s"),
        ] {
            assert_eq!(parsed(name).as_deref(), Ok(file));
        }
        assert!(
            parsed("ssh://host/x").is_err()
                && parsed("nbd:host").is_err()
                && parsed("json:{}").is_err()
        );
        assert!(parsed("foo:bar").unwrap_err().contains("Unknown protocol 'foo'"));
    }
}
