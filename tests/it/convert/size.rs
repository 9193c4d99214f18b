//! How large compressed images are, against those of real qemu-img.

use std::fs;
use std::path::Path;

use crate::support::programs::run::{assert_clean, qcheck, qemu_ok};
use crate::support::rng::Rng;

/// Appends something like an instruction of x86-64: few opcodes, common registers, short
/// displacements, and distances to a few functions.
fn instruction(rng: &mut Rng, out: &mut Vec<u8>) {
    const OPCODES: [&[u8]; 8] = [
        &[0x48, 0x89],
        &[0x48, 0x8B],
        &[0x48, 0x8D],
        &[0x0F, 0xB6],
        &[0x85],
        &[0x49, 0x83],
        &[0x66, 0x0F, 0x6F],
        &[0x4C, 0x39],
    ];
    // Small numbers are frequent.
    let mut common = |bound: u64| rng.below(bound).min(rng.below(bound)) as usize;
    match common(6) {
        0..3 => {
            out.extend(OPCODES[common(8)]);
            out.extend([0x44 | (common(8) as u8 * 8), 0x24, common(24) as u8 * 8]);
        }
        3 => {
            out.extend(OPCODES[common(8)]);
            out.push(0xC0 | common(64) as u8);
        }
        4 => {
            let distance = (common(300) as u32 * 4096).wrapping_sub(out.len() as u32);
            out.push(0xE8);
            out.extend(distance.to_be_bytes());
        }
        _ => out.extend([0x0F, 0x84 + common(4) as u8, common(200) as u8, common(4) as u8, 0, 0]),
    }
}

/// Appends a word of made-up text: short words are frequent, and so are the first ones.
fn word(rng: &mut Rng, out: &mut Vec<u8>) {
    let number = rng.below(2000).min(rng.below(2000)).min(rng.below(2000));
    let mut letters = Rng::new(number);
    for _ in 0..=letters.below(4) {
        let syllables = b"thanerintiesorteonarstdealeicoma";
        let at = letters.below(16) as usize * 2;
        out.extend(&syllables[at..at + 2]);
    }
    out.extend(if rng.below(12) == 0 { ".\n" } else { " " }.bytes());
}

/// Six kinds of data, the same every time.
fn kinds(bytes: usize) -> [(&'static str, Vec<u8>); 6] {
    let mut rng = Rng::new(7);
    let fill = |part: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut out = Vec::new();
        while out.len() < bytes {
            part(&mut out);
        }
        out.truncate(bytes);
        out
    };
    let mut code = Rng::new(10);
    let program = fill(&mut |out| instruction(&mut code, out));
    let mut words = Rng::new(11);
    let text = fill(&mut |out| word(&mut words, out));
    let mut time = 1_700_000_000_u64;
    let mut log = Rng::new(8);
    let log = fill(&mut |out| {
        time += log.below(9);
        let (host, id) = (log.below(40), log.below(1 << 32));
        let line = format!("{time} host{host} GET /api/v1/disk/{id:08x} 200 {}ms\n", id % 977);
        out.extend(line.bytes());
    });
    let (mut key, mut records) = (0, Rng::new(9));
    let records = fill(&mut |out| {
        key += 1 + records.below(5);
        out.extend(key.to_be_bytes());
        out.extend((records.below(1000) as u32).to_be_bytes());
        out.extend((1_700_000_000 + (key / 7) as u32).to_be_bytes());
        let price = [1.5, 2.25, 100.0, records.below(1 << 40) as f64 / 3e9];
        out.extend(price[records.below(4) as usize].to_be_bytes());
        out.extend((records.below(16) as u32).to_be_bytes());
    });
    let random: Vec<u8> = (0..bytes).map(|_| rng.below(256) as u8).collect();
    let mut mixed = random.clone();
    mixed.chunks_mut(65536).step_by(3).for_each(|part| part.fill(0));
    mixed.chunks_mut(65536).skip(1).step_by(3).for_each(|part| part[1000..].fill(3));
    let kinds = [("program", program), ("text", text), ("log", log), ("records", records)];
    let [a, b, c, d] = kinds;
    [a, b, c, d, ("random", random), ("mixed", mixed)]
}

fn length(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).unwrap().len()
}

/// The lengths of both programs' images of `disk.raw`.
fn lengths(folder: &Path, options: &str, threads: &str) -> (u64, u64) {
    for name in ["theirs", "ours"] {
        let _ = fs::remove_file(folder.join(name));
    }
    let args = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "-m"];
    qemu_ok(folder, "qemu-img", &[&args[..], &["1", "disk.raw", "theirs"]].concat());
    let ran = qcheck(folder, &[&args[..], &[threads, "disk.raw", "ours"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{options}");
    assert_clean(folder, "ours");
    (length(folder, "theirs"), length(folder, "ours"))
}

#[test]
fn compressed_images_are_not_larger_than_those_of_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for method in ["zlib", "zstd"] {
        let (mut logarithms, mut number) = (0.0, 0.0);
        for bytes in [64 << 10, 320 << 10, 3 << 20] {
            for (kind, data) in kinds(bytes) {
                fs::write(folder.join("disk.raw"), data).unwrap();
                for threads in ["1", "16"] {
                    let options = format!("compression_type={method}");
                    let (theirs, ours) = lengths(folder, &options, threads);
                    let ratio = ours as f64 / theirs as f64;
                    assert!(ratio <= 1.01, "{method} {kind} {bytes} -m {threads}: {ratio}");
                    logarithms += ratio.ln();
                    number += 1.0;
                }
            }
        }
        assert!(logarithms / number <= 0.0, "{method}: {}", (logarithms / number).exp());
    }
}

#[test]
fn small_pieces_of_a_compressed_image_take_no_whole_clusters() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let mut disk = vec![0u8; 4 << 20];
    disk.chunks_mut(200_000).for_each(|part| part[..700].fill(0x5A));
    fs::write(folder.join("disk.raw"), disk).unwrap();
    for options in ["extended_l2=on", "extended_l2=on,cluster_size=16k", "cluster_size=2M"] {
        let (theirs, ours) = lengths(folder, options, "4");
        assert!(ours <= theirs, "{options}: {ours} bytes, qemu-img {theirs}");
        qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", "raw", "disk.raw", "ours"]);
    }
}

#[test]
fn the_compression_level_can_be_chosen_and_has_limits() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let [_, (_, text), ..] = kinds(1 << 20);
    fs::write(folder.join("disk.raw"), text).unwrap();
    for (method, least, most) in [("zlib", "1", "9"), ("zstd", "1", "19")] {
        let at = |level: &str| {
            let options = format!("compression_type={method},compression_level={level}");
            let args = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options];
            let ran = qcheck(folder, &[&args[..], &["disk.raw", "made"]].concat());
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{options}");
            qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", "raw", "disk.raw", "made"]);
            let length = length(folder, "made");
            fs::remove_file(folder.join("made")).unwrap();
            length
        };
        assert!(at(most) < at(least), "{method}");
    }
    for (options, words) in [
        (&["-c", "-o", "compression_level=10"][..], "compression_level: valid are 1 to 9"),
        (&["-c", "-o", "compression_level=0"], "compression_level: valid are 1 to 9"),
        (&["-o", "compression_level=3"], "compression_level needs -c"),
    ] {
        let args = [&["convert", "-O", "qcow2"], options, &["disk.raw", "made"]].concat();
        let ran = qcheck(folder, &args);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(words), "{}", ran.err);
        assert!(!folder.join("made").exists());
    }
}
