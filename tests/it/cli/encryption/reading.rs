//! What is read of encrypted images that real qemu-img made.

use std::fs;
use std::path::Path;

use super::{CIPHERS, SECRET, bytes, create, guest, in_qcow2, luks, own, qcow2};
use crate::support::programs::run::{qcheck, qemu, qemu_ok};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes what makes clusters of each kind.
fn fill(folder: &Path, image: &str) {
    for command in [
        "write -q -P 1 0 200k",
        "write -q -P 2 1000k 512",
        "write -q -P 3 1300k 24k",
        "write -q -z 64k 64k",
        "discard -q 128k 64k",
        "write -q -P 4 100k 3k",
    ] {
        guest(folder, image, command);
    }
}

/// Each way to read a disk returns the bytes that real qemu-img reads.
fn assert_read(folder: &Path, image: &str) {
    let expected = bytes(folder, image);
    let opts = "--image-opts";
    own(folder, "convert", &["-O", "raw", opts, image, "own"]).success();
    assert!(fs::read(folder.join("own")).unwrap() == expected, "{image}: convert");
    own(folder, "convert", &["-C", "-O", "qcow2", opts, image, "own.qcow2"]).success();
    qemu_ok(folder, "qemu-img", &["compare", "bytes", "own.qcow2"]);
    own(folder, "dd", &[opts, &format!("if={image}"), "of=own", "bs=64k"]).success();
    assert!(fs::read(folder.join("own")).unwrap() == expected, "{image}: dd");
    own(folder, "compare", &[opts, image, "driver=raw,file.filename=bytes"]).success();
    let digest = |args: &[&str]| {
        let ran = own(folder, "check", &[&["--digest", "sha256"], args].concat());
        let mut lines = ran.out.lines();
        lines.find_map(|line| line.split_once("sha256").map(|(_, digest)| digest.to_owned()))
    };
    let theirs = digest(&["-f", "raw", "bytes"]);
    assert!(theirs.is_some());
    assert_eq!(digest(&[opts, image]), theirs, "{image}: digest");
    for output in ["--output=json", "--output=human"] {
        let args = [&["map", output], &SECRET[..], &[opts, image]].concat();
        let (ran, theirs) = (qcheck(folder, &args), qemu(folder, "qemu-img", &args));
        assert_eq!((ran.code, ran.out), (theirs.code, theirs.out), "{image}: map");
    }
}

#[test]
fn qcow2_with_luks_is_read_with_every_cipher() {
    for cipher in CIPHERS {
        let dir = folder();
        create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(cipher), "a", "2M"]);
        fill(dir.path(), &qcow2("a"));
        assert_read(dir.path(), &qcow2("a"));
        let json = r#"json:{"driver":"qcow2","encrypt":{"format":"luks","key-secret":"s"},"file":{"filename":"a"}}"#;
        own(dir.path(), "compare", &["-F", "raw", json, "bytes"]).success();
    }
}

#[test]
fn qcow2_with_luks_is_read_in_every_layout() {
    for options in ["cluster_size=512", "cluster_size=16k,extended_l2=on", "data_file=data"] {
        let dir = folder();
        let options = format!("{},{options}", in_qcow2(CIPHERS[0]));
        create(dir.path(), &["-f", "qcow2", "-o", &options, "a", "2M"]);
        fill(dir.path(), &qcow2("a"));
        assert_read(dir.path(), &qcow2("a"));
    }
}

#[test]
fn a_luks_image_is_read_with_every_cipher() {
    for cipher in CIPHERS {
        let dir = folder();
        let options = format!("key-secret=s,iter-time=10,{cipher}");
        create(dir.path(), &["-f", "luks", "-o", &options, "a", "2M"]);
        fill(dir.path(), &luks("a"));
        assert_read(dir.path(), &luks("a"));
    }
}

