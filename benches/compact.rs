//! `qcheck compact` in place, against `qemu-img convert` into a second file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::images::{copy, must, once};

/// Clusters of the image that is written in random order.
const SCATTERED: u64 = 1 << 14;
const CLUSTER: u64 = 64 << 10;

/// The table, where `wanted` asks for it.
pub fn rows(folder: &Path, wanted: &str) {
    if !"compact".contains(wanted) {
        return;
    }
    let work = folder.join("compact.qcow2");
    let second = folder.join("second");
    let [work_name, second_name] = [&work, &second].map(|path| path.to_str().expect("text"));
    println!(
        "{:<44} {:>9} {:>9} {:>14} {:>14}",
        "compact", "qemu-img", "qcheck", "length", "length"
    );
    for (name, image, ours, theirs) in [
        ("1 GiB moves", freed(folder), &[][..], &[][..]),
        ("--zeroes", freed(folder), &["--zeroes"], &[]),
        (
            "--compress=zstd",
            freed(folder),
            &["--compress=zstd"],
            &["-c", "-o", "compression_type=zstd"],
        ),
        ("--compress=zlib", freed(folder), &["--compress=zlib"], &["-c"]),
        ("--defragment, scattered", scattered(folder), &["--defragment"], &[]),
        ("--punch-only, 1 TiB, 30 % free", holes(folder), &["--punch-only"], &[]),
    ] {
        copy(&image, &work);
        must("sync", &[]);
        let theirs = if name.contains("TiB") {
            "-".into()
        } else {
            let args = [&["convert", "-O", "qcow2"], theirs, &[work_name, second_name]].concat();
            format!("{:.2} s", seconds("qemu-img", &args))
        };
        must("sync", &[]);
        let args = [&["compact", "-q"], ours, &[work_name]].concat();
        let took = seconds(env!("CARGO_BIN_EXE_qcheck"), &args);
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        println!(
            "{name:<44} {theirs:>9} {took:>7.2} s {:>14} {:>14}",
            length(&second),
            length(&work)
        );
        let _ = fs::remove_file(&second);
        if name.contains("defragment") {
            let [before, after] = [&image, &work].map(|path| cold_read(path));
            println!(
                "{:<44} {before:>7.2} s {after:>7.2} s",
                "a cold read of the disk, before and after"
            );
        }
    }
    let _ = fs::remove_file(&work);
}

fn seconds(program: &str, args: &[&str]) -> f64 {
    let start = Instant::now();
    must(program, args);
    start.elapsed().as_secs_f64()
}

/// Reads the disk in its order, with one request at a time.
fn cold_read(image: &Path) -> f64 {
    must("sync", &[]);
    fs::write("/proc/sys/vm/drop_caches", "3").expect("the page cache can be dropped");
    let name = image.to_str().expect("text");
    let start = Instant::now();
    let reads = (0..(SCATTERED * CLUSTER) >> 20).map(|n| format!("read -q {n}M 1M"));
    let args: Vec<String> = reads.flat_map(|read| ["-c".into(), read]).collect();
    let done = Command::new("qemu-io").args(["-r", "-f", "qcow2"]).args(args).arg(name).status();
    assert!(done.is_ok_and(|status| status.success()), "the disk can be read");
    start.elapsed().as_secs_f64()
}

/// 1 GiB of files after 1 GiB that is free.
fn freed(folder: &Path) -> PathBuf {
    let source = super::convert::files(folder);
    once(folder, "freed.qcow2", |path| {
        must("qemu-img", &["create", "-q", "-f", "qcow2", path, "2G"]);
        let source = source.to_str().expect("text");
        let length = fs::metadata(source).expect("it is there").len().min(1 << 30) & !0xfffff;
        let free = format!("write -q -P 7 0 {}", 1 << 30);
        let data = format!("write -q -s {source} {} {length}", 1 << 30);
        let discard = format!("discard -q 0 {}", 1 << 30);
        must("qemu-io", &["-f", "qcow2", "-c", &free, "-c", &data, "-c", &discard, path]);
    })
}

/// 1 GiB, written in random order.
fn scattered(folder: &Path) -> PathBuf {
    once(folder, "scattered-1G.qcow2", |path| {
        must("qemu-img", &["create", "-q", "-f", "qcow2", path, "1G"]);
        // An odd factor visits every cluster once.
        let place = |n: u64| n.wrapping_mul(6_364_136_223_846_793_005) % SCATTERED * CLUSTER;
        let writes =
            (0..SCATTERED).map(|n| format!("write -q -P {} {} 64k", n % 255 + 1, place(n)));
        let args: Vec<String> = writes.flat_map(|write| ["-c".into(), write]).collect();
        for args in args.chunks(4096) {
            let done = Command::new("qemu-io").args(["-f", "qcow2"]).args(args).arg(path).status();
            assert!(done.is_ok_and(|status| status.success()), "the disk can be written");
        }
    })
}

/// 1 TiB fully mapped, of which clusters in random places are free.
fn holes(folder: &Path) -> PathBuf {
    once(folder, "1T-free.qcow2", |path| {
        let options = "preallocation=metadata";
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, path, "1T"]);
        let discards = (0..5000_u64).map(|n| {
            let at = n * 200 + n.wrapping_mul(2_654_435_761) % 130;
            format!("discard -q {at}M 60M")
        });
        let args: Vec<String> = discards.flat_map(|discard| ["-c".into(), discard]).collect();
        let done = Command::new("qemu-io").args(["-f", "qcow2"]).args(args).arg(path).status();
        assert!(done.is_ok_and(|status| status.success()), "the disk can be written");
    })
}
