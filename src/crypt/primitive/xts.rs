//! XTS (IEEE 1619) over many blocks at once, so that the cipher works on them in parallel.

use aes::Block;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};

use super::mode::{BLOCKS, SectorMode};

/// A cipher in XTS: one key for the data, one for the tweaks.
pub(super) struct Xts<C> {
    pub(super) data: C,
    pub(super) tweak: C,
}

/// The tweaks of the blocks of a sector, from that of its first block: each is the one before,
/// multiplied by x in the field of 2^128 elements.
fn tweaks(first: &Block) -> [u128; BLOCKS] {
    let mut tweak = u128_of(first);
    std::array::from_fn(|_| {
        let this = tweak;
        tweak = (this << 1) ^ (0x87 * (this >> 127));
        this
    })
}

/// IEEE 1619 numbers the bits of a block from its first byte up.
#[expect(clippy::little_endian_bytes, reason = "the order of XTS; no field of a file")]
const fn u128_of(block: &Block) -> u128 {
    u128::from_le_bytes(block.0)
}

#[expect(clippy::little_endian_bytes, reason = "the order of XTS; no field of a file")]
fn add(blocks: &mut [Block], tweaks: &[u128; BLOCKS]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        block.0 = (u128_of(block) ^ tweak).to_le_bytes();
    }
}

impl<C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>> Xts<C> {
    fn each_sector(&self, ivs: &mut [Block], data: &mut [Block], change: impl Fn(&mut [Block])) {
        self.tweak.encrypt_blocks(ivs);
        for (iv, sector) in ivs.iter().zip(data.chunks_exact_mut(BLOCKS)) {
            let tweaks = tweaks(iv);
            add(sector, &tweaks);
            change(sector);
            add(sector, &tweaks);
        }
    }
}

impl<C> SectorMode for Xts<C>
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>
        + BlockCipherDecrypt<BlockSize = aes::cipher::consts::U16>
        + Send
        + Sync,
{
    fn encrypt(&self, ivs: &mut [Block], data: &mut [Block]) {
        self.each_sector(ivs, data, |sector| self.data.encrypt_blocks(sector));
    }

    fn decrypt(&self, ivs: &mut [Block], data: &mut [Block]) {
        self.each_sector(ivs, data, |sector| self.data.decrypt_blocks(sector));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::Aes128;
    use aes::cipher::{Array, KeyInit};

    /// Vector 4 of IEEE 1619-2007, Annex B: the first blocks of a sector of 512 bytes.
    #[test]
    fn the_vector_of_the_standard_is_met() {
        let key = |text: &str| {
            let bytes: Vec<u8> =
                (0..16).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect();
            Aes128::new(&Array::try_from(bytes.as_slice()).unwrap())
        };
        let xts = Xts {
            data: key("27182818284590452353602874713526"),
            tweak: key("31415926535897932384626433832795"),
        };
        let plain: Vec<u8> = (0..512u32).map(|n| u8::try_from(n % 256).unwrap()).collect();
        let mut bytes = plain.clone();
        let blocks = |bytes: &mut [u8], encrypt: bool| {
            let (blocks, _) = Block::slice_as_chunks_mut(bytes);
            let mut ivs = [Block::default()];
            match encrypt {
                true => xts.encrypt(&mut ivs, blocks),
                false => xts.decrypt(&mut ivs, blocks),
            }
        };
        blocks(&mut bytes, true);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(&bytes[..32]),
            "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c"
        );
        blocks(&mut bytes, false);
        assert_eq!(bytes, plain);
    }
}
