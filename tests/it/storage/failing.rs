//! The storages of the tests: what a crash and a failing disk look like.

use std::collections::HashSet;

use qcheck::storage::{MemoryStorage, Storage};

use crate::support::storages::crash::{Op, WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

#[test]
fn the_nth_operation_fails_and_then_all_that_change() {
    let storage = FailAfter::new(MemoryStorage::new(vec![0; 4]), Class::AnyWrite, 2);
    storage.write_at(0, b"a").unwrap();
    assert!(!storage.fired());
    storage.sync().unwrap();
    assert!(storage.set_len(1).is_err());
    assert!(storage.fired());
    assert!(storage.write_at(1, b"b").is_err());
    assert!(storage.sync().is_err());
    assert_eq!(storage.into_inner().into_inner(), b"a\0\0\0");
}

fn images_of(log: &WriteLog) -> Vec<Vec<u8>> {
    let mut images = Vec::new();
    let count = crash_images(log, |image| images.push(image.bytes.clone()));
    assert_eq!(count, images.len());
    let distinct: HashSet<_> = images.iter().collect();
    assert_eq!(distinct.len(), count);
    images
}

#[test]
fn the_log_has_every_change_in_order_and_none_that_failed() {
    let log = WriteLog::fixed(vec![0; 8]);
    log.write_at(1, b"ab").unwrap();
    log.write_zeroes(2, 1).unwrap();
    log.sync().unwrap();
    log.discard(1, 1).unwrap();
    log.set_len(8).unwrap();
    assert!(log.write_at(8, b"x").is_err());
    assert_eq!(
        log.ops(),
        [
            Op::Write { offset: 1, data: b"ab".to_vec() },
            Op::WriteZeroes { offset: 2, length: 1 },
            Op::Sync,
            Op::Discard { offset: 1, length: 1 },
            Op::SetLen(8),
        ]
    );
    assert_eq!(log.image(), [0; 8]);
}

#[test]
fn without_a_write_the_only_crash_image_is_the_base() {
    assert_eq!(images_of(&WriteLog::new(b"base".to_vec())), [b"base"]);
    let log = WriteLog::new(b"base".to_vec());
    log.sync().unwrap();
    assert_eq!(images_of(&log), [b"base"]);
}

#[test]
fn operations_since_the_last_sync_may_be_missing_in_any_combination_but_none_before_it() {
    let log = WriteLog::new(b"....".to_vec());
    log.write_at(0, b"a").unwrap();
    log.write_at(1, b"b").unwrap();
    log.sync().unwrap();
    log.write_at(2, b"c").unwrap();
    log.set_len(3).unwrap();
    let images: HashSet<_> = images_of(&log).into_iter().collect();
    let expected = ["....", "a...", ".b..", "ab..", "abc.", "ab.", "abc"];
    assert_eq!(images, expected.iter().map(|image| image.as_bytes().to_vec()).collect());
}

#[test]
fn a_write_that_was_lost_leaves_zeroes_under_a_later_one_past_the_end() {
    let log = WriteLog::new(b"x".to_vec());
    log.write_at(1, b"y").unwrap();
    log.write_at(2, b"z").unwrap();
    assert!(images_of(&log).contains(&b"x\0z".to_vec()));
}

#[test]
fn a_long_write_may_arrive_half_in_whole_sectors() {
    let log = WriteLog::new(vec![0; 4096]);
    log.write_at(512, &[1; 1536]).unwrap();
    log.write_at(3000, &[2; 600]).unwrap();
    let images = images_of(&log);
    let counts = |image: &Vec<u8>| {
        let of = |value| image.iter().filter(|&&byte| byte == value).count();
        (of(1), of(2))
    };
    let seen: HashSet<_> = images.iter().map(counts).collect();
    // 3000..3600 has a sector's border at 3072 and one at 3584.
    let halves_of_the_second = [(1536, 584), (1536, 16), (0, 584), (0, 16)];
    for expected in [(0, 0), (1024, 0), (512, 0), (1536, 0), (0, 600), (1536, 600), (512, 600)] {
        assert!(seen.contains(&expected), "{expected:?} of {seen:?}");
    }
    for expected in halves_of_the_second {
        assert!(seen.contains(&expected), "{expected:?} of {seen:?}");
    }
    assert!(images.iter().all(|image| image[512..1024] == [image[512]; 512]));
}

#[test]
fn a_long_run_without_a_sync_gets_each_missing_each_alone_and_each_prefix() {
    for n in [9_u64, 100] {
        let log = WriteLog::fixed(vec![0; n as usize]);
        for at in 0..n {
            log.write_at(at, &[1]).unwrap();
        }
        let images: HashSet<_> = images_of(&log).into_iter().collect();
        let n = n as usize;
        let image = |has: &dyn Fn(usize) -> bool| (0..n).map(|at| u8::from(has(at))).collect();
        for i in 0..n {
            let (missing, alone): (Vec<u8>, Vec<u8>) = (image(&|at| at != i), image(&|at| at == i));
            let prefix: Vec<u8> = image(&|at| at < i);
            assert!(images.contains(&missing) && images.contains(&alone));
            assert!(images.contains(&prefix));
        }
        assert!(images.len() < 4000, "{}", images.len());
    }
}

#[test]
fn crash_images_come_in_the_same_order_in_every_run() {
    let log = WriteLog::new(vec![0; 20]);
    for at in 0..20 {
        log.write_at(at, &[1]).unwrap();
    }
    assert_eq!(images_of(&log), images_of(&log));
}

#[test]
fn a_crash_image_describes_how_it_was_made() {
    let log = WriteLog::new(vec![0; 2048]);
    log.write_at(0, &[1]).unwrap();
    log.sync().unwrap();
    log.write_at(1024, &[2; 1024]).unwrap();
    log.set_len(4096).unwrap();
    let mut stories = Vec::new();
    crash_images(&log, |image| stories.push(image.story.clone()));
    let torn = "the first 2 operations are on disk, then arrived: [2] (last half) write \
                0x400+0x400; [3] SetLen(1000);";
    assert!(stories.iter().any(|story| story == torn), "{stories:#?}");
}
