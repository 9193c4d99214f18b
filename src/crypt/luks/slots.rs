//! Key slots of a header that is in a file: a passphrase is added, slots are erased.
//!
//! A slot is in use once its material and its record are on stable storage, and it is no longer in
//! use before either changes. Its state is four bytes of one sector, so that a crash leaves each
//! slot in use or free, and never in use with the material of another key.

use std::time::Duration;

use zeroize::Zeroizing;

use super::header::{Header, MasterKey};
use super::new::{salt, seal};
use super::options::SlotChange;
use super::rate;
use crate::crypt::primitive::random;
use crate::crypt::secret::Secret;
use crate::error::{Error, Result};
use crate::format::luks::KEY_SLOTS;
use crate::format::luks::keys::{SALT_BYTES, STATE_BYTES, encode_slot, slot_record};
use crate::sector::SECTOR_LEN;
use crate::storage::{ReadAt, Storage};

/// Passes over the material of a slot that is erased, as in QEMU.
const PASSES: usize = 40;

/// A change that is possible in the header that it was planned for.
#[derive(Debug)]
pub struct SlotPlan(Planned);

#[derive(Debug)]
enum Planned {
    Add { secret: Secret, slot: usize, time: Duration },
    Erase(Vec<usize>),
}

/// The words here are qemu-img's.
fn refused<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Refused(why.into()))
}

impl Header {
    /// Finds the slots that a change is about. This takes the time that the iterations of the slots
    /// need, where a passphrase selects them. Nothing is written.
    ///
    /// Fails with [`Error::Refused`] where the change is not possible, and with [`Error::Io`].
    pub fn plan(&self, source: &dyn ReadAt, change: &SlotChange) -> Result<SlotPlan> {
        let (SlotChange::Add { slot, .. } | SlotChange::Erase { slot, .. }) = change;
        if let Some(slot) = slot.filter(|&slot| slot >= KEY_SLOTS) {
            let last = KEY_SLOTS - 1;
            return refused(format!(
                "Invalid keyslot {slot} specified, must be between 0 and {last}"
            ));
        }
        let (planned, slots) = match change {
            SlotChange::Add { secret, slot, time, force } => {
                let slot = self.slot_to_add(*slot, *force)?;
                (Planned::Add { secret: secret.clone(), slot, time: *time }, vec![slot])
            }
            SlotChange::Erase { slot, secret, force } => {
                let slots = self.slots_to_erase(source, *slot, secret.as_ref(), *force)?;
                (Planned::Erase(slots.clone()), slots)
            }
        };
        match slots.into_iter().find(|&slot| !self.has_space(slot)) {
            None => Ok(SlotPlan(planned)),
            Some(slot) => refused(format!(
                "Keyslot {slot} has its key material past the end of the encryption header"
            )),
        }
    }

    /// Whether the material of a slot is inside the header. A free slot may name any offset.
    fn has_space(&self, slot: usize) -> bool {
        let bytes = self.split_bytes(slot).next_multiple_of(SECTOR_LEN) as u64;
        let end = self.public.slots[slot].key_offset.checked_add(bytes);
        end.is_some_and(|end| end <= self.length.min(self.public.payload_offset))
    }

    fn slot_to_add(&self, slot: Option<usize>, force: bool) -> Result<usize> {
        match slot {
            Some(slot) if self.is_active(slot) && !force => refused(format!(
                "Refusing to overwrite active keyslot {slot} - please erase it first"
            )),
            Some(slot) => Ok(slot),
            None => match self.free_slot() {
                Some(slot) => Ok(slot),
                None => refused("Can't add a keyslot - all keyslots are in use"),
            },
        }
    }

    fn slots_to_erase(
        &self,
        source: &dyn ReadAt,
        slot: Option<usize>,
        secret: Option<&Secret>,
        force: bool,
    ) -> Result<Vec<usize>> {
        let active: Vec<usize> = (0..KEY_SLOTS).filter(|&slot| self.is_active(slot)).collect();
        let opens = |slot, secret| Ok::<_, Error>(self.try_slot(source, slot, secret)?.is_some());
        match (slot, secret) {
            (None, None) => refused(
                "To erase keyslot(s), either explicit keyslot index or the password currently \
                 contained in them must be given",
            ),
            (Some(slot), Some(secret)) if !opens(slot, secret)? => refused(format!(
                "Given keyslot {slot} doesn't contain the given old password for erase operation"
            )),
            (Some(slot), _) if !self.is_active(slot) && !force => {
                refused(format!("Given keyslot {slot} is already erased (inactive) "))
            }
            (Some(slot), _) if active == [slot] && !force => refused(format!(
                "Attempt to erase the only active keyslot {slot} which will erase all the data in \
                 the image irreversibly - refusing operation"
            )),
            (Some(slot), _) => Ok(vec![slot]),
            (None, Some(secret)) => {
                let mut found = Vec::new();
                for &slot in &active {
                    if opens(slot, secret)? {
                        found.push(slot);
                    }
                }
                match found.len() {
                    0 => refused("No keyslots match given (old) password for erase operation"),
                    all if all == active.len() && !force => refused(
                        "All the active keyslots match the (old) password that was given and \
                         erasing them will erase all the data in the image irreversibly - refusing \
                         operation",
                    ),
                    _ => Ok(found),
                }
            }
        }
    }

