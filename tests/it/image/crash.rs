//! Whatever a crash leaves of a run of writes obeys the invariants, and each sector of the guest's disk holds what it held
//! at some time since the last flush. The same for a disk that fails.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use qcheck::error::Result;
use qcheck::image::{Image, OpenOptions, Opened};
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{
    Disk, assert_clean, assert_no_error, assert_same, at, options, qemu, read_all,
};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter, Full};

const SIZE: u64 = 160 * 1024;
const SECTOR: usize = 512;

#[derive(Clone, Copy)]
enum Step {
    Write(u64, u64, u8),
    Zeroes(u64, u64, bool),
    Discard(u64, u64),
    Compressed(u64, u8),
    Flush,
}

use Step::{Compressed, Discard, Flush, Write, Zeroes};

/// Allocation, overwriting, freeing and using again, compression, and a flush in the midst of it.
const STEPS: [Step; 17] = [
    Write(1000, 3000, 1),
    Write(40_000, 9000, 2),
    Discard(0, 24_576),
    Write(70_000, 700, 3),
    Compressed(98_304, 4),
    Compressed(114_688, 5),
    Write(1500, 2000, 6),
    Flush,
    Zeroes(36_000, 20_000, true),
    Write(98_400, 100, 7),
    Write(140_000, 20_000, 8),
    Zeroes(140_000, 9000, false),
    Discard(65_536, 65_536),
    Write(66_000, 30_000, 9),
    Write(141_000, 300, 10),
    Discard(131_072, 16_384),
    Write(3000, 50_000, 11),
];

impl Step {
    fn apply(self, image: &Image) -> Result<()> {
        let cluster = image.geometry().cluster_bytes();
        match self {
            Write(start, length, value) => image.write(at(start), &pattern(start, length, value)),
            Zeroes(start, length, unmap) => image.write_zeroes(at(start), length, unmap),
            Discard(start, length) => image.discard(at(start), length),
            Compressed(start, value) => {
                image.write_compressed(at(start), &pattern(start, cluster, value))
            }
            Flush => image.flush(),
        }
    }

    /// The same on a shadow.
    fn shadow(self, bytes: &mut [u8], cluster: u64) {
        let (start, new) = match self {
            Write(start, length, value) => (start, pattern(start, length, value)),
            Zeroes(start, length, _) => (start, vec![0; length as usize]),
            Discard(start, length) => {
                let (low, high) =
                    (start.next_multiple_of(cluster), (start + length) / cluster * cluster);
                (low, vec![0; high.saturating_sub(low) as usize])
            }
            Compressed(start, value) => (start, pattern(start, cluster, value)),
            Flush => return,
        };
        bytes[start as usize..start as usize + new.len()].copy_from_slice(&new);
    }
}

fn pattern(start: u64, length: u64, value: u8) -> Vec<u8> {
    (start..start + length).map(|n| value.wrapping_mul(16) ^ (n / 97) as u8 & 15).collect()
}

struct Case {
    disk: Disk,
    steps: Vec<Step>,
    /// The length of the block device that the image is on, if it is on one.
    device: Option<usize>,
    path: PathBuf,
    before: Vec<u8>,
    _folder: tempfile::TempDir,
}

/// An image of qemu-img with some data, perhaps a backing file, and perhaps a snapshot of that data.
fn case(create: &str, backing: bool, snapshot: bool) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    let base = folder.path().join("base");
    let mut before = vec![0; SIZE as usize];
    let mut disk = Disk::default();
    let size = SIZE.to_string();
    let mut args = vec!["create", "-q", "-f", "qcow2", "-o", create];
    if backing {
        before = pattern(0, SIZE, 13);
        std::fs::write(&base, &before).unwrap();
        disk.load(&base);
        args.extend(["-b", "base", "-F", "raw"]);
    }
    args.extend([name, &size]);
    qemu("qemu-img", &args);
    let writes =
        ["-f", "qcow2", "-c", "write -q -P 14 0 32k", "-c", "write -q -P 15 128k 8k", name];
    qemu("qemu-io", &writes);
    before[..32768].fill(14);
    before[131_072..139_264].fill(15);
    if snapshot {
        qemu("qemu-img", &["snapshot", "-c", "one", name]);
    }
    disk.load(&path);
    Case { disk, steps: STEPS.to_vec(), device: None, path, before, _folder: folder }
}

