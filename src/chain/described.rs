//! A file described by options instead of a name, as in `json:{"driver":"qcow2",..}` in an image
//! and in QEMU's options of a block device.

use std::path::PathBuf;

use serde_json::Value;

use super::driver::{is_protocol, path, unsupported_driver};
use super::format::Format;
use super::json;
use super::options::{Options, children, node_error, text};
use crate::error::{Error, Result};

/// What is before a description in JSON.
const JSON: &str = "json:";
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
/// Deepest nesting of objects that is read. An image has two levels, with its cache three, and each
/// backing file two more.
const MAX_NESTING: usize = 64;
/// Most backing files of a description.
const MAX_BACKING: usize = 30;

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
    /// What holds in place of what is in the file.
    pub instead: Instead,
}

/// What a description has in place of what is in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instead {
    /// The backing file of a qcow2 image.
    pub backing: Option<Below>,
    /// Its external data file, relative to the current folder.
    pub data_file: Option<PathBuf>,
    /// The part of a file that a raw image is.
    pub part: Option<Part>,
}

/// What is below an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// Nothing: what the image does not have is zero.
    Nothing,
    /// This image.
    Image(Box<Described>),
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes; without one it goes to the end of the file.
    pub size: Option<u64>,
}

impl Instead {
    /// The name of an option that is given.
    pub fn option(&self) -> Option<&'static str> {
        let backing = self.backing.as_ref().map(|_| "backing");
        let data_file = self.data_file.as_ref().map(|_| "data-file");
        backing.or(data_file).or(self.part.map(|_| "offset' or 'size"))
    }

    /// An error where this is of another format than the one in which the file is read.
    pub fn require_for(&self, format: &Format) -> Result<()> {
        let of_raw = self.part.is_some();
        let of_qcow2 = self.backing.is_some() || self.data_file.is_some();
        match format {
            Format::Raw if !of_qcow2 => Ok(()),
            Format::Qcow2 if !of_raw => Ok(()),
            Format::Other(_) if !of_raw && !of_qcow2 => Ok(()),
            _ => {
                let name = self.option().unwrap_or_default();
                Err(refused(format!("the format of the file does not support the option '{name}'")))
            }
        }
    }
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
        let mut all = Options::new();
        for (name, value) in options {
            if all.insert(name.clone(), value).is_some() {
                return Err(refused(format!("the option '{name}' is given twice")));
            }
        }
        Self::of_options(all, 0)
    }

    /// Takes options whose names are paths with dots, such as `file.filename`. The last of a name
    /// counts.
    pub fn from_options(given: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let given = given.into_iter().map(|(name, value)| (name, Some(value)));
        Self::of_options(given.collect(), 0)
    }

    /// `above`: how many images are above this one.
    fn of_options(mut options: Options, above: usize) -> Result<Self> {
        let driver = text(&mut options, "driver")?;
        let is_bare = driver.as_deref().is_some_and(is_protocol);
        let format = match driver.as_deref() {
            None => None,
            Some("raw") => Some(Format::Raw),
            Some("qcow2") => Some(Format::Qcow2),
            Some(_) if is_bare => Some(Format::Raw),
            Some("luks") => Some(Format::of_name("luks")),
            Some(other) => return Err(unsupported_driver(other)),
        };
        let path = match is_bare {
            true => path(driver.as_deref(), &mut options, "")?,
            false => {
                if let Some(Some(node)) = options.get("file") {
                    return Err(node_error(node));
                }
                let driver = text(&mut options, "file.driver")?;
                path(driver.as_deref(), &mut options, "file.")?
            }
        };
        let key_secret = key_secret(format.as_ref(), &mut options)?;
        let instead = instead(format.as_ref().filter(|_| !is_bare), is_bare, &mut options, above)?;
        let is_read_only = text(&mut options, "read-only")?.is_some_and(|value| is_on(&value));
        require_neutral(&options)?;
        Ok(Self { path, format, is_bare, is_read_only, key_secret, instead })
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

/// What the description has in place of what is in a file of this format, or of one that is not
/// known yet.
fn instead(
    format: Option<&Format>,
    is_bare: bool,
    options: &mut Options,
    above: usize,
) -> Result<Instead> {
    let mut instead = Instead::default();
    if is_bare {
        return Ok(instead);
    }
    if matches!(format, None | Some(Format::Raw)) {
        let [start, size] =
            [("offset", options.remove("offset")), ("size", options.remove("size"))].map(number);
        let (start, size) = (start?, size?);
        if start.is_some() || size.is_some() {
            instead.part = Some(Part { start: start.unwrap_or(0), size });
        }
    }
    if matches!(format, None | Some(Format::Qcow2)) {
        instead.backing = below(options, above)?;
        if options.keys().any(|name| name.starts_with("data-file.")) {
            let driver = text(options, "data-file.driver")?;
            instead.data_file = Some(path(driver.as_deref(), options, "data-file.")?);
            require_neutral(&children(options, "data-file."))?;
        }
    }
    Ok(instead)
}

fn below(options: &mut Options, above: usize) -> Result<Option<Below>> {
    let child = children(options, "backing.");
    match options.remove("backing") {
        // An empty name is QEMU's older form of it.
        Some(None) => return Ok(Some(Below::Nothing)),
        Some(Some(node)) if node.is_empty() => return Ok(Some(Below::Nothing)),
        Some(Some(node)) => return Err(node_error(&node)),
        None if child.is_empty() => return Ok(None),
        None => {}
    }
    if above >= MAX_BACKING {
        return Err(refused("the description has too many backing files".into()));
    }
    let described = Described::of_options(child, above + 1);
    let described = described
        .map_err(|error| Error::OpenBelow { role: "backing file", source: Box::new(error) })?;
    Ok(Some(Below::Image(Box::new(described))))
}

/// A number of bytes: decimal, perhaps with a unit.
fn number((name, value): (&str, Option<Option<String>>)) -> Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let text = value.unwrap_or_default();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "b" | "B" => Some(0),
        unit => ["k", "m", "g", "t", "p", "e"]
            .iter()
            .position(|known| unit.eq_ignore_ascii_case(known))
            .map(|power| 10 * (power + 1)),
    };
    let number = digits.parse::<u64>().ok().zip(shift);
    let bytes = number.and_then(|(number, shift)| number.checked_mul(1 << shift));
    // qemu-img's words.
    let wrong = || format!("Parameter '{name}' expects a non-negative number below 2^64");
    bytes.map(Some).ok_or_else(|| refused(wrong()))
}

