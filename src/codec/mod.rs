//! Compressed clusters: bytes to fewer bytes and back, without I/O.
//!
//! A [`Compressor`] or [`Decompressor`] keeps the tables of its library from one cluster to the
//! next; each thread has its own.

mod decompressors;
mod deflate;
mod tuned;

use std::ops::RangeInclusive;

use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

pub(crate) use decompressors::Decompressors;
use deflate::{DefaultDeflater, Deflater};

/// The default for zstd, which is qemu-img's: one below is a seventh faster, and over one percent
/// larger.
const ZSTD_LEVEL: u8 = 3;
/// Bytes that a stream can have beside those of data that does not get smaller, which grow by less
/// than a sixteenth.
const SLACK: usize = 64;

/// How clusters are compressed: one method for the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Raw deflate.
    Zlib,
    /// One zstd frame.
    Zstd,
}

impl Method {
    /// How hard it can be tried to compress: the more, the smaller and slower.
    pub const fn levels(self) -> RangeInclusive<u8> {
        match self {
            Self::Zlib => 1..=9,
            Self::Zstd => 1..=22,
        }
    }
}

/// Compresses clusters.
pub struct Compressor {
    engine: Engine,
}

enum Engine {
    Zlib(Box<Deflater>),
    /// No level is named.
    ZlibDefault(Box<DefaultDeflater>),
    Zstd(zstd::bulk::Compressor<'static>),
    /// The library could not get its memory: everything stays as it is.
    Missing,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor.
    pub fn new(method: Method) -> Self {
        Self::with_level(method, None)
    }

    /// A compressor that tries this hard: one of [`Method::levels`], or the nearest. `None`: what
    /// makes images as long as qemu-img's in less time.
    pub fn with_level(method: Method, level: Option<u8>) -> Self {
        let levels = method.levels();
        let level = level.map(|level| level.clamp(*levels.start(), *levels.end()));
        let engine = match (method, level) {
            (Method::Zlib, Some(level)) => Engine::Zlib(Box::new(Deflater::new(level))),
            (Method::Zlib, None) => Engine::ZlibDefault(Box::default()),
            (Method::Zstd, level) => {
                zstd::bulk::Compressor::new(level.unwrap_or(ZSTD_LEVEL).into())
                    .map_or(Engine::Missing, Engine::Zstd)
            }
        };
        Self { engine }
    }

    /// Appends the compressed bytes to `out` and returns how many they are, or `None`, with nothing
    /// appended, where they are not fewer.
    pub fn compress(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let start = out.len();
        out.resize(start + cluster.len() + cluster.len() / 16 + SLACK, 0);
        let space = &mut out[start..];
        let length = match &mut self.engine {
            Engine::Zlib(deflater) => deflater.compress(cluster, space),
            Engine::ZlibDefault(deflater) => deflater.compress(cluster, space),
            Engine::Zstd(compressor) => compressor.compress_to_buffer(cluster, space).ok(),
            Engine::Missing => None,
        };
        let length = length.filter(|&length| length < cluster.len());
        out.truncate(start + length.unwrap_or(0));
        length
    }
}

/// Decompresses clusters.
pub struct Decompressor {
    inflate: libdeflater::Decompressor,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    /// The compressed bytes, read by whoever uses this.
    pub packed: Vec<u8>,
    /// A whole cluster, of which only a part is needed.
    pub cluster: Vec<u8>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        let (packed, cluster) = (Vec::new(), Vec::new());
        Self { inflate: libdeflater::Decompressor::new(), zstd: None, packed, cluster }
    }
}

impl Decompressor {
    /// Fills `cluster` from compressed bytes, which others may follow. `false`: they do
    /// not fill it.
    pub fn decompress(&mut self, method: Method, packed: &[u8], cluster: &mut [u8]) -> bool {
        match method {
            Method::Zlib => {
                let done = self.inflate.deflate_decompress(packed, cluster);
                done.is_ok_and(|n| n == cluster.len()) || inflate_loosely(packed, cluster)
            }
            Method::Zstd => self.unzstd(packed, cluster) || unzstd_loosely(packed, cluster),
        }
    }

    fn unzstd(&mut self, packed: &[u8], cluster: &mut [u8]) -> bool {
        let Ok(length) = zstd::zstd_safe::find_frame_compressed_size(packed) else { return false };
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        let (Some(zstd), Some(frame)) = (&mut self.zstd, packed.get(..length)) else {
            return false;
        };
        zstd.decompress_to_buffer(frame, cluster).is_ok_and(|n| n == cluster.len())
    }
}

