//! Random bytes for keys and salts.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills a buffer from the random number generator of the system.
pub(in crate::crypt) fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let filled = match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            filled => filled?,
        };
        bytes = &mut bytes[filled..];
    }
    Ok(())
}
