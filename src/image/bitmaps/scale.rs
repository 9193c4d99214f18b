//! Bits of one granularity as bits of another: a bit is set where one is for any of its guest
//! bytes.

use crate::image::meta::bitmaps::set_bits;

/// Sets in `out` each bit of which `2^shift` bits in `finer` one is set. The first bit of `finer`
/// belongs to bit `first` of `out`.
pub(super) fn fold(finer: &[u8], shift: u32, out: &mut [u8], first: u64) {
    for (index, bits) in (0u64..).zip(finer).filter(|(_, bits)| **bits != 0) {
        if shift >= 3 {
            let bit = first + ((index * 8) >> shift);
            set_bits(out, bit, bit);
            continue;
        }
        for bit in (0..8).filter(|bit| bits >> bit & 1 != 0) {
            let bit = first + ((index * 8 + bit) >> shift);
            set_bits(out, bit, bit);
        }
    }
}

/// Sets in `out`, whose first bit is bit `first` of a bitmap, the `2^shift` bits of each bit of
/// `coarser`, whose first bit is bit `coarser_first` of its bitmap.
pub(super) fn spread(coarser: &[u8], coarser_first: u64, shift: u32, out: &mut [u8], first: u64) {
    let last = first + out.len() as u64 * 8 - 1;
    let mut set = |from: u64, to: u64| {
        let (from, to) = ((from << shift).max(first), (((to + 1) << shift) - 1).min(last));
        if from <= to {
            set_bits(out, from - first, to - first);
        }
    };
    for (index, &bits) in (0u64..).zip(coarser) {
        let from = coarser_first + index * 8;
        match bits {
            0 => {}
            0xff => set(from, from + 7),
            _ => (from..from + 8)
                .filter(|bit| bits >> (bit - from) & 1 != 0)
                .for_each(|bit| set(bit, bit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finer_bits_are_folded_into_one() {
        for (shift, finer, expected) in [
            (1, vec![0b0100_0011, 0, 0x80, 0], [0b0000_1001, 0b0000_1000]),
            (3, vec![1, 0, 0x80, 0], [0b0000_0101, 0]),
            (4, vec![0, 1, 0, 0, 1, 0], [0b0000_0101, 0]),
        ] {
            let mut out = [0; 2];
            fold(&finer, shift, &mut out, 0);
            assert_eq!(out, expected, "{shift}");
        }
        let mut out = [0; 2];
        fold(&[0xff], 3, &mut out, 9);
        assert_eq!(out, [0, 2]);
    }

    #[test]
    fn a_coarser_bit_sets_all_of_its_bits_within_the_part() {
        let mut out = [0; 2];
        spread(&[0b0000_0110], 0, 2, &mut out, 0);
        assert_eq!(out, [0xf0, 0x0f]);
        // Bits 16 to 31 of a bitmap whose coarser bits are 32 bits long.
        let mut out = [0; 2];
        spread(&[1], 0, 5, &mut out, 16);
        assert_eq!(out, [0xff, 0xff]);
        let mut out = [0; 2];
        spread(&[2, 0xff], 0, 5, &mut out, 16);
        assert_eq!(out, [0, 0]);
        spread(&[0xff], 8, 1, &mut out, 16);
        assert_eq!(out, [0xff, 0xff]);
    }
}