/// Why compressed bytes do not fill a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The stream is damaged after so many bytes of the cluster.
    Broken(usize),
    /// The stream ends after so many bytes of the cluster.
    Short(usize),
}

impl Fault {
    /// Looks for it in bytes that [`Decompressor::decompress`] did not take.
    pub fn find(method: Method, packed: &[u8], cluster: &mut [u8]) -> Self {
        match method {
            Method::Zlib => {
                let mut stream = Decompress::new(false);
                let outcome = stream.decompress(packed, cluster, FlushDecompress::Finish);
                let done = usize::try_from(stream.total_out()).unwrap_or(cluster.len());
                let ended = matches!(outcome, Ok(flate2::Status::StreamEnd));
                if ended { Self::Short(done) } else { Self::Broken(done) }
            }
            Method::Zstd => {
                let length = zstd::zstd_safe::find_frame_compressed_size(packed).unwrap_or(0);
                let frame = packed.get(..length).unwrap_or_default();
                match zstd::bulk::Decompressor::new() {
                    Ok(mut zstd) if length > 0 => match zstd.decompress_to_buffer(frame, cluster) {
                        Ok(done) => Self::Short(done),
                        Err(_) => Self::Broken(0),
                    },
                    _ => Self::Broken(0),
                }
            }
        }
    }
}

/// Takes what the fast decoder does not: a stream that fills the cluster before its end mark comes.
fn inflate_loosely(packed: &[u8], cluster: &mut [u8]) -> bool {
    let mut stream = Decompress::new(false);
    let outcome = stream.decompress(packed, cluster, FlushDecompress::Finish);
    outcome.is_ok() && stream.total_out() == cluster.len() as u64
}

/// Takes what the fast decoder does not: a frame that fills the cluster before it ends, or several.
fn unzstd_loosely(packed: &[u8], cluster: &mut [u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn compress(method: Method, cluster: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let length = Compressor::new(method).compress(cluster, &mut out);
        assert_eq!(out.len(), length.unwrap_or(0));
        length.map(|_| out)
    }

    #[test]
    fn what_is_compressed_is_decompressed_with_other_bytes_after_it() {
        let cluster: Vec<u8> = (0..65536u32).map(|n| (n / 100 % 7) as u8).collect();
        for method in [Method::Zlib, Method::Zstd] {
            let mut packed = compress(method, &cluster).unwrap();
            assert!(packed.len() < 8192, "{method:?}: {}", packed.len());
            packed.extend_from_slice(&[0xFF; 100]);
            let mut decompressor = Decompressor::default();
            let mut out = vec![0; cluster.len()];
            assert!(decompressor.decompress(method, &packed, &mut out), "{method:?}");
            assert!(out == cluster, "{method:?}");
            assert!(!decompressor.decompress(method, &packed[..20], &mut out), "{method:?}");
            // The first half alone: the stream does not end where the cluster does.
            let mut half = vec![0; cluster.len() / 2];
            assert!(decompressor.decompress(method, &packed, &mut half), "{method:?}");
            assert!(half == cluster[..half.len()], "{method:?}");
        }
    }

    #[test]
    fn a_cluster_is_compressed_as_by_a_new_compressor_whatever_came_before() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        for level in Method::Zlib.levels().map(Some).chain([None]) {
            let mut used = Compressor::with_level(Method::Zlib, level);
            for n in 0..120_usize {
                let length = [512, 4096, 65536][n % 3];
                // Random bytes, then fewer and fewer of them.
                let kept = 256 >> (n % 5 * 2);
                let cluster: Vec<u8> =
                    (0..length).map(|_| (usize::from(next()) % kept) as u8).collect();
                let (mut out, mut alone) = (Vec::new(), Vec::new());
                let packed = used.compress(&cluster, &mut out);
                let again =
                    Compressor::with_level(Method::Zlib, level).compress(&cluster, &mut alone);
                assert_eq!(packed, again, "level {level:?}, {n}");
                assert!(out == alone && packed.is_none_or(|length| length < cluster.len()));
                if packed.is_some() {
                    let mut back = vec![0; length];
                    assert!(Decompressor::default().decompress(Method::Zlib, &out, &mut back));
                    assert!(back == cluster, "level {level:?}, {n}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_compressed() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        let cluster: Vec<u8> = (0..4096).map(|_| next()).collect();
        assert_eq!(compress(Method::Zlib, &cluster), None);
        assert_eq!(compress(Method::Zstd, &cluster), None);
    }
}
