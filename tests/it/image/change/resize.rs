//! Sizes of more than one file: an external data file beside the image, and raw images; in which order, and on failing disks.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use qcheck::edit::resize::{Preallocation, ResizeOptions, resize, resize_raw};
use qcheck::error::Result;
use qcheck::image::{Image, Opened, Opener};
use qcheck::storage::{Capacity, MemoryStorage, ReadAt, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{Disk, assert_clean, assert_same, convert, options, qemu, read_all};
use crate::support::storages::fail::{CancelAt, Class, FailAfter, Full};

/// What was done to one of the files, in common order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Changed,
    Header,
    Synced,
}

type Events = Arc<Mutex<Vec<(&'static str, Event)>>>;

/// A file that records what is done to it.
struct Told<S> {
    name: &'static str,
    inner: S,
    events: Events,
}

impl<S> Told<S> {
    fn tell(&self, event: Event) {
        self.events.lock().unwrap().push((self.name, event));
    }
}

impl<S: Storage> ReadAt for Told<S> {
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> std::io::Result<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }
}

impl<S: Storage> Storage for Told<S> {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.tell(if offset < 512 { Event::Header } else { Event::Changed });
        self.inner.write_at(offset, data)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.tell(Event::Changed);
        self.inner.set_len(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.tell(Event::Synced);
        self.inner.sync()
    }
    fn discard(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.inner.discard(offset, length)
    }
    fn write_zeroes(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.tell(Event::Changed);
        self.inner.write_zeroes(offset, length)
    }
}

/// Hands out one file for every name.
struct One(Arc<dyn Storage>);

/// A storage that is read only, as an opener gives it.
struct Read(Arc<dyn Storage>);

impl ReadAt for Read {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buf)
    }
}

impl Opener for One {
    fn open_read(&self, _: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(Read(self.0.clone())))
    }
    fn open_write(&self, _: &Path) -> Result<Arc<dyn Storage>> {
        Ok(self.0.clone())
    }
}

/// An image of 158 KiB with an external data file that is longer, with old bytes past the disk's end.
fn case(options: &str) -> (tempfile::TempDir, Disk) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let name = path.to_str().unwrap();
    let data = folder.path().join("data");
    let all = format!("cluster_size=4k,data_file={},{options}", data.display());
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &all, name, "158k"]);
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 1 10k 148k", name]);
    let mut bytes = std::fs::read(&data).unwrap();
    bytes.resize(160 << 10, 0xee);
    std::fs::write(&data, bytes).unwrap();
    let mut disk = Disk::default();
    disk.load(&path);
    disk.load(&data);
    (folder, disk)
}

fn change(
    image: Arc<dyn Storage>,
    data: Arc<dyn Storage>,
    path: &Path,
    size: u64,
    preallocation: Preallocation,
) -> Result<()> {
    let opener = One(data);
    let opened = Image::open_write(image, &options(path), &opener)?;
    let Opened::Ready(mut image) = opened else { panic!("the image is dirty") };
    resize(&mut image, size, ResizeOptions::default().shrink(true).preallocation(preallocation))?;
    image.close()
}

const KINDS: [&str; 2] = ["data_file_raw=off", "data_file_raw=on"];
const SIZES: [(u64, Preallocation); 4] = [
    (1 << 20, Preallocation::Off),
    (300 << 10, Preallocation::Metadata),
    (300 << 10, Preallocation::Full),
    (50 << 10, Preallocation::Off),
];

#[test]
fn a_data_file_is_longer_before_the_header_changes_and_shorter_only_after() {
    for kind in KINDS {
        for (size, preallocation) in SIZES {
            let (folder, disk) = case(kind);
            let (path, data) = (folder.path().join("image"), folder.path().join("data"));
            let events = Events::default();
            let told = |name, path: &Path| {
                let inner = disk.files[path].clone();
                Arc::new(Told { name, inner, events: events.clone() })
            };
            change(told("image", &path), told("data", &data), &path, size, preallocation).unwrap();
            let events = events.lock().unwrap().clone();
            let last = |wanted| events.iter().rposition(|event| *event == wanted);
            let header = last(("image", Event::Header)).unwrap();
            let changed = last(("data", Event::Changed)).unwrap();
            let what = format!("{kind} {size} {preallocation:?}: {events:?}");
            if size > 158 << 10 {
                assert!(events[changed..header].contains(&("data", Event::Synced)), "{what}");
            } else {
                assert!(events[header..changed].contains(&("image", Event::Synced)), "{what}");
                assert!(last(("data", Event::Synced)).unwrap() > changed, "{what}");
            }
            assert_eq!(disk.files[&data].to_vec().len() as u64, size, "{what}");
            disk.store_all();
            assert_clean(&path);
            let mut guest = vec![0; 10 << 10];
            guest.resize(158 << 10, 1);
            guest.resize(size as usize, 0);
            assert_same(&convert(&path), &guest, &what);
        }
    }
}

