//! Storages of the library.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use qcheck::storage::{Capacity, FileStorage, Latch, MemoryStorage, ReadAt, Storage};
use tempfile::TempDir;

use crate::support::storages::crash::WriteLog;
use crate::support::storages::fail::{Class, FailAfter};

const MIB: u64 = 1 << 20;

fn new_file() -> (TempDir, PathBuf, FileStorage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = FileStorage::create_new(&path).unwrap();
    (dir, path, file)
}

fn bytes(storage: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0xee; storage.len().unwrap() as usize + 1];
    let n = storage.read_at(0, &mut bytes).unwrap();
    bytes.truncate(n);
    bytes
}

fn data_ranges(storage: &dyn ReadAt) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while let Some(range) = storage.next_data(offset).unwrap() {
        ranges.push((range.start, range.end));
        offset = range.end;
    }
    ranges
}

#[test]
fn what_is_neither_file_nor_block_device_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = dir.path().join("socket");
    // An address has 108 bytes at most, and the folder's name can be longer.
    let folder = File::open(dir.path()).unwrap();
    let address = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    let _listener = std::os::unix::net::UnixListener::bind(address).unwrap();
    for (path, what) in [
        (dir.path().to_owned(), "a directory"),
        (fifo, "a pipe"),
        (socket, "a socket"),
        (PathBuf::from("/dev/null"), "a character device"),
    ] {
        let opens = [FileStorage::open_read, FileStorage::open_write, FileStorage::open_or_create];
        for open in opens {
            let error = open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let expected = format!("is {what}, not a regular file or block device");
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn opening_creates_only_when_asked_and_never_truncates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(FileStorage::open_read(&path).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(FileStorage::open_write(&path).unwrap_err().kind(), ErrorKind::NotFound);
    FileStorage::open_or_create(&path).unwrap().write_at(0, b"content").unwrap();
    assert_eq!(bytes(&FileStorage::open_or_create(&path).unwrap()), b"content");
    assert_eq!(bytes(&FileStorage::open_write(&path).unwrap()), b"content");
    assert_eq!(FileStorage::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_file_opened_for_reading_refuses_every_change() {
    let (_dir, path, file) = new_file();
    file.write_at(0, &[7; 8192]).unwrap();
    let reader = FileStorage::open_read(&path).unwrap();
    assert!(reader.write_at(0, b"x").is_err());
    assert!(reader.set_len(0).is_err());
    assert!(reader.discard(0, 4096).is_err());
    assert!(reader.write_zeroes(0, 4096).is_err());
    assert_eq!(bytes(&file), [7; 8192]);
}

#[test]
fn a_file_grows_and_reads_end_where_it_ends() {
    let (_dir, _path, file) = new_file();
    assert_eq!(file.capacity(), Capacity::Growable);
    assert!(file.is_empty().unwrap());
    file.write_at(5, b"abc").unwrap();
    file.sync().unwrap();
    assert_eq!(bytes(&file), b"\0\0\0\0\0abc");
    let mut buf = [9; 4];
    assert_eq!(file.read_at(6, &mut buf).unwrap(), 2);
    assert_eq!(file.read_at(8, &mut buf).unwrap(), 0);
    for far in [1 << 56, i64::MAX as u64, u64::MAX] {
        assert_eq!(file.read_at(far, &mut buf).unwrap(), 0);
        assert_eq!(file.next_data(far).unwrap(), None);
    }
    file.read_padded_at(7, &mut buf).unwrap();
    assert_eq!(&buf, b"c\0\0\0");
    assert_eq!(file.read_exact_at(7, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.set_len(6).unwrap();
    assert_eq!(bytes(&file), b"\0\0\0\0\0a");
    file.will_need(0..u64::MAX);
}

#[test]
fn holes_of_a_sparse_file_are_skipped() {
    let (_dir, _path, file) = new_file();
    file.set_len(8 * MIB).unwrap();
    assert_eq!(file.next_data(0).unwrap(), None);
    file.write_at(2 * MIB, &[1; 4096]).unwrap();
    file.write_at(5 * MIB, &[1; 8192]).unwrap();
    assert_eq!(
        data_ranges(&file),
        [(2 * MIB, 2 * MIB + 4096), (5 * MIB, 5 * MIB + 8192)],
        "the file system of the temporary directory must support holes"
    );
    assert_eq!(file.next_data(5 * MIB + 4096).unwrap(), Some(5 * MIB + 4096..5 * MIB + 8192));
    assert_eq!(file.next_data(6 * MIB).unwrap(), None);
    // Looking for data does not disturb the next read.
    assert_eq!(bytes(&file)[5 * MIB as usize], 1);
}

#[test]
fn discarding_frees_blocks_and_keeps_the_length() {
    let (_dir, path, file) = new_file();
    file.write_at(0, &vec![1; MIB as usize]).unwrap();
    file.sync().unwrap();
    let before = File::open(&path).unwrap().metadata().unwrap().blocks();
    file.discard(4096, MIB).unwrap();
    file.discard(0, 0).unwrap();
    file.sync().unwrap();
    assert!(File::open(&path).unwrap().metadata().unwrap().blocks() < before);
    assert_eq!(file.len().unwrap(), MIB);
    assert_eq!(data_ranges(&file), [(0, 4096)]);
    assert!(file.discard(u64::MAX, 2).is_err());
}

#[test]
fn zeroes_take_no_space_and_reach_past_the_end() {
    let (_dir, _path, file) = new_file();
    file.write_at(0, &[1; 8192]).unwrap();
    file.write_zeroes(100, 50).unwrap();
    file.write_zeroes(4096, MIB).unwrap();
    file.write_zeroes(7, 0).unwrap();
    let all = bytes(&file);
    assert_eq!(all.len() as u64, 4096 + MIB);
    let nonzero = all.iter().enumerate().filter(|(_, b)| **b != 0).map(|(at, _)| at);
    assert!(nonzero.eq((0..100).chain(150..4096)));
    assert_eq!(data_ranges(&file), [(0, 4096), (MIB, 4096 + MIB)]);
}

#[test]
fn memory_behaves_like_a_file() {
    let (_dir, _path, file) = new_file();
    let memory = MemoryStorage::new(Vec::new());
    for storage in [&file as &dyn Storage, &memory] {
        storage.write_at(0, &[3; 10000]).unwrap();
        storage.write_at(20000, b"end").unwrap();
        storage.write_at(30000, b"").unwrap();
        storage.write_zeroes(4096, 4096).unwrap();
        storage.discard(16384, 1 << 40).unwrap();
        storage.write_zeroes(20001, 5).unwrap();
        storage.set_len(20010).unwrap();
        storage.sync().unwrap();
        assert_eq!(storage.capacity(), Capacity::Growable);
    }
    assert_eq!(bytes(&memory), bytes(&file));
    assert_eq!(memory.next_data(1).unwrap(), Some(1..4096));
    assert_eq!(memory.next_data(4096).unwrap(), Some(8192..12288));
    assert_eq!(memory.next_data(12288).unwrap(), None);
}

#[test]
fn memory_of_fixed_length_has_no_space_past_its_end() {
    let memory = MemoryStorage::fixed(vec![1; 1000]);
    assert_eq!(memory.capacity(), Capacity::Fixed(1000));
    memory.write_at(990, &[2; 10]).unwrap();
    assert_eq!(memory.write_at(991, &[2; 10]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(memory.write_zeroes(1000, 1).unwrap_err().kind(), ErrorKind::StorageFull);
    memory.set_len(1000).unwrap();
    assert!(memory.set_len(999).is_err());
    assert_eq!(memory.into_inner().len(), 1000);
}

#[test]
fn memory_refuses_an_absurd_offset() {
    let memory = MemoryStorage::new(vec![]);
    assert!(memory.write_at(u64::MAX, b"x").is_err());
    assert!(memory.write_at(1 << 50, b"x").is_err());
    assert!(memory.set_len(1 << 50).is_err());
    memory.discard(1 << 50, u64::MAX).unwrap();
    assert_eq!(memory.read_at(u64::MAX, &mut [0]).unwrap(), 0);
}

#[test]
fn after_a_failure_the_latch_lets_nothing_but_reads_through() {
    type Change = fn(&dyn Storage) -> std::io::Result<()>;
    let changes: [(Class, Change); 5] = [
        (Class::Write, |s| s.write_at(0, b"x")),
        (Class::Write, |s| s.write_zeroes(0, 1)),
        (Class::Sync, |s| s.sync()),
        (Class::SetLen, |s| s.set_len(1)),
        (Class::Discard, |s| s.discard(0, 1)),
    ];
    for (class, fails) in changes {
        let log = WriteLog::new(b"image".to_vec());
        let latch = Latch::new(FailAfter::new(&log, class, 0));
        assert_eq!(latch.first_failure(), None);
        assert_eq!(fails(&latch).unwrap_err().raw_os_error(), Some(libc::EIO));
        let first = latch.first_failure().unwrap().to_owned();
        assert_eq!(first, "Input/output error", "without the system's number");
        for (_, change) in changes {
            let error = change(&latch).unwrap_err().to_string();
            assert_eq!(error, format!("refused after an earlier failure: {first}"));
        }
        assert_eq!(bytes(&latch), b"image");
        assert_eq!(log.ops(), []);
    }
}

#[test]
fn a_failed_read_does_not_close_the_latch() {
    let latch = Latch::new(FailAfter::new(MemoryStorage::new(b"image".to_vec()), Class::Read, 0));
    assert!(latch.read_at(0, &mut [0]).is_err());
    latch.write_at(0, b"I").unwrap();
    assert_eq!(bytes(&latch), b"Image");
}
