//! An image and its external data file are two files, of which a crash may leave different moments: the image's tables
//! point to nothing that the data file does not hold, and the data file is as long as the disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use qcheck::chain::Opener;
use qcheck::edit::resize::{ResizeOptions, resize};
use qcheck::error::Result;
use qcheck::image::{Image, Opened};
use qcheck::storage::{Capacity, MemoryStorage, ReadAt, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{Disk, assert_clean, assert_same, at, options, qemu, read_all};
use crate::support::rng::Rng;

const SIZE: u64 = 160 * 1024;
const SECTOR: usize = 512;
/// The newest operations of a file that are left out one at a time.
const DROPPED_ALONE: usize = 12;
/// Random subsets of what is not on disk, after each operation.
const RANDOM_SUBSETS: usize = 8;

#[derive(Debug, Clone)]
enum Op {
    Write(u64, Vec<u8>),
    Zeroes(u64, u64),
    SetLen(u64),
    Sync,
}

/// What happened to both files, in one order: which of them, and what.
type Log = Arc<Mutex<Vec<(usize, Op)>>>;

/// One of the files.
#[derive(Debug)]
struct Logged {
    file: usize,
    log: Log,
    current: MemoryStorage,
}

impl Logged {
    fn record(&self, op: Op) -> std::io::Result<()> {
        let mut log = self.log.lock().unwrap();
        apply(&op, &self.current);
        log.push((self.file, op));
        Ok(())
    }
}

fn apply(op: &Op, to: &MemoryStorage) {
    match op {
        Op::Write(offset, bytes) => to.write_at(*offset, bytes).unwrap(),
        Op::Zeroes(offset, length) => to.write_zeroes(*offset, *length).unwrap(),
        Op::SetLen(length) => to.set_len(*length).unwrap(),
        Op::Sync => {}
    }
}

impl ReadAt for Logged {
    fn len(&self) -> std::io::Result<u64> {
        self.current.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.current.read_at(offset, buf)
    }
}

impl Storage for Logged {
    fn capacity(&self) -> Capacity {
        Capacity::Growable
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.record(Op::Write(offset, data.to_vec()))
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.record(Op::SetLen(len))
    }
    fn sync(&self) -> std::io::Result<()> {
        self.record(Op::Sync)
    }
    fn discard(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.record(Op::Zeroes(offset, length))
    }
    fn write_zeroes(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.record(Op::Zeroes(offset, length))
    }
}

struct Data(Arc<dyn Storage>);

impl Opener for Data {
    fn open_read(&self, _: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(self.0.clone())
    }
    fn open_write(&self, _: &Path) -> Result<Arc<dyn Storage>> {
        Ok(self.0.clone())
    }
}

#[derive(Clone, Copy)]
enum Step {
    Write(u64, u64, u8),
    Zeroes(u64, u64, bool),
    Discard(u64, u64),
    Flush,
    Resize(u64),
}

use Step::{Discard, Flush, Resize, Write, Zeroes};

const STEPS: [Step; 11] = [
    Write(1000, 3000, 1),
    Write(40_000, 9000, 2),
    Discard(0, 24_576),
    Write(70_000, 700, 3),
    Flush,
    Zeroes(36_000, 20_000, true),
    Write(98_400, 100, 4),
    Zeroes(140_000, 9000, false),
    Discard(65_536, 65_536),
    Write(66_000, 30_000, 5),
    Write(3000, 30_000, 6),
];

impl Step {
    fn apply(self, image: &mut Image) -> Result<()> {
        match self {
            Write(start, length, value) => image.write(at(start), &vec![value; length as usize]),
            Zeroes(start, length, unmap) => image.write_zeroes(at(start), length, unmap),
            Discard(start, length) => image.discard(at(start), length),
            Flush => image.flush(),
            Resize(size) => resize(image, size, ResizeOptions::default().shrink(true)),
        }
    }

    fn shadow(self, bytes: &mut Vec<u8>, cluster: u64) {
        let mut fill = |start: u64, end: u64, value| {
            bytes[start as usize..end.max(start) as usize].fill(value);
        };
        match self {
            Write(start, length, value) => fill(start, start + length, value),
            Zeroes(start, length, _) => fill(start, start + length, 0),
            Discard(start, length) => {
                fill(start.next_multiple_of(cluster), (start + length) / cluster * cluster, 0);
            }
            Flush => {}
            Resize(size) => bytes.resize(size as usize, 0),
        }
    }
}

struct Case {
    name: &'static str,
    path: PathBuf,
    files: [Vec<u8>; 2],
    before: Vec<u8>,
    cluster: u64,
    raw: bool,
    _folder: tempfile::TempDir,
}

fn case(name: &'static str) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let (image, data) = (path.to_str().unwrap(), folder.path().join("data"));
    let create = format!("{name},data_file={}", data.display());
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &create, image, &SIZE.to_string()]);
    let writes =
        ["-f", "qcow2", "-c", "write -q -P 14 0 32k", "-c", "write -q -P 15 128k 8k", image];
    qemu("qemu-io", &writes);
    let mut before = vec![0; SIZE as usize];
    before[..32768].fill(14);
    before[131_072..139_264].fill(15);
    let files = [std::fs::read(&path).unwrap(), std::fs::read(&data).unwrap()];
    let cluster = 1 << u32::from_be_bytes(files[0][20..24].try_into().unwrap());
    let raw = name.contains("data_file_raw=on");
    Case { name, path, files, before, cluster, raw, _folder: folder }
}

/// What each sector may hold since the last flush of the engine: the flush's place in the log, and the sets.
type Allowed = Vec<(usize, Vec<HashSet<Vec<u8>>>)>;

