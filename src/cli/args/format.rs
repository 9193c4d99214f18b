//! Formats by the names that the user gives them.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use qcheck::ImageFormat;
use qcheck::chain::Format;

/// Formats of QEMU that this program detects but does not read.
const OTHER_FORMATS: [&str; 11] =
    ["bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc"];

/// The message for a format that is neither.
pub const BOTH: &str = "qcow2 and raw are supported";
/// The message for a format in which no image is made.
pub const ALL: &str = "qcow2, raw and luks are supported";
/// The message where only one is possible.
pub const QCOW2_ONLY: &str = "only qcow2 is supported";

/// A format as the user names it. The bytes of a file or device as they are have names of their own
/// in QEMU.
pub fn parse_format(name: &str) -> Result<ImageFormat, String> {
    match name {
        "qcow2" => Ok(ImageFormat::Qcow2),
        "raw" | "file" | "host_device" => Ok(ImageFormat::Raw),
        _ => OTHER_FORMATS
            .iter()
            .find(|known| **known == name)
            .map(|known| ImageFormat::Other(known))
            .ok_or_else(|| format!("unknown format '{name}': {BOTH}")),
    }
}

/// The format that an image records for a file, or that a description gives it.
pub fn recorded_format(format: Format) -> Result<ImageFormat, String> {
    match format {
        Format::Raw => Ok(ImageFormat::Raw),
        Format::Qcow2 => Ok(ImageFormat::Qcow2),
        Format::Other(name) => parse_format(&name),
    }
}

/// Takes a format; the shells complete those that can be read.
pub fn parser() -> impl TypedValueParser<Value = ImageFormat> {
    Completed(StringValueParser::new().try_map(|name| parse_format(&name)))
}

/// Takes the name of a format, which is looked at later: of several options the last one counts,
/// and only that one has to be right.
pub fn name_parser() -> impl TypedValueParser<Value = String> {
    Completed(StringValueParser::new())
}

/// Takes the format of a backing file.
pub fn backing_parser() -> impl TypedValueParser<Value = String> {
    Completed(StringValueParser::new().try_map(|name| parse_backing_format(&name)))
}

/// A parser with the formats as values that shells complete; it takes others too.
#[derive(Clone)]
struct Completed<P>(P);

impl<P: TypedValueParser> TypedValueParser for Completed<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        self.0.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(["raw", "qcow2"].into_iter().map(PossibleValue::new)))
    }
}

/// The format of a backing file, by a name that is recorded for one.
pub fn parse_backing_format(name: &str) -> Result<String, String> {
    match parse_format(name)? {
        ImageFormat::Other(name) => Err(format!("cannot read the format {name}: {BOTH}")),
        format => Ok(format.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_qemus_names() {
        assert_eq!(parse_format("qcow2"), Ok(ImageFormat::Qcow2));
        assert_eq!(parse_format("vdi"), Ok(ImageFormat::Other("vdi")));
        assert_eq!(
            parse_format("foo").unwrap_err(),
            "unknown format 'foo': qcow2 and raw are supported"
        );
    }
}
