//! Writing compressed clusters.

use crate::codec::{Compressor, Method};
use crate::error::{Error, Result};
use crate::format::l2::L2Entry;
use crate::format::{GuestCluster, GuestOffset};

use crate::image::Image;
use crate::image::space::alloc::PackedAllocation;
use crate::image::space::claims::Access;

impl Image {
    /// Writes one whole guest cluster, compressed where that makes it smaller. `at` begins a
    /// cluster; `data` has a cluster's length, or ends with the disk. Not with an external data
    /// file.
    pub fn write_compressed(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
        let compressor = &mut Compressor::new(self.compression()?);
        self.write_compressed_with(at, data, compressor)
    }

    /// [`Image::write_compressed`] with a compressor of the image's method.
    pub fn write_compressed_with(
        &self,
        at: GuestOffset,
        data: &[u8],
        compressor: &mut Compressor,
    ) -> Result<()> {
        self.require_on_disk(at, data.len() as u64)?;
        let size = self.geometry.cluster_bytes();
        let end = at.get() + data.len() as u64;
        let whole = data.len() as u64 == size
            || end == self.virtual_size() && (data.len() as u64) < size && !data.is_empty();
        if at.get() % size != 0 || !whole {
            return Err(Error::Refused("only whole clusters can be written compressed".into()));
        }
        if self.data_file.is_some() {
            let why = "data in an external data file cannot be compressed";
            return Err(Error::Refused(why.into()));
        }
        if self.is_encrypted {
            // QEMU's words: the format has no such clusters.
            let why = "Compression and encryption not supported at the same time";
            return Err(Error::Unsupported(why.into()));
        }
        self.meta()?.begin_data_write(at, data.len() as u64)?;
        let mut cluster = data.to_vec();
        cluster.resize(self.geometry.cluster_len(), 0);
        let mut packed = Vec::new();
        match compressor.compress(&cluster, &mut packed) {
            Some(_) => self.write_packed(at, &packed),
            None => self.write(at, data),
        }
    }

    /// How this image compresses.
    pub fn compression(&self) -> Result<Method> {
        Ok(if self.meta()?.header().compression_type == 1 { Method::Zstd } else { Method::Zlib })
    }

    fn write_packed(&self, at: GuestOffset, packed: &[u8]) -> Result<()> {
        let cluster = self.geometry.guest_cluster_floor(at);
        let _claim = self.claims.claim(self.guest_clusters(at, 1), Access::Alone);
        let allocation = {
            let mut meta = self.meta()?;
            let l1 = meta.place(cluster).l1;
            meta.own_l2_table(l1)?;
            meta.allocate_packed(packed.len() as u64)?
        };
        let outcome = self.write_and_link(cluster, &allocation, packed);
        allocation.clusters.settle(&mut *self.meta()?, outcome)
    }

    fn write_and_link(
        &self,
        cluster: GuestCluster,
        allocation: &PackedAllocation,
        packed: &[u8],
    ) -> Result<()> {
        let at = allocation.at;
        self.meta()?.ordering.disk.check_data(at, packed.len() as u64)?;
        self.file
            .write_at(at.get(), packed)
            .map_err(|source| Error::io("write compressed data", at.get(), source))?;
        let entry = L2Entry::compressed(&self.geometry, at, packed.len() as u64);
        let too_far = || Error::Refused("compressed data cannot be this far into the file".into());
        let entry = entry.ok_or_else(too_far)?;
        let mut meta = self.meta()?;
        meta.ordering.disk.note_data();
        meta.replace_entries(cluster, &[entry], false)
    }
}
