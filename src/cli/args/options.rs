//! `-o name=value,...` as qemu-img takes it.

use std::io::{self, Write};

use anyhow::{Result, bail};

use qcheck::ImageFormat;

use super::nearest;
use super::size::parse_size;
use crate::cli::terminal::ui::Output;

/// What kind of value an option has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Switch,
    Size,
    Number,
}

/// An option of a format.
struct Known {
    name: &'static str,
    kind: Type,
    help: &'static str,
}

const fn known(name: &'static str, kind: Type, help: &'static str) -> Known {
    Known { name, kind, help }
}

/// The options of qcow2, in the order in which they are listed.
const QCOW2: [Known; 23] = [
    known("backing_file", Type::Text, "file that has what this image does not have"),
    known("backing_fmt", Type::Text, "format of the backing file"),
    known("cluster_size", Type::Size, "bytes of a cluster, 512 to 2M"),
    known("compat", Type::Text, "version: v2 (0.10) or v3 (1.1)"),
    known("compression_type", Type::Text, "zlib or zstd"),
    known("data_file", Type::Text, "external file for the data"),
    known("data_file_raw", Type::Switch, "keep the data file readable as a raw image"),
    known("encrypt.cipher-alg", Type::Text, "aes-128, aes-192 or aes-256"),
    known("encrypt.cipher-mode", Type::Text, "xts or cbc"),
    known("encrypt.format", Type::Text, "luks"),
    known("encrypt.hash-alg", Type::Text, "sha1, sha224, sha256, sha384 or sha512"),
    known("encrypt.iter-time", Type::Number, ITER_TIME),
    known("encrypt.ivgen-alg", Type::Text, "plain, plain64 or essiv"),
    known("encrypt.ivgen-hash-alg", Type::Text, "hash of essiv"),
    known("encrypt.key-secret", Type::Text, "id of the secret (--object) with the passphrase"),
    known("encryption", Type::Switch, "off; on was the encryption before LUKS, which is only read"),
    known("extended_l2", Type::Switch, "allocate in 32nds of a cluster"),
    known("extent_size_hint", Type::Size, "in what pieces XFS allocates the file; 0: as it likes"),
    known("lazy_refcounts", Type::Switch, "postpone refcount updates"),
    known("nocow", Type::Switch, "no copy-on-write by the file system (btrfs)"),
    known("preallocation", Type::Text, "off, metadata, falloc or full"),
    known("refcount_bits", Type::Number, "bits of a refcount, 1 to 64"),
    known("size", Type::Size, "bytes of the disk"),
];

const ITER_TIME: &str = "milliseconds that trying a passphrase takes";
const ONLY_READ: &str = "the encryption before LUKS is only read: encrypt.format=luks is made";

/// The options of LUKS.
const LUKS: [Known; 10] = [
    known("cipher-alg", Type::Text, "aes-128, aes-192 or aes-256"),
    known("cipher-mode", Type::Text, "xts or cbc"),
    known(
        "detached-header",
        Type::Switch,
        "not supported: the header is at the start of the image",
    ),
    known("hash-alg", Type::Text, "sha1, sha224, sha256, sha384 or sha512"),
    known("iter-time", Type::Number, ITER_TIME),
    known("ivgen-alg", Type::Text, "plain, plain64 or essiv"),
    known("ivgen-hash-alg", Type::Text, "hash of essiv"),
    known("key-secret", Type::Text, "id of the secret (--object) with the passphrase"),
    known("preallocation", Type::Text, "off, metadata, falloc or full"),
    known("size", Type::Size, "bytes of the disk"),
];

/// The options of raw.
const RAW: [Known; 4] = [
    known("extent_size_hint", Type::Size, "in what pieces XFS allocates the file; 0: as it likes"),
    known("nocow", Type::Switch, "no copy-on-write by the file system (btrfs)"),
    known("preallocation", Type::Text, "off, falloc or full"),
    known("size", Type::Size, "bytes of the disk"),
];

