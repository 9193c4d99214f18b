//! Running qcheck and QEMU's tools.

use std::path::Path;
use std::process::{Command, Output};

/// What a program printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not ended by a signal"),
            out: String::from_utf8(output.stdout).expect("the output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("the messages are UTF-8"),
        }
    }
}

/// Runs qcheck in a folder.
pub fn qcheck(folder: &Path, args: &[&str]) -> Ran {
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    Command::new(program).current_dir(folder).args(args).output().expect("qcheck starts").into()
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
    let output = Command::new(tool).current_dir(folder).args(args).output();
    output.unwrap_or_else(|e| panic!("{tool} does not start ({e}): install qemu-utils")).into()
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
