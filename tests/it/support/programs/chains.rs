//! Backing chains made by QEMU's tools, for commands that write them.

use std::fs;
use std::path::Path;

use super::run::{Ran, qcheck, qemu, qemu_create, qemu_ok};

/// An image of a chain: its name, its options for qemu-img (`raw` for a raw file), what is written.
pub type Layer = (&'static str, &'static str, &'static [&'static str]);

/// Makes the images of a chain in a folder.
pub fn make(folder: &Path, layers: &[Layer]) {
    let mut below: Option<(&str, &str)> = None;
    for &(name, how, writes) in layers {
        let format = if how.starts_with("raw ") { "raw" } else { "qcow2" };
        let how = how.replace("DATA", folder.join("data").to_str().unwrap());
        match (how.strip_prefix("raw "), below) {
            (Some(size), _) => qemu_create(folder, &["-f", "raw", name, size]),
            (None, None) => qemu_create(folder, &["-f", "qcow2", "-o", &how, name]),
            (None, Some((base, fmt))) => {
                let args = ["-f", "qcow2", "-o", &how, "-b", base, "-F", fmt, name];
                qemu_create(folder, &args);
            }
        }
        for write in writes {
            let args = ["-f", format, "-c", write, name];
            // What is past the end of a shorter disk is not written.
            let _ = qemu(folder, "qemu-io", &args);
        }
        below = Some((name, format));
    }
}

/// The guest's bytes as qemu-img reads them.
pub fn guest(folder: &Path, name: &str, format: &str) -> Vec<u8> {
    qemu_ok(folder, "qemu-img", &["convert", "-f", format, "-O", "raw", name, "seen"]);
    fs::read(folder.join("seen")).unwrap()
}

/// Runs the same command of both programs, each in a folder of its own with the same images.
pub fn both(make: impl Fn(&Path), args: &[&str]) -> ([tempfile::TempDir; 2], [Ran; 2]) {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    folders.iter().for_each(|folder| make(folder.path()));
    let real = qemu(folders[0].path(), "qemu-img", args);
    let own = qcheck(folders[1].path(), args);
    (folders, [real, own])
}
