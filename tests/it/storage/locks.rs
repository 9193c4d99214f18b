//! QEMU and this library keep each other out of an image. Needs qemu-img and qemu-io; a test
//! without them fails.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use qcheck::error::{Error, LockConflict, Process};
use qcheck::storage::{Access, FileStorage, Locking, ReadAt, lock};
use tempfile::TempDir;

use crate::support::programs::run::{Ran, qemu_create};

fn image() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.qcow2");
    let made = qemu("qemu-img", &["create", "-q", "-f", "qcow2"], &path, &["1M"]);
    assert!(made.status.success(), "{made:?}");
    (dir, path)
}

fn qemu(program: &str, before: &[&str], image: &Path, after: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(before).arg(image).args(after).env("LC_ALL", "C").stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program} must be installed: {error}"))
}

/// A qemu-io that has the image open until it is dropped.
struct Holder {
    child: Child,
    /// Kept open, because it still writes its next prompt.
    _output: BufReader<ChildStdout>,
}

impl Holder {
    fn open(options: &[&str], image: &Path) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(options).arg(image).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("qemu-io must be installed");
        let input = child.stdin.as_mut().unwrap();
        input.write_all(b"length\n").unwrap();
        input.flush().unwrap();
        // It answers once the image is open.
        let mut answer = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut answer).unwrap();
        let holder = Self { child, _output: output };
        assert!(answer.contains("1 MiB"), "{answer:?}");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn try_lock(path: &Path, access: Access) -> Result<FileStorage, Error> {
    let file = match access {
        access if access.writes() => FileStorage::open_write(path),
        _ => FileStorage::open_read(path),
    };
    let file = file.unwrap();
    assert_eq!(lock(&file, access)?, Locking::Held);
    Ok(file)
}

fn refusal(path: &Path, access: Access) -> LockConflict {
    match try_lock(path, access) {
        Err(Error::Locked(conflict)) => *conflict,
        other => panic!("{access:?} gave {other:?}"),
    }
}

fn assert_refused(output: &Output, lock: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&format!("Failed to get {lock} lock")), "{output:?}");
}

#[test]
fn an_image_that_qemu_writes_to_is_locked_for_readers_and_writers() {
    let (_dir, path) = image();
    let holder = Holder::open(&[], &path);
    assert_eq!(refusal(&path, Access::Read).lock, "shared \"write\" lock");
    assert_eq!(refusal(&path, Access::Write).lock, "\"write\" lock");
    drop(holder);
    try_lock(&path, Access::Write).unwrap();
}

#[test]
fn an_image_that_qemu_reads_can_be_read_but_not_written() {
    let (_dir, path) = image();
    let _holder = Holder::open(&["-r"], &path);
    try_lock(&path, Access::Read).unwrap();
    assert_eq!(refusal(&path, Access::Write).lock, "\"write\" lock");
}

#[test]
fn an_image_that_qemu_writes_to_can_be_read_by_force() {
    let (_dir, path) = image();
    let _holder = Holder::open(&[], &path);
    let mut magic = [0; 4];
    let file = try_lock(&path, Access::ReadShared).unwrap();
    file.read_exact_at(0, &mut magic).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
    // Without any lock too.
    let file = FileStorage::open_read(&path).unwrap();
    file.read_exact_at(0, &mut magic).unwrap();
}

#[test]
fn qemu_refuses_an_image_that_we_write_to_until_we_close_it() {
    let (_dir, path) = image();
    let file = try_lock(&path, Access::Write).unwrap();
    assert_refused(&qemu("qemu-img", &["check"], &path, &[]), "shared \"write\"");
    assert_refused(&qemu("qemu-img", &["check", "-r", "all"], &path, &[]), "\"write\"");
    assert_refused(&qemu("qemu-io", &["-c", "length"], &path, &[]), "\"write\"");
    assert_refused(&qemu("qemu-img", &["resize"], &path, &["2M"]), "\"write\"");
    assert!(qemu("qemu-img", &["info", "-U"], &path, &[]).status.success());
    drop(file);
    assert!(qemu("qemu-img", &["check"], &path, &[]).status.success());
}

#[test]
fn qemu_reads_but_does_not_write_an_image_that_we_read() {
    let (_dir, path) = image();
    let _file = try_lock(&path, Access::Read).unwrap();
    assert!(qemu("qemu-img", &["check"], &path, &[]).status.success());
    assert_refused(&qemu("qemu-io", &["-c", "length"], &path, &[]), "\"write\"");
}

#[test]
fn qemu_writes_to_an_image_that_we_read_by_force() {
    let (_dir, path) = image();
    let _file = try_lock(&path, Access::ReadShared).unwrap();
    let written = qemu("qemu-io", &["-c", "write 0 64k"], &path, &[]);
    assert!(written.status.success(), "{written:?}");
}

