//! The images of the benches.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const CLUSTER: u64 = 1 << 16;

/// Runs a tool that has to succeed.
pub fn must(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).status();
    assert!(done.is_ok_and(|s| s.success()), "{program} {args:?} failed");
}

/// Makes an image once; later calls find it.
pub fn once(folder: &Path, name: &str, make: impl FnOnce(&str)) -> PathBuf {
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("making {name}");
        let unfinished = folder.join("unfinished");
        make(unfinished.to_str().expect("the folder's name is text"));
        fs::rename(&unfinished, &path).expect("the image gets its name");
    }
    path
}

/// Copies a sparse file as one.
pub fn copy(from: &Path, to: &Path) {
    must("cp", &["--sparse=auto", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// Fully mapped, in order.
pub fn mapped(folder: &Path, name: &str, size: &str, cluster_size: &str) -> PathBuf {
    once(folder, name, |path| {
        let options = format!("preallocation=metadata,cluster_size={cluster_size}");
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, path, size]);
    })
}

/// 1 TiB, fully mapped, with one snapshot.
pub fn with_snapshot(folder: &Path, plain: &Path) -> PathBuf {
    once(folder, "1T-1-snapshot.qcow2", |path| {
        copy(plain, Path::new(path));
        must("qemu-img", &["snapshot", "-c", "s1", path]);
    })
}

/// 1 TiB, fully mapped, with 8 snapshots.
pub fn with_snapshots(folder: &Path, plain: &Path) -> PathBuf {
    once(folder, "1T-8-snapshots.qcow2", |path| {
        copy(plain, Path::new(path));
        for n in 1..=8 {
            must("qemu-img", &["snapshot", "-c", &format!("s{n}"), path]);
        }
    })
}

/// 1 TiB without data, with two bitmaps that have bits in different parts of each 8 GiB.
pub fn with_bitmaps(folder: &Path) -> PathBuf {
    once(folder, "1T-bitmaps.qcow2", |path| {
        must("qemu-img", &["create", "-q", "-f", "qcow2", path, "1T"]);
        for (name, at) in [("from", 1), ("into", 3)] {
            must("qemu-img", &["bitmap", "--add", "-g", "64k", path, name]);
            let writes: Vec<String> =
                (0..128).map(|n| format!("write -q -z {}M 900k", n * 8192 + at)).collect();
            let args: Vec<&str> = writes.iter().flat_map(|write| ["-c", write]).collect();
            must("qemu-io", &[&args[..], &[path]].concat());
            must("qemu-img", &["bitmap", "--disable", path, name]);
        }
    })
}

/// Every count in every second block one too high.
pub fn with_leaks(folder: &Path, plain: &Path) -> PathBuf {
    once(folder, "1T-leaks.qcow2", |path| {
        copy(plain, Path::new(path));
        let file = open(path);
        for block in refcount_blocks(&file).into_iter().step_by(2) {
            let mut counts = vec![0; CLUSTER as usize];
            file.read_exact_at(&mut counts, block).expect("a block can be read");
            for count in counts.chunks_exact_mut(2) {
                let higher = u16::from_be_bytes([count[0], count[1]]) + 1;
                count.copy_from_slice(&higher.to_be_bytes());
            }
            file.write_all_at(&counts, block).expect("a block can be written");
        }
    })
}

/// No entry left in the refcount table.
pub fn without_refcount_table(folder: &Path, plain: &Path) -> PathBuf {
    once(folder, "1T-no-refcount-table.qcow2", |path| {
        copy(plain, Path::new(path));
        let file = open(path);
        let (at, clusters) = refcount_table(&file);
        let zeroes = vec![0; (clusters * CLUSTER) as usize];
        file.write_all_at(&zeroes, at).expect("the table can be written");
    })
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).expect("the image opens")
}

fn field(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).expect("the header can be read");
    u64::from_be_bytes(bytes)
}

fn refcount_table(file: &File) -> (u64, u64) {
    (field(file, 48), field(file, 56) >> 32)
}

fn refcount_blocks(file: &File) -> Vec<u64> {
    let (at, clusters) = refcount_table(file);
    (0..clusters * CLUSTER / 8).map(|n| field(file, at + n * 8)).filter(|&b| b != 0).collect()
}

/// 256 GiB, every cluster mapped, in an order without order: no tool makes such an image in
/// acceptable time, so it is written here, table by table.
pub fn shuffled(folder: &Path) -> PathBuf {
    once(folder, "256G-shuffled.qcow2", |path| {
        let data: u64 = (256 << 30) / CLUSTER;
        let (tables, blocks) = (data / 8192, (data + 1024).div_ceil(32768));
        let (table_at, blocks_at) = (1, 2);
        let l1_at = blocks_at + blocks;
        let l2_at = l1_at + 1;
        let data_at = l2_at + tables;
        let used = data_at + data;
        let file = File::create(path).expect("the image can be made");
        file.set_len(used * CLUSTER).expect("it can be that long");
        let write = |cluster: u64, bytes: &[u8]| {
            file.write_all_at(bytes, cluster * CLUSTER).expect("it can be written");
        };
        write(0, &header(l1_at * CLUSTER, tables, table_at * CLUSTER));
        let entries = |first: u64, count: u64, flag: u64| -> Vec<u8> {
            (first..first + count).flat_map(|c| ((c * CLUSTER) | flag).to_be_bytes()).collect()
        };
        write(table_at, &entries(blocks_at, blocks, 0));
        write(l1_at, &entries(l2_at, tables, 1 << 63));
        for block in 0..blocks {
            let counts = (0..32768).map(|n| u16::from(block * 32768 + n < used));
            write(blocks_at + block, &counts.flat_map(u16::to_be_bytes).collect::<Vec<_>>());
        }
        // A multiplication by an odd number modulo a power of two visits everything once.
        let place = |n: u64| data_at + (n.wrapping_mul(2_654_435_761) ^ (n >> 3)) % data;
        let mut seen = vec![false; data as usize];
        let mut next = 0;
        for table in 0..tables {
            let mut bytes = Vec::with_capacity(CLUSTER as usize);
            for n in table * 8192..(table + 1) * 8192 {
                let mut cluster = place(n) - data_at;
                while seen[cluster as usize] {
                    cluster = next;
                    next += 1;
                }
                seen[cluster as usize] = true;
                bytes.extend((((cluster + data_at) * CLUSTER) | 1 << 63).to_be_bytes());
            }
            write(l2_at + table, &bytes);
        }
    })
}

fn header(l1: u64, l1_entries: u64, refcount_table: u64) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend(b"QFI\xfb\0\0\0\x03");
    b.extend([0; 12]);
    b.extend(16u32.to_be_bytes());
    b.extend((256u64 << 30).to_be_bytes());
    b.extend(0u32.to_be_bytes());
    b.extend((l1_entries as u32).to_be_bytes());
    b.extend(l1.to_be_bytes());
    b.extend(refcount_table.to_be_bytes());
    b.extend(1u32.to_be_bytes());
    b.extend([0; 12 + 24]);
    b.extend(4u32.to_be_bytes());
    b.extend(104u32.to_be_bytes());
    b.extend([0; 8]);
    b
}
