//! Deflate streams for clusters.

use super::tuned::{Encoder, Search};

/// The level that finds matches of three bytes, of which machine code and records have many, and
/// how long it searches when no level is named: a fifth of the time that the level takes for
/// programs. `cargo bench -- sizes` prints what the choice gives.
const DEFAULT_LEVEL: u8 = 9;
const DEFAULT_SEARCH: Search =
    Search { good_length: 8, max_lazy: 32, nice_length: 128, max_chain: 96 };
/// The level that shows in little time whether a cluster of bytes that look random has matches.
const GLANCE: u8 = 1;
/// Bits of a byte's entropy from which bytes look random. 64 KiB of random bytes have 7.997.
const RANDOM_BITS: f64 = 7.99;
/// The shortest cluster that is long enough to test for random bytes.
const COUNTED_BYTES: usize = 1 << 15;

/// Makes deflate streams of one level.
pub(super) struct Deflater {
    level: u8,
    search: Option<Search>,
    /// `None`: it could not get its memory, and everything stays as it is.
    encoder: Option<Encoder>,
}

impl Deflater {
    /// A level from 1 to 9.
    pub(super) fn new(level: u8) -> Self {
        Self::with_search(level, None)
    }

    fn with_search(level: u8, search: Option<Search>) -> Self {
        Self { level, search, encoder: Encoder::new(level, search) }
    }

    /// A whole stream, if there is space for it.
    pub(super) fn compress(&mut self, cluster: &[u8], space: &mut [u8]) -> Option<usize> {
        let length = self.encoder.as_mut()?.encode(cluster, space);
        if length.is_none() {
            // zlib-rs 0.6.8 resets a stream that it could not end only in part: what it had left
            // is in the way of the next.
            self.encoder = Encoder::new(self.level, self.search);
        }
        length
    }
}

/// Makes deflate streams when no level is named.
pub(super) struct DefaultDeflater {
    glance: Deflater,
    thorough: Deflater,
}

impl Default for DefaultDeflater {
    fn default() -> Self {
        let thorough = Deflater::with_search(DEFAULT_LEVEL, Some(DEFAULT_SEARCH));
        Self { glance: Deflater::new(GLANCE), thorough }
    }
}

impl DefaultDeflater {
    /// A whole stream, if there is space for it; `None` too where nothing makes the bytes fewer.
    pub(super) fn compress(&mut self, cluster: &[u8], space: &mut [u8]) -> Option<usize> {
        if looks_random(cluster) {
            // The quickest level has one fixed code, in which random bytes without matches are
            // longer by 5.5 percent.
            let length = self.glance.compress(cluster, space);
            if length.is_none_or(|length| length >= cluster.len() + cluster.len() / 20) {
                return None;
            }
        }
        self.thorough.compress(cluster, space)
    }
}

/// Whether each byte is about as frequent as every other.
fn looks_random(cluster: &[u8]) -> bool {
    if cluster.len() < COUNTED_BYTES {
        return false;
    }
    // Four tables, so that the increments of equal bytes do not wait for each other.
    let mut counts = [[0u32; 256]; 4];
    for bytes in cluster.chunks_exact(4) {
        for (counts, &byte) in counts.iter_mut().zip(bytes) {
            counts[usize::from(byte)] += 1;
        }
    }
    let total = cluster.len() as f64;
    let entropy: f64 = (0..256)
        .map(|byte| f64::from(counts.iter().map(|counts| counts[byte]).sum::<u32>()) / total)
        .filter(|&part| part > 0.0)
        .map(|part| -part * part.log2())
        .sum();
    entropy > RANDOM_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn random_bytes_that_come_again_are_compressed_all_the_same() {
        let mut cluster = random(65536);
        let mut space = vec![0; 70_000];
        assert!(looks_random(&cluster));
        assert_eq!(DefaultDeflater::default().compress(&cluster, &mut space), None);
        cluster.copy_within(..2000, 3000);
        assert!(looks_random(&cluster));
        let length = DefaultDeflater::default().compress(&cluster, &mut space).unwrap();
        assert!(length < 65536 - 1000, "{length}");
    }

    #[test]
    fn text_does_not_look_random() {
        let text: Vec<u8> = random(65536).iter().map(|byte| byte % 128).collect();
        assert!(!looks_random(&text) && !looks_random(&random(4096)));
    }
}
