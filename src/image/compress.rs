//! Compressed clusters: packing, unpacking, and writing them.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::error::{Error, Result};
use crate::format::l2::{COMPRESSED, L2Entry, SECTOR_BYTES};
use crate::format::{GuestCluster, GuestOffset};

use super::Image;
use super::alloc::PackedAllocation;
use super::claims::Access;

/// QEMU's reader keeps a window of 4 KiB, so no match may lie further back.
const WINDOW_BITS: u8 = 12;

/// How clusters are compressed: one method for the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Raw deflate.
    Zlib,
    /// One zstd frame.
    Zstd,
}

/// The compressed bytes, or `None` where they are not fewer.
pub(super) fn pack(method: Method, cluster: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; cluster.len() - 1];
    let length = match method {
        Method::Zlib => {
            let mut stream =
                Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
            let status = stream.compress(cluster, &mut out, FlushCompress::Finish).ok()?;
            (status == Status::StreamEnd).then(|| stream.total_out())?
        }
        Method::Zstd => zstd::bulk::compress_to_buffer(cluster, &mut out, 0).ok()? as u64,
    };
    out.truncate(usize::try_from(length).ok()?);
    Some(out)
}

/// Fills `cluster` from compressed bytes, behind which there may be others. `false`: they do not fill it.
pub(super) fn unpack(method: Method, packed: &[u8], cluster: &mut [u8]) -> bool {
    match method {
        Method::Zlib => {
            let mut stream = Decompress::new(false);
            let outcome = stream.decompress(packed, cluster, FlushDecompress::Finish);
            // Other data may follow, and the cluster may be full before the end mark was read.
            outcome.is_ok() && stream.total_out() == cluster.len() as u64
        }
        Method::Zstd => {
            let Ok(mut decoder) = Decoder::new() else { return false };
            let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(cluster));
            let full = output.capacity();
            while output.pos() < full {
                let before = (input.pos(), output.pos());
                if decoder.run(&mut input, &mut output).is_err() {
                    return false;
                }
                if before == (input.pos(), output.pos()) {
                    return false;
                }
            }
            true
        }
    }
}

impl Image {
    /// Writes one whole guest cluster, compressed where that makes it smaller. `at` begins a cluster; `data` has a
    /// cluster's length, or ends with the disk. Not with an external data file.
    pub fn write_compressed(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
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
        self.require_plain()?;
        self.meta()?.begin_data_write(at, data.len() as u64)?;
        let mut cluster = data.to_vec();
        cluster.resize(self.geometry.cluster_len(), 0);
        match pack(self.compression()?, &cluster) {
            Some(packed) => self.write_packed(at, &packed),
            None => self.write(at, data),
        }
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
        let x = 62 - (self.geometry.cluster_bits() - 8);
        if at.get() >> x != 0 {
            let why = "compressed data cannot lie this far into the file";
            return Err(Error::Refused(why.into()));
        }
        let additional = (at.get() % SECTOR_BYTES + packed.len() as u64 - 1) / SECTOR_BYTES;
        let entry = L2Entry::standard(COMPRESSED | additional << x | at.get());
        let mut meta = self.meta()?;
        meta.ordering.disk.note_data();
        meta.replace_entries(cluster, &[entry], false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_with_other_bytes_behind_it() {
        let cluster: Vec<u8> = (0..65536u32).map(|n| (n / 100 % 7) as u8).collect();
        for method in [Method::Zlib, Method::Zstd] {
            let mut packed = pack(method, &cluster).unwrap();
            assert!(packed.len() < 8192, "{method:?}: {}", packed.len());
            packed.extend_from_slice(&[0xFF; 100]);
            let mut out = vec![0; cluster.len()];
            assert!(unpack(method, &packed, &mut out), "{method:?}");
            assert!(out == cluster, "{method:?}");
            assert!(!unpack(method, &packed[..20], &mut out), "{method:?}");
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_packed() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        let cluster: Vec<u8> = (0..4096).map(|_| next()).collect();
        assert_eq!(pack(Method::Zlib, &cluster), None);
        assert_eq!(pack(Method::Zstd, &cluster), None);
    }
}
