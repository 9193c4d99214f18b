//! The anti-forensic splitter of LUKS ("AF splitter" in its specification): a key is spread over so
//! much random material that a part of it that is overwritten makes the key unknown.

use std::io;

use zeroize::Zeroizing;

use super::random;
use crate::crypt::hash::Hash;

/// Spreads a key over stripes as long as itself, which fill the material.
pub(in crate::crypt) fn split(key: &[u8], material: &mut [u8], hash: Hash) -> io::Result<()> {
    let (stripes, last) = material.split_at_mut(material.len().saturating_sub(key.len()));
    random::fill(stripes)?;
    last.copy_from_slice(&diffused(stripes, key.len(), hash));
    add(last, key);
    Ok(())
}

/// The key of this many bytes that is spread over the material.
pub(in crate::crypt) fn merge(material: &[u8], key_bytes: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
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
            let mut material = vec![0; 40 * 48];
            split(&key, &mut material, hash).unwrap();
            assert_eq!(*merge(&material, key.len(), hash), key);
            material[5 * 48] ^= 1;
            assert_ne!(*merge(&material, key.len(), hash), key);
        }
    }
}
