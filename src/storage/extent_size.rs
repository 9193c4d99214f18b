//! The extent size hint: in what pieces a file system allocates a file. XFS has it.
//!
//! Unsafe code, since no library that is used here has these two calls
//! (`ioctl_xfs_fsgetxattr(2)`).

#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// `struct fsxattr` of `linux/fs.h`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Attributes {
    flags: u32,
    /// Bytes.
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    unused: [u8; 8],
}

/// `FS_IOC_FSGETXATTR`.
const GET: Opcode = opcode::read::<Attributes>(b'X', 31);

/// `FS_IOC_FSSETXATTR`.
const SET: Opcode = opcode::write::<Attributes>(b'X', 32);

/// `FS_XFLAG_EXTSIZE`: the extent size counts.
const HAS_EXTENT_SIZE: u32 = 0x800;

/// The hint of a file in bytes, where the file system has such hints and the file has one.
pub fn get(file: impl AsFd) -> Option<u32> {
    attributes(&file).ok().map(|found| found.extent_size).filter(|&bytes| bytes != 0)
}

/// Gives an empty file a hint, in bytes. Fails with the system's error: where the file system has
/// no hints, and for a size that it does not take (XFS: not a multiple of its blocks, or more than
/// half of an allocation group).
pub fn set(file: impl AsFd, bytes: NonZeroU32) -> io::Result<()> {
    let mut changed = attributes(&file)?;
    changed.extent_size = bytes.get();
    changed.flags |= HAS_EXTENT_SIZE;
    // SAFETY: this call reads a `struct fsxattr`, which `Attributes` is, and keeps no pointer.
    Ok(unsafe { ioctl(&file, Setter::<SET, Attributes>::new(changed)) }?)
}

fn attributes(file: &impl AsFd) -> rustix::io::Result<Attributes> {
    // SAFETY: this call writes a `struct fsxattr`, which `Attributes` is: any bits are valid.
    unsafe { ioctl(file, Getter::<GET, Attributes>::new()) }
}
