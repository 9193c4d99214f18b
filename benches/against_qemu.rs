//! qcheck against qemu-img on the same images, in turn, as ratios: `cargo bench`.
//!
//! `cargo bench -- NAME` runs the rows whose name has NAME in it. The images take about 10 GiB in
//! the folder that QCHECK_BENCH_DIR names, or in the system's folder for temporary files.

mod chains;
mod compact;
mod convert;
mod digest;
#[expect(dead_code, reason = "the tests take more from it")]
#[path = "../tests/it/support/servers/fake_web.rs"]
mod fake_web;
mod images;
mod luks;
mod measure;
mod remote;
mod sizes;

use std::fs::File;
use std::path::{Path, PathBuf};

use measure::{Cost, median};

/// Runs of each tool in a row.
const RUNS: usize = 5;

/// What is done with an image before each run.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// It is in the page cache.
    Warm,
    /// It is not.
    Cold,
    /// It is a fresh copy, since the run changes it.
    Fresh,
    /// It is not there: the run makes it.
    Absent,
}

/// One line of the table.
struct Row {
    name: &'static str,
    image: fn(&Images) -> PathBuf,
    args: &'static [&'static str],
    before: Before,
    goal: f64,
}

/// Where images are and how those are made that others are made from.
struct Images {
    folder: PathBuf,
}

impl Images {
    fn plain(&self) -> PathBuf {
        images::mapped(&self.folder, "1T.qcow2", "1T", "64k")
    }
}

const CHECK: &[&str] = &["check"];

