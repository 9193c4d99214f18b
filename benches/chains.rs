//! `commit` and `rebase` of 2 GiB, against qemu-img and `cp` of the bytes that move.

use std::path::Path;

use super::images::{must, once};
use super::measure::{self, Cost, median};

/// Runs of each program in a row.
const RUNS: usize = 5;

/// One line of the table.
struct Row {
    name: &'static str,
    /// The arguments; the image is `top` in the folder.
    args: &'static [&'static str],
    goal: f64,
    /// Which image of the chain has the data.
    data_in: &'static str,
}

const ROWS: [Row; 2] = [
    Row { name: "commit 2 GiB into a base", args: &["commit", "-q"], goal: 1.3, data_in: "top" },
    Row {
        name: "rebase over 2 GiB that differ",
        args: &["rebase", "-b", "other", "-F", "qcow2"],
        goal: 1.3,
        data_in: "base",
    },
];

/// Runs the rows whose name has `wanted` in it.
pub fn rows(folder: &Path, wanted: &str) {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(wanted)).collect();
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<34} {:>9} {:>9} {:>7} {:>6} {:>8} {:>10} {:>10}",
        "median of runs in turn",
        "qemu-img",
        "qcheck",
        "ratio",
        "goal",
        "of cp's",
        "KiB there",
        "KiB here"
    );
    let data = once(folder, "noise.raw", |path| {
        let of = format!("of={path}");
        must("dd", &["if=/dev/urandom", &of, "bs=1M", "count=2048", "status=none"]);
    });
    rows.into_iter().for_each(|row| bench(row, folder, &data));
}

/// Makes the chain, with nothing left to be written to the disk.
fn make(row: &Row, folder: &Path, data: &Path) {
    let name = |image: &str| folder.join(image).to_str().expect("the name is text").to_owned();
    for image in ["base", "other", "top"] {
        let _ = std::fs::remove_file(folder.join(image));
        let path = name(image);
        let below: &[&str] = if image == "top" { &["-b", "base", "-F", "qcow2"] } else { &[] };
        let create = [&["create", "-q", "-f", "qcow2"], below, &[&path, "4G"]].concat();
        must("qemu-img", &create);
        if image == row.data_in {
            let data = data.to_str().expect("the name is text");
            let args = ["convert", "-n", "-f", "raw", "-O", "qcow2", data, &path];
            must("qemu-img", &args);
        }
    }
    must("sync", &[]);
}

fn bench(row: &Row, folder: &Path, data: &Path) {
    let own = Path::new(env!("CARGO_BIN_EXE_qcheck"));
    let (top, copy) = (folder.join("top"), folder.join("copy"));
    let [top, copy, data_name] =
        [&top, &copy, data].map(|path: &Path| path.to_str().expect("the name is text"));
    let args = [row.args, &[top]].concat();
    let (mut theirs, mut ours, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (program, costs) in [(Path::new("qemu-img"), &mut theirs), (own, &mut ours)] {
            make(row, folder, data);
            let cost = measure::run(program, &args);
            assert_eq!(cost.code, 0, "{} {args:?}", program.display());
            costs.push(cost);
        }
        let _ = std::fs::remove_file(copy);
        must("sync", &[]);
        let both = format!("cp '{data_name}' '{copy}' && sync '{copy}'");
        copies.push(measure::run(Path::new("sh"), &["-c", &both]));
    }
    let seconds = |costs: &[Cost]| median(costs.iter().map(|c| c.time.as_secs_f64()).collect());
    let peak = |costs: &[Cost]| costs.iter().map(|c| c.peak_kib).max().unwrap_or(0);
    println!(
        "{:<34} {:>8.3}s {:>8.3}s {:>6.2}x {:>5.1}x {:>7.2}x {:>10} {:>10}",
        row.name,
        seconds(&theirs),
        seconds(&ours),
        seconds(&theirs) / seconds(&ours),
        row.goal,
        seconds(&ours) / seconds(&copies),
        peak(&theirs),
        peak(&ours)
    );
}
