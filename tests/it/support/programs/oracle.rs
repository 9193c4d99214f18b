//! Runs real qemu-img and qcheck on the same image and compares their output.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::run::{self, Ran};
use crate::support::images::builder::Built;

/// The secret of every encrypted image.
pub const SECRET: &str = "secret,id=key,data=correct horse";
/// How qemu opens an encrypted image.
pub const LOCKED: &str = "driver=qcow2,encrypt.key-secret=key,file.filename=image.qcow2";
/// The name of the image in every scratch directory.
pub const IMAGE: &str = "image.qcow2";
/// No command on these small images takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// No file in these tests is longer: what is, was grown towards a wild pointer.
const LARGEST: u64 = 64 << 20;

/// A directory with an image and the files it needs.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    /// qemu-img needs the secret to open the image. qcheck never does.
    pub encrypted: bool,
}

impl Scratch {
    /// An empty directory.
    pub fn new() -> Self {
        Self { dir: TempDir::new().expect("a temporary directory"), encrypted: false }
    }

    /// A directory with an image of these bytes.
    pub fn with_image(bytes: &[u8]) -> Self {
        let scratch = Self::new();
        scratch.write(IMAGE, bytes);
        scratch
    }

    /// A directory with an image of these bytes, in memory where the system has such a place: a repair
    /// flushes often, and thousands of them wait mostly for the disk.
    pub fn in_memory(bytes: &[u8]) -> Self {
        let place = Path::new("/dev/shm");
        let Ok(dir) = tempfile::tempdir_in(place) else {
            return Self::with_image(bytes);
        };
        let scratch = Self { dir, encrypted: false };
        scratch.write(IMAGE, bytes);
        scratch
    }

    /// A directory with a built image; its data file is called `data.raw`.
    pub fn with_built(built: &Built) -> Self {
        let scratch = Self::with_image(&built.bytes);
        if let Some(data) = &built.data {
            scratch.write("data.raw", data);
        }
        scratch
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn image(&self) -> PathBuf {
        self.dir.path().join(IMAGE)
    }

    /// Every byte of the image.
    pub fn bytes(&self) -> Vec<u8> {
        let length = fs::metadata(self.image()).expect("the image is there").len();
        assert!(length <= LARGEST, "the image has grown to {length} bytes");
        fs::read(self.image()).expect("the image is readable")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).expect("the scratch directory is writable");
    }

    /// A second directory with a copy of every file.
    pub fn copy(&self) -> Self {
        let beside = self.path().parent().expect("a directory has a parent");
        let dir = tempfile::tempdir_in(beside).expect("a temporary directory");
        let copy = Self { dir, encrypted: self.encrypted };
        for entry in fs::read_dir(self.path()).expect("the scratch directory is readable") {
            let from = entry.expect("a directory entry").path();
            let to = copy.path().join(from.file_name().expect("a file name"));
            fs::copy(&from, &to).expect("the file can be copied");
        }
        copy
    }

    /// Runs a program in this directory.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Ran {
        run::run(self.path(), program, args, PATIENCE)
    }

    /// Runs qcheck with a limit on the memory it may write to: allocating more fails, and aborts it.
    pub fn qcheck_within(&self, kibibytes: u64, args: &[&str]) -> Ran {
        let limited = format!("ulimit -d {kibibytes} && exec \"$@\"");
        let start = ["-c", &limited, "sh", env!("CARGO_BIN_EXE_qcheck")];
        self.run("sh", &[&start, args].concat())
    }

    /// Runs real qemu-img in this directory.
    pub fn qemu_img<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        self.run("qemu-img", args)
    }

    /// Runs qcheck in this directory.
    pub fn qcheck<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        self.run(env!("CARGO_BIN_EXE_qcheck"), args)
    }

    /// `qemu-img check` with these options on the image, with the secret where it needs one.
    pub fn qemu_check(&self, options: &[&str]) -> Ran {
        if self.encrypted {
            let open = ["--object", SECRET, "--image-opts", LOCKED];
            return self.qemu_img(&[&["check"], options, &open].concat());
        }
        self.qemu_img(&check_args(options))
    }

    /// `qcheck check` with these options on the image, without a limit on its lines.
    pub fn own_check(&self, options: &[&str]) -> Ran {
        self.qcheck(&check_args(&[&["--max-findings", "0"], options].concat()))
    }
}

