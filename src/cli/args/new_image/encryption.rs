//! What a new image's encryption is to be: its `-o` options as the library takes them.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::crypt::luks::{LuksOptions, NewHeader};
use qcheck::crypt::{Hash, IvGenerator, Key, Mode, Secrets};

use crate::cli::args::nearest;
use crate::cli::args::options::Options;

/// The options of the encryption of a new image. In a LUKS image they have no prefix.
pub struct Given<'a> {
    options: &'a Options,
    prefix: &'static str,
    /// The option that names the secret.
    key_option: &'static str,
}

impl<'a> Given<'a> {
    /// The options for the encryption of a new image of this format; `None` where it has none.
    pub fn of(options: &'a Options, format: ImageFormat) -> Result<Option<Self>> {
        if format == ImageFormat::LUKS {
            return Ok(Some(Self { options, prefix: "", key_option: "key-secret" }));
        }
        let given = Self { options, prefix: "encrypt.", key_option: "encrypt.key-secret" };
        match given.text("format") {
            Some("luks") => Ok(Some(given)),
            Some("aes") => bail!(
                "encrypt.format=aes: the encryption before LUKS is only read: encrypt.format=luks \
                 is made"
            ),
            // qemu-img's words, here and below.
            Some(other) => bail!("Parameter 'format' does not accept value '{other}'"),
            None if options.has_prefix(given.prefix) => {
                bail!("Parameter 'encrypt.format' is missing")
            }
            None => Ok(None),
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.options.text(&format!("{}{name}", self.prefix))
    }

    /// The secret that opens the new image.
    pub fn key(&self, secrets: &Secrets) -> Key {
        Key { secrets: secrets.clone(), name: self.text("key-secret").map(str::to_owned) }
    }

    /// Makes the header. This takes as long as trying its passphrase.
    pub fn header(&self, secrets: &Secrets) -> Result<NewHeader> {
        let options = self.luks(secrets)?;
        Ok(NewHeader::new(&options, self.key(secrets).secret(self.key_option)?)?)
    }

    /// What the header is to be. The secret has to be there, as for qemu-img.
    pub fn luks(&self, secrets: &Secrets) -> Result<LuksOptions> {
        self.key(secrets).secret(self.key_option)?;
        let mut luks = LuksOptions::default();
        if let Some(name) = self.text("cipher-alg") {
            luks.cipher.key_bits = match name {
                "aes-128" => 128,
                "aes-192" => 192,
                "aes-256" => 256,
                other => {
                    return Err(refused("cipher-alg", other, &["aes-128", "aes-192", "aes-256"]));
                }
            };
        }
        if let Some(name) = self.text("cipher-mode") {
            luks.cipher.mode = match name {
                "xts" => Mode::Xts,
                "cbc" => Mode::Cbc,
                other => return Err(refused("cipher-mode", other, &["xts", "cbc"])),
            };
        }
        luks.cipher.ivs = self.ivs()?;
        luks.hash = self.hash("hash-alg")?.unwrap_or(luks.hash);
        if let Some(milliseconds) = self.options.number(&format!("{}iter-time", self.prefix)) {
            luks.time = Duration::from_millis(milliseconds);
        }
        Ok(luks)
    }

    fn ivs(&self) -> Result<IvGenerator> {
        Ok(match self.text("ivgen-alg") {
            Some("plain") => IvGenerator::Plain,
            None | Some("plain64") => IvGenerator::Plain64,
            Some("essiv") => {
                IvGenerator::Essiv(self.hash("ivgen-hash-alg")?.unwrap_or(Hash::Sha256))
            }
            Some(other) => {
                return Err(refused("ivgen-alg", other, &["plain", "plain64", "essiv"]));
            }
        })
    }

    fn hash(&self, name: &str) -> Result<Option<Hash>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let known = Hash::ALL.map(Hash::name);
        Hash::of_name(text).map(Some).ok_or_else(|| refused(name, text, &known))
    }
}

/// The beginning is qemu-img's for what it does not know either.
fn refused(option: &str, value: &str, known: &[&str]) -> anyhow::Error {
    let hint = nearest::hint(value, known);
    let known = known.join(", ");
    anyhow!("Parameter '{option}' does not accept value '{value}': it is one of {known}{hint}")
}