    /// Changes the slots. Everything is on stable storage when this returns. A crash or a failure
    /// leaves the passphrases of other slots, and of a slot that is overwritten the old one or the
    /// new one, where another slot is free for the time between.
    ///
    /// Fails with the error of a read, write or flush, and with [`Error::Io`] where the system has
    /// no random bytes.
    pub fn apply(&mut self, file: &dyn Storage, key: &MasterKey, plan: &SlotPlan) -> Result<()> {
        let (secret, slot, time) = match &plan.0 {
            Planned::Erase(slots) => {
                return slots.iter().try_for_each(|&slot| self.erase(file, slot));
            }
            Planned::Add { secret, slot, time } => (secret, *slot, *time),
        };
        let iterations = rate::iterations(self.hash, key.0.len(), time)?;
        let salt = salt()?;
        let material = seal(&self.spec, self.hash, key, secret, (&salt, iterations))?;
        if !self.is_active(slot) {
            return self.fill(file, slot, (&salt, iterations), &material);
        }
        // The new passphrase opens another slot while this one has neither.
        let between = self.free_slot();
        if let Some(between) = between {
            self.fill(file, between, (&salt, iterations), &material)?;
        }
        self.erase(file, slot)?;
        self.fill(file, slot, (&salt, iterations), &material)?;
        between.map_or(Ok(()), |between| self.erase(file, between))
    }

    fn is_active(&self, slot: usize) -> bool {
        self.public.slots[slot].active
    }

    fn free_slot(&self) -> Option<usize> {
        (0..KEY_SLOTS).find(|&slot| !self.is_active(slot) && self.has_space(slot))
    }

    /// Takes a free slot into use.
    fn fill(
        &mut self,
        file: &dyn Storage,
        slot: usize,
        (salt, iterations): (&[u8; SALT_BYTES], u32),
        material: &[u8],
    ) -> Result<()> {
        self.write(file, self.public.slots[slot].key_offset, material)?;
        self.keys.slots[slot] = *salt;
        self.public.slots[slot].iterations = iterations;
        self.write_record(file, slot)?;
        self.sync(file)?;
        self.set_active(file, slot, true)
    }

    /// Takes a slot out of use, and overwrites what could open it.
    fn erase(&mut self, file: &dyn Storage, slot: usize) -> Result<()> {
        self.set_active(file, slot, false)?;
        self.keys.slots[slot].fill(0);
        self.public.slots[slot].iterations = 0;
        self.write_record(file, slot)?;
        let mut garbage =
            Zeroizing::new(vec![0; self.split_bytes(slot).next_multiple_of(SECTOR_LEN)]);
        for _ in 0..PASSES {
            random::fill(&mut garbage).map_err(|e| Error::file("get random bytes", e))?;
            self.write(file, self.public.slots[slot].key_offset, &garbage)?;
            // Passes that only meet in memory would be one.
            self.sync(file)?;
        }
        Ok(())
    }

    fn set_active(&mut self, file: &dyn Storage, slot: usize, active: bool) -> Result<()> {
        self.public.slots[slot].active = active;
        let record = encode_slot(&self.public, &self.keys, slot);
        self.write(file, slot_record(slot) as u64, &record[..STATE_BYTES])?;
        self.sync(file)
    }

    fn write_record(&self, file: &dyn Storage, slot: usize) -> Result<()> {
        let record = encode_slot(&self.public, &self.keys, slot);
        self.write(file, slot_record(slot) as u64, &record)
    }

    /// Writes at an offset from the start of the header.
    fn write(&self, file: &dyn Storage, at: u64, bytes: &[u8]) -> Result<()> {
        let at = self.at.saturating_add(at);
        file.write_at(at, bytes).map_err(|e| Error::io("write the LUKS header", at, e))
    }

    fn sync(&self, file: &dyn Storage) -> Result<()> {
        file.sync().map_err(|e| Error::file("flush the LUKS header", e))
    }
}