#[test]
fn the_older_encryption_is_read() {
    for secret in ["a passphrase", "short", "one that is longer than the key"] {
        let dir = folder();
        let object = format!("secret,id=s,data={secret}");
        let options = "encrypt.format=aes,encrypt.key-secret=s";
        let secret = ["--object", &object];
        let make = [&["create", "-q"], &secret[..], &["-f", "qcow2", "-o", options, "a", "2M"]];
        qemu_ok(dir.path(), "qemu-img", &make.concat());
        let write = ["--image-opts", "-c", "write -q -P 7 30k 1M", &qcow2("a")];
        qemu_ok(dir.path(), "qemu-io", &[&secret[..], &write].concat());
        for (tool, to) in [("qemu-img", "theirs"), ("qcheck", "own")] {
            let image = qcow2("a");
            let args = ["-O", "raw", "--image-opts", &image, to];
            let args = [&["convert"], &secret[..], &args].concat();
            match tool {
                "qcheck" => qcheck(dir.path(), &args).success(),
                _ => qemu(dir.path(), tool, &args).success(),
            };
        }
        let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
        assert!(read("own") == read("theirs"));
        assert!(read("own")[30 << 10..][..1 << 20].iter().all(|&byte| byte == 7));
    }
}

#[test]
fn backing_files_and_snapshots_are_read_with_their_own_secrets() {
    let dir = folder();
    create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(CIPHERS[3]), "base", "2M"]);
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "low", "2M"]);
    for (base, description) in [("base", qcow2("base")), ("low", luks("low"))] {
        fill(dir.path(), &description);
        let driver = if base == "low" { "luks" } else { "qcow2" };
        let key = if base == "low" { "key-secret" } else { "encrypt.key-secret" };
        let name = format!(
            r#"json:{{"driver":"{driver}","{key}":"s","file":{{"driver":"file","filename":"{base}"}}}}"#
        );
        let escaped = name.replace(',', ",,");
        let options =
            format!("{},backing_file={escaped},backing_fmt={driver}", in_qcow2(CIPHERS[0]));
        create(dir.path(), &["-f", "qcow2", "-o", &options, "top", "3M"]);
        guest(dir.path(), &qcow2("top"), "write -q -P 9 120k 100k");
        assert_read(dir.path(), &qcow2("top"));
    }
    let snapshot = [&["snapshot"], &SECRET[..], &["-c", "one", "--image-opts"]].concat();
    let image = qcow2("base");
    qemu_ok(dir.path(), "qemu-img", &[&snapshot[..], &[&image]].concat());
    guest(dir.path(), &image, "write -q -P 8 0 2M");
    for (name, tool) in [("theirs", "qemu-img"), ("own", "qcheck")] {
        let args = ["-l", "one", "-O", "raw", "--image-opts", &image, name];
        let args = [&["convert"], &SECRET[..], &args].concat();
        match tool {
            "qcheck" => qcheck(dir.path(), &args).success(),
            _ => qemu(dir.path(), tool, &args).success(),
        };
    }
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("own") == read("theirs"));
}

#[test]
fn a_luks_image_is_described_without_its_secret() {
    for cipher in CIPHERS {
        let dir = folder();
        let options = format!("key-secret=s,iter-time=10,{cipher}");
        create(dir.path(), &["-f", "luks", "-o", &options, "a", "1000000"]);
        for args in
            [&["info", "a"][..], &["info", "--output=json", "a"], &["info", "-f", "luks", "a"]]
        {
            let (ran, theirs) = (qcheck(dir.path(), args), qemu(dir.path(), "qemu-img", args));
            assert_eq!((ran.code, ran.out), (theirs.code, theirs.out), "{args:?}: {}", ran.err);
        }
    }
}