impl Case {
    fn run(&self, steps: &[Step]) -> (Vec<(usize, Op)>, Allowed) {
        let log = Log::default();
        let storage = |file: usize| {
            let current = MemoryStorage::new(self.files[file].clone());
            Arc::new(Logged { file, log: log.clone(), current })
        };
        let (image, data) = (storage(0), storage(1));
        let options = options(&self.path).l2_cache_bytes(1).refblock_cache_bytes(1);
        let Opened::Ready(mut open) =
            Image::open_write(image.clone(), &options, &Data(data.clone())).unwrap()
        else {
            panic!("the image is dirty")
        };
        let mut now = self.before.clone();
        let sets = |bytes: &[u8]| -> Vec<HashSet<Vec<u8>>> {
            bytes.chunks(SECTOR).map(|sector| HashSet::from([sector.to_vec()])).collect()
        };
        let mut allowed = vec![(0, sets(&now))];
        for &step in steps {
            step.apply(&mut open).unwrap();
            step.shadow(&mut now, self.cluster);
            if matches!(step, Flush) {
                allowed.push((log.lock().unwrap().len(), sets(&now)));
                continue;
            }
            for (_, sets) in &mut allowed {
                sets.resize(sets.len().max(now.len() / SECTOR), HashSet::new());
                for (set, sector) in sets.iter_mut().zip(now.chunks(SECTOR)) {
                    set.insert(sector.to_vec());
                }
            }
        }
        open.close().unwrap();
        let guest = self.read([image.current.to_vec(), data.current.to_vec()]);
        assert_same(&guest, &now, "without a crash");
        std::fs::write(&self.path, image.current.to_vec()).unwrap();
        assert_clean(&self.path);
        let log = log.lock().unwrap().clone();
        (log, allowed)
    }

    fn read(&self, files: [Vec<u8>; 2]) -> Vec<u8> {
        let [image, data] = files.map(|bytes| Arc::new(MemoryStorage::new(bytes)));
        let mut disk = Disk::default();
        disk.files.insert(self.path.with_file_name("data"), data);
        read_all(&Image::open_read(image, &options(&self.path), &disk).unwrap())
    }

    /// What is left where only `kept` operations of those before `end` arrived, besides those that a flush made last.
    fn files_after(&self, log: &[(usize, Op)], kept: &HashSet<usize>) -> [Vec<u8>; 2] {
        let files = self.files.clone().map(MemoryStorage::new);
        for (n, (file, op)) in log.iter().enumerate() {
            if kept.contains(&n) {
                apply(op, &files[*file]);
            }
        }
        files.map(|file| file.to_vec())
    }

    fn survives(&self, steps: &[Step]) {
        let (log, allowed) = self.run(steps);
        let (mut count, mut rng) = (0, Rng::new(7));
        for end in 0..=log.len() {
            for kept in subsets(&log[..end], &mut rng) {
                let [image, data] = self.files_after(&log[..end], &kept);
                if let Some(violation) = violation(&image) {
                    panic!("{}: {violation}: {kept:?} of {end}", self.name);
                }
                let since = allowed.iter().rev().find(|(place, _)| *place <= end).unwrap();
                let guest = self.read([image, data.clone()]);
                for (n, (sector, set)) in guest.chunks(SECTOR).zip(&since.1).enumerate() {
                    let at = n * SECTOR;
                    assert!(
                        set.contains(sector),
                        "{}: guest offset {at:#x}: {kept:?} of {end}: {:?}",
                        self.name,
                        &log[..end]
                    );
                }
                assert!(
                    !self.raw || data.len() >= guest.len(),
                    "{}: the data file is short",
                    self.name
                );
                count += 1;
            }
        }
        assert!(count > 100, "{}: only {count} crash images", self.name);
    }
}

/// Which operations may have arrived after these: all that a flush of their file made last, and some of the others.
fn subsets(log: &[(usize, Op)], rng: &mut Rng) -> Vec<HashSet<usize>> {
    let last_sync = |file| {
        log.iter()
            .rposition(|(of, op)| *of == file && matches!(op, Op::Sync))
            .map_or(0, |at| at + 1)
    };
    let synced = [last_sync(0), last_sync(1)];
    let is_pending = |n: usize| n >= synced[log[n].0];
    let all: HashSet<usize> = (0..log.len()).collect();
    let pending: Vec<usize> = (0..log.len()).filter(|&n| is_pending(n)).collect();
    let without = |left_out: &dyn Fn(usize) -> bool| -> HashSet<usize> {
        all.iter().copied().filter(|&n| !(is_pending(n) && left_out(n))).collect()
    };
    let mut found = vec![
        without(&|_| false),
        without(&|_| true),
        without(&|n| log[n].0 == 0),
        without(&|n| log[n].0 == 1),
    ];
    found.extend(
        pending.iter().rev().take(DROPPED_ALONE).map(|&dropped| without(&|n| n == dropped)),
    );
    for _ in 0..RANDOM_SUBSETS {
        let dropped: HashSet<usize> =
            pending.iter().copied().filter(|_| rng.below(2) == 0).collect();
        found.push(without(&|n| dropped.contains(&n)));
    }
    found
}

#[test]
fn every_crash_of_guest_writes_is_survived() {
    for name in
        ["cluster_size=4k", "cluster_size=4k,data_file_raw=on", "cluster_size=16k,extended_l2=on"]
    {
        case(name).survives(&STEPS);
    }
}

#[test]
fn every_crash_of_another_size_is_survived() {
    let steps = [
        Write(150_000, 10_000, 3),
        Resize(300 * 1024),
        Write(200_000, 90_000, 4),
        Resize(100 * 1024 + 512),
        Write(90_000, 12_000, 5),
        Resize(220 * 1024),
    ];
    for name in ["cluster_size=4k", "cluster_size=4k,data_file_raw=on"] {
        case(name).survives(&steps);
    }
}
