//! Any bytes as the source of a conversion: an error, or a target that holds what the source reads as.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qcheck::check::check;
use qcheck::convert::{
    Control, ConvertOptions, Input, Outlet, SourceDisk, Target, convert, convert_to_stream, verify,
};
use qcheck::create::{Compression, CreateOptions, NewImage, Preallocation, Version};
use qcheck::disk::Disk;
use qcheck::error::{Error, Result};
use qcheck::format::GuestOffset;
use qcheck::image::{Image, OpenOptions, Opener};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt, Storage};

/// Larger disks are not read: little data may be mapped all over them.
const MOST_GUEST_BYTES: u64 = 4 << 20;

/// Opens nothing: an image from somewhere else can name anything.
struct Nothing;

impl Opener for Nothing {
    fn open_read(&self, _path: &Path) -> Result<Arc<dyn ReadAt>> {
        Err(Error::Refused("no file is opened".into()))
    }

    fn open_write(&self, _path: &Path) -> Result<Arc<dyn Storage>> {
        Err(Error::Refused("no file is opened".into()))
    }
}

/// Converts to raw, and then to what the first byte of the input asks for; all that follows is the source.
pub fn run(input: &[u8]) {
    let Some((&asked, image)) = input.split_first() else { return };
    let Ok(source) = open(image.to_vec(), asked & 0xc0 == 0xc0) else { return };
    if source.bytes() > MOST_GUEST_BYTES {
        return;
    }
    let options = ConvertOptions::default().threads(1);
    let Some(disk) = to_raw(&source, &options) else {
        let salvaged = to_raw(&source, &options.salvage(true));
        let length = salvaged.expect("what cannot be read is left out").len() as u64;
        return assert_eq!(length, source.bytes());
    };
    assert!(disk == read_all(&source), "the target reads otherwise than the source");
    let mut stream = Vec::new();
    let input = Input::Disks(&source);
    convert_to_stream(input, Outlet::Raw, &mut stream, &options, control()).expect("the same");
    assert!(stream == disk, "the stream is another disk");
    to_qcow2(&source, &disk, asked, options);
}

fn control() -> Control<'static> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    Control { cancel: &NEVER, progress: &Silent }
}

/// The source, or the first snapshot of it.
fn open(bytes: Vec<u8>, snapshot: bool) -> Result<SourceDisk> {
    let file = Arc::new(MemoryStorage::new(bytes));
    let mut image = Image::open_read(file.clone(), &OpenOptions::default(), &Nothing)?;
    if snapshot {
        let Some(first) = image.snapshots()?.into_iter().next() else {
            return Err(Error::Refused("no snapshot".into()));
        };
        let options = OpenOptions::default().snapshot(Some(first));
        image = Image::open_read(file, &options, &Nothing)?;
    }
    SourceDisk::new(vec![Disk::Qcow2(Box::new(image))])
}

fn to_raw(source: &SourceDisk, options: &ConvertOptions) -> Option<Vec<u8>> {
    let raw = MemoryStorage::limited(Vec::new(), super::MOST_BYTES);
    let target = Target::NewRaw { storage: &raw, preallocation: Preallocation::Off };
    convert(Input::Disks(source), target, options, control()).ok()?;
    Some(raw.into_inner())
}

/// The whole disk by the engine, in pieces that fit no cluster.
fn read_all(source: &SourceDisk) -> Vec<u8> {
    let Some(Disk::Qcow2(image)) = source.only() else { unreachable!("one image was opened") };
    let mut bytes = vec![0; image.virtual_size() as usize];
    for (number, piece) in bytes.chunks_mut(10_000).enumerate() {
        image.read(GuestOffset::new(number as u64 * 10_000), piece).expect("it could be read");
    }
    bytes.resize(source.bytes() as usize, 0);
    bytes
}

fn to_qcow2(source: &SourceDisk, disk: &[u8], asked: u8, options: ConvertOptions) {
    let extended_l2 = asked & 3 == 3;
    let version = if asked & 0x3c == 0 { Version::V2 } else { Version::V3 };
    let create = CreateOptions::default()
        .size(source.bytes())
        .version(version)
        .cluster_bytes([512, 4096, 65_536, 16_384][usize::from(asked & 3)])
        .refcount_bits(if asked & 0x20 == 0 { 16 } else { 1 })
        .compression(if asked & 8 == 0 { Compression::Zlib } else { Compression::Zstd })
        .extended_l2(extended_l2);
    let Ok(new) = NewImage::new(&create) else { return };
    let storage = Arc::new(MemoryStorage::limited(Vec::new(), super::MOST_BYTES));
    let target =
        Target::New { new: &new, storage: storage.clone(), backing: None, data_file: None };
    let options = options.compress(asked & 4 != 0);
    let done = convert(Input::Disks(source), target, &options, control());
    if let Err(error) = done {
        // Of clusters that share one, 1-bit refcounts can't hold more.
        assert!(options.compress && create.refcount_bits == 1, "{error}");
        return;
    }
    let report = check(&*storage, &super::options(), &Silent).expect("a new image has a verdict");
    assert!(report.tally.is_clean(), "{:?}", report.findings);
    let made = open(storage.to_vec(), false).expect("a new image can be opened");
    assert!(read_all(&made) == disk, "the new image reads otherwise than the source");
    verify(source, &made, &options, control()).expect("they are the same");
}