fn check_args<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["check", "-f", "qcow2"], options, &[IMAGE]].concat()
}

/// How the two runs of a check differ, or nothing.
pub fn difference(qemu: &Ran, own: &Ran, json: bool) -> Option<String> {
    let mut all = Vec::new();
    if qemu.code != own.code {
        all.push(format!("exit code: qemu-img {:?}, qcheck {:?}", qemu.code, own.code));
    }
    if json && !qemu.out.is_empty() {
        match (qemu.json(), own.json()) {
            (Ok(theirs), Ok(ours)) if theirs == ours => {}
            (theirs, ours) => all.push(format!("JSON: qemu-img {theirs:?}\n      qcheck {ours:?}")),
        }
    } else if qemu.out != own.out {
        all.push(format!("stdout of qemu-img:\n{}stdout of qcheck:\n{}", qemu.out, own.out));
    }
    if qemu.finding_lines() != own.finding_lines() {
        let (theirs, ours) = (qemu.finding_lines(), own.finding_lines());
        let missing: Vec<_> = theirs.iter().filter(|l| !ours.contains(l)).take(8).collect();
        let extra: Vec<_> = ours.iter().filter(|l| !theirs.contains(l)).take(8).collect();
        all.push(format!(
            "finding lines: {} of qemu-img, {} of qcheck; missing {missing:#?}, extra {extra:#?}",
            theirs.len(),
            ours.len()
        ));
    }
    if !own.is_orderly() {
        all.push(format!("qcheck did not end in order: {own:?}"));
    }
    let stderr = format!("stderr of qemu-img:\n{}stderr of qcheck:\n{}", qemu.err, own.err);
    (!all.is_empty()).then(|| format!("{}\n{}", all.join("\n"), shortened(&stderr)))
}

fn shortened(text: &str) -> String {
    if text.len() < 3000 { text.into() } else { text.chars().take(3000).collect() }
}

/// Runs both checks with these options, each on its own copy, and returns how they differ.
pub fn compare_check(image: &Scratch, options: &[&str]) -> Option<String> {
    let qemu = image.copy().qemu_check(options);
    compare_check_with(&qemu, image, options)
}

/// Runs qcheck on a copy and returns how it differs from a run of qemu-img.
pub fn compare_check_with(qemu: &Ran, image: &Scratch, options: &[&str]) -> Option<String> {
    let copy = image.copy();
    let own = copy.own_check(options);
    let json = options.iter().any(|o| o.ends_with("json"));
    let mut found = difference(qemu, &own, json).unwrap_or_default();
    let repairs = options.iter().any(|o| o.starts_with("-r") || o.starts_with("--repair"));
    if !repairs && copy.bytes() != image.bytes() {
        found.push_str("\nqcheck changed the image without -r");
    }
    (!found.is_empty()).then(|| format!("check {}: {found}", options.join(" ")))
}

/// Panics unless both tools print the same about the image.
pub fn assert_same_check(image: &Scratch, options: &[&str]) {
    if let Some(difference) = compare_check(image, options) {
        panic!("{difference}");
    }
}

/// The guest's bytes as qemu-img reads them, of the active disk or of a snapshot; `None` if it can't.
pub fn guest_bytes(image: &Scratch, snapshot: Option<&str>) -> Option<Vec<u8>> {
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let target = out.path().to_str().expect("a UTF-8 path").to_owned();
    let select = snapshot.map(|name| format!("snapshot.name={name}"));
    let mut args = vec!["convert", "-O", "raw"];
    if let Some(select) = &select {
        args.extend(["-l", select]);
    }
    if image.encrypted {
        args.extend(["--object", SECRET, "--image-opts", LOCKED, &target]);
    } else {
        args.extend(["-f", "qcow2", IMAGE, &target]);
    }
    let ran = image.qemu_img(&args);
    let length = fs::metadata(out.path()).map_or(0, |m| m.len());
    let readable = ran.code == 0 && length <= LARGEST;
    readable.then(|| fs::read(out.path()).expect("qemu-img wrote the file"))
}

/// The active disk and then each snapshot, as far as qemu-img can read them.
pub fn all_guest_bytes(image: &Scratch, snapshots: &[&str]) -> Vec<Option<Vec<u8>>> {
    let views = std::iter::once(None).chain(snapshots.iter().copied().map(Some));
    views.map(|view| guest_bytes(image, view)).collect()
}
