//! The anti-forensic splitter of LUKS ("AF splitter" in its specification): a key is spread over so
//! much random material that a part of it that is overwritten makes the key unknown.

use std::io;

use zeroize::Zeroizing;

use super::hash::Hash;
use super::random;

/// Spreads a key over this many stripes as long as itself.
pub(super) fn split(key: &[u8], stripes: usize, hash: Hash) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut material = Zeroizing::new(vec![0; key.len() * stripes]);
    let last = key.len() * stripes.saturating_sub(1);
    random::fill(&mut material[..last])?;
    let sum = diffused(&material[..last], key.len(), hash);
    for (n, byte) in material[last..].iter_mut().enumerate() {
        *byte = sum[n] ^ key[n];
    }
    Ok(material)
}

/// The key of this many bytes that is spread over the material.
pub(super) fn merge(material: &[u8], key_bytes: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let last = material.len().saturating_sub(key_bytes);
    let mut key = diffused(&material[..last], key_bytes, hash);
    add(&mut key, &material[last..]);
    key
}

/// All stripes but the last, added up and diffused in turn.
fn diffused(stripes: &[u8], bytes: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut sum = Zeroizing::new(vec![0; bytes]);
    for stripe in stripes.chunks_exact(bytes) {
        add(&mut sum, stripe);
        diffuse(&mut sum, hash);
    }
    sum
}

fn add(sum: &mut [u8], stripe: &[u8]) {
    sum.iter_mut().zip(stripe).for_each(|(sum, byte)| *sum ^= byte);
}

/// Replaces each part that is as long as a digest by the digest of its number and itself.
fn diffuse(block: &mut [u8], hash: Hash) {
    for (number, part) in (0u32..).zip(block.chunks_mut(hash.digest_bytes())) {
        let digest = hash.digest(&[&number.to_be_bytes(), part]);
        part.copy_from_slice(&digest[..part.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_all_its_stripes_and_from_no_others() {
        for hash in Hash::ALL {
            let key: Vec<u8> = (0..48).collect();
            let mut material = split(&key, 40, hash).unwrap();
            assert_eq!(material.len(), 40 * 48);
            assert_eq!(*merge(&material, key.len(), hash), key);
            material[5 * 48] ^= 1;
            assert_ne!(*merge(&material, key.len(), hash), key);
        }
    }
}