/// Options as given, the last of each name.
#[derive(Debug, Default, Clone)]
pub struct Options {
    values: Vec<(&'static str, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    /// What it means, and the word for it that was given.
    Switch(bool, String),
    Number(u64),
}

/// What `-o` requested.
#[derive(Debug)]
pub enum Asked {
    /// A list of options.
    Help,
    /// These options.
    Options(Options),
}

/// What only `convert` has, and qemu-img has not.
const OF_CONVERT: [Known; 1] = [known(
    "compression_level",
    Type::Number,
    "how hard -c tries to make clusters smaller: zlib 1 to 9, zstd 1 to 22",
)];

/// What `amend` takes. The rest it refuses: only a new image has it.
const OF_AMEND: [Known; 13] = [
    known("backing_file", Type::Text, "not changed here but by rebase"),
    known("backing_fmt", Type::Text, "likewise"),
    known("compat", Type::Text, "version: v2 (0.10) or v3 (1.1)"),
    known("data_file", Type::Text, "external file for the data, of an image that has one"),
    known("data_file_raw", Type::Switch, "off: the data file need not be a raw image any more"),
    known("encrypt.iter-time", Type::Number, ITER_TIME),
    known("encrypt.keyslot", Type::Number, KEYSLOT),
    known("encrypt.new-secret", Type::Text, NEW_SECRET),
    known("encrypt.old-secret", Type::Text, OLD_SECRET),
    known("encrypt.state", Type::Text, STATE),
    known("lazy_refcounts", Type::Switch, "postpone refcount updates"),
    known("refcount_bits", Type::Number, "bits of a refcount, 1 to 64"),
    known("size", Type::Size, "bytes of the disk"),
];

/// What `amend` takes for a LUKS image.
const OF_AMEND_LUKS: [Known; 5] = [
    known("iter-time", Type::Number, ITER_TIME),
    known("keyslot", Type::Number, KEYSLOT),
    known("new-secret", Type::Text, NEW_SECRET),
    known("old-secret", Type::Text, OLD_SECRET),
    known("state", Type::Text, STATE),
];

const KEYSLOT: &str = "the key slot, 0 to 7";
const NEW_SECRET: &str = "id of the secret (--object) with the passphrase that is added";
const OLD_SECRET: &str = "id of the secret whose key slots are erased";
const STATE: &str = "active: a passphrase is added; inactive: key slots are erased";

/// Which options there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Those of a raw image.
    Raw,
    /// Those of a LUKS image.
    Luks,
    /// Those of a new qcow2 image.
    Qcow2,
    /// Those of a qcow2 image that is converted to.
    ConvertedQcow2,
    /// Those that a qcow2 image can change.
    AmendedQcow2,
    /// Those that a LUKS image can change.
    AmendedLuks,
}

impl Table {
    /// What `create` takes; `None` for a format that is not made.
    pub fn of_create(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Qcow2 => Some(Self::Qcow2),
            ImageFormat::LUKS => Some(Self::Luks),
            ImageFormat::Raw => Some(Self::Raw),
            ImageFormat::Other(_) => None,
        }
    }

    /// What `convert` takes; `None` for a format that is not made.
    pub fn of_convert(format: ImageFormat) -> Option<Self> {
        Self::of_create(format).map(|table| match table {
            Self::Qcow2 => Self::ConvertedQcow2,
            other => other,
        })
    }

    /// What `amend` takes; `None` for a format that has nothing to change.
    pub fn of_amend(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Qcow2 => Some(Self::AmendedQcow2),
            ImageFormat::LUKS => Some(Self::AmendedLuks),
            ImageFormat::Raw | ImageFormat::Other(_) => None,
        }
    }

    /// Whether a new image has an option that an existing one does not change.
    fn is_only_of_new(self, name: &str) -> bool {
        let of_new: &[Known] = match self {
            Self::AmendedQcow2 => &QCOW2,
            Self::AmendedLuks => &LUKS,
            Self::Raw | Self::Luks | Self::Qcow2 | Self::ConvertedQcow2 => &[],
        };
        of_new.iter().any(|known| known.name == name)
    }

    fn options(self) -> impl Iterator<Item = &'static Known> {
        let (format, more): (&[Known], &[Known]) = match self {
            Self::Raw => (&RAW, &[]),
            Self::Luks => (&LUKS, &[]),
            Self::Qcow2 => (&QCOW2, &[]),
            Self::ConvertedQcow2 => (&QCOW2, &OF_CONVERT),
            Self::AmendedQcow2 => (&OF_AMEND, &[]),
            Self::AmendedLuks => (&OF_AMEND_LUKS, &[]),
        };
        format.iter().chain(more)
    }
}

