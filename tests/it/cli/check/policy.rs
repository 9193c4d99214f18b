//! `--policy`, `--deny` and the limits: each word with an image that has it and one that has not.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::images::builder::{Builder, Snapshot};
use crate::support::programs::run::{qcheck, qemu_create, qemu_ok};

const SIZE: u64 = 4 << 20;

/// An image for each word that has what the word denies, and nothing else that one could deny.
fn images() -> Vec<(&'static str, Vec<u8>)> {
    let plain = || Builder::new(SIZE).feature_names().data(0..2, 1);
    let with = |change: fn(&mut Builder)| {
        let mut builder = plain();
        change(&mut builder);
        builder.build().bytes
    };
    vec![
        ("backing", plain().backing("/etc/passwd", Some("raw")).build().bytes),
        ("data-file", plain().data_file("/etc/passwd", false).build().bytes),
        ("encryption", with(|b| b.crypt_method = 1)),
        ("snapshots", plain().snapshot(Snapshot::shared("first")).build().bytes),
        ("bitmaps", plain().bitmap("dirty", 16, 0).build().bytes),
        ("unknown-features", with(|b| b.incompatible |= 1 << 40)),
        ("unknown-features", with(|b| b.compatible |= 1 << 41)),
        ("unknown-features", with(|b| b.autoclear |= 1 << 42)),
        ("unknown-extensions", plain().extension(0x7878_7878, b"data").build().bytes),
        ("dirty", with(|b| b.incompatible |= 1)),
        ("corrupt", with(|b| b.incompatible |= 2)),
    ]
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    qemu_create(dir.path(), &["-f", "qcow2", "plain", "4M"]);
    qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 1M", "plain"]);
    dir
}

/// The lines about violations.
fn denied(err: &str) -> Vec<&str> {
    err.lines().filter(|line| line.contains("denied: ")).collect()
}

#[test]
fn each_word_denies_the_image_that_has_it_and_no_other() {
    let dir = folder();
    for (word, bytes) in images() {
        fs::write(dir.path().join("a"), bytes).unwrap();
        let ran = qcheck(dir.path(), &["check", "--deny", word, "a"]);
        assert_eq!(ran.code, 4, "{word}: {}", ran.err);
        let lines = denied(&ran.err);
        assert_eq!(lines.len(), 1, "{word}: {}", ran.err);
        assert!(lines[0].starts_with(&format!("qcheck: 'a': denied: {word}: it")), "{}", lines[0]);

        let ran = qcheck(dir.path(), &["check", "--deny", word, "plain"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{word}");
        let ran = qcheck(dir.path(), &["check", "--policy", "untrusted", "a"]);
        assert_eq!(ran.code, 4, "{word}");
        let args = ["check", "--policy", "untrusted", "--allow", word, "a"];
        let ran = qcheck(dir.path(), &args);
        assert_eq!(denied(&ran.err), [""; 0], "nothing but {word} is denied");
        assert_ne!(ran.code, 4, "{word}");
    }
    let ran = qcheck(dir.path(), &["check", "--policy", "untrusted", "plain"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(qcheck(dir.path(), &["check", "--deny", "nonsense", "plain"]).code, 1);
}

#[test]
fn compressed_clusters_are_denied_by_their_word_alone() {
    let dir = folder();
    qemu_ok(dir.path(), "qemu-img", &["convert", "-c", "-O", "qcow2", "plain", "packed"]);
    let ran = qcheck(dir.path(), &["check", "--deny", "compressed", "packed"]);
    assert_eq!(ran.code, 4);
    assert!(denied(&ran.err)[0].contains("denied: compressed: it has 16"), "{}", ran.err);
    assert_eq!(qcheck(dir.path(), &["check", "--deny", "compressed", "plain"]).code, 0);
    assert_eq!(qcheck(dir.path(), &["check", "--policy", "untrusted", "packed"]).code, 0);
}

#[test]
fn other_formats_are_denied_before_anything_in_them_is_used() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "vmdk", "other", "1M"]);
    fs::write(dir.path().join("raw"), [7; 1000]).unwrap();
    for args in [&["check", "--deny", "other-format"][..], &["check", "--policy", "untrusted"]] {
        let ran = qcheck(dir.path(), &[args, &["other"]].concat());
        assert_eq!(ran.code, 4, "{}", ran.err);
        assert!(denied(&ran.err)[0].ends_with("other-format: its format is vmdk"), "{}", ran.err);
        assert_eq!(qcheck(dir.path(), &[args, &["raw"]].concat()).code, 63);
    }
}

#[test]
fn a_disk_over_the_limit_is_denied_in_qcow2_and_raw() {
    let dir = folder();
    fs::write(dir.path().join("raw"), vec![7; 1 << 20]).unwrap();
    for (image, limit, code) in
        [("plain", "4M", 0), ("plain", "4194303", 4), ("raw", "1M", 63), ("raw", "1048575", 4)]
    {
        let ran = qcheck(dir.path(), &["check", "--max-virtual-size", limit, image]);
        assert_eq!(ran.code, code, "{image} {limit}: {}", ran.err);
        assert_eq!(ran.err.contains("denied: max-virtual-size: its disk has"), code == 4);
    }
}

/// Who goes back to a snapshot gets its disk.
#[test]
fn a_snapshots_disk_over_the_limit_is_denied() {
    let dir = folder();
    for args in [
        &["resize", "-q", "plain", "100M"][..],
        &["snapshot", "-c", "large", "plain"],
        &["resize", "-q", "--shrink", "plain", "4M"],
    ] {
        qemu_ok(dir.path(), "qemu-img", args);
    }
    for (limit, code) in [("100M", 0), ("99M", 4)] {
        let ran = qcheck(dir.path(), &["check", "--max-virtual-size", limit, "plain"]);
        assert_eq!(ran.code, code, "{limit}: {}", ran.err);
        let why = "denied: max-virtual-size: a snapshot's disk has 104857600 bytes";
        assert_eq!(ran.err.contains(why), code == 4, "{}", ran.err);
    }
}

#[test]
fn an_image_that_expands_too_much_is_denied() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "zeroes", "64M"]);
    qemu_ok(dir.path(), "qemu-io", &["-c", "write -P 1 0 64M", "zeroes"]);
    qemu_ok(dir.path(), "qemu-img", &["convert", "-c", "-O", "qcow2", "zeroes", "bomb"]);
    let ran = qcheck(dir.path(), &["check", "--max-ratio", "20", "bomb"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("denied: max-ratio: its "), "{}", ran.err);
    let ran = qcheck(dir.path(), &["check", "--max-ratio", "20", "--digest", "sha256", "bomb"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the guest's data was not opened"), "{}", ran.err);
    assert!(!ran.out.contains("sha256"), "what is denied is not decompressed: {}", ran.out);
    assert_eq!(qcheck(dir.path(), &["check", "--max-ratio", "1", "zeroes"]).code, 0);
    assert_eq!(qcheck(dir.path(), &["check", "--max-ratio", "1000", "bomb"]).code, 0);
}

#[test]
fn each_kind_of_file_is_closed_by_its_own_word() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let both = Builder::new(SIZE).backing("gone", Some("raw")).data_file("lost", false);
    fs::write(path("both"), both.build().bytes).unwrap();
    for (word, closed, missing) in [
        ("backing", "the backing file was not opened", "external data file: "),
        ("data-file", "the external data file was not opened", "backing file: "),
    ] {
        let ran = qcheck(dir.path(), &["check", "--data", "--deny", word, "both"]);
        assert_eq!(ran.code, 4, "{}", ran.err);
        assert!(ran.err.contains(closed) && ran.err.contains(missing), "{word}: {}", ran.err);
        let allow = ["check", "--data", "--policy", "untrusted", "--allow", word, "both"];
        let ran = qcheck(dir.path(), &allow);
        assert!(!ran.err.contains(closed), "{word}: {}", ran.err);
    }
}

#[test]
fn violations_are_in_the_json_of_one_and_of_many() {
    let dir = folder();
    fs::write(dir.path().join("a"), &images()[0].1).unwrap();
    let want = serde_json::json!([{
        "word": "backing",
        "message": "it has the backing file '/etc/passwd'",
    }]);
    let args = ["check", "--policy", "untrusted", "--output", "json", "a"];
    let ran = qcheck(dir.path(), &args);
    let one: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &one["violations"]), (4, &want));
    let ran = qcheck(dir.path(), &[&args[..], &["plain"]].concat());
    let many: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &many[0]["violations"], &many[0]["verdict"]),
        (4, &want, &"denied".into())
    );
    assert!(many[1].get("violations").is_none());
    let ran = qcheck(dir.path(), &["check", "--policy", "untrusted", "a", "plain"]);
    assert!(ran.out.starts_with("a: denied: backing, no errors\n"), "{}", ran.out);
}

