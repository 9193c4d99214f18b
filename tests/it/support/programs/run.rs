//! Running qcheck and QEMU's tools.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

/// No command of a test takes longer, on a busy machine either.
const LONGEST: Duration = Duration::from_secs(600);
/// What is added to the number of a signal to make an exit code, as in a shell.
const SIGNAL: i32 = 128;

/// What a program printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; 128 and the number of the signal for a program that one ended.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let signal = || SIGNAL + output.status.signal().expect("it has ended");
        Self {
            code: output.status.code().unwrap_or_else(signal),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Panics unless the program succeeded.
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "the program failed:\n{self:#?}");
        self
    }

    /// It ended by itself and did not panic.
    pub fn is_orderly(&self) -> bool {
        self.code != 101 && self.code < SIGNAL
    }

    /// The lines about single clusters and entries, sorted.
    pub fn finding_lines(&self) -> Vec<&str> {
        let starts = ["Leaked", "ERROR cluster", "ERROR OFLAG_COPIED", "Repairing"];
        // A warning of qemu-img ends without a new line.
        let lines = self.err.lines();
        let lines = lines.map(|line| line.split_once(" to fix.").map_or(line, |(_, rest)| rest));
        let mut lines: Vec<&str> =
            lines.filter(|line| starts.iter().any(|start| line.starts_with(start))).collect();
        lines.sort_unstable();
        lines
    }

    /// The JSON on standard output without the keys that are qcheck's own.
    pub fn json(&self) -> Result<Value, String> {
        let mut value: Value =
            serde_json::from_str(&self.out).map_err(|e| format!("no JSON ({e}): {self:?}"))?;
        if let Some(object) = value.as_object_mut() {
            object.remove("findings");
        }
        Ok(value)
    }
}

/// Runs a program in a folder, in the C locale, and ends it with a signal after this time.
pub fn run<S: AsRef<OsStr>>(
    folder: &Path,
    program: impl AsRef<OsStr>,
    args: &[S],
    patience: Duration,
) -> Ran {
    let program = program.as_ref();
    let output = assert_cmd::Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .env_remove("RUST_LOG")
        .env_remove("COLUMNS")
        .timeout(patience)
        .output();
    let output = output
        .unwrap_or_else(|error| panic!("{program:?} does not start ({error}): install qemu-utils"));
    output.into()
}

/// The same for a program that has to end by itself.
fn run_to_the_end(folder: &Path, program: impl AsRef<OsStr>, args: &[&str]) -> Ran {
    let ran = run(folder, program, args, LONGEST);
    assert!(ran.code < SIGNAL, "{args:?}: a signal ended it: {ran:#?}");
    ran
}

/// Runs qcheck in a folder.
pub fn qcheck(folder: &Path, args: &[&str]) -> Ran {
    run_to_the_end(folder, assert_cmd::cargo::cargo_bin!("qcheck"), args)
}

/// qcheck with SIGINT as in a shell that somebody uses: a job in the background inherits that it is
/// ignored, and qcheck leaves it so.
pub fn interruptible() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(assert_cmd::cargo::cargo_bin!("qcheck"));
    command
}

/// Runs a tool of QEMU in a folder.
pub fn qemu(folder: &Path, tool: &str, args: &[&str]) -> Ran {
    run_to_the_end(folder, tool, args)
}

/// Runs a tool of QEMU that has to succeed.
pub fn qemu_ok(folder: &Path, tool: &str, args: &[&str]) -> String {
    let ran = qemu(folder, tool, args);
    assert_eq!(ran.code, 0, "{tool} {args:?}: {}", ran.err);
    ran.out
}

/// Makes an image with real qemu-img: `args` are what follows `create -q`.
pub fn qemu_create(folder: &Path, args: &[&str]) {
    let all: Vec<&str> = ["create", "-q"].iter().chain(args).copied().collect();
    qemu_ok(folder, "qemu-img", &all);
}

/// Both checkers find nothing wrong.
pub fn assert_clean(folder: &Path, image: &str) {
    qemu_ok(folder, "qemu-img", &["check", "-q", image]);
    let ran = qcheck(folder, &["check", "-q", image]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{image}");
}

/// Runs one qemu-io command that has to succeed.
pub fn qemu_io(folder: &Path, image: &str, command: &str) {
    let out = qemu_ok(folder, "qemu-io", &["-c", command, image]);
    assert!(!out.contains("failed"), "{command}: {out}");
}
