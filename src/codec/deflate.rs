//! Deflate streams for clusters, and the level that each is compressed with.

use flate2::{Compress, Compression, FlushCompress, Status};

/// The level for zlib of clusters whose sample speaks for no other: `cargo bench -- sizes` prints
/// what the choice gives.
const ZLIB_QUICK: u8 = 5;
/// The level that finds matches of three bytes. Machine code and records have many; elsewhere it
/// takes up to four times as long and is hardly better.
const ZLIB_THOROUGH: u8 = 9;
/// The level that shows at twice the speed whether a cluster of bytes that look random has matches.
const ZLIB_GLANCE: u8 = 1;
/// Bytes from the middle of a cluster that are compressed with both levels to choose one. More
/// choose better by less than a tenth of a percent, and take longer than that is worth.
const SAMPLE_BYTES: usize = 2048;
/// The thorough level is chosen where it makes the sample smaller by this part of it.
const WORTH: usize = 160;
/// Bits of a byte's entropy from which bytes look random. 64 KiB of random bytes have 7.997.
const RANDOM_BITS: f64 = 7.99;
/// The shortest cluster that is long enough to test for random bytes.
const COUNTED_BYTES: usize = 1 << 15;
/// QEMU decompresses with a window of 4 KiB.
const WINDOW_BITS: u8 = 12;

/// Makes deflate streams.
pub(super) struct Deflater {
    level: Compression,
    stream: Compress,
}

impl Deflater {
    pub(super) fn new(level: u8) -> Self {
        let level = Compression::new(level.into());
        Self { level, stream: Self::stream(level) }
    }

    fn stream(level: Compression) -> Compress {
        Compress::new_with_window_bits(level, false, WINDOW_BITS)
    }

    /// A whole stream, if there is space for it.
    pub(super) fn compress(&mut self, cluster: &[u8], space: &mut [u8]) -> Option<usize> {
        self.stream.reset();
        let outcome = self.stream.compress(cluster, space, FlushCompress::Finish);
        let length = usize::try_from(self.stream.total_out()).ok();
        if matches!(outcome, Ok(Status::StreamEnd)) {
            return length;
        }
        // zlib-rs 0.6.8 resets a stream that it could not end only in part: what it had left is in
        // the way of the next.
        self.stream = Self::stream(self.level);
        None
    }
}

/// Makes deflate streams with the level that fits the cluster. The choice depends on nothing but
/// its bytes, so that an image is the same whatever the number of threads.
pub(super) struct Chooser {
    glance: Deflater,
    quick: Deflater,
    thorough: Deflater,
}

impl Default for Chooser {
    fn default() -> Self {
        let [glance, quick, thorough] = [ZLIB_GLANCE, ZLIB_QUICK, ZLIB_THOROUGH].map(Deflater::new);
        Self { glance, quick, thorough }
    }
}

impl Chooser {
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
        self.choose(cluster, space).compress(cluster, space)
    }

    fn choose(&mut self, cluster: &[u8], space: &mut [u8]) -> &mut Deflater {
        let Self { quick, thorough, .. } = self;
        let start = (cluster.len() / 2).saturating_sub(SAMPLE_BYTES / 2);
        let Some(sample) = cluster.get(start..start + SAMPLE_BYTES) else { return thorough };
        let lengths = (quick.compress(sample, space), thorough.compress(sample, space));
        match lengths {
            (Some(long), Some(short)) if short < long - long / WORTH => thorough,
            _ => quick,
        }
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
        assert_eq!(Chooser::default().compress(&cluster, &mut space), None);
        cluster.copy_within(..2000, 3000);
        assert!(looks_random(&cluster));
        let length = Chooser::default().compress(&cluster, &mut space).unwrap();
        assert!(length < 65536 - 1000, "{length}");
    }

    #[test]
    fn text_does_not_look_random() {
        let text: Vec<u8> = random(65536).iter().map(|byte| byte % 128).collect();
        assert!(!looks_random(&text) && !looks_random(&random(4096)));
    }
}
