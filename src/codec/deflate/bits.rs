//! A stream of bits, the first one lowest.

/// Bits on their way into bytes. Whoever writes knows before that there is room.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    bits: u64,
    count: u32,
}

/// Bytes behind the end that may be overwritten with anything.
pub(in crate::codec) const SLACK: usize = 8;

impl<'a> BitWriter<'a> {
    /// Writes to the beginning of `out`, of which the last [`SLACK`] bytes are not for data.
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, bits: 0, count: 0 }
    }

    /// Bits written so far.
    pub(super) const fn written(&self) -> u64 {
        self.at as u64 * 8 + self.count as u64
    }

    /// Adds up to 48 bits, with at most 63 waiting.
    #[inline(always)]
    pub(super) fn add(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    /// Brings whole bytes out; up to 7 bits wait afterwards.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        #[expect(clippy::little_endian_bytes, reason = "the first bit of deflate is the lowest")]
        let bytes = self.bits.to_le_bytes();
        self.out[self.at..self.at + 8].copy_from_slice(&bytes);
        self.at += (self.count >> 3) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }

    /// Adds bits and brings them out.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.add(bits, count);
        self.flush();
    }

    /// Fills the last byte, and copies whole bytes behind it.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let fill = self.count.wrapping_neg() & 7;
        self.put(0, fill);
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Fills the last byte; returns how many bytes there are.
    pub(super) fn finish(mut self) -> usize {
        let fill = self.count.wrapping_neg() & 7;
        self.put(0, fill);
        self.at
    }
}
