//! Encrypted images that qcheck makes: real qemu-img and cryptsetup open them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{CIPHERS, SECRET, bytes, content, guest, in_qcow2, luks, own, qcow2};
use crate::support::programs::run::{qcheck, qemu, qemu_ok};
use crate::support::skip::skip;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // Data, zeroes, and an end within a cluster.
    let mut disk = content(700 << 10, 7);
    disk.extend(vec![0; 300 << 10]);
    disk.extend(content(100 << 10, 8));
    fs::write(dir.path().join("disk"), disk).unwrap();
    dir
}

/// Both checkers find nothing wrong, and real qemu-img reads the disk.
fn assert_made(folder: &Path, image: &str, what: &str) {
    let disk = fs::read(folder.join("disk")).unwrap();
    assert!(bytes(folder, image) == disk, "{what}");
    if image.starts_with("driver=qcow2") {
        let check = ["--image-opts", image];
        qemu_ok(folder, "qemu-img", &[&["check", "-q"], &SECRET[..], &check].concat());
        own(folder, "check", &["-q", "--image-opts", image]).success();
    }
}

#[test]
fn qcow2_with_luks_is_made_with_every_cipher_and_in_every_layout() {
    let layouts = [
        "cluster_size=512",
        "cluster_size=2M",
        "cluster_size=16k,extended_l2=on",
        "compat=0.10",
        "data_file=data",
        "preallocation=metadata",
        "preallocation=full,data_file=data",
    ];
    let plain = in_qcow2(CIPHERS[0]);
    let ciphers = CIPHERS.map(in_qcow2).to_vec();
    for options in ciphers.into_iter().chain(layouts.map(|more| format!("{plain},{more}"))) {
        let dir = folder();
        let convert = ["-f", "raw", "-O", "qcow2", "-o", &options];
        own(dir.path(), "convert", &[&convert[..], &["disk", "a"]].concat()).success();
        assert_made(dir.path(), &qcow2("a"), &options);
        let verified = [&convert[..], &["--verify", "disk", "b"]].concat();
        own(dir.path(), "convert", &verified).success();
        if options.contains("data_file") {
            continue;
        }
        // An image that a guest of QEMU fills.
        own(dir.path(), "create", &["-q", "-f", "qcow2", "-o", &options, "c", "1100k"]).success();
        guest(dir.path(), &qcow2("c"), "write -q -s disk 0 1100k");
        assert_made(dir.path(), &qcow2("c"), &options);
    }
}

#[test]
fn luks_images_are_made_that_qemu_img_and_cryptsetup_open() {
    let ciphers = CIPHERS.iter().copied().chain(["cipher-alg=aes-192,cipher-mode=cbc"]);
    for cipher in ciphers {
        let dir = folder();
        let options = format!("key-secret=s,iter-time=10,{cipher}");
        own(dir.path(), "convert", &["-O", "luks", "-o", &options, "disk", "a"]).success();
        own(dir.path(), "create", &["-q", "-f", "luks", "-o", &options, "b", "1100k"]).success();
        // qemu-img ends with an assertion where a key is not a part of a sector.
        if cipher != "cipher-alg=aes-192,cipher-mode=cbc" {
            assert_made(dir.path(), &luks("a"), cipher);
            guest(dir.path(), &luks("b"), "write -q -s disk 0 1100k");
            assert_made(dir.path(), &luks("b"), cipher);
        }
        let disk = "driver=raw,file.filename=disk";
        own(dir.path(), "compare", &["--image-opts", &luks("a"), disk]).success();
        // cryptsetup has no XTS with keys of 192 bits.
        if cipher.contains("aes-192,cipher-mode=xts") {
            continue;
        }
        fs::write(dir.path().join("key"), "a passphrase").unwrap();
        let open = ["open", "--test-passphrase", "--key-file", "key", "a"];
        match Command::new("cryptsetup").args(open).current_dir(dir.path()).status() {
            Ok(status) => assert!(status.success(), "{cipher}: {status}"),
            Err(error) => skip("opening with cryptsetup", &error.to_string()),
        }
    }
}

