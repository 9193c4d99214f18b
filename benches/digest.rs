//! `check --digest` and `check --data`, against a raw copy by qemu-img and sha256sum: the other ways to the same result.

use std::fs;
use std::path::{Path, PathBuf};

use super::convert::{files, plain, zlib, zstd};
use super::measure::{self, Cost, median};

/// Runs of each in a row.
const RUNS: usize = 5;
/// How to get the digest without qcheck.
const BY_COPY: &str = "qemu-img convert -O raw \"$0\" \"$1\" && sha256sum \"$1\"";

/// One line of the table.
struct Row {
    name: &'static str,
    image: fn(&Path, &Path) -> PathBuf,
    args: &'static [&'static str],
    goal: f64,
}

const ROWS: &[Row] = &[
    Row { name: "digest sha256", image: plain, args: &["--digest", "sha256"], goal: 2.0 },
    Row { name: "digest sha256, zlib", image: zlib, args: &["--digest", "sha256"], goal: 2.0 },
    Row { name: "digest blake3", image: plain, args: &["--digest", "blake3"], goal: 5.0 },
    Row { name: "digest blake3, zstd", image: zstd, args: &["--digest", "blake3"], goal: 5.0 },
    Row { name: "digest: --data, zlib", image: zlib, args: &["--data"], goal: 5.0 },
];

/// Runs the rows whose name has `wanted` in it.
pub fn rows(folder: &Path, wanted: &str) {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(wanted)).collect();
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<34} {:>9} {:>9} {:>7} {:>6} {:>10}",
        "median of runs in turn", "by a copy", "qcheck", "ratio", "goal", "KiB here"
    );
    let raw = files(folder);
    rows.into_iter().for_each(|row| bench(row, folder, &raw));
}

fn bench(row: &Row, folder: &Path, raw: &Path) {
    let (image, copy) = ((row.image)(folder, raw), folder.join("copy.raw"));
    let [image, copy] = [&image, &copy].map(|path| path.to_str().expect("the name is text"));
    let own = Path::new(env!("CARGO_BIN_EXE_qcheck"));
    let (mut theirs, mut ours): (Vec<Cost>, Vec<Cost>) = (Vec::new(), Vec::new());
    for number in 0..=RUNS {
        let their = measure::run(Path::new("sh"), &["-c", BY_COPY, image, copy]);
        let _ = fs::remove_file(copy);
        let our = measure::run(own, &[&["check"], row.args, &[image]].concat());
        if number > 0 {
            theirs.push(their);
            ours.push(our);
        }
    }
    let seconds = |costs: &[Cost]| median(costs.iter().map(|c| c.time.as_secs_f64()).collect());
    let pairs = theirs.iter().zip(&ours);
    let ratio = median(pairs.map(|(t, o)| t.time.as_secs_f64() / o.time.as_secs_f64()).collect());
    println!(
        "{:<34} {:>8.3}s {:>8.3}s {:>6.1}x {:>5.1}x {:>10}",
        row.name,
        seconds(&theirs),
        seconds(&ours),
        ratio,
        row.goal,
        ours.iter().map(|c| c.peak_kib).max().unwrap_or(0)
    );
}
