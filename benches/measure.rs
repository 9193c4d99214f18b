//! One run of a program: how long it took and how much memory it held at most.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// From start to end.
    pub time: Duration,
    /// The most memory it held, in KiB.
    pub peak_kib: u64,
    /// Its exit code.
    pub code: i32,
}

/// Runs a program to its end; its output is thrown away. Any exit code will do: checks return their
/// verdict by it.
pub fn run(program: &Path, args: &[&str]) -> Cost {
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
    let status = format!("/proc/{}/status", child.id());
    let watcher = thread::spawn(move || watch(&status));
    let ended = child.wait().expect("it can be waited for");
    let time = start.elapsed();
    let peak_kib = watcher.join().expect("the watcher ends with the program");
    let Some(code) = ended.code() else {
        panic!("{} {args:?} was ended by a signal", program.display());
    };
    Cost { time, peak_kib, code }
}

/// The high-water mark of a process, until it is gone.
fn watch(status: &str) -> u64 {
    let mut peak = 0;
    while let Ok(text) = fs::read_to_string(status) {
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kib) = mark.and_then(|m| m.trim().trim_end_matches("kB").trim().parse().ok())
        else {
            break; // A process that has ended has no memory any more.
        };
        peak = peak.max(kib);
        thread::sleep(Duration::from_millis(1));
    }
    peak
}

/// The middle one of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