const ROWS: &[Row] = &[
    Row {
        name: "check 1 TiB fully mapped, warm",
        image: Images::plain,
        args: CHECK,
        before: Before::Warm,
        goal: 10.0,
    },
    Row {
        name: "check 1 TiB fully mapped, cold",
        image: Images::plain,
        args: CHECK,
        before: Before::Cold,
        goal: 2.0,
    },
    Row {
        name: "check 64 GiB in 4 KiB clusters",
        image: |i| images::mapped(&i.folder, "64G-4k.qcow2", "64G", "4k"),
        args: CHECK,
        before: Before::Warm,
        goal: 10.0,
    },
    Row {
        name: "check 256 GiB in random host order",
        image: |i| images::shuffled(&i.folder),
        args: CHECK,
        before: Before::Warm,
        goal: 100.0,
    },
    Row {
        name: "check 1 TiB with 8 snapshots",
        image: |i| images::with_snapshots(&i.folder, &i.plain()),
        args: CHECK,
        before: Before::Warm,
        goal: 10.0,
    },
    Row {
        name: "check -r leaks, 1 TiB, half the counts too high",
        image: |i| images::with_leaks(&i.folder, &i.plain()),
        args: &["check", "-r", "leaks"],
        before: Before::Fresh,
        goal: 10.0,
    },
    Row {
        name: "check -r all, 1 TiB, refcount table zeroed",
        image: |i| images::without_refcount_table(&i.folder, &i.plain()),
        args: &["check", "-r", "all"],
        before: Before::Fresh,
        goal: 10.0,
    },
    Row {
        name: "create 1 TiB fully mapped",
        image: |i| i.folder.join("copy.qcow2"),
        args: &["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata,size=1T"],
        before: Before::Absent,
        goal: 5.0,
    },
    Row {
        name: "snapshot -c, 1 TiB fully mapped",
        image: Images::plain,
        args: &["snapshot", "-c", "new"],
        before: Before::Fresh,
        goal: 10.0,
    },
    Row {
        name: "snapshot -a, 1 TiB fully mapped",
        image: |i| images::with_snapshot(&i.folder, &i.plain()),
        args: &["snapshot", "-a", "s1"],
        before: Before::Fresh,
        goal: 10.0,
    },
    Row {
        name: "snapshot -d, 1 TiB fully mapped",
        image: |i| images::with_snapshot(&i.folder, &i.plain()),
        args: &["snapshot", "-d", "s1"],
        before: Before::Fresh,
        goal: 10.0,
    },
    Row {
        name: "resize +1T, 1 TiB fully mapped",
        image: Images::plain,
        args: &["resize", "-q", "--", "+1T"],
        before: Before::Fresh,
        goal: 3.0,
    },
    Row {
        name: "bitmap --merge, 1 TiB, 64 KiB granularity",
        image: |i| images::with_bitmaps(&i.folder),
        args: &["bitmap", "--merge", "from", "--", "into"],
        before: Before::Fresh,
        goal: 5.0,
    },
    Row {
        name: "info of a small image",
        image: |i| images::mapped(&i.folder, "10M.qcow2", "10M", "64k"),
        args: &["info"],
        before: Before::Warm,
        goal: 1.5,
    },
];

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let folder = std::env::var_os("QCHECK_BENCH_DIR")
        .map_or_else(|| std::env::temp_dir().join("qcheck-bench"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("the folder for images can be made");
    chains::rows(&folder, &wanted);
    convert::rows(&folder, &wanted);
    digest::rows(&folder, &wanted);
    luks::rows(&wanted);
    remote::rows(&folder, &wanted);
    sizes::rows(&folder, &wanted);
    compact::rows(&folder, &wanted);
    let images = Images { folder };
    println!(
        "{:<50} {:>10} {:>10} {:>8} {:>7} {:>10} {:>10}",
        "median of runs in turn", "qemu-img", "qcheck", "ratio", "goal", "KiB there", "KiB here"
    );
    for row in ROWS.iter().filter(|row| row.name.contains(&wanted)) {
        bench(row, &images);
    }
}

fn bench(row: &Row, images: &Images) {
    let image = (row.image)(images);
    let own = Path::new(env!("CARGO_BIN_EXE_qcheck"));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    // A long run needs fewer repetitions to stand out from noise.
    for number in 0..=RUNS {
        let their = run(Path::new("qemu-img"), row, &image, images);
        let our = run(own, row, &image, images);
        if number > 0 {
            theirs.push(their);
            ours.push(our);
        }
        if number >= 1 && their.time.as_secs() >= 20 {
            break;
        }
    }
    let seconds = |costs: &[Cost]| median(costs.iter().map(|c| c.time.as_secs_f64()).collect());
    let peak = |costs: &[Cost]| costs.iter().map(|c| c.peak_kib).max().unwrap_or(0);
    let pairs = theirs.iter().zip(&ours);
    let ratio = median(pairs.map(|(t, o)| t.time.as_secs_f64() / o.time.as_secs_f64()).collect());
    println!(
        "{:<50} {:>9.3}s {:>9.3}s {:>7.1}x {:>6.1}x {:>10} {:>10}",
        row.name,
        seconds(&theirs),
        seconds(&ours),
        ratio,
        row.goal,
        peak(&theirs),
        peak(&ours)
    );
}

fn run(program: &Path, row: &Row, image: &Path, images: &Images) -> Cost {
    let copy = images.folder.join("copy.qcow2");
    let image = match row.before {
        Before::Warm => image,
        Before::Cold => {
            forget(image);
            image
        }
        Before::Fresh => {
            images::copy(image, &copy);
            images::must("sync", &[copy.to_str().expect("the name is text")]);
            &copy
        }
        Before::Absent => {
            let _ = std::fs::remove_file(image);
            image
        }
    };
    let mut args = row.args.to_vec();
    // A size after `--` follows the image's name.
    let name = image.to_str().expect("the name is text");
    match args.iter().position(|arg| *arg == "--") {
        Some(end) => args.insert(end + 1, name),
        None => args.push(name),
    }
    measure::run(program, &args)
}

/// Drops a file from the page cache.
fn forget(image: &Path) {
    let file = File::open(image).expect("the image opens");
    file.sync_all().expect("the image can be flushed");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .expect("the page cache takes advice");
}