/// A file that makes whoever opens it wait for ever.
fn trap(folder: &Path) {
    let made = Command::new("mkfifo").arg("trap").current_dir(folder).status();
    assert!(made.is_ok_and(|status| status.success()), "a FIFO could not be made");
}

#[test]
fn no_file_that_the_image_names_is_opened() {
    let dir = folder();
    trap(dir.path());
    symlink("trap", dir.path().join("link")).unwrap();
    let trace = dir.path().join("trace");
    for (name, builder) in [
        ("a", Builder::new(SIZE).backing("trap", Some("raw"))),
        ("b", Builder::new(SIZE).data_file("link", true)),
    ] {
        fs::write(dir.path().join(name), builder.build().bytes).unwrap();
        for args in [
            &["check", "--policy", "untrusted", name][..],
            &["check", "--policy", "untrusted", name, "plain"],
            &["check", name],
            &["info", name],
        ] {
            let program = assert_cmd::cargo::cargo_bin!("qcheck");
            let traced = Command::new("strace")
                .args(["-f", "-e", "trace=open,openat,openat2,stat,statx,newfstatat", "-o"])
                .arg(&trace)
                .arg(program)
                .args(args)
                .current_dir(dir.path())
                .output();
            match traced {
                Ok(_) => {
                    let calls = fs::read_to_string(&trace).unwrap();
                    assert!(!calls.contains("\"trap\"") && !calls.contains("\"link\""), "{calls}");
                    assert!(calls.contains(&format!("\"{name}\"")), "{calls}");
                }
                // Without strace: whoever opens the FIFO waits for ever.
                Err(_) => drop(qcheck(dir.path(), args)),
            }
        }
    }
}

#[test]
fn hostile_headers_are_denied_or_have_no_verdict() {
    let dir = folder();
    let good = fs::read(dir.path().join("plain")).unwrap();
    for at in 4..112 {
        let file = fs::File::create(dir.path().join("bad")).unwrap();
        file.write_all_at(&good, 0).unwrap();
        file.write_all_at(&[0xFF], at).unwrap();
        let args = ["check", "-f", "qcow2", "--policy", "untrusted", "--max-virtual-size", "1G"];
        let ran = qcheck(dir.path(), &[&args[..], &["bad"]].concat());
        assert!((0..=4).contains(&ran.code), "byte {at}: {}", ran.code);
        assert_eq!(ran.code == 4, !denied(&ran.err).is_empty(), "byte {at}: {}", ran.err);
    }
}
