//! QEMU's image locks, so that an image in use by a virtual machine is left alone.
//!
//! A process that uses permission `n` of an image holds a shared lock on byte `100 + n` of the
//! file, and one on byte `200 + n` for each permission that it does not let others use. Having
//! taken its own, it looks for locks of others that exclude it. The locks are those of the open
//! file description (`F_OFD_SETLK`), so two openings of one file in one process exclude each other
//! too. The sets used here are those of `qemu-img check`, `qemu-img check -U` and
//! `qemu-img check -r`.

pub(super) mod bytes;
mod holder;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;

use bytes::{PERMISSIONS, UNSHARED_BASE, USED_BASE, query, release, set};

use super::{FileId, FileStorage, ReadAt};
use crate::error::{Error, LockConflict, Result};

/// How often a lock is tried, and the pause in between.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// QEMU's block permissions; the value is the position within both ranges of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Permission {
    ConsistentRead = 0,
    Write = 1,
    WriteUnchanged = 2,
    Resize = 3,
}

use Permission::{ConsistentRead, Resize, Write, WriteUnchanged};

/// What a file is opened for, which decides what others may do meanwhile. Each is what `qemu-img`
/// takes for some of its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Reading while others may write (`-U`, `--force-share`): what is read may be inconsistent.
    ReadShared,
    /// Reading the metadata of an image, without data: others may read, and need not let others
    /// read.
    Describe,
    /// Reading; others may read too.
    Read,
    /// Reading a file that has only data in it; others may write it, and not resize it.
    ReadData,
    /// Reading, writing and resizing; others may do none of it, except for [`Access::ReadShared`].
    Write,
    /// Reading, writing and resizing a file that has only data in it; others may write too, if they
    /// let others do so.
    WriteData,
    /// Reading and writing a raw disk that others may write and resize, if they let others do so.
    WriteShared,
    /// Reading, writing and resizing a raw disk that others may write and resize, if they let
    /// others do so.
    ResizeShared,
}

impl Access {
    fn used(self) -> &'static [Permission] {
        match self {
            Self::Describe => &[],
            Self::ReadShared | Self::Read | Self::ReadData => &[ConsistentRead],
            Self::WriteShared => &[ConsistentRead, Write],
            Self::Write | Self::WriteData | Self::ResizeShared => &[ConsistentRead, Write, Resize],
        }
    }

    fn unshared(self) -> &'static [Permission] {
        match self {
            Self::ReadShared | Self::WriteShared | Self::ResizeShared => &[],
            Self::ReadData | Self::WriteData => &[Resize],
            Self::Describe | Self::Read | Self::Write => &[Write, Resize],
        }
    }

    /// Whether the file is written.
    pub const fn writes(self) -> bool {
        match self {
            Self::ReadShared | Self::Describe | Self::Read | Self::ReadData => false,
            Self::Write | Self::WriteData | Self::WriteShared | Self::ResizeShared => true,
        }
    }
}

/// Whether the image is protected now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// The lock is held.
    Held,
    /// The file system does not support locks; as in QEMU, work continues without.
    Unavailable,
}

/// Takes QEMU's locks for `access` on an open file; they are released when `file` is dropped.
///
/// On a file that already has locks from an earlier call, those of `access` replace them.
///
/// Fails with [`Error::Locked`] if another opening of the image excludes this one, with
/// [`Error::Io`] if a lock call itself fails; the file then has no locks at all.
///
/// A process that was killed holds its locks until the kernel has taken it apart, so that one which
/// excludes this opening is given a moment.
pub fn lock(file: &FileStorage, access: Access) -> Result<Locking> {
    for _ in 1..ATTEMPTS {
        match lock_at_once(file, access) {
            Err(Error::Locked(_)) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    lock_at_once(file, access)
}

/// Whether another opening of this file uses the permission to write it; takes no lock. `None`
/// where it has no locks: it is not a file, or on a file system without them.
pub fn is_open_for_writing(source: &dyn ReadAt) -> Option<bool> {
    let locked = query(source.file()?, used_byte(Write), 1).ok()?;
    Some(locked.is_some())
}

fn lock_at_once(file: &FileStorage, access: Access) -> Result<Locking> {
    // QEMU's own test of whether there are locks (`locking=auto`).
    if query(file.as_fd(), 0, 0).is_err() {
        return Ok(Locking::Unavailable);
    }
    let result = take(file, access).and_then(|()| look_for_conflicts(file, access));
    if result.is_err() {
        release(file.as_fd());
    }
    result.map(|()| {
        if let Some(path) = file.path() {
            let (used, unshared) = (names(access.used()), names(access.unshared()));
            log::info!("'{}': locks held for {used}; not shared: {unshared}", path.display());
        }
        Locking::Held
    })
}

fn take(file: &FileStorage, access: Access) -> Result<()> {
    let used = access.used().iter().map(|&p| used_byte(p));
    let wanted: Vec<u8> = used.chain(access.unshared().iter().map(|&p| unshared_byte(p))).collect();
    for byte in all_bytes() {
        let kind = if wanted.contains(&byte) { libc::F_RDLCK } else { libc::F_UNLCK };
        match set(file.as_fd(), kind, byte, 1) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let lock = format!("lock on byte {byte} of the file");
                return Err(conflict(file, access, lock, byte, None));
            }
            Err(errno) => return Err(lock_error("lock the image", byte, errno)),
        }
    }
    Ok(())
}

