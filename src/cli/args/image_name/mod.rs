//! Names of images that are read or changed: of files, in JSON, or as options (`--image-opts`).

pub mod changed;
pub mod object;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use qcheck::ImageFormat;
use qcheck::chain::{Described, Format, Instead};
use qcheck::crypt::{Key, Secrets};

use super::file_name::{self, could_not_open, quoted};
use super::format::recorded_format;
use super::options;

/// An image as it was given, which is read as a name or as options by [`ImageName::named`].
#[derive(Debug, Clone)]
pub struct ImageName(OsString);

/// Takes any name: whether it is one of a file is known when all options are.
pub fn parser() -> impl TypedValueParser<Value = ImageName> {
    OsStringValueParser::new().map(ImageName)
}

/// An image that was named.
#[derive(Debug, Clone)]
pub struct Named {
    /// The file.
    pub path: PathBuf,
    /// Its format, where it was given.
    pub format: Option<ImageFormat>,
    /// Its secret, and those of the images below it.
    pub key: Key,
    /// What its description has in place of what is in the file.
    pub instead: Instead,
    is_read_only: bool,
}

impl AsRef<Path> for Named {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Named {
    /// A file by its path, with its secret.
    pub fn file(path: PathBuf, format: Option<ImageFormat>, key: Key) -> Self {
        Self { path, format, key, instead: Instead::default(), is_read_only: false }
    }

    /// The file, which is written; an error where its description makes it read-only.
    pub fn written(&self) -> Result<&Path> {
        if self.is_read_only {
            bail!("{}: the option 'read-only' is on", quoted(&self.path));
        }
        Ok(&self.path)
    }
}

impl ImageName {
    /// A name.
    pub const fn new(text: OsString) -> Self {
        Self(text)
    }

    /// The text as it was given.
    pub fn text(&self) -> &Path {
        Path::new(&self.0)
    }

    /// A file that is made. qemu-img makes files by their names only.
    pub fn new_file(&self) -> Result<PathBuf> {
        let path = file_name::parse(self.0.clone());
        path.map_err(|error| anyhow!("{}: {error}", quoted(self.text())))
    }

    /// [`Self::disk`] for a command that takes the image as it is.
    pub fn named(
        &self,
        as_options: bool,
        format: Option<ImageFormat>,
        secrets: &Secrets,
    ) -> Result<Named> {
        let named = self.disk(as_options, format, secrets)?;
        if let Some(option) = named.instead.option() {
            bail!("{}: this command does not support the option '{option}'", quoted(self.text()));
        }
        Ok(named)
    }

    /// The image, and its format where the name or `format` (`-f`) gives one. With `as_options`
    /// (`--image-opts`) the text is options of a block device. `secrets` are those of `--object`.
    pub fn disk(
        &self,
        as_options: bool,
        format: Option<ImageFormat>,
        secrets: &Secrets,
    ) -> Result<Named> {
        let key = |name| Key { secrets: secrets.clone(), name };
        if as_options && format.is_some() {
            // qemu-img's answer.
            bail!("--image-opts and --format are mutually exclusive");
        }
        let described = match as_options {
            true => Some(self.described_by_options()),
            false => Described::of_name(self.0.as_encoded_bytes()),
        };
        let Some(described) = described else {
            return Ok(Named::file(self.new_file()?, format, key(None)));
        };
        let context = || could_not_open(self.text());
        let described = described.map_err(|error| anyhow!(error).context(context()))?;
        let format = format.map(|format| Format::of_name(format.name()));
        let format = described.format_or_given(format);
        let format = format.map_err(|error| anyhow!(error).context(context()))?;
        let format = format.map(recorded_format).transpose().map_err(anyhow::Error::msg)?;
        let Described { mut path, is_read_only, key_secret, instead, .. } = described;
        // The name alone means standard input elsewhere.
        if path == Path::new("-") {
            path = PathBuf::from("./-");
        }
        Ok(Named { path, format, key: key(key_secret), instead, is_read_only })
    }

    fn described_by_options(&self) -> qcheck::error::Result<Described> {
        let pair = |item: String| match item.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            // QEMU takes a word alone for the name of a node.
            None => ("file".to_owned(), item),
        };
        Described::from_options(options::split(&self.0.to_string_lossy()).into_iter().map(pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_json_name_a_file_and_its_format() {
        let named = |text: &str, as_options| {
            ImageName(text.into()).named(as_options, None, &Secrets::default())
        };
        for (text, as_options) in [
            ("driver=qcow2,file.filename=a,,b", true),
            ("driver=qcow2,file.driver=file,file.filename=a,,b,cache.direct=on", true),
            (r#"json:{"driver":"qcow2","file":{"filename":"a,b"}}"#, false),
        ] {
            let named = named(text, as_options).unwrap();
            assert_eq!(
                (named.path.to_str(), named.format),
                (Some("a,b"), Some(ImageFormat::Qcow2))
            );
            assert!(named.written().is_ok());
        }
        assert!(named("disk.qcow2", true).unwrap_err().to_string().contains("disk.qcow2"));
        assert!(named("ssh://host", false).is_err());
        let read = named("file.filename=a,read-only=on", true).unwrap();
        assert!(read.format.is_none() && read.written().is_err());
        let both = ImageName("file.filename=a".into()).named(
            true,
            Some(ImageFormat::Raw),
            &Secrets::default(),
        );
        assert!(both.unwrap_err().to_string().contains("mutually exclusive"));
    }
}
