//! A file described by options instead of a name, as in `json:{"driver":"qcow2",..}` in an image
//! and in QEMU's options of a block device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::format::Format;
use super::json;
use crate::error::{Error, Result};
use crate::remote::is_remote;

/// What is before a description in JSON.
const JSON: &str = "json:";
/// Drivers that are the bytes of a file or device.
const FILE_DRIVERS: [&str; 2] = ["file", "host_device"];
/// The driver that is the bytes of an export of a server.
const NBD: &str = "nbd";
/// Options that change nothing of what is read: the description is read, not a device made of it.
const NEUTRAL: [&str; 18] = [
    "aio",
    "auto-read-only",
    "cache-clean-interval",
    "cache-size",
    "cache.direct",
    "cache.no-flush",
    "detect-zeroes",
    "discard",
    "discard-no-unref",
    "l2-cache-entry-size",
    "l2-cache-size",
    "locking",
    "node-name",
    "overlap-check",
    "pass-discard-other",
    "pass-discard-request",
    "pass-discard-snapshot",
    "refcount-cache-size",
];
/// Deepest nesting of objects that is read; valid descriptions have two levels, with cache three.
const MAX_DEPTH: usize = 8;

/// A file that is described by options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The file, relative to the current folder whatever image names it, as for QEMU; or the name
    /// of a remote one.
    pub path: PathBuf,
    format: Option<Format>,
    /// Nothing stands above the driver of the file, so that no other format fits.
    is_bare: bool,
    /// The image is only to be read.
    pub is_read_only: bool,
    /// The name of the secret that opens its encryption.
    pub key_secret: Option<String>,
}

impl Described {
    /// The description that a name contains, if it is one in JSON.
    pub fn of_name(name: &[u8]) -> Option<Result<Self>> {
        let text = name.strip_prefix(JSON.as_bytes())?;
        Some(Self::from_json(text))
    }

    fn from_json(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(&json::with_double_quotes(text))
            .map_err(|error| refused(format!("Could not parse the JSON options: {error}")))?;
        if !value.is_object() {
            return Err(refused("Invalid JSON object given".into()));
        }
        let mut options = Vec::new();
        flatten("", value, 0, &mut options)?;
        Self::from_options(options)
    }

    /// Takes options whose names are paths with dots, such as `file.filename`.
    pub fn from_options(given: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut options = BTreeMap::new();
        for (name, value) in given {
            if options.insert(name.clone(), value).is_some() {
                return Err(refused(format!("the option '{name}' is given twice")));
            }
        }
        let driver = options.remove("driver");
        let is_bare = driver.as_deref().is_some_and(is_protocol);
        let format = match driver.as_deref() {
            None => None,
            Some("raw") => Some(Format::Raw),
            Some("qcow2") => Some(Format::Qcow2),
            Some(_) if is_bare => Some(Format::Raw),
            Some("luks") => Some(Format::of_name("luks")),
            Some(other) => return Err(unsupported_driver(other)),
        };
        let prefix = if is_bare { "" } else { "file." };
        if let Some(node) = options.get("file").filter(|_| !is_bare) {
            let why = format!("'{node}' names a node of a running QEMU, not a file");
            return Err(Error::Unsupported(why));
        }
        let below = if is_bare { None } else { options.remove("file.driver") };
        let protocol = if is_bare { driver.as_deref() } else { below.as_deref() };
        let path = path(protocol, &mut options, prefix)?;
        let key_secret = key_secret(format.as_ref(), &mut options)?;
        let is_read_only = options.remove("read-only").is_some_and(|value| is_on(&value));
        let is_neutral = |name: &str| NEUTRAL.contains(&name.strip_prefix("file.").unwrap_or(name));
        match options.iter().find(|(name, value)| !is_neutral(name) || is_unlocked(name, value)) {
            Some((name, value)) => {
                Err(Error::Unsupported(format!("the option '{name}={value}' is not supported")))
            }
            None => Ok(Self { path, format, is_bare, is_read_only, key_secret }),
        }
    }

    /// The format in which the file is read, where another option gives one: that one. `None`
    /// where nothing sets it.
    pub fn format_or_given(&self, given: Option<Format>) -> Result<Option<Format>> {
        if given.is_some() && self.is_bare {
            let why = "A block device must be specified for \"file\": the description is of a file, \
                       and a format is given beside it";
            return Err(refused(why.into()));
        }
        Ok(given.or_else(|| self.format.clone()))
    }
}

/// Whether a driver is the bytes of a file, and no format.
fn is_protocol(driver: &str) -> bool {
    FILE_DRIVERS.contains(&driver) || driver == NBD && cfg!(feature = "nbd")
}

/// What a driver opens; without one, a file.
fn path(
    driver: Option<&str>,
    options: &mut BTreeMap<String, String>,
    prefix: &str,
) -> Result<PathBuf> {
    match driver {
        #[cfg(feature = "nbd")]
        Some(NBD) => return super::export::name(options, prefix),
        Some(other) if !is_protocol(other) => return Err(unsupported_driver(other)),
        _ => {}
    }
    let path = options.remove(&format!("{prefix}filename"));
    let path = path.filter(|path| !path.is_empty() && !path.contains('\0'));
    let missing = || refused(format!("the option '{prefix}filename' has to name a file"));
    let path = PathBuf::from(path.ok_or_else(missing)?);
    // The option names a file, whatever is in it.
    Ok(if is_remote(&path) { PathBuf::from(".").join(path) } else { path })
}

