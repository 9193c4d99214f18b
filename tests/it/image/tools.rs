//! What the tests of the engine share: images of real qemu-img in memory, and its verdict on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::error::{Error, Result};
use qcheck::format::GuestOffset;
use qcheck::image::{Image, OpenOptions, Opened, Opener};
use qcheck::progress::Silent;
use qcheck::storage::{FileStorage, MemoryStorage, ReadAt, Storage};

/// Runs a program of QEMU; a failure ends the test.
pub fn qemu(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Files in memory, which can be put into a folder for qemu-img and read back from there.
#[derive(Default)]
pub struct Disk {
    pub files: BTreeMap<PathBuf, Arc<MemoryStorage>>,
}

impl Disk {
    pub fn load(&mut self, path: &Path) -> Arc<MemoryStorage> {
        let storage = Arc::new(MemoryStorage::new(std::fs::read(path).unwrap()));
        self.files.insert(path.to_owned(), storage.clone());
        storage
    }

    pub fn store_all(&self) {
        for (path, storage) in &self.files {
            std::fs::write(path, storage.to_vec()).unwrap();
        }
    }

    fn get(&self, path: &Path) -> Result<Arc<MemoryStorage>> {
        let missing = || Error::Refused(format!("no file {}", path.display()));
        self.files.get(path).cloned().ok_or_else(missing)
    }
}

impl Opener for Disk {
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(self.get(path)?)
    }
    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        Ok(self.get(path)?)
    }
}

pub fn options(path: &Path) -> OpenOptions {
    OpenOptions::default().path(Some(path.to_owned()))
}

/// Opens an image of the disk for writing, which must succeed.
pub fn open_write(disk: &Disk, path: &Path, options: &OpenOptions) -> Image {
    match Image::open_write(disk.files[path].clone(), options, disk).unwrap() {
        Opened::Ready(image) => *image,
        Opened::NeedsRepair => panic!("the image is dirty"),
    }
}

pub fn at(offset: u64) -> GuestOffset {
    GuestOffset::new(offset)
}

/// All guest bytes as the engine reads them.
pub fn read_all(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; image.virtual_size() as usize];
    image.read(at(0), &mut bytes).unwrap();
    bytes
}

/// All guest bytes as qemu-img reads them.
pub fn convert(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("converted");
    let (from, to) = (path.to_str().unwrap(), raw.to_str().unwrap());
    qemu("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", from, to]);
    std::fs::read(raw).unwrap()
}

/// The exit code of `qemu-img check`: 0 clean, 2 corrupt, 3 leaks.
pub fn check_code(path: &Path) -> (i32, String) {
    let output =
        Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(path).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// Fails unless qemu-img and qcheck find the image clean.
pub fn assert_clean(path: &Path) {
    let (code, text) = check_code(path);
    assert_eq!(code, 0, "{text}");
    let file = FileStorage::open_read(path).unwrap();
    let report = check(&file, &CheckOptions::default(), &Silent).unwrap();
    assert!(report.tally.is_clean(), "{:?}", report.findings);
}

/// Fails where a check finds errors. While the dirty bit is set, refcounts promise nothing.
pub fn assert_no_error(bytes: &[u8], what: &str) {
    if bytes[7] >= 3 && bytes[79] & 1 != 0 {
        return;
    }
    let options = CheckOptions::default().threads(1);
    let report = check(&MemoryStorage::new(bytes.to_vec()), &options, &Silent).unwrap();
    let found = (report.tally.corruptions, report.tally.check_errors);
    assert_eq!(found, (0, 0), "{what}: {:?}", report.findings);
}

/// Fails at the first byte that differs.
pub fn assert_same(left: &[u8], right: &[u8], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}: lengths");
    if let Some(n) = left.iter().zip(right).position(|(a, b)| a != b) {
        panic!("{what}: byte {n:#x} is {:#x} and not {:#x}", left[n], right[n]);
    }
}