#[test]
fn a_failing_image_or_data_file_leaves_the_old_size_or_the_new_one_and_an_error() {
    let classes = [Class::Write, Class::SetLen, Class::Sync, Class::Read];
    for (size, preallocation) in SIZES {
        let (folder, disk) = case(KINDS[1]);
        let (path, data) = (folder.path().join("image"), folder.path().join("data"));
        let (image, bytes) = (disk.files[&path].to_vec(), disk.files[&data].to_vec());
        for (fails, class) in classes.into_iter().flat_map(|class| [(0, class), (1, class)]) {
            for n in 0.. {
                let both = [&image, &bytes].map(|b| Arc::new(MemoryStorage::new(b.clone())));
                let failing = Arc::new(FailAfter::new(both[fails].clone(), class, n));
                let mut files: [Arc<dyn Storage>; 2] = [both[0].clone(), both[1].clone()];
                files[fails] = failing.clone();
                let [first, second] = files;
                let outcome = change(first, second, &path, size, preallocation);
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                let what = format!("{size} {preallocation:?}: file {fails}, {class:?} {n}");
                assert!(outcome.is_err(), "{what}");
                assert_eq!(violation(&both[0].to_vec()), None, "{what}");
                let opener = One(both[1].clone());
                let read = Image::open_read(both[0].clone(), &options(&path), &opener).unwrap();
                let guest = read_all(&read);
                assert!([158 << 10, size as usize].contains(&guest.len()), "{what}");
                let written = guest.iter().skip(10 << 10).take(148 << 10).all(|&byte| byte == 1);
                let rest = guest.iter().skip(158 << 10).all(|&byte| byte == 0);
                assert!(written && rest, "{what}");
            }
        }
    }
}

#[test]
fn a_disk_that_its_l1_table_cannot_map_is_refused_before_the_data_file_grows() {
    let (folder, disk) = case("data_file_raw=on");
    let (path, data) = (folder.path().join("image"), folder.path().join("data"));
    let before = [&path, &data].map(|path| disk.files[path].to_vec());
    let files = [&path, &data].map(|path| disk.files[path].clone());
    let [image, data] = files.clone();
    let outcome = change(image, data, &path, 1 << 50, Preallocation::Off);
    assert!(outcome.unwrap_err().to_string().contains("L1 table"));
    assert!(files.map(|file| file.to_vec()) == before, "something was written");
}

#[test]
fn a_raw_image_that_cannot_get_longer_keeps_its_length() {
    for preallocation in [Preallocation::Off, Preallocation::Falloc, Preallocation::Full] {
        for class in [Class::Write, Class::SetLen, Class::Sync] {
            let options = ResizeOptions::default().shrink(false).preallocation(preallocation);
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(vec![5; 1000]));
                let failing = FailAfter::new(memory.clone(), class, n);
                let outcome = resize_raw(&failing, 3 << 20, options, &AtomicBool::new(false));
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                assert!(outcome.is_err(), "{preallocation:?} {class:?} {n}");
                assert!(memory.to_vec().starts_with(&[5; 1000]));
            }
        }
    }
    // A full disk, which still can give space back.
    let memory = Arc::new(MemoryStorage::new(vec![5; 1000]));
    let full = Full { inner: memory.clone(), limit: 3 << 19 };
    let options = ResizeOptions::default().shrink(false).preallocation(Preallocation::Full);
    assert!(resize_raw(&full, 3 << 20, options, &AtomicBool::new(false)).is_err());
    assert_eq!(memory.to_vec(), vec![5; 1000]);
}

#[test]
fn a_raw_image_whose_preallocation_is_interrupted_keeps_its_length() {
    let memory = Arc::new(MemoryStorage::new(vec![5; 1000]));
    let storage = CancelAt::new(memory.clone(), 5);
    let options = ResizeOptions::default().shrink(false).preallocation(Preallocation::Full);
    let outcome = resize_raw(&storage, 30 << 20, options, &storage.flag);
    assert_eq!(outcome.unwrap_err().to_string(), "interrupted");
    assert_eq!(memory.to_vec(), vec![5; 1000]);
}

#[test]
fn a_data_file_keeps_its_length_where_the_image_has_no_space_for_the_new_tables() {
    let (folder, disk) = case("data_file_raw=on");
    let (path, data) = (folder.path().join("image"), folder.path().join("data"));
    let before = [&path, &data].map(|path| disk.files[path].to_vec());
    let [image, data] = [&path, &data].map(|path| disk.files[path].clone());
    let full = Arc::new(Full { inner: image.clone(), limit: before[0].len() as u64 });
    let outcome = change(full, data.clone(), &path, 1 << 40, Preallocation::Off);
    assert!(outcome.is_err());
    assert_eq!([image.to_vec().len(), data.to_vec().len()], before.map(|bytes| bytes.len()));
}
