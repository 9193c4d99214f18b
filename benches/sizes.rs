//! How large compressed images are, against those of qemu-img: six kinds of data, short and long.

use std::fs;
use std::path::{Path, PathBuf};

use super::convert::{DATA, FOLDERS, LARGEST, files, walk};
use super::images::{must, once};

/// Lengths of the disks.
const LENGTHS: [usize; 4] = [64 << 10, 1 << 20, 16 << 20, 256 << 20];
/// One cluster.
const CLUSTER: usize = 64 << 10;

/// Numbers that look random, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        self.0 >> 33
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The table of lengths, where `wanted` asks for it.
pub fn rows(folder: &Path, wanted: &str) {
    if !"sizes".contains(wanted) {
        return;
    }
    let kinds = [
        ("programs", programs(folder)),
        ("text", text(folder)),
        ("file system", files(folder)),
        ("log", made(folder, "log.raw", log_line)),
        ("records", made(folder, "records.raw", record)),
        ("mixed", made(folder, "mixed.raw", mixed)),
    ];
    for method in ["zlib", "zstd"] {
        println!("{:<28} {:>12} {:>12} {:>8} {:>8}", method, "qemu-img", "qcheck", "-m 1", "-m 16");
        let mut ratios = Vec::new();
        for (kind, source) in &kinds {
            for length in LENGTHS {
                ratios.extend(row(folder, method, kind, source, length));
            }
        }
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        println!("geometric mean {:.4} (goal 1.00), worst {worst:.4} (goal 1.01)", mean.exp());
    }
}

fn row(folder: &Path, method: &str, kind: &str, source: &Path, length: usize) -> [f64; 2] {
    let [part, theirs, ours] = ["part.raw", "theirs", "ours"].map(|name| folder.join(name));
    let data = fs::read(source).expect("the data can be read");
    // Not from the start, which is like no other part of it, nor from where a file system is empty.
    let start = (data.len() / 16).min(data.len().saturating_sub(length)) / CLUSTER * CLUSTER;
    let end = (start + length).min(data.len());
    fs::write(&part, &data[start..end]).expect("the part can be written");
    let options = format!("compression_type={method}");
    let names = [&part, &theirs, &ours].map(|path| path.to_str().expect("the name is text"));
    let convert = |program: &str, threads: &str, target: &str| {
        let args = ["convert", "-c", "-m", threads, "-f", "raw", "-O", "qcow2", "-o", &options];
        must(program, &[&args[..], &[names[0], target]].concat());
        let bytes = fs::metadata(target).expect("the target exists").len();
        fs::remove_file(target).expect("the target can be removed");
        bytes
    };
    let their = convert("qemu-img", "1", names[1]);
    let own = ["1", "16"].map(|n| convert(env!("CARGO_BIN_EXE_qcheck"), n, names[2]));
    let ratios = own.map(|bytes| bytes as f64 / their as f64);
    println!(
        "{:<28} {:>12} {:>12} {:>8.4} {:>8.4}",
        format!("{kind}, {} KiB", (end - start) >> 10),
        their,
        own[0],
        ratios[0],
        ratios[1]
    );
    ratios
}

/// A disk of generated data.
fn made(folder: &Path, name: &str, part: fn(&mut Random, &mut Vec<u8>)) -> PathBuf {
    once(folder, name, |path| {
        let (mut random, mut out) = (Random(1), Vec::new());
        while out.len() < LENGTHS[3] {
            part(&mut random, &mut out);
        }
        fs::write(path, &out[..LENGTHS[3]]).expect("the data can be written");
    })
}

fn log_line(random: &mut Random, out: &mut Vec<u8>) {
    let time = 1_700_000_000 + out.len() / 300;
    let (host, id, code) =
        (random.below(40), random.next(), [200, 404, 500][random.below(3) as usize]);
    out.extend(format!("{time} host{host} GET /api/disk/{id:08x} {code} {}ms\n", id % 977).bytes());
}

fn record(random: &mut Random, out: &mut Vec<u8>) {
    let key = out.len() as u64 / 28 * 3 + random.below(3);
    let price = [1.5, 2.25, 100.0, random.next() as f64 / 3e9][random.below(4) as usize];
    out.extend(key.to_be_bytes());
    out.extend((random.below(1000) as u32).to_be_bytes());
    out.extend((1_700_000_000 + (key / 7) as u32).to_be_bytes());
    out.extend(f64::to_be_bytes(price));
    out.extend((random.below(16) as u32).to_be_bytes());
}

fn mixed(random: &mut Random, out: &mut Vec<u8>) {
    let end = out.len() + CLUSTER * (1 + random.below(8) as usize);
    match random.below(3) {
        0 => out.resize(end, 0),
        1 => (out.len()..end).for_each(|_| out.push(random.next() as u8)),
        _ => {
            while out.len() < end {
                log_line(random, out);
            }
            out.truncate(end);
        }
    }
}

fn programs(folder: &Path) -> PathBuf {
    of_files(folder, "programs.raw", |bytes| bytes.starts_with(b"\x7fELF"))
}

fn text(folder: &Path) -> PathBuf {
    of_files(folder, "text.raw", |bytes| std::str::from_utf8(bytes).is_ok())
}

/// The files of this machine that are needed, one after the other.
fn of_files(folder: &Path, name: &str, wanted: fn(&[u8]) -> bool) -> PathBuf {
    once(folder, name, |path| {
        let mut chosen = Vec::new();
        FOLDERS.iter().for_each(|top| walk(Path::new(top), &mut chosen));
        chosen.sort_unstable();
        let mut out = Vec::new();
        for (_, file, bytes) in chosen {
            let fits = bytes <= LARGEST && (out.len() as u64) < DATA / 2;
            if let (true, Ok(bytes)) = (fits, fs::read(file)) {
                out.extend(Some(bytes).filter(|bytes| wanted(bytes)).unwrap_or_default());
            }
        }
        out.truncate(out.len() / CLUSTER * CLUSTER);
        fs::write(path, out).expect("the data can be written");
    })
}