impl Case {
    fn options(&self) -> OpenOptions {
        options(&self.path).l2_cache_bytes(1).refblock_cache_bytes(1)
    }

    fn base(&self) -> Vec<u8> {
        let mut bytes = self.disk.files[&self.path].to_vec();
        bytes.resize(self.device.unwrap_or(bytes.len()), 0);
        bytes
    }

    fn log(&self) -> WriteLog {
        let base = self.base();
        if self.device.is_some() { WriteLog::fixed(base) } else { WriteLog::new(base) }
    }

    fn open(&self, storage: Arc<dyn Storage>) -> Result<Image> {
        match Image::open_write(storage, &self.options(), &self.disk)? {
            Opened::Ready(image) => Ok(*image),
            Opened::NeedsRepair => panic!("the image is dirty"),
        }
    }

    /// Runs all steps, and `after` each of them.
    fn run(&self, storage: Arc<dyn Storage>, mut after: impl FnMut()) -> Result<()> {
        let image = self.open(storage)?;
        for step in &self.steps {
            step.apply(&image)?;
            after();
        }
        image.close()
    }

    /// What each sector may hold, from each flush on: the flush's place in the log, and the sets.
    fn allowed(&self, lengths: &[usize], cluster: u64) -> Vec<(usize, Vec<HashSet<Vec<u8>>>)> {
        let mut now = self.before.clone();
        let sets = |bytes: &[u8]| -> Vec<HashSet<Vec<u8>>> {
            bytes.chunks(SECTOR).map(|sector| HashSet::from([sector.to_vec()])).collect()
        };
        let mut allowed = vec![(0, sets(&now))];
        for (step, &length) in self.steps.iter().zip(lengths) {
            if matches!(step, Flush) {
                allowed.push((length, sets(&now)));
                continue;
            }
            step.shadow(&mut now, cluster);
            for (_, sets) in &mut allowed {
                for (set, sector) in sets.iter_mut().zip(now.chunks(SECTOR)) {
                    set.insert(sector.to_vec());
                }
            }
        }
        allowed
    }

    fn read(&self, bytes: Vec<u8>) -> Vec<u8> {
        let storage = Arc::new(MemoryStorage::new(bytes));
        let image = Image::open_read(storage, &options(&self.path), &self.disk).unwrap();
        read_all(&image)
    }
}

fn survives_crashes(create: &str, backing: bool, snapshot: bool) {
    let case = case(create, backing, snapshot);
    let (count, _) = enumerate(&case, create);
    assert!(count > 100, "{create}: only {count} crash images");
}

/// Looks at all crash images of a case; returns how many there were, and the image without a crash.
fn enumerate(case: &Case, create: &str) -> (usize, Vec<u8>) {
    let log = Arc::new(case.log());
    let mut lengths = Vec::new();
    case.run(log.clone(), || lengths.push(log.ops().len())).unwrap();
    let cluster =
        case.open(Arc::new(MemoryStorage::new(case.base()))).unwrap().geometry().cluster_bytes();
    let allowed = case.allowed(&lengths, cluster);
    let mut states = 0;
    let count = crash_images(&log, |image| {
        if let Some(violation) = violation(&image.bytes) {
            panic!("{create}: {violation}; {}", image.story);
        }
        // A check takes as long as all the rest.
        states += 1;
        if states % 5 == 0 {
            assert_no_error(&image.bytes, &format!("{create}: {}", image.story));
        }
        let durable: usize = image.story.split(' ').nth(2).unwrap().parse().unwrap();
        let since = allowed.iter().rev().find(|(place, _)| *place <= durable).unwrap();
        let guest = case.read(image.bytes.clone());
        for (n, (sector, set)) in guest.chunks(SECTOR).zip(&since.1).enumerate() {
            let at = n * SECTOR;
            assert!(set.contains(sector), "{create}: guest offset {at:#x}: {}", image.story);
        }
    });
    let mut after = case.before.clone();
    case.steps.iter().for_each(|step| step.shadow(&mut after, cluster));
    assert_same(&case.read(log.image()), &after, "without a crash");
    std::fs::write(&case.path, log.image()).unwrap();
    assert_clean(&case.path);
    (count, log.image())
}