#[test]
fn what_cryptsetup_makes_is_opened() {
    for cipher in ["aes-xts-plain64", "aes-cbc-essiv:sha256", "aes-cbc-plain"] {
        for bits in ["256", "512", "192"] {
            let dir = folder();
            fs::write(dir.path().join("key"), "a passphrase").unwrap();
            fs::write(dir.path().join("a"), vec![0; 4 << 20]).unwrap();
            let format = ["luksFormat", "-q", "--type", "luks1", "--key-file", "key"];
            let options = ["--pbkdf-force-iterations", "1000", "-c", cipher, "-s", bits, "a"];
            let made = Command::new("cryptsetup")
                .args(format)
                .args(options)
                .current_dir(dir.path())
                .output();
            match made {
                // Not every cipher has a key of each length.
                Ok(made) if !made.status.success() => continue,
                Ok(_) => {}
                Err(error) => return skip("opening what cryptsetup made", &error.to_string()),
            }
            own(dir.path(), "convert", &["-O", "raw", "--image-opts", &luks("a"), "x"]).success();
            if bits != "192" {
                assert!(fs::read(dir.path().join("x")).unwrap() == bytes(dir.path(), &luks("a")));
            }
        }
    }
}

#[test]
fn the_lines_and_errors_are_those_of_qemu_img() {
    let dir = folder();
    let same = |args: &[&str]| {
        let args = [&["create"], &SECRET[..], args].concat();
        let (ran, theirs) = (qcheck(dir.path(), &args), qemu(dir.path(), "qemu-img", &args));
        assert_eq!((ran.code, &ran.out), (theirs.code, &theirs.out), "{args:?}: {}", ran.err);
        let cause = theirs.err.trim_end().rsplit(": ").next().unwrap_or_default();
        assert!(ran.err.contains(cause), "{args:?}: {} instead of {}", ran.err, theirs.err);
    };
    for cipher in CIPHERS {
        same(&["-f", "qcow2", "-o", &in_qcow2(cipher), "a", "1M"]);
        same(&["-f", "luks", "-o", &format!("key-secret=s,iter-time=10,{cipher}"), "a", "1M"]);
    }
    for args in [
        &["-f", "luks", "-o", "key-secret=s,iter-time=10,preallocation=falloc", "a", "1M"][..],
        &["-f", "luks", "a", "1M"],
        &["-f", "luks", "-o", "key-secret=t", "a", "1M"],
        &["-f", "luks", "-o", "key-secret=s,cipher-alg=foo", "a", "1M"],
        &["-f", "luks", "-o", "key-secret=s,ivgen-alg=essiv,ivgen-hash-alg=sha1", "a", "1M"],
        &["-f", "qcow2", "-o", "encrypt.format=luks", "a", "1M"],
        &["-f", "qcow2", "-o", "encrypt.key-secret=s", "a", "1M"],
        &["-f", "qcow2", "-o", "encrypt.format=foo,encrypt.key-secret=s", "a", "1M"],
    ] {
        same(args);
    }
    let compress = ["-c", "-f", "raw", "-O", "qcow2", "-o", &in_qcow2(CIPHERS[0]), "disk", "b"];
    let ran = own(dir.path(), "convert", &compress);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("Compression and encryption not supported at the same time"));
    assert!(!dir.path().join("b").exists());
}

#[test]
fn sizes_are_measured_as_by_qemu_img() {
    let dir = folder();
    for options in [
        &["-O", "luks", "-o", "key-secret=s,iter-time=10"][..],
        &["-O", "luks", "-o", "key-secret=s,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc"],
        &["-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"],
        &[
            "-O",
            "qcow2",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=2M",
        ],
    ] {
        for what in [&["--size", "1M"][..], &["--size", "0"], &["disk"]] {
            let args = [&["measure"], &SECRET[..], options, what].concat();
            let (ran, theirs) = (qcheck(dir.path(), &args), qemu(dir.path(), "qemu-img", &args));
            assert_eq!((ran.code, &ran.out), (theirs.code, &theirs.out), "{args:?}: {}", ran.err);
        }
    }
}
