//! The key slots of an image that is encrypted with LUKS.

use crate::crypt::luks::{Header, MasterKey, SlotChange, SlotPlan};
use crate::crypt::no_key;
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::image::Image;
use crate::image::meta::encryption::{Encryption, KEY_OPTION, luks_header};
use crate::tables::HeaderArea;

impl Image {
    /// Finds the key slots that a change is about; see [`Header::plan`].
    ///
    /// Fails as it does, with [`Error::Refused`] where the image is not encrypted with LUKS, and
    /// with [`Error::NoKey`] where it was opened without its secret.
    pub(crate) fn plan_slots(&self, change: &SlotChange) -> Result<SlotPlan> {
        let (header, _) = self.luks()?;
        header.plan(self.file.as_ref(), change)
    }

    /// Changes the key slots. Everything is on stable storage when this returns; see
    /// [`Header::apply`].
    pub(crate) fn change_slots(&self, plan: &SlotPlan) -> Result<()> {
        let (mut header, key) = self.luks()?;
        let mut meta = self.meta()?;
        meta.flush(true)?;
        let done = header.apply(self.file.as_ref(), key, plan);
        if done.is_err() {
            meta.ordering.disk.stop();
        }
        done
    }

    fn luks(&self) -> Result<(Header, &MasterKey)> {
        let area = HeaderArea::load(self.file.as_ref())?;
        // qemu-img's words.
        let why = match area.header.crypt_method {
            CryptMethod::Luks => {
                let key = self.encryption.as_ref().and_then(Encryption::master);
                let key = key.ok_or_else(|| no_key(KEY_OPTION))?;
                return Ok((luks_header(&area, self.file.as_ref())?, key));
            }
            CryptMethod::None => "Can't amend encryption options - encryption not present",
            _ => "Only LUKS encryption options can be amended",
        };
        Err(Error::Refused(why.into()))
    }
}
