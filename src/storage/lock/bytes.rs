//! Locks on single bytes of an open file, each a permission of QEMU's.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Byte of the first permission in use.
pub(in crate::storage) const USED_BASE: u8 = 100;
/// Byte of the first permission that is not shared.
pub(in crate::storage) const UNSHARED_BASE: u8 = 200;

/// How many permissions there are.
pub(in crate::storage) const PERMISSIONS: u8 = 4;

/// Gives up every lock of an open file.
///
/// Closing it does the same, but only once no copy of the descriptor is left, and a process that
/// another thread is just starting has one for a moment.
pub(in crate::storage) fn release(file: BorrowedFd<'_>) {
    // What cannot be released ends when the file is closed.
    let _ = set(file, libc::F_UNLCK, USED_BASE, UNSHARED_BASE - USED_BASE + PERMISSIONS);
}

/// Sets the lock of `length` bytes from `start` to `kind` (`F_RDLCK` or `F_UNLCK`) without waiting.
pub(in crate::storage) fn set(
    file: BorrowedFd<'_>,
    kind: libc::c_int,
    start: u8,
    length: u8,
) -> nix::Result<()> {
    let request = flock(kind, start, length);
    retry(|| fcntl(file, FcntlArg::F_OFD_SETLK(&request)).map(drop))
}

/// The lock that another opening of the file has in `length` bytes from `start`, if one has: the
/// number of the process that took it, or -1 where it belongs to the opening. Length 0 is up to the
/// end.
pub(in crate::storage) fn query(
    file: BorrowedFd<'_>,
    start: u8,
    length: u8,
) -> nix::Result<Option<libc::pid_t>> {
    let mut request = flock(libc::F_WRLCK, start, length);
    retry(|| fcntl(file, FcntlArg::F_OFD_GETLK(&mut request)).map(drop))?;
    let is_locked = libc::c_int::from(request.l_type) != libc::F_UNLCK;
    Ok(is_locked.then_some(request.l_pid))
}

fn retry(mut call: impl FnMut() -> nix::Result<()>) -> nix::Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the constants are 0, 1 and 2")]
fn flock(kind: libc::c_int, start: u8, length: u8) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start.into(),
        l_len: length.into(),
        l_pid: 0,
    }
}
