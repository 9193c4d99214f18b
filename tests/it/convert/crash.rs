//! Whatever a crash or a failing disk leaves of a conversion is not an image, or the whole one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qcheck::convert::{
    Control, ConvertOptions, Input, Outlet, SourceDisk, Target, convert, convert_to_stream,
};
use qcheck::create::{Compression, CreateOptions, NewImage, Preallocation};
use qcheck::disk::Disk;
use qcheck::error::Result;
use qcheck::format::GuestOffset;
use qcheck::image::{FileOpener, Image, OpenOptions};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt, Storage};

use crate::support::rng::Rng;
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const BYTES: usize = 40 * 1024;

/// Text, noise and zeroes in 4 KiB pieces.
fn disk() -> Vec<u8> {
    let mut rng = Rng::new(5);
    let mut disk = Vec::new();
    for n in 0..BYTES / 4096 {
        match n % 4 {
            0 => disk.extend(rng.bytes(4096)),
            1 => disk.extend([0; 4096]),
            _ => disk.extend(b"all work and no play".iter().cycle().skip(n).take(4096)),
        }
    }
    disk
}

fn source(bytes: Vec<u8>) -> SourceDisk {
    SourceDisk::new(vec![Disk::raw(Arc::new(MemoryStorage::new(bytes)))]).unwrap()
}

fn new_image(preallocation: Preallocation, compression: Compression) -> NewImage {
    let options = CreateOptions::default()
        .size(BYTES as u64)
        .cluster_bytes(4096)
        .preallocation(preallocation)
        .compression(compression);
    NewImage::new(&options).unwrap()
}

fn run(
    source: &SourceDisk,
    new: &NewImage,
    storage: Arc<dyn Storage>,
    options: &ConvertOptions,
) -> Result<usize> {
    let target = Target::New { new, storage, backing: None, data_file: None };
    let cancel = AtomicBool::new(false);
    let control = Control { cancel: &cancel, progress: &Silent };
    convert(Input::Disks(source), target, options, control).map(|report| report.losses.len())
}

fn options(compress: bool) -> ConvertOptions {
    ConvertOptions::default().compress(compress).threads(1)
}

/// What the guest sees, if this is an image at all.
fn guest(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.get(..4) != Some(b"QFI\xfb") {
        return None;
    }
    let file = Arc::new(MemoryStorage::new(bytes.to_vec()));
    let image = Image::open_read(file, &OpenOptions::default(), &FileOpener::default()).unwrap();
    let mut disk = vec![0; usize::try_from(image.virtual_size()).unwrap()];
    image.read(GuestOffset::new(0), &mut disk).unwrap();
    Some(disk)
}

fn kinds() -> [(NewImage, bool); 4] {
    let off = Preallocation::Off;
    [
        (new_image(off, Compression::Zlib), false),
        (new_image(off, Compression::Zlib), true),
        (new_image(off, Compression::Zstd), true),
        (new_image(Preallocation::Metadata, Compression::Zlib), false),
    ]
}

#[test]
fn a_crash_leaves_the_old_image_none_or_the_new_one() {
    let old = {
        let storage = Arc::new(MemoryStorage::new(Vec::new()));
        let new = new_image(Preallocation::Off, Compression::Zlib);
        run(&source(vec![9; BYTES]), &new, storage.clone(), &options(false)).unwrap();
        storage.to_vec()
    };
    for (new, compress) in kinds() {
        let log = Arc::new(WriteLog::new(old.clone()));
        run(&source(disk()), &new, log.clone(), &options(compress)).unwrap();
        assert_eq!(guest(&log.image()), Some(disk()));
        let mut whole = 0;
        let count = crash_images(&log, |crash| match guest(&crash.bytes) {
            Some(_) if crash.bytes == old => {}
            Some(seen) => {
                assert!(seen == disk(), "{}", crash.story);
                whole += 1;
            }
            None => {}
        });
        assert!(count > 10 && whole >= 1, "{count} images, {whole} of them whole");
    }
}

#[test]
fn every_failure_of_the_target_is_reported_and_leaves_no_image() {
    for (new, compress) in kinds() {
        for class in [Class::Write, Class::Sync, Class::SetLen] {
            for n in 0.. {
                let failing = Arc::new(FailAfter::new(MemoryStorage::new(Vec::new()), class, n));
                let outcome = run(&source(disk()), &new, failing.clone(), &options(compress));
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                assert!(outcome.is_err(), "{class:?} {n}");
                let mut head = [0; 4];
                failing.read_padded_at(0, &mut head).unwrap();
                // The last flush comes after the header: then all of it is there.
                assert!(&head != b"QFI\xfb" || class == Class::Sync, "{class:?} {n}");
            }
        }
    }
}

#[test]
fn what_the_source_cannot_give_is_an_error_or_lost_and_reported() {
    let new = new_image(Preallocation::Off, Compression::Zlib);
    for salvage in [false, true] {
        for n in 0.. {
            let failing = Arc::new(FailAfter::new(MemoryStorage::new(disk()), Class::Read, n));
            let source = SourceDisk::new(vec![Disk::raw(failing.clone())]).unwrap();
            let target = Arc::new(MemoryStorage::new(Vec::new()));
            let options = options(false).salvage(salvage);
            let outcome = run(&source, &new, target.clone(), &options);
            if !failing.fired() {
                assert_eq!(guest(&target.to_vec()), Some(disk()));
                break;
            }
            match outcome {
                // It was one read that failed; in parts the same could be read.
                Ok(lost) => {
                    assert!(salvage && lost == 0 && guest(&target.to_vec()) == Some(disk()))
                }
                Err(_) => assert!(!salvage && guest(&target.to_vec()).is_none()),
            }
        }
    }
}

#[test]
fn a_device_that_is_too_small_is_reported_and_one_with_old_content_is_filled() {
    let new = new_image(Preallocation::Off, Compression::Zlib);
    let small = Arc::new(MemoryStorage::fixed(vec![0xAA; 24 * 1024]));
    assert!(run(&source(disk()), &new, small.clone(), &options(false)).is_err());
    assert!(guest(&small.to_vec()).is_none());
    for compress in [false, true] {
        let device = Arc::new(MemoryStorage::fixed(vec![0xAA; 256 * 1024]));
        run(&source(disk()), &new, device.clone(), &options(compress)).unwrap();
        assert_eq!(guest(&device.to_vec()), Some(disk()));
    }
}

#[test]
fn a_stream_that_nobody_takes_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let new = new_image(Preallocation::Off, Compression::Zlib);
    let cancel = AtomicBool::new(false);
    for room in (0..60_000).step_by(3000) {
        for outlet in [Outlet::Raw, Outlet::Qcow2(&new)] {
            let control = Control { cancel: &cancel, progress: &Silent };
            let source = source(disk());
            let input = Input::Disks(&source);
            let done = convert_to_stream(input, outlet, &mut Full(room), &options(false), control);
            assert!(done.is_err() || room >= BYTES, "{room}");
        }
    }
}

#[test]
fn work_that_is_cancelled_ends_with_an_error_and_without_an_image() {
    let new = new_image(Preallocation::Off, Compression::Zlib);
    let storage = Arc::new(MemoryStorage::new(Vec::new()));
    let target =
        Target::New { new: &new, storage: storage.clone(), backing: None, data_file: None };
    let cancel = AtomicBool::new(true);
    let control = Control { cancel: &cancel, progress: &Silent };
    let source = source(disk());
    let done = convert(Input::Disks(&source), target, &options(false), control);
    assert!(done.unwrap_err().to_string().contains("interrupted"));
    assert!(guest(&storage.to_vec()).is_none());
}