fn look_for_conflicts(file: &FileStorage, access: Access) -> Result<()> {
    let used = access.used().iter().map(|&p| (unshared_byte(p), format!("\"{}\" lock", name(p))));
    let unshared = access.unshared().iter();
    let unshared = unshared.map(|&p| (used_byte(p), format!("shared \"{}\" lock", name(p))));
    for (byte, lock) in used.chain(unshared) {
        let found = query(file.as_fd(), byte, 1);
        let found =
            found.map_err(|errno| lock_error("look for locks of the image", byte, errno))?;
        if let Some(holder) = found {
            return Err(conflict(file, access, lock, byte, Some(holder)));
        }
    }
    Ok(())
}

/// The error for a lock of another opening; `owner` is the number of its process, where the lock
/// has one.
fn conflict(
    file: &FileStorage,
    access: Access,
    lock: String,
    byte: u8,
    owner: Option<libc::pid_t>,
) -> Error {
    let process = owner.and_then(|id| u32::try_from(id).ok()).and_then(holder::process);
    let with_lock = || holder::with_lock(FileId::of_open(file).ok()?, byte);
    Error::Locked(Box::new(LockConflict {
        lock,
        file: file.path().map(Into::into),
        holder: process.or_else(with_lock),
        is_readable: !access.writes(),
    }))
}

fn lock_error(action: &str, byte: u8, errno: Errno) -> Error {
    Error::io(action, byte.into(), io::Error::from(errno))
}

fn used_byte(permission: Permission) -> u8 {
    USED_BASE + permission as u8
}

fn unshared_byte(permission: Permission) -> u8 {
    UNSHARED_BASE + permission as u8
}

/// Every byte that can be locked, in the order in which QEMU takes them.
fn all_bytes() -> impl Iterator<Item = u8> {
    let all: [_; PERMISSIONS as usize] = [ConsistentRead, Write, WriteUnchanged, Resize];
    all.map(used_byte).into_iter().chain(all.map(unshared_byte))
}

fn names(permissions: &[Permission]) -> String {
    match permissions {
        [] => "nothing".into(),
        some => some.iter().map(|&permission| name(permission)).collect::<Vec<_>>().join(", "),
    }
}

/// The name of a permission in QEMU's messages.
fn name(permission: Permission) -> &'static str {
    match permission {
        ConsistentRead => "consistent read",
        Write => "write",
        WriteUnchanged => "write unchanged",
        Resize => "resize",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openings(n: usize) -> (tempfile::TempDir, Vec<FileStorage>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let files = (0..n).map(|_| FileStorage::open_or_create(&path).unwrap()).collect();
        (dir, files)
    }

    fn refusal(file: &FileStorage, access: Access) -> LockConflict {
        match lock(file, access) {
            Err(Error::Locked(conflict)) => *conflict,
            other => panic!("{access:?} gave {other:?}"),
        }
    }

    #[test]
    fn two_readers_share_and_a_writer_is_refused_since_they_do_not_share_writing() {
        let (dir, files) = openings(3);
        assert_eq!(lock(&files[0], Access::Read).unwrap(), Locking::Held);
        assert_eq!(lock(&files[1], Access::Read).unwrap(), Locking::Held);
        let conflict = refusal(&files[2], Access::Write);
        assert_eq!(conflict.lock, "\"write\" lock");
        assert_eq!(conflict.file, Some(dir.path().join("image")));
        assert!(!conflict.is_readable);
    }

    #[test]
    fn a_writer_excludes_readers_and_writers_but_not_a_forced_reader() {
        let (_dir, files) = openings(2);
        lock(&files[0], Access::Write).unwrap();
        let conflict = refusal(&files[1], Access::Read);
        assert_eq!((conflict.lock.as_str(), conflict.is_readable), ("shared \"write\" lock", true));
        refusal(&files[1], Access::Write);
        assert_eq!(lock(&files[1], Access::ReadShared).unwrap(), Locking::Held);
    }

    #[test]
    fn a_refused_opening_holds_nothing_and_a_dropped_one_releases() {
        let (_dir, mut files) = openings(3);
        lock(&files[0], Access::Read).unwrap();
        refusal(&files[1], Access::Write);
        lock(&files[2], Access::Read).unwrap();
        files.remove(0);
        files.remove(1);
        lock(&files[0], Access::Write).unwrap();
    }

    #[test]
    fn a_dropped_opening_releases_while_a_copy_of_its_descriptor_is_open() {
        let (_dir, mut files) = openings(2);
        lock(&files[0], Access::Write).unwrap();
        let copy = std::os::fd::AsFd::as_fd(&files[0]).try_clone_to_owned().unwrap();
        files.remove(0);
        lock(&files[0], Access::Write).unwrap();
        drop(copy);
    }

    #[test]
    fn a_second_call_replaces_the_locks_of_the_first() {
        let (_dir, files) = openings(2);
        lock(&files[0], Access::Write).unwrap();
        lock(&files[0], Access::Read).unwrap();
        lock(&files[1], Access::Read).unwrap();
    }
}
