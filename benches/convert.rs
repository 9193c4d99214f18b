//! `convert` on a file system of real files, against `qemu-img convert` (with `-W`, which makes it
//! use several threads, in rows that name it) and `cp --sparse=always`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::images::{must, once};
use super::measure::{self, Cost, median};

/// Bytes of files in the image.
pub const DATA: u64 = 600 << 20;
/// Larger files are left out: a few of them would be all there is.
pub const LARGEST: u64 = 16 << 20;
/// Where the files come from.
pub const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/share", "/usr/bin"];
/// Runs of each program in a row.
const RUNS: usize = 5;

/// One line of the table.
struct Row {
    name: &'static str,
    /// What is converted, made from the raw image.
    source: fn(&Path, &Path) -> PathBuf,
    args: &'static [&'static str],
    goal: f64,
    /// Whether a copy of the file is comparable.
    copy: bool,
}

const ROWS: &[Row] = &[
    Row {
        name: "convert raw to qcow2",
        source: raw,
        args: &["-W", "-O", "qcow2"],
        goal: 1.3,
        copy: true,
    },
    Row { name: "convert qcow2 to raw", source: plain, args: &["-W"], goal: 1.3, copy: true },
    Row {
        name: "convert raw to compressed zlib",
        source: raw,
        args: &["-c", "-O", "qcow2"],
        goal: 2.5,
        copy: false,
    },
    Row {
        name: "convert -W raw to compressed zlib",
        source: raw,
        args: &["-c", "-W", "-O", "qcow2"],
        goal: 2.5,
        copy: false,
    },
    Row {
        name: "convert raw to compressed zstd",
        source: raw,
        args: &["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
        goal: 2.0,
        copy: false,
    },
    Row {
        name: "convert compressed zlib to raw",
        source: zlib,
        args: &["-W"],
        goal: 3.0,
        copy: false,
    },
    Row {
        name: "convert compressed zstd to raw",
        source: zstd,
        args: &["-W"],
        goal: 1.5,
        copy: false,
    },
    Row {
        name: "convert raw to encrypted qcow2",
        source: raw,
        args: &[
            "-W",
            "--object",
            "secret,id=s,data=bench",
            "-O",
            "qcow2",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
        ],
        goal: 1.5,
        copy: false,
    },
    Row {
        name: "convert encrypted qcow2 to raw",
        source: encrypted,
        args: &["--object", "secret,id=s,data=bench"],
        goal: 1.5,
        copy: false,
    },
    Row {
        name: "convert an empty TiB",
        source: empty,
        args: &["-O", "qcow2"],
        goal: 1.0,
        copy: false,
    },
];

fn raw(_folder: &Path, raw: &Path) -> PathBuf {
    raw.to_owned()
}

/// The image as qcow2.
pub fn plain(folder: &Path, raw: &Path) -> PathBuf {
    made(folder, raw, "files.qcow2", &[])
}

/// The image as compressed qcow2.
pub fn zlib(folder: &Path, raw: &Path) -> PathBuf {
    made(folder, raw, "files-zlib.qcow2", &["-c"])
}

/// Likewise, with zstd.
pub fn zstd(folder: &Path, raw: &Path) -> PathBuf {
    made(folder, raw, "files-zstd.qcow2", &["-c", "-o", "compression_type=zstd"])
}

/// The description of the image, encrypted with LUKS.
fn encrypted(folder: &Path, raw: &Path) -> PathBuf {
    let secret = ["--object", "secret,id=s,data=bench"];
    let luks = ["-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    let path = made(folder, raw, "files-luks.qcow2", &[secret, luks].concat());
    let path = path.to_str().expect("the name is text");
    let options = r#""driver":"qcow2","encrypt.key-secret":"s","file.filename""#;
    PathBuf::from(format!(r#"json:{{{options}:"{path}"}}"#))
}

fn empty(folder: &Path, _raw: &Path) -> PathBuf {
    once(folder, "empty.raw", |path| must("truncate", &["-s", "1T", path]))
}

fn made(folder: &Path, raw: &Path, name: &str, more: &[&str]) -> PathBuf {
    once(folder, name, |path| {
        let base = ["convert", "-f", "raw", "-O", "qcow2"];
        let files = [raw.to_str().expect("the name is text"), path];
        must("qemu-img", &[&base, more, &files].concat());
    })
}

/// 3 GiB with an ext4 file system of files of this machine, chosen by their names so that it is the same every time.
pub fn files(folder: &Path) -> PathBuf {
    once(folder, "files.raw", |path| {
        let root = folder.join("files");
        let mut chosen = Vec::new();
        FOLDERS.iter().for_each(|top| walk(Path::new(top), &mut chosen));
        chosen.sort_unstable();
        let mut bytes = 0;
        for (_, file, length) in chosen {
            if bytes > DATA {
                break;
            }
            let target = root.join(file.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(target.parent().expect("a folder")).expect("it can be made");
            // What only the administrator may read does not matter.
            if fs::copy(&file, &target).is_ok() {
                bytes += length;
            }
        }
        must("truncate", &["-s", "3G", path]);
        let root_name = root.to_str().expect("the folder's name is text");
        must("mkfs.ext4", &["-q", "-F", "-d", root_name, path]);
        fs::remove_dir_all(root).expect("the files can be removed");
    })
}

pub fn walk(folder: &Path, out: &mut Vec<(u64, PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        if metadata.is_dir() {
            walk(&path, out);
        } else if metadata.is_file() && metadata.len() <= LARGEST {
            let mut hasher = DefaultHasher::new();
            path.hash(&mut hasher);
            out.push((hasher.finish(), path, metadata.len()));
        }
    }
}

/// Runs the rows whose name has `wanted` in it.
pub fn rows(folder: &Path, wanted: &str) {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(wanted)).collect();
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<34} {:>9} {:>9} {:>7} {:>6} {:>8} {:>7} {:>10} {:>10}",
        "median of runs in turn",
        "qemu-img",
        "qcheck",
        "ratio",
        "goal",
        "of cp's",
        "size",
        "KiB there",
        "KiB here"
    );
    let raw = files(folder);
    rows.into_iter().for_each(|row| bench(row, folder, &raw));
}

fn bench(row: &Row, folder: &Path, raw: &Path) {
    let source = (row.source)(folder, raw);
    let target = folder.join("target");
    let is_qcow2 = source.to_string_lossy().contains(".qcow2");
    let format = if is_qcow2 { "qcow2" } else { "raw" };
    let names = [&source, &target].map(|path| path.to_str().expect("the name is text"));
    let args = [&["convert", "-f", format], row.args, &names].concat();
    let own = Path::new(env!("CARGO_BIN_EXE_qcheck"));
    let (mut theirs, mut ours, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let mut sizes = (0, 0);
    for number in 0..=RUNS {
        let once = |program: &Path, args: &[&str]| -> (Cost, u64) {
            let _ = fs::remove_file(&target);
            let cost = measure::run(program, args);
            (cost, fs::metadata(&target).expect("the target is there").len())
        };
        let their = once(Path::new("qemu-img"), &args);
        let our = once(own, &args);
        sizes = (their.1, our.1);
        let copy =
            row.copy.then(|| once(Path::new("cp"), &["--sparse=always", names[0], names[1]]).0);
        if number > 0 {
            theirs.push(their.0);
            ours.push(our.0);
            copies.extend(copy);
        }
    }
    let _ = fs::remove_file(&target);
    let seconds = |costs: &[Cost]| median(costs.iter().map(|c| c.time.as_secs_f64()).collect());
    let ratio = |one: &[Cost], other: &[Cost]| {
        let pairs = one.iter().zip(other);
        median(pairs.map(|(a, b)| a.time.as_secs_f64() / b.time.as_secs_f64()).collect())
    };
    let peak = |costs: &[Cost]| costs.iter().map(|c| c.peak_kib).max().unwrap_or(0);
    let of_copy = match copies.is_empty() {
        true => String::new(),
        false => format!("{:.2}x", ratio(&ours, &copies)),
    };
    println!(
        "{:<34} {:>8.3}s {:>8.3}s {:>6.2}x {:>5.1}x {:>8} {:>7.4} {:>10} {:>10}",
        row.name,
        seconds(&theirs),
        seconds(&ours),
        ratio(&theirs, &ours),
        row.goal,
        of_copy,
        sizes.1 as f64 / sizes.0 as f64,
        peak(&theirs),
        peak(&ours)
    );
}