/// Parses every `-o` of a command line.
pub fn parse(given: &[String], table: Table) -> Result<Asked> {
    let mut options = Options::default();
    let items: Vec<String> = given.iter().flat_map(|text| split(text)).collect();
    if items.iter().any(String::is_empty) {
        bail!("an option is empty");
    }
    if items.iter().any(|item| item == "help" || item == "?") {
        return Ok(Asked::Help);
    }
    for item in &items {
        let (name, text) = match item.split_once('=') {
            Some((name, text)) => (name, Some(text)),
            None => (item.as_str(), None),
        };
        let find = |name: &str| table.options().find(|k| k.name == name);
        // QEMU's other way to switch something off.
        let switched_off = name.strip_prefix("no").filter(|_| text.is_none()).and_then(find);
        let (known, text) = match (find(name), switched_off) {
            (Some(known), _) => (known, text),
            (None, Some(known)) if known.kind == Type::Switch => (known, Some("off")),
            // qemu-img's words.
            _ if table.is_only_of_new(name) => {
                bail!(
                    "Invalid parameter '{name}': This option is only supported for image creation"
                )
            }
            _ => {
                let names: Vec<&str> = table.options().map(|known| known.name).collect();
                bail!("unknown option '{name}'{}", nearest::hint(name, &names))
            }
        };
        options.set(known.name, value(known, text)?);
    }
    if options.switch("encryption") {
        bail!("encryption: {ONLY_READ}");
    }
    if options.given_switch("detached-header").is_some() {
        // The beginning is qemu-img's.
        bail!(
            "Parameter 'detached-header' is unexpected: a header in a file of its own is not made"
        );
    }
    Ok(Asked::Options(options))
}

/// Splits at commas; a doubled comma stands for itself.
pub fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
}

fn value(known: &Known, text: Option<&str>) -> Result<Value> {
    let name = known.name;
    Ok(match (known.kind, text) {
        (Type::Switch, None) => Value::Switch(true, "on".into()),
        (Type::Switch, Some(on @ ("on" | "yes" | "true" | "y"))) => Value::Switch(true, on.into()),
        (Type::Switch, Some(off @ ("off" | "no" | "false" | "n"))) => {
            Value::Switch(false, off.into())
        }
        (Type::Switch, Some(other)) => {
            let hint = nearest::hint(other, &["on", "off", "yes", "no", "true", "false"]);
            bail!("{name}: '{other}' is neither on nor off{hint}")
        }
        (_, None) => bail!("{name} needs a value"),
        (Type::Text, Some(text)) => Value::Text(text.to_owned()),
        (Type::Size, Some(text)) => match parse_size(text) {
            Ok(bytes) => Value::Number(bytes),
            Err(error) => bail!("{name}: '{text}' is {error}"),
        },
        (Type::Number, Some(text)) => match text.parse() {
            Ok(number) => Value::Number(number),
            Err(_) => bail!("{name}: '{text}' is not a number"),
        },
    })
}

impl Options {
    fn set(&mut self, name: &'static str, value: Value) {
        self.values.retain(|(n, _)| *n != name);
        self.values.push((name, value));
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Sets a text, over one that was given.
    pub fn set_text(&mut self, name: &'static str, text: &str) {
        self.set(name, Value::Text(text.to_owned()));
    }

    /// Sets a number, over one that was given.
    pub fn set_number(&mut self, name: &'static str, number: u64) {
        self.set(name, Value::Number(number));
    }

    /// Whether an option is given whose name begins like this.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.values.iter().any(|(name, _)| name.starts_with(prefix))
    }

