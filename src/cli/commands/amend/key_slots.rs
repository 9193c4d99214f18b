//! The options of key slots: a passphrase that is added, or slots that are erased.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use qcheck::crypt::luks::{LuksOptions, SlotChange};
use qcheck::crypt::{Secret, Secrets};

use crate::cli::args::options::Options;

/// The names of the options, without what is before them in a qcow2 image.
const NAMES: [&str; 5] = ["state", "new-secret", "old-secret", "keyslot", "iter-time"];

/// The options of key slots. In a LUKS image they have no prefix.
pub struct Given<'a> {
    pub options: &'a Options,
    pub prefix: &'static str,
    pub secrets: &'a Secrets,
    /// Whether `--force` is given.
    pub force: bool,
}

impl Given<'_> {
    /// The change; `None` where no option is about key slots. Errors are in qemu-img's words.
    pub fn change(&self) -> Result<Option<SlotChange>> {
        if !NAMES.iter().any(|name| self.options.has_prefix(&self.full(name))) {
            return Ok(None);
        }
        let slot = self.number("keyslot").map(|slot| usize::try_from(slot).unwrap_or(usize::MAX));
        let (force, time) = (self.force, self.number("iter-time").map(Duration::from_millis));
        Ok(Some(match self.text("state") {
            None => bail!("Parameter 'state' is missing"),
            Some("active") => {
                let missing = || anyhow!("'new-secret' is required to activate a keyslot");
                let name = self.text("new-secret").ok_or_else(missing)?;
                if self.text("old-secret").is_some() {
                    bail!("'old-secret' must not be given when activating keyslots");
                }
                let time = time.unwrap_or(LuksOptions::default().time);
                SlotChange::Add { secret: self.secret(name)?, slot, time, force }
            }
            Some("inactive") => {
                if self.text("new-secret").is_some() {
                    bail!("'new-secret' must not be given when erasing keyslots");
                }
                if time.is_some() {
                    bail!("'iter-time' must not be given when erasing keyslots");
                }
                let secret = self.text("old-secret").map(|name| self.secret(name)).transpose()?;
                SlotChange::Erase { slot, secret, force }
            }
            Some(other) => bail!("Parameter 'state' does not accept value '{other}'"),
        }))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.options.text(&self.full(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.options.number(&self.full(name))
    }

    fn secret(&self, name: &str) -> Result<Secret> {
        Ok(self.secrets.get(name)?.clone())
    }
}
