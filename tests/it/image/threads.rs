//! Four threads write one image at once.

use qcheck::image::Image;

use crate::image::tools::{
    Disk, assert_clean, assert_same, at, convert, open_write, options, qemu, read_all,
};

const SIZE: u64 = 6 << 20;
const THREADS: u64 = 4;

/// Each thread writes every fourth piece of 700 bytes, so that all share clusters.
fn write_stripes(image: &Image, thread: u64, seed: u64) {
    let pieces = SIZE / 700;
    let mut order: Vec<u64> = (0..pieces).filter(|piece| piece % THREADS == thread).collect();
    // Another order for each thread.
    order.sort_by_key(|piece| piece.wrapping_mul(0x9E37_79B9 + seed * 2) % 65_521);
    for piece in order {
        image.write(at(piece * 700), &[1 + (piece % 250) as u8; 700]).unwrap();
        if piece % 97 == 0 {
            let mut back = [0; 700];
            image.read(at(piece * 700), &mut back).unwrap();
            assert!(back == [1 + (piece % 250) as u8; 700], "piece {piece}");
        }
    }
}

fn expected() -> Vec<u8> {
    let written = SIZE / 700 * 700;
    let byte = |n: u64| if n < written { 1 + (n / 700 % 250) as u8 } else { 0 };
    (0..SIZE).map(byte).collect()
}

#[test]
fn four_threads_on_the_same_clusters_leave_the_bytes_written_and_a_clean_image() {
    for create in [
        "cluster_size=4k",
        "cluster_size=64k",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=32k,extended_l2=on",
        "cluster_size=64k,lazy_refcounts=on",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.qcow2");
        let name = path.to_str().unwrap();
        let size = SIZE.to_string();
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, &size]);
        qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 200 0 3M", name]);
        if !create.contains("lazy") {
            qemu("qemu-img", &["snapshot", "-c", "one", name]);
        }
        let mut disk = Disk::default();
        disk.load(&path);
        let image = open_write(&disk, &path, &options(&path));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let image = &image;
                scope.spawn(move || write_stripes(image, thread, thread));
            }
        });
        let mut shadow = expected();
        let rest = (SIZE / 700 * 700) as usize;
        shadow[rest..].fill(0);
        assert_same(&read_all(&image), &shadow, create);
        image.close().unwrap();
        disk.store_all();
        assert_clean(&path);
        assert_same(&convert(&path), &shadow, create);
    }
}

#[test]
fn two_writes_that_meet_in_a_new_cluster_end_in_one_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", name, "1M"]);
    let mut disk = Disk::default();
    disk.load(&path);
    let image = open_write(&disk, &path, &options(&path));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let image = &image;
            scope.spawn(move || image.write(at(thread * 16_384), &[1 + thread as u8; 16_384]));
        }
    });
    let run = image.map(at(0), 65_536).unwrap();
    assert_eq!(run.length, 65_536);
    image.close().unwrap();
    // Header, refcount table and block, L1 and L2 table, and the one cluster of data.
    assert_eq!(disk.files[&path].to_vec().len(), 6 * 65_536);
    disk.store_all();
    assert_clean(&path);
}