/// The name of the secret. The option for it is another one in each format.
fn key_secret(
    format: Option<&Format>,
    options: &mut BTreeMap<String, String>,
) -> Result<Option<String>> {
    match format {
        Some(Format::Raw) => return Ok(None),
        Some(Format::Other(_)) => return Ok(options.remove("key-secret")),
        Some(Format::Qcow2) | None => {}
    }
    if let Some(method) = options.remove("encrypt.format") {
        if !["aes", "luks"].contains(&method.as_str()) {
            let why = format!("Parameter 'encrypt.format' does not accept value '{method}'");
            return Err(refused(why));
        }
    }
    Ok(options.remove("encrypt.key-secret").or_else(|| options.remove("key-secret")))
}

/// The leaves of nested objects, by paths with dots.
fn flatten(path: &str, value: Value, depth: usize, out: &mut Vec<(String, String)>) -> Result<()> {
    let text = match value {
        Value::Object(members) if depth < MAX_DEPTH => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), member, depth + 1, out)?;
            }
            return Ok(());
        }
        Value::String(text) => text,
        Value::Bool(true) => "on".into(),
        Value::Bool(false) => "off".into(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(Error::Unsupported(format!("the option '{path}' is not supported")));
        }
    };
    out.push((path.to_owned(), text));
    Ok(())
}

fn is_on(value: &str) -> bool {
    ["on", "yes", "true", "y"].contains(&value)
}

/// Whether an option switches off the locks, without which another process could write meanwhile.
fn is_unlocked(name: &str, value: &str) -> bool {
    name.ends_with("locking") && value == "off"
}

fn unsupported_driver(name: &str) -> Error {
    let nbd = if cfg!(feature = "nbd") { ", or of an nbd server" } else { "" };
    let why = format!("only qcow2, raw and luks in a file or on a host_device{nbd} are");
    Error::Unsupported(format!("the driver '{name}' is not supported: {why}"))
}

fn refused(why: String) -> Error {
    Error::Refused(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Result<Described> {
        Described::of_name(name.as_bytes()).unwrap()
    }

    #[test]
    fn objects_and_names_with_dots_say_the_same() {
        for text in [
            r#"{"driver":"qcow2","file":{"driver":"file","filename":"a:b"}}"#,
            r#"{"driver":"qcow2","file.driver":"host_device","file.filename":"a:b"}"#,
            r#"{"driver":"qcow2","file.filename":"a:b","read-only":false,"cache":{"direct":true}}"#,
            "{'driver':'qcow2','l2-cache-size':65536,'file':{'driver':'file','filename':'a:b'}}",
        ] {
            let described = of(&format!("json:{text}")).unwrap();
            assert_eq!(described.path, PathBuf::from("a:b"), "{text}");
            assert_eq!(described.format_or_given(None).unwrap(), Some(Format::Qcow2));
            assert_eq!(described.format_or_given(Some(Format::Raw)).unwrap(), Some(Format::Raw));
        }
        let open = of(r#"json:{"file.filename":"a","read-only":true}"#).unwrap();
        assert_eq!(open.format_or_given(None).unwrap(), None);
        assert!(open.is_read_only);
        let bare = of(r#"json:{"driver":"file","filename":"a"}"#).unwrap();
        assert_eq!(bare.format_or_given(None).unwrap(), Some(Format::Raw));
        assert!(bare.format_or_given(Some(Format::Qcow2)).is_err());
        assert!(Described::of_name(b"a").is_none());
        let odd = of(r#"json:{"file.filename":"nbd://host/x"}"#).unwrap();
        assert_eq!(odd.path, PathBuf::from("./nbd://host/x"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_name() {
        for (text, word) in [
            (r#"{"driver":"vmdk","file.filename":"a"}"#, "vmdk"),
            (r#"{"driver":"qcow2","file":{"driver":"ssh","host":"h"}}"#, "ssh"),
            (
                r#"{"driver":"qcow2","file":{"driver":"nbd","host":"h","tls-creds":"t"}}"#,
                "tls-creds",
            ),
            (r#"{"driver":"raw","file":{"driver":"qcow2","file.filename":"a"}}"#, "qcow2"),
            (r#"{"driver":"raw","offset":512,"file.filename":"a"}"#, "offset"),
            (r#"{"driver":"qcow2","file":"node0"}"#, "node0"),
            (r#"{"driver":"qcow2","backing":null,"file.filename":"a"}"#, "backing"),
            (r#"{"driver":"qcow2","file.filename":"a","file.locking":"off"}"#, "locking"),
            (r#"{"file.filename":"a","file":{"filename":"b"}}"#, "file.filename"),
            (r#"{"driver":"qcow2","filename":"a"}"#, "file.filename"),
            (r#"{"driver":"qcow2","file.filename":"a\u0000b"}"#, "file.filename"),
            (r#"{"driver":"file"}"#, "filename"),
            ("[1]", "Invalid JSON object given"),
            ("{", "Could not parse the JSON options"),
        ] {
            let error = of(&format!("json:{text}")).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20), "}".repeat(20));
        assert!(of(&format!("json:{deep}")).is_err());
    }
}
