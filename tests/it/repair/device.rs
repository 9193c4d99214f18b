//! Repairs on storage that cannot grow: free space inside the image is used, and where there is none nothing is written.

use std::path::{Path, PathBuf};
use std::process::Command;

use qcheck::check::{CheckOptions, check};
use qcheck::error::Error;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::images::builder::{Builder, Content};
use crate::support::images::bytes::{cluster_size, header, set_header};
use crate::support::images::reader::{Reader, worse};
use crate::support::programs::run::{Ran, qcheck, qemu, qemu_ok};
use crate::support::skip::skip;

/// A loop device over a file of an image's exact size.
pub struct Device {
    folder: tempfile::TempDir,
    node: PathBuf,
}

impl Device {
    /// `None` where the user may not make one; as root it must work.
    pub fn new(image: &[u8]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("a test on a block device", "only root can set up a loop device");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("disk");
        std::fs::write(&file, image).expect("the file under the device");
        let set_up = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        let set_up = set_up.expect("losetup starts");
        let message = String::from_utf8_lossy(&set_up.stderr);
        assert!(set_up.status.success(), "losetup: {message}");
        let node = String::from_utf8(set_up.stdout).expect("a path").trim().into();
        Some(Self { folder, node })
    }

    pub fn name(&self) -> &str {
        self.node.to_str().expect("a path in UTF-8")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.node).expect("the device is readable")
    }

    fn repair(&self) -> Ran {
        qcheck(self.folder(), &["check", "-f", "qcow2", "-r", "all", self.name()])
    }

    /// What the guest sees, according to qemu-img.
    fn guest(&self) -> Vec<u8> {
        let args = ["convert", "-f", "qcow2", "-O", "raw", self.name(), "guest"];
        qemu_ok(self.folder(), "qemu-img", &args);
        std::fs::read(self.folder().join("guest")).expect("qemu-img wrote it")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("-d").arg(&self.node).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("losetup could not detach {}", self.node.display());
        }
    }
}

/// An image with this many clusters that nothing uses, filled with this byte.
fn filled(bits: u32, order: u32, spare: u64, byte: u8) -> Vec<u8> {
    let mut builder = Builder::new(200 << bits).cluster_bits(bits).refcount_order(order);
    builder.contents = (0..90_u64).map(|n| (n, Content::Data(n as u8 + 1))).collect();
    let mut bytes = builder.at(150, Content::Data(0xf1)).build().bytes;
    bytes.resize((bytes.len() as u64 + spare * cluster_size(&bytes)) as usize, byte);
    bytes
}

/// The same with what was there before in them.
fn image(bits: u32, order: u32, spare: u64) -> Vec<u8> {
    filled(bits, order, spare, 0xee)
}

fn without_reftable(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = header(&bytes, "refcount_table_offset") as usize;
    let length = header(&bytes, "refcount_table_clusters") * cluster_size(&bytes);
    bytes[at..at + length as usize].fill(0);
    bytes
}

#[test]
fn a_zeroed_refcount_table_on_a_device_is_rebuilt_in_place() {
    let sound = filled(12, 4, 6, 0);
    let Some(whole) = Device::new(&sound) else { return };
    let device = Device::new(&without_reftable(sound)).expect("a second device");
    let ran = device.repair();
    assert_eq!(ran.code, 0, "{ran:?}");
    let judged = qemu(device.folder(), "qemu-img", &["check", "-f", "qcow2", device.name()]);
    assert_eq!(judged.code, 0, "{judged:?}");
    assert!(device.guest() == whole.guest(), "the guest's bytes have changed");
}

/// Without refcounts nothing shows whether it is in use.
#[test]
fn nothing_is_placed_into_clusters_with_data_where_refcounts_are_lost() {
    let broken = without_reftable(image(12, 4, 6));
    let Some(device) = Device::new(&broken) else { return };
    let ran = device.repair();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(device.bytes() == broken, "something was written");
}

#[test]
fn a_device_without_free_space_is_reported_before_anything_is_written() {
    let broken = without_reftable(image(12, 4, 0));
    let Some(device) = Device::new(&broken) else { return };
    let ran = device.repair();
    assert_eq!(ran.code, 1, "{ran:?}");
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(last.contains("No space left on device") && last.contains(device.name()), "{ran:?}");
    assert!(device.bytes() == broken, "something was written");
}

#[test]
fn leaks_on_a_device_are_released() {
    let mut leaking = image(12, 4, 4);
    let spare = leaking.len() as u64 / 4096 - 2;
    crate::support::images::bytes::set_refcount(&mut leaking, spare, 1);
    let Some(device) = Device::new(&leaking) else { return };
    let before = device.guest();
    let ran = device.repair();
    assert_eq!(ran.code, 0, "{ran:?}");
    let judged = qemu(device.folder(), "qemu-img", &["check", "-f", "qcow2", device.name()]);
    assert_eq!(judged.code, 0, "{judged:?}");
    assert!(device.guest() == before, "the guest's bytes have changed");
}

/// Repairs a copy that cannot grow: whether there was free space. Where there was none, nothing has changed.
fn fits(broken: &[u8], name: &str) -> bool {
    let options = CheckOptions::default().threads(1);
    let storage = MemoryStorage::fixed(broken.to_vec());
    let result = repair(&storage, RepairMode::All, &options, &Silent);
    let after = storage.into_inner();
    match result {
        Err(Error::NoRoom { .. }) => {
            assert!(after == broken, "{name}: no free space, but something was written");
            false
        }
        Err(error) => panic!("{name}: {error}"),
        Ok(_) => {
            let found = check(&MemoryStorage::new(after.clone()), &options, &Silent);
            let findings = found.expect("a verdict").findings;
            assert!(findings.is_empty(), "{name}: {findings:?}");
            let worse = worse(&Reader::new(broken), &Reader::new(&after));
            assert_eq!(worse, None, "{name}");
            true
        }
    }
}

#[test]
fn space_inside_an_image_that_cannot_grow_is_enough_from_some_number_of_clusters_on() {
    let geometries =
        [(9, 0), (9, 1), (9, 3), (9, 4), (9, 5), (9, 6), (10, 3), (11, 6), (12, 4), (14, 2)];
    for (bits, order) in geometries {
        let mut had_room = false;
        let blocks = ((150_u64 << order) / (8 << bits)).max(1) + 2;
        for spare in 0..blocks + 3 {
            let sound = filled(bits, order, spare, 0);
            let mut unaligned = sound.clone();
            let at = header(&sound, "refcount_table_offset");
            set_header(&mut unaligned, "refcount_table_offset", at + 4);
            let name = format!("{bits} cluster bits, order {order}, {spare} spare");
            let room = fits(&without_reftable(sound), &name);
            assert!(room || !had_room, "{name}: fewer were enough");
            had_room = room;
            // The old structures' own clusters are enough where nothing shows that they are in use.
            assert!(fits(&unaligned, &format!("{name}, unaligned")), "{name}");
        }
        assert!(had_room, "{bits} cluster bits, order {order}: there was never free space");
    }
}