#[test]
fn the_bytes_that_we_lock_are_those_that_qemu_locks() {
    let (_dir, path) = image();
    let path = path.canonicalize().unwrap();
    for (access, options) in [
        (Access::ReadShared, &["-U", "-r"] as &[&str]),
        (Access::Read, &["-r"]),
        (Access::Write, &[]),
    ] {
        let holder = Holder::open(options, &path);
        let theirs = locked_bytes(holder.child.id(), &path);
        drop(holder);
        let file = try_lock(&path, access).unwrap();
        assert_eq!(locked_bytes(std::process::id(), &path), theirs, "{access:?}");
        assert!(!theirs.is_empty());
        drop(file);
    }
}

#[test]
fn who_holds_an_image_is_named_and_what_helps() {
    let (dir, path) = image();
    let holder = Holder::open(&[], &path);
    let process = Process { id: holder.child.id(), name: "qemu-io".into() };
    assert_eq!(refusal(&path, Access::Read).holder.as_ref(), Some(&process));
    let id = process.id;
    let shared = format!(
        "qcheck: Could not open 'image.qcow2': Failed to get shared \"write\" lock; Is another \
         process using the image [image.qcow2]? Process {id} (qemu-io) has it open"
    );
    for (args, line) in [
        (&["info"][..], format!("{shared}; -U reads it all the same\n")),
        (&["check"], format!("{shared}; -U reads it all the same\n")),
        (&["convert", "-O", "raw", "image.qcow2"], format!("{shared}; -U reads it all the same\n")),
        (&["resize", "--shrink"], shared.replace("shared ", "") + "\n"),
        (&["check", "-r", "all"], shared.replace("shared ", "") + "\n"),
    ] {
        let last = match args[0] {
            "convert" => &["target"][..],
            "resize" => &["image.qcow2", "1M"],
            _ => &["image.qcow2"],
        };
        let ran = crate::support::programs::run::qcheck(dir.path(), &[args, last].concat());
        assert_eq!((ran.code, ran.err), (1, line), "{args:?}");
    }
    let overlay = ["create", "-q", "-f", "qcow2", "-b", "image.qcow2", "-F", "qcow2", "top.qcow2"];
    let ran = crate::support::programs::run::qcheck(dir.path(), &overlay);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    // A chain that is in use below is named, too.
    let ran =
        crate::support::programs::run::qcheck(dir.path(), &["convert", "top.qcow2", "top.raw"]);
    assert!(ran.err.contains("the image [image.qcow2]?") && ran.err.contains(&id.to_string()));
}

/// The ranges of a file that a process has locked. The system's list of locks names files by
/// numbers that files of other file systems have too.
fn locked_bytes(process: u32, path: &Path) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    for open in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten() {
        if std::fs::read_link(open.path()).ok().as_deref() != Some(path) {
            continue;
        }
        let number = open.file_name().into_string().unwrap();
        let info = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap();
        for line in info.lines().filter(|line| line.starts_with("lock:")) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [.., first, last] = fields[..] else { panic!("{line}") };
            ranges.push((first.parse().unwrap(), last.parse().unwrap()));
        }
    }
    ranges.sort_unstable();
    ranges
}

#[test]
fn a_file_system_without_locks_is_named_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    // A library in between answers as such file systems do.
    let source = r#"
        #include <errno.h>
        int fcntl(int file, int command, ...) { errno = ENOLCK; return -1; }
        int fcntl64(int file, int command, ...) { errno = ENOLCK; return -1; }
    "#;
    std::fs::write(folder.join("no_locks.c"), source).unwrap();
    let cc = ["-shared", "-fPIC", "-o", "no_locks.so", "no_locks.c"];
    assert!(Command::new("cc").current_dir(folder).args(cc).status().unwrap().success());
    qemu_create(folder, &["-f", "qcow2", "disk.qcow2", "1M"]);
    let run = |name: &str, level: Option<&str>| {
        let mut qcheck = Command::new(env!("CARGO_BIN_EXE_qcheck"));
        qcheck.current_dir(folder).args(["check", name]).env_remove("RUST_LOG");
        qcheck.env("LD_PRELOAD", folder.join("no_locks.so"));
        qcheck.envs(level.map(|level| ("RUST_LOG", level)));
        Ran::from(qcheck.output().unwrap())
    };
    let warning = "qcheck: warn: 'disk.qcow2': no locks on this file system: another program \
                   could write it meanwhile\n";
    let ran = run("disk.qcow2", None);
    assert_eq!((ran.code, ran.err.as_str()), (0, warning));
    assert_eq!(run("disk.qcow2", Some("error")).err, "");
}
