//! Images of servers: what a command takes, requests and transfers, with 20 ms before each answer
//! of the web server. qemu-img reads the same export of the NBD server.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::fake_web::{FakeWeb, Manner};
use super::images::{mapped, must, once};
use super::measure::{self, Cost, median};

/// Runs of each.
const RUNS: usize = 5;
/// What passes before each answer of the web server.
const DELAY: Duration = Duration::from_millis(20);
/// Clusters of the image that is like one of a cloud's distributions: 588 MiB, compressed.
const CLUSTERS: usize = 37_000;

/// One line of the table about the web.
struct Row {
    name: &'static str,
    image: fn(&Path) -> PathBuf,
    args: &'static [&'static str],
    seconds: f64,
    requests: usize,
}

const ROWS: &[Row] = &[
    Row {
        name: "remote: check 588 MiB, zlib, http",
        image: cloud,
        args: &["check"],
        seconds: 0.5,
        requests: 20,
    },
    Row { name: "remote: info, http", image: cloud, args: &["info"], seconds: 0.1, requests: 3 },
    Row {
        name: "remote: check 1 TiB fully mapped, http",
        image: tebibyte,
        args: &["check"],
        seconds: 10.0,
        requests: 2800,
    },
];

fn tebibyte(folder: &Path) -> PathBuf {
    mapped(folder, "1T.qcow2", "1T", "64k")
}

/// Clusters of which a quarter does not compress.
fn cloud(folder: &Path) -> PathBuf {
    let raw = once(folder, "cloud.raw", |path| {
        let mut file = BufWriter::new(File::create(path).expect("the disk can be made"));
        let mut random = 1_u64;
        for _ in 0..CLUSTERS {
            let mut cluster = vec![0; 64 << 10];
            for byte in &mut cluster[..16 << 10] {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (random >> 56) as u8;
            }
            file.write_all(&cluster).expect("it can be written");
        }
    });
    once(folder, "cloud.qcow2", |path| {
        let raw = raw.to_str().expect("the name is text");
        must("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", raw, path]);
    })
}

/// Runs the rows whose name has `wanted` in it.
pub fn rows(folder: &Path, wanted: &str) {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(wanted)).collect();
    if !rows.is_empty() {
        println!(
            "{:<42} {:>9} {:>8} {:>9} {:>6} {:>12} {:>10}",
            "median of runs", "qcheck", "goal", "requests", "goal", "bytes", "KiB here"
        );
    }
    rows.into_iter().for_each(|row| bench(row, folder));
    if "remote: check 1 TiB fully mapped, nbd".contains(wanted) {
        nbd(folder);
    }
}

fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_qcheck"))
}

fn seconds(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| cost.time.as_secs_f64()).collect())
}

fn bench(row: &Row, folder: &Path) {
    let file = File::open((row.image)(folder)).expect("the image can be read");
    let bytes = file.metadata().expect("it has a length").len();
    let read = move |offset: u64, buf: &mut [u8]| {
        file.read_exact_at(buf, offset).expect("the image can be read");
    };
    let manner = Manner { delay: DELAY, ..Manner::default() };
    let server = FakeWeb::start_with(bytes, Box::new(read), manner);
    let run = |_| measure::run(own(), &[row.args, &[&server.name("image")]].concat());
    let costs: Vec<Cost> = (0..RUNS).map(run).collect();
    let seen = server.seen();
    let sent: u64 = seen.iter().map(|seen| seen.sent.end - seen.sent.start).sum();
    println!(
        "{:<42} {:>8.3}s {:>7.1}s {:>9} {:>6} {:>12} {:>10}",
        row.name,
        seconds(&costs),
        row.seconds,
        seen.len() / RUNS,
        row.requests,
        sent / RUNS as u64,
        costs.iter().map(|cost| cost.peak_kib).max().unwrap_or(0)
    );
}

/// A server that ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same export for both programs, in turn.
fn nbd(folder: &Path) {
    let (image, socket) = (tebibyte(folder), folder.join("socket"));
    let mut command = Command::new("qemu-nbd");
    command.args(["-t", "-r", "-f", "raw", "--shared=8", "-k"]).arg(&socket).arg(image);
    let _server = Server(command.spawn().expect("qemu-nbd starts"));
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let name = format!("nbd+unix://?socket={}", socket.display());
    let run = |program: &Path| measure::run(program, &["check", &name]);
    let pairs = (0..RUNS).map(|_| (run(Path::new("qemu-img")), run(own())));
    let (theirs, ours): (Vec<Cost>, Vec<Cost>) = pairs.unzip();
    println!(
        "{:<42} {:>8.3}s, qemu-img {:.3}s: {:.1}x (goal 5.0x)",
        "remote: check 1 TiB fully mapped, nbd",
        seconds(&ours),
        seconds(&theirs),
        seconds(&theirs) / seconds(&ours)
    );
}