    /// A text option.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A size or number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A switch, if it is given.
    pub fn given_switch(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(Value::Switch(on, _)) => Some(*on),
            _ => None,
        }
    }

    /// A switch; off where it is not given.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Switch(true, _)))
    }

    /// Switches something off that was not set explicitly.
    pub fn default_off(&mut self, name: &'static str) {
        if self.get(name).is_none() {
            self.set(name, Value::Switch(false, "off".into()));
        }
    }

    /// The options of these names that are set, as `name=value`, in this order.
    pub fn describe(&self, names: &[&str]) -> String {
        let mut text = String::new();
        for name in names {
            let value = match self.get(name) {
                None => continue,
                Some(Value::Text(text)) => text.replace(',', ",,"),
                Some(Value::Switch(_, word)) => word.clone(),
                Some(Value::Number(number)) => number.to_string(),
            };
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }
}

/// Prints what `-o` takes; with a file's name also what concerns the file rather than the image.
pub fn help(out: &mut Output, table: Table, with_file: bool) -> io::Result<()> {
    out.line(match (with_file, table) {
        (_, Table::AmendedQcow2) => "Amend options for 'qcow2':",
        (_, Table::AmendedLuks) => "Amend options for 'luks':",
        (true, _) => "Supported options:",
        (false, Table::Raw) => "Supported raw options:",
        (false, Table::Luks) => "Supported luks options:",
        (false, _) => "Supported qcow2 options:",
    })?;
    let of_file = |known: &&Known| ["extent_size_hint", "nocow"].contains(&known.name);
    for known in table.options().filter(|known| with_file || !of_file(known)) {
        let kind = match known.kind {
            Type::Text => "<str>",
            Type::Switch => "<bool (on/off)>",
            Type::Size => "<size>",
            Type::Number => "<num>",
        };
        let left = format!("{}={kind}", known.name);
        out.line(&format!("  {left:<22} - {}", known.help))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        match parse(&[text.into()], Table::Qcow2).unwrap() {
            Asked::Options(options) => options,
            Asked::Help => panic!("no options"),
        }
    }

    #[test]
    fn a_doubled_comma_is_one_of_the_value() {
        assert_eq!(split("a=1,,2,b"), ["a=1,2", "b"]);
        let given = options("backing_file=a,,b,size=1k");
        assert_eq!(given.text("backing_file"), Some("a,b"));
        assert_eq!(given.describe(&["size", "backing_file"]), " size=1024 backing_file=a,,b");
    }

    #[test]
    fn the_last_of_a_name_counts_and_a_bare_switch_is_on() {
        let given = options("cluster_size=4k,lazy_refcounts,cluster_size=8k");
        assert_eq!(given.number("cluster_size"), Some(8192));
        assert!(given.switch("lazy_refcounts") && !given.switch("extended_l2"));
        let given = options("lazy_refcounts=yes,noextended_l2,encryption=n");
        assert_eq!(given.describe(&["lazy_refcounts"]), " lazy_refcounts=yes");
        assert!(given.switch("lazy_refcounts") && !given.switch("extended_l2"));
    }

    #[test]
    fn what_is_wrong_names_the_option() {
        for (text, word) in [
            ("nonsense=1", "nonsense"),
            ("cluster_size=foo", "cluster_size"),
            ("cluster_size", "cluster_size"),
            ("lazy_refcounts=maybe", "lazy_refcounts"),
            ("refcount_bits=x", "refcount_bits"),
            ("encrypt.iter-time=x", "encrypt.iter-time"),
        ] {
            let error = parse(&[text.into()], Table::Qcow2).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(parse(&["cluster_size=4k".into()], Table::Raw).is_err());
        assert!(parse(&["encryption=on".into()], Table::Qcow2).is_err());
        assert!(matches!(parse(&["size=x,help".into()], Table::Qcow2), Ok(Asked::Help)));
        let level = ["compression_level=9".to_owned()];
        assert!(parse(&level, Table::Qcow2).is_err() && parse(&level, Table::Raw).is_err());
        assert!(parse(&level, Table::ConvertedQcow2).is_ok());
    }
}
