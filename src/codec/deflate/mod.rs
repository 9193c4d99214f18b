//! Raw deflate (RFC 1951) with a window of 4 KiB, for whole clusters.
//!
//! QEMU's reader keeps no more than that, and libraries that are fast have a window of 32 KiB built in. With one this small
//! everything that is looked at lies in the processor's nearest cache. The work goes block by block: find matches, build codes
//! for them, write both.

mod bits;
mod block;
mod huffman;
mod matches;

use bits::BitWriter;
pub(super) use bits::SLACK;
use block::{Block, CHECK_EVERY};
use matches::{Finder, MIN_MATCH, Match, TAIL};

/// How many earlier positions are tried for a match.
const DEPTH: u32 = 5;
/// A match this long is taken without looking further.
const NICE: usize = 32;

/// A compressor for clusters.
pub(super) struct Deflater {
    finder: Finder,
    block: Block,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Self { finder: Finder::new(), block: Block::default() }
    }

    /// Compresses `data` into `out`, at whose end are [`SLACK`] bytes more than the result may have; `None` where it does
    /// not fit.
    pub(super) fn compress(&mut self, data: &[u8], out: &mut [u8]) -> Option<usize> {
        let most = out.len().checked_sub(SLACK)? as u64 * 8;
        let mut writer = BitWriter::new(out);
        let length = self.write(data, &mut writer, most).map(|()| writer.finish());
        self.finder.forget(data);
        length
    }

    fn write(&mut self, data: &[u8], writer: &mut BitWriter<'_>, most: u64) -> Option<()> {
        let mut start = 0;
        loop {
            self.block.begin();
            let end = self.parse(data, start);
            let last = end == data.len();
            self.block.write(&data[start..end], last, writer, most)?;
            start = end;
            if last {
                return Some(());
            }
        }
    }

    /// Finds the matches of a block; returns where it ends.
    fn parse(&mut self, data: &[u8], start: usize) -> usize {
        let stop = data.len().saturating_sub(TAIL);
        let (mut at, mut told, mut check) = (start, start, start + CHECK_EVERY);
        while at < stop {
            let found = self.finder.find(data, at, MIN_MATCH - 1, DEPTH, NICE);
            if found.distance > 0 {
                (at, told) = self.take(data, at, told, found, stop);
            } else {
                self.block.literal(data[at]);
                at += 1;
            }
            if at >= check {
                check = at + CHECK_EVERY;
                if self.block.should_end(at - start, data.len() - at) {
                    return at;
                }
            }
        }
        data[at.min(data.len())..].iter().for_each(|&byte| self.block.literal(byte));
        data.len()
    }

    /// Takes a match, or a better one that begins a little later. Before `told` everything is told.
    #[inline(always)]
    fn take(
        &mut self,
        data: &[u8],
        mut at: usize,
        told: usize,
        mut found: Match,
        stop: usize,
    ) -> (usize, usize) {
        let mut noted = at + 1;
        while found.length < NICE && at + 1 < stop {
            let next = self.finder.find(data, at + 1, found.length - 1, DEPTH / 2, NICE);
            noted = at + 2;
            if next.distance == 0 || !is_better(next, found) {
                break;
            }
            self.block.literal(data[at]);
            at += 1;
            found = next;
        }
        self.block.copy(at - told, found);
        let end = at + found.length;
        self.finder.skip(data, noted, end);
        (end, end)
    }
}

/// Whether a match one byte later saves more than the one before.
#[inline(always)]
fn is_better(next: Match, found: Match) -> bool {
    let nearer = found.distance.ilog2() as isize - next.distance.ilog2() as isize;
    4 * (next.length as isize - found.length as isize) + nearer > 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress, Status};

    /// zlib's way with a window of 4 KiB, piece by piece, as the strictest reader would take it.
    fn inflate(packed: &[u8], length: usize) -> Vec<u8> {
        let mut stream = Decompress::new_with_window_bits(false, 12);
        let mut out = Vec::new();
        let mut piece = [0; 700];
        loop {
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let rest = &packed[before_in as usize..];
            let status = stream.decompress(rest, &mut piece, FlushDecompress::None).unwrap();
            out.extend_from_slice(&piece[..(stream.total_out() - before_out) as usize]);
            if status == Status::StreamEnd {
                assert_eq!((stream.total_in() as usize, out.len()), (packed.len(), length));
                return out;
            }
            assert!(before_in < stream.total_in() || before_out < stream.total_out());
        }
    }

    fn generator(mut state: u64) -> impl FnMut(u32) -> u32 {
        move |bound| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (((state >> 32) * u64::from(bound)) >> 32) as u32
        }
    }

    /// Text, noise, repetitions near and far, and zeroes.
    fn data(seed: u64, length: usize) -> Vec<u8> {
        let mut next = generator(seed);
        let mut data = Vec::new();
        while data.len() < length {
            let run = 1 + next(3000);
            match next(5) {
                0 => data.extend((0..run).map(|_| next(256) as u8)),
                1 => data.extend(std::iter::repeat_n(next(4) as u8, run as usize)),
                2 => data.extend((0..run).map(|n| b"the quick brown fox "[n as usize % 20])),
                3 => data.extend((0..run).map(|_| next(5) as u8 * 17)),
                _ if data.len() > 10 => {
                    let back = 1 + next(5000.min(data.len() as u32 - 1)) as usize;
                    (0..run).for_each(|_| data.push(data[data.len() - back]));
                }
                _ => {}
            }
        }
        data.truncate(length);
        data
    }

    #[test]
    fn every_reader_gets_the_same_bytes_back() {
        let mut deflater = Deflater::new();
        let mut fast = libdeflater::Decompressor::new();
        for seed in 0..300 {
            let length = [1, 2, 3, 9, 100, 512, 4096, 65536, 70000, 1 << 18][seed as usize % 10];
            let data = data(seed, length);
            let mut out = vec![0; length + 1000 + SLACK];
            let packed = deflater.compress(&data, &mut out).unwrap();
            assert!(inflate(&out[..packed], length) == data, "{seed}");
            let mut back = vec![0; length];
            assert_eq!(fast.deflate_decompress(&out[..packed], &mut back), Ok(length));
            assert!(back == data, "{seed}");
            // Nothing of an earlier cluster is left to see.
            let mut again = vec![0; out.len()];
            assert_eq!(Deflater::new().compress(&data, &mut again), Some(packed));
            assert!(again[..packed] == out[..packed]);
        }
    }

    #[test]
    fn what_does_not_fit_is_given_up() {
        let mut next = generator(3);
        let noise: Vec<u8> = (0..65536).map(|_| next(256) as u8).collect();
        let mut deflater = Deflater::new();
        let mut out = vec![0; 65535 + SLACK];
        assert_eq!(deflater.compress(&noise, &mut out), None);
        assert!(deflater.compress(&data(1, 65536), &mut out).is_some());
    }
}