/// An error for an option that would change what is read.
fn require_neutral(options: &Options) -> Result<()> {
    let is_neutral = |name: &str| NEUTRAL.contains(&name.strip_prefix("file.").unwrap_or(name));
    let wrong = options.iter().find(|(name, value)| match value {
        Some(value) => !is_neutral(name) || is_unlocked(name, value),
        None => true,
    });
    match wrong {
        None => Ok(()),
        Some((name, None)) => {
            Err(Error::Unsupported(format!("the option '{name}' is not supported")))
        }
        Some((name, Some(value))) => {
            Err(Error::Unsupported(format!("the option '{name}={value}' is not supported")))
        }
    }
}

/// The name of the secret. The option for it is another one in each format.
fn key_secret(format: Option<&Format>, options: &mut Options) -> Result<Option<String>> {
    match format {
        Some(Format::Raw) => return Ok(None),
        Some(Format::Other(_)) => return text(options, "key-secret"),
        Some(Format::Qcow2) | None => {}
    }
    if let Some(method) = text(options, "encrypt.format")? {
        if !["aes", "luks"].contains(&method.as_str()) {
            let why = format!("Parameter 'encrypt.format' does not accept value '{method}'");
            return Err(refused(why));
        }
    }
    Ok(text(options, "encrypt.key-secret")?.or(text(options, "key-secret")?))
}

/// The leaves of nested objects, by paths with dots.
fn flatten(
    path: &str,
    value: Value,
    depth: usize,
    out: &mut Vec<(String, Option<String>)>,
) -> Result<()> {
    let text = match value {
        Value::Object(members) if depth < MAX_NESTING => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), member, depth + 1, out)?;
            }
            return Ok(());
        }
        Value::String(text) => Some(text),
        Value::Bool(true) => Some("on".into()),
        Value::Bool(false) => Some("off".into()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => {
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
    fn objects_and_names_with_dots_mean_the_same() {
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
    fn a_description_may_replace_what_the_image_names() {
        let name = r#"json:{"driver":"qcow2","file.filename":"a","data-file.filename":"d",
            "backing":{"driver":"qcow2","file":{"filename":"b"},"backing":{"driver":"raw",
            "offset":"1k","size":512,"file":{"filename":"c"}}}}"#;
        let described = of(name).unwrap();
        assert_eq!(described.instead.data_file, Some("d".into()));
        let Some(Below::Image(second)) = described.instead.backing else { panic!("no backing") };
        let Some(Below::Image(third)) = second.instead.backing else { panic!("no backing") };
        assert_eq!((second.path, third.path), ("b".into(), "c".into()));
        assert_eq!(third.instead.part, Some(Part { start: 1024, size: Some(512) }));
        for none in [
            r#"json:{"file.filename":"a","backing":null}"#,
            r#"json:{"file.filename":"a","backing":""}"#,
        ] {
            assert_eq!(of(none).unwrap().instead.backing, Some(Below::Nothing));
        }
        let many = "backing.".repeat(100);
        let deep = [
            ("file.filename".to_owned(), "a".to_owned()),
            (format!("{many}file.filename"), "a".into()),
        ];
        assert!(Described::from_options(deep).is_err());
        let twice = ["a", "b"].map(|name| ("file.filename".to_owned(), name.to_owned()));
        assert_eq!(Described::from_options(twice).unwrap().path, PathBuf::from("b"));
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
            (r#"{"driver":"qcow2","offset":512,"file.filename":"a"}"#, "offset"),
            (r#"{"driver":"raw","offset":"x","file.filename":"a"}"#, "'offset' expects a"),
            (r#"{"driver":"raw","size":-1,"file.filename":"a"}"#, "'size' expects a"),
            (r#"{"driver":"raw","backing":null,"file.filename":"a"}"#, "backing"),
            (r#"{"driver":"qcow2","backing":"node1","file.filename":"a"}"#, "node1"),
            (r#"{"driver":"qcow2","backing.driver":"vmdk","file.filename":"a"}"#, "vmdk"),
            (
                r#"{"driver":"qcow2","backing":{"filename":"b"},"file.filename":"a"}"#,
                "file.filename",
            ),
            (r#"{"driver":"qcow2","data-file.driver":"nbd","file.filename":"a"}"#, "nbd"),
            (r#"{"driver":"qcow2","read-only":null,"file.filename":"a"}"#, "read-only"),
            (r#"{"driver":"qcow2","file":"node0"}"#, "node0"),
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
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        assert!(of(&format!("json:{deep}")).is_err());
    }
}
