//! Digests from pieces of a disk: what can be done for each piece alone, and what only in the order
//! of the disk.
//!
//! SHA-256 takes byte after byte, so pieces are only read on their own. BLAKE3 is a tree: each
//! piece is a subtree of its own, and in the order of the disk only their roots are joined.

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use sha2::Digest as _;

use super::value::Algorithm;

/// A piece, as far as it is hashed on its own.
pub(super) enum Piece {
    /// Bytes, in a buffer that is given back.
    Bytes(Vec<u8>),
    /// So many zeroes.
    Zeroes(usize),
    /// The root of a subtree.
    Subtree(ChainingValue),
    /// The only piece: the digest.
    Whole([u8; 32]),
}

/// Hashes a piece that begins at `at` on a disk of `total` bytes, as far as that can be done on its
/// own. All pieces but the last are of the same length, a power of two.
pub(super) fn prepare(
    algorithm: Algorithm,
    piece: std::result::Result<Vec<u8>, usize>,
    (at, total): (u64, u64),
    zeroes: &[u8],
) -> (Piece, Option<Vec<u8>>) {
    let (bytes, buffer) = match piece {
        Ok(bytes) if algorithm == Algorithm::Sha256 => return (Piece::Bytes(bytes), None),
        Err(length) if algorithm == Algorithm::Sha256 => return (Piece::Zeroes(length), None),
        Ok(bytes) => (None, Some(bytes)),
        Err(length) => (Some(&zeroes[..length]), None),
    };
    let bytes = bytes.or(buffer.as_deref()).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    let piece = if bytes.len() as u64 == total {
        Piece::Whole(*hasher.update(bytes).finalize().as_bytes())
    } else {
        Piece::Subtree(hasher.set_input_offset(at).update(bytes).finalize_non_root())
    };
    (piece, buffer)
}

/// The pieces in their order.
pub(super) enum Joiner {
    /// SHA-256 of all so far.
    Sha256(sha2::Sha256),
    /// The roots of complete subtrees, from large to small, and how many pieces they are.
    Blake3 {
        /// The subtrees.
        stack: Vec<ChainingValue>,
        /// Pieces so far.
        pieces: u64,
        /// Where one piece was all.
        whole: Option<[u8; 32]>,
    },
}

impl Joiner {
    /// Nothing has come yet.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Blake3 => Self::Blake3 { stack: Vec::new(), pieces: 0, whole: None },
        }
    }

    /// Takes the next piece; returns its buffer.
    pub(super) fn add(&mut self, piece: Piece, zeroes: &[u8]) -> Option<Vec<u8>> {
        match (self, piece) {
            (Self::Sha256(hasher), Piece::Bytes(bytes)) => {
                hasher.update(&bytes);
                return Some(bytes);
            }
            (Self::Sha256(hasher), Piece::Zeroes(length)) => hasher.update(&zeroes[..length]),
            (Self::Blake3 { whole, .. }, Piece::Whole(digest)) => *whole = Some(digest),
            (Self::Blake3 { stack, pieces, .. }, Piece::Subtree(subtree)) => {
                // What is complete is joined only when more comes: what is joined last is joined
                // otherwise.
                join_complete(stack, *pieces);
                stack.push(subtree);
                *pieces += 1;
            }
            _ => unreachable!("pieces are made for the algorithm that takes them"),
        }
        None
    }

    /// The digest of all pieces.
    pub(super) fn finish(self) -> [u8; 32] {
        match self {
            Self::Sha256(hasher) => hasher.finalize().into(),
            Self::Blake3 { whole: Some(digest), .. } => digest,
            Self::Blake3 { mut stack, .. } => {
                let Some(mut right) = stack.pop() else { return *blake3::hash(&[]).as_bytes() };
                while let Some(left) = stack.pop() {
                    if stack.is_empty() {
                        let root = merge_subtrees_root(&left, &right, Mode::Hash);
                        return *root.as_bytes();
                    }
                    right = merge_subtrees_non_root(&left, &right, Mode::Hash);
                }
                unreachable!("a disk of one piece is not a subtree")
            }
        }
    }
}

/// Joins subtrees of the same size, until there is one for each bit of the number of pieces.
fn join_complete(stack: &mut Vec<ChainingValue>, pieces: u64) {
    while stack.len() > pieces.count_ones() as usize {
        let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else { return };
        stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        const PIECE: usize = 4096;
        let zeroes = vec![0; PIECE];
        for length in (0..20).map(|n| n * PIECE).flat_map(|n| [n, n + 512, n + PIECE - 1]) {
            let bytes: Vec<u8> = (0..length).map(|n| (n / 3 % 251) as u8).collect();
            for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
                let mut joiner = Joiner::new(algorithm);
                for (number, part) in bytes.chunks(PIECE).enumerate() {
                    let at = ((number * PIECE) as u64, length as u64);
                    let (piece, _) = prepare(algorithm, Ok(part.to_vec()), at, &zeroes);
                    joiner.add(piece, &zeroes);
                }
                let expected: [u8; 32] = match algorithm {
                    Algorithm::Sha256 => sha2::Sha256::digest(&bytes).into(),
                    Algorithm::Blake3 => *blake3::hash(&bytes).as_bytes(),
                };
                assert_eq!(joiner.finish(), expected, "{algorithm:?} of {length}");
            }
        }
    }
}
