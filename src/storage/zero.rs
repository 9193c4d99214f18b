//! Detecting zeroes.

/// What bytes are compared with: the library's comparison of memory is the fastest there is, in
/// builds without optimization too.
static ZEROES: [u8; 4096] = [0; 4096];

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Data is seldom zero for long: the first bytes decide in most cases.
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    head.iter().all(|&byte| byte == 0)
        && rest.chunks(ZEROES.len()).all(|part| part == &ZEROES[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        for length in [1, 63, 64, 65, 1088, 5000] {
            assert!(is_zero(&vec![0; length]));
            for at in [0, length / 2, length - 1] {
                let mut bytes = vec![0; length];
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {length}");
            }
        }
    }
}
