//! Reading guest bytes.

use crate::crypt::no_key;
use crate::error::{Error, Result};
use crate::format::l2::CompressedExtent;
use crate::format::{GuestOffset, HostOffset};

use super::runs::RunKind;
use crate::image::Image;
use crate::image::damage::damaged;
use crate::image::meta::encryption::{Encryption, KEY_OPTION, is_whole};
use crate::image::space::claims::Access;
use crate::sector::{SECTOR, SECTOR_LEN};

impl Image {
    /// Reads `buf.len()` guest bytes at `at`, all of them on the disk. What is not in this image
    /// comes from the backing chain; past its end there are zeroes. Damage is an error (see
    /// [`crate::image::Damage`]).
    pub fn read(&self, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        self.require_on_disk(at, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        let clusters = self.guest_clusters(at, buf.len() as u64);
        let _claim = self.claims.claim(clusters, Access::Shared);
        self.read_claimed(at, buf)
    }

    /// Reads guest bytes of clusters that the caller has a claim on, up to the end of the last
    /// cluster.
    pub(in crate::image) fn read_claimed(
        &self,
        mut at: GuestOffset,
        mut buf: &mut [u8],
    ) -> Result<()> {
        self.require_key()?;
        while !buf.is_empty() {
            let run = self.meta()?.run(at, buf.len() as u64)?;
            let length = usize::try_from(run.length).expect("a run within a buffer");
            let (part, rest) = buf.split_at_mut(length);
            match run.kind {
                RunKind::Zero => part.fill(0),
                RunKind::Unallocated => match &self.backing {
                    Some(backing) => backing.read(at, part)?,
                    None => part.fill(0),
                },
                RunKind::Data(host) => self.read_plain(at, host, part)?,
                RunKind::Compressed(extent) => self.read_compressed(at, extent, part)?,
            }
            at = GuestOffset::new(at.get() + run.length);
            buf = rest;
        }
        Ok(())
    }

    /// Reads guest bytes that are stored from a host offset on.
    fn read_plain(&self, at: GuestOffset, host: HostOffset, buf: &mut [u8]) -> Result<()> {
        let Some(encryption) = &self.encryption else { return self.read_data(host, buf) };
        if is_whole(host.get(), buf.len()) {
            self.read_data(host, buf)?;
            encryption.decrypt(at, host, buf);
            return Ok(());
        }
        // Units of allocation are whole sectors, so that those around are in the same place.
        let before = host.get() % SECTOR;
        let (at, host) =
            (GuestOffset::new(at.get() - before), HostOffset::new(host.get() - before));
        let from = usize::try_from(before).expect("a part of a sector");
        let mut bytes = vec![0; (from + buf.len()).next_multiple_of(SECTOR_LEN)];
        self.read_plain(at, host, &mut bytes)?;
        buf.copy_from_slice(&bytes[from..from + buf.len()]);
        Ok(())
    }

    fn read_data(&self, host: HostOffset, buf: &mut [u8]) -> Result<()> {
        self.data()
            .read_padded_at(host.get(), buf)
            .map_err(|source| Error::io("read guest data", host.get(), source))
    }

    pub(in crate::image) fn read_compressed(
        &self,
        at: GuestOffset,
        extent: CompressedExtent,
        buf: &mut [u8],
    ) -> Result<()> {
        let length = usize::try_from(extent.bytes).expect("compressed data fits into memory");
        let method = self.compression()?;
        let mut decompressor = self.decompressors.take();
        let mut packed = std::mem::take(&mut decompressor.packed);
        packed.resize(length, 0);
        self.read_data(extent.offset, &mut packed)?;
        let within = usize::try_from(at.get() % self.geometry.cluster_bytes())
            .expect("a cluster fits into memory");
        let done = if buf.len() == self.geometry.cluster_len() {
            decompressor.decompress(method, &packed, buf)
        } else {
            let mut cluster = std::mem::take(&mut decompressor.cluster);
            cluster.resize(self.geometry.cluster_len(), 0);
            let done = decompressor.decompress(method, &packed, &mut cluster);
            buf.copy_from_slice(&cluster[within..within + buf.len()]);
            decompressor.cluster = cluster;
            done
        };
        decompressor.packed = packed;
        self.decompressors.give_back(decompressor);
        if !done {
            let guest = at.get() - within as u64;
            let reason =
                format!("compressed data of guest offset {guest:#x} cannot be decompressed");
            return Err(damaged(extent.offset, reason));
        }
        Ok(())
    }

    /// An error where guest data is encrypted and its secret was not given.
    pub(crate) fn require_key(&self) -> Result<()> {
        match self.is_locked() {
            true => Err(no_key(KEY_OPTION)),
            false => Ok(()),
        }
    }

    /// An error where guest data is encrypted and cannot be written.
    pub(in crate::image) fn require_writable_data(&self) -> Result<()> {
        self.require_key()?;
        self.encryption.as_ref().map_or(Ok(()), Encryption::require_writable)
    }

    /// Whether guest data is encrypted and its secret was not given.
    pub const fn is_locked(&self) -> bool {
        self.encryption.is_none() && self.is_encrypted
    }

    /// Whether guest data is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }
}
