//! What `RUST_LOG` adds to the standard error.

use std::path::Path;
use std::process::Command;

use crate::support::programs::run::{qcheck, qemu_create, qemu_io};

fn logged(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_qcheck"))
        .args(args)
        .current_dir(folder)
        .env("RUST_LOG", "info")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn files_formats_and_stages_are_logged_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "base", "1M"]);
    qemu_create(folder, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "over"]);
    qemu_io(folder, "base", "write -P 1 0 64k");
    for (args, words) in [
        (
            &["convert", "-O", "raw", "over", "made"][..],
            &[
                "'over': format qcow2",
                "'over': locks held for consistent read; not shared: write, resize\n",
                "'base'",
                "'made': locks held for consistent read, write, resize; not shared: resize\n",
            ][..],
        ),
        (&["check", "over"], &["'over': format qcow2", "info: ", "ends with Success after"]),
        (&["map", "over"], &["'base': read below an image, lock: Held"]),
    ] {
        let text = logged(folder, args);
        for word in words {
            assert!(text.contains(word), "{args:?}: {text}");
        }
        assert!(text.lines().all(|line| line.starts_with("qcheck: info: ")), "{text}");
    }
    assert_eq!(qcheck(folder, &["check", "over"]).err, "");
}
