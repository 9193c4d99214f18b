//! The names that a backing file's format can have: those of QEMU's block drivers.

/// Longest name of a backing file's format in bytes (QEMU's limit).
pub const MAX_FORMAT_BYTES: usize = 15;

/// The block drivers of QEMU 10, formats, protocols and filters, as far as their names are short
/// enough. Each driver of any build of QEMU is here: which ones a build lacks does not depend on an
/// image.
#[rustfmt::skip]
const DRIVERS: [&str; 44] = [
    "blkdebug", "blklogwrites", "blkreplay", "blkverify", "bochs", "cloop", "compress",
    "copy-on-read", "dmg", "file", "ftp", "ftps", "gluster", "host_cdrom",
    "host_device", "http", "https", "io_uring", "iscsi", "iser", "luks",
    "nbd", "nfs", "null-aio", "null-co", "nvme", "nvme-io_uring", "parallels",
    "preallocate", "qcow", "qcow2", "qed", "quorum", "raw", "rbd",
    "replication", "snapshot-access", "ssh", "throttle", "vdi", "vhdx", "vmdk",
    "vpc", "vvfat",
];

/// Whether QEMU has a driver of this name.
pub fn is_driver(name: &[u8]) -> bool {
    DRIVERS.iter().any(|driver| driver.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_distinguished_from_others_to_the_letter() {
        assert!(
            DRIVERS.iter().all(|name| name.len() <= MAX_FORMAT_BYTES && is_driver(name.as_bytes()))
        );
        assert!(!is_driver(b"Raw") && !is_driver(b"ra") && !is_driver(b""));
    }
}