/// Both programs fail with the same line, but for what qcheck adds to it.
#[track_caller]
fn assert_same_refusal(folder: &Path, args: &[&str]) {
    let (ran, theirs) = (qcheck(folder, args), qemu(folder, "qemu-img", args));
    assert_eq!(ran.code, theirs.code, "{args:?}: {} {}", ran.err, theirs.err);
    let line = theirs.err.lines().last().unwrap_or_default();
    // The image is named by its file, not by its description.
    let line = line.rsplit_once("': ").map_or(line, |(_, cause)| cause);
    assert!(ran.err.contains(line), "{args:?}: {} instead of {line}", ran.err);
}

#[test]
fn what_cannot_be_opened_is_refused_in_the_words_of_qemu_img() {
    let dir = folder();
    create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(CIPHERS[0]), "a", "1M"]);
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "b", "1M"]);
    let wrong = "secret,id=s,data=another";
    for image in [qcow2("a"), luks("b")] {
        for object in [wrong, "secret,id=t,data=x"] {
            for args in [
                &["convert", "--object", object, "-O", "raw", "--image-opts", &image, "x"][..],
                &["compare", "--object", object, "--image-opts", &image, &image],
                &["map", "--object", object, "--image-opts", &image],
            ] {
                assert_same_refusal(dir.path(), args);
            }
        }
    }
    for args in [
        &["convert", "-O", "raw", "a", "x"][..],
        &["convert", "-O", "raw", "b", "x"],
        &["convert", "-f", "luks", "-O", "raw", "b", "x"],
        &["compare", "a", "a"],
        &["compare", "b", "b"],
        &["dd", "if=a", "of=x"],
    ] {
        assert_same_refusal(dir.path(), args);
    }
    assert!(!dir.path().join("x").exists());
}

#[test]
fn damaged_headers_are_refused_and_end_no_program() {
    let dir = folder();
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "a", "64k"]);
    let whole = fs::read(dir.path().join("a")).unwrap();
    for at in (0..592).step_by(7).chain([104, 108, 164, 208, 212, 248, 252]) {
        for value in [0, 1, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            // So many iterations take minutes, as they do in qemu-img.
            if (164..166).contains(&at) || (208..592).contains(&at) && (at - 208) % 48 / 2 == 2 {
                continue;
            }
            fs::write(dir.path().join("b"), &bytes).unwrap();
            let ran = own(dir.path(), "convert", &["-O", "raw", "--image-opts", &luks("b"), "x"]);
            assert!(ran.code == 0 || ran.code == 1, "byte {at} {value}: {ran:?}");
            assert_eq!(ran.err.lines().count(), usize::from(ran.code == 1), "{ran:?}");
        }
    }
    fs::write(dir.path().join("b"), &whole[..5000]).unwrap();
    let ran = own(dir.path(), "convert", &["-O", "raw", "--image-opts", &luks("b"), "x"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn nothing_that_is_printed_or_dumped_has_a_secret_in_it() {
    let dir = folder();
    create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(CIPHERS[0]), "a", "1M"]);
    let image = qcow2("a");
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    for (object, code) in [(SECRET[1], 0), ("secret,id=s,data=another a passphrase", 1)] {
        let ran = std::process::Command::new(program)
            .current_dir(dir.path())
            .env("RUST_LOG", "trace")
            .args(["convert", "--object", object, "-O", "raw", "--image-opts", &image, "x"])
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(code));
        let printed = [ran.stdout, ran.stderr].concat();
        assert!(!String::from_utf8_lossy(&printed).contains("a passphrase"));
    }
    qcheck(dir.path(), &["dump", "a", "dumped"]).success();
    let dumped = fs::read(dir.path().join("dumped")).unwrap();
    let whole = fs::read(dir.path().join("a")).unwrap();
    // Key material is random: no sector of it may be in the dump.
    let luks = whole.windows(6).position(|bytes| bytes == b"LUKS\xBA\xBE").unwrap();
    let material = &whole[luks + 4096..luks + 4096 + 256_000];
    for sector in material.chunks_exact(512) {
        assert!(!dumped.chunks_exact(512).any(|other| other == sector));
    }
}