#[test]
fn freed_clusters_of_a_full_device_are_used_again_only_when_no_mapping_refers_to_them() {
    let mut case = case("cluster_size=512", false, false);
    // The image as it is with all tables and a little free space.
    case.steps = vec![Write(0, 66_000, 1), Flush];
    let (_, full) = enumerate(&case, "filling");
    case.disk.files.insert(case.path.clone(), Arc::new(MemoryStorage::new(full.clone())));
    case.steps.iter().for_each(|step| step.shadow(&mut case.before, 512));
    case.device = Some(full.len() + 8 * 512);
    case.steps = vec![
        Discard(0, 30_000),
        Write(40_000, 3000, 2),
        Write(70_000, 12_000, 3),
        Discard(40_448, 2048),
        Write(90_000, 9000, 4),
    ];
    let (count, _) = enumerate(&case, "full device");
    assert!(count > 100, "only {count} crash images");
}

#[test]
fn a_growing_refcount_table_is_complete_when_the_header_switches_to_it() {
    let size = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    let create = "cluster_size=512,refcount_bits=64";
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, "4M"]);
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 14 0 1890k", name]);
    let mut before = vec![0; size];
    before[..1890 << 10].fill(14);
    let mut disk = Disk::default();
    disk.load(&path);
    let clusters = |image: &[u8]| u32::from_be_bytes(image[56..60].try_into().unwrap());
    let steps =
        vec![Write(2 << 20, 33_000, 1), Write(3 << 20, 66_000, 2), Discard(2 << 20, 40_960)];
    let case = Case { disk, steps, device: None, path, before, _folder: folder };
    let old = clusters(&case.base());
    let (_, image) = enumerate(&case, create);
    assert!(clusters(&image) > old, "the refcount table has not grown");
}

fn survives_failures(create: &str, backing: bool, snapshot: bool) {
    let case = case(create, backing, snapshot);
    for class in [Class::Write, Class::Sync, Class::Read] {
        for n in 0.. {
            let memory = Arc::new(MemoryStorage::new(case.base()));
            let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
            let outcome = case.run(failing.clone(), || {});
            if !failing.fired() {
                outcome.unwrap();
                break;
            }
            assert!(outcome.is_err(), "{create}: {class:?} {n} failed without an error");
            if let Some(violation) = violation(&memory.to_vec()) {
                panic!("{create}: {class:?} {n} failed: {violation}");
            }
            assert_no_error(&memory.to_vec(), &format!("{create}: {class:?} {n} failed"));
        }
    }
}

fn survives_a_full_file_system(create: &str, backing: bool, snapshot: bool) {
    let case = case(create, backing, snapshot);
    let (length, mut failed) = (case.base().len() as u64, 0);
    for limit in (0..).map(|n| length + n * 3072) {
        let memory = Arc::new(MemoryStorage::new(case.base()));
        let image = case.open(Arc::new(Full { inner: memory.clone(), limit })).unwrap();
        let outcome = case.steps.iter().try_for_each(|step| step.apply(&image));
        let outcome = outcome.and(image.close());
        assert_eq!(violation(&memory.to_vec()), None, "{create}: {limit}");
        assert_no_error(&memory.to_vec(), &format!("{create}: {limit}"));
        if outcome.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 0, "{create}: nothing failed");
}

macro_rules! cases {
    ($($name:ident: $create:literal, $backing:literal, $snapshot:literal;)*) => {
        mod crash {
            $(#[test] fn $name() { super::survives_crashes($create, $backing, $snapshot); })*
        }
        mod failing {
            $(#[test] fn $name() { super::survives_failures($create, $backing, $snapshot); })*
        }
        mod full {
            $(#[test] fn $name() {
                super::survives_a_full_file_system($create, $backing, $snapshot);
            })*
        }
    };
}

cases! {
    small_clusters: "cluster_size=512", false, false;
    small_clusters_with_wide_counts: "cluster_size=512,refcount_bits=64", false, false;
    a_snapshot_shares_everything: "cluster_size=512", false, true;
    clusters_of_four_kilobytes_over_a_base: "cluster_size=4k", true, false;
    a_snapshot_over_a_base: "cluster_size=4k,refcount_bits=2", true, true;
    subclusters: "cluster_size=16k,extended_l2=on", true, false;
    subclusters_with_a_snapshot: "cluster_size=16k,extended_l2=on", false, true;
    lazy_refcounts: "cluster_size=4k,lazy_refcounts=on", false, false;
    version_two: "cluster_size=4k,compat=0.10", false, true;
}
