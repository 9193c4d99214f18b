//! Encrypted images that exist, written with their secrets and read by real qemu-img.

use std::fs;

use qcheck::crypt::{Key, Secret, Secrets};
use qcheck::format::GuestOffset;
use qcheck::image::{Image, OpenOptions};
use qcheck::storage::FileStorage;
use std::sync::Arc;

use super::{CIPHERS, SECRET, bytes, content, create, guest, in_qcow2, luks, own, qcow2};
use crate::support::programs::run::{qcheck, qemu, qemu_ok};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_guest_writes_any_bytes() {
    for (cipher, layout) in
        [(CIPHERS[0], "cluster_size=4k"), (CIPHERS[3], "cluster_size=16k,extended_l2=on")]
    {
        let dir = folder();
        let options = format!("{},{layout}", in_qcow2(cipher));
        create(dir.path(), &["-f", "qcow2", "-o", &options, "a", "1M"]);
        let secret = Secret::new(b"a passphrase".to_vec());
        let secrets = Secrets::new([("s".to_owned(), secret)].into());
        let key = Key { secrets, name: Some("s".to_owned()) };
        let file = FileStorage::open_write(&dir.path().join("a")).unwrap();
        let options = OpenOptions::default().key(key);
        let image = Image::open_on(Arc::new(file), &options).unwrap();
        let mut model = vec![0; 1 << 20];
        let writes = [(0, 4096), (100, 5), (5000, 20_000), (511, 2), (1 << 19, 512), (9999, 7000)];
        for (seed, (at, length)) in (1..).zip(writes) {
            let data = content(length, seed);
            image.write(GuestOffset::new(at as u64), &data).unwrap();
            model[at..at + length].copy_from_slice(&data);
        }
        image.write_zeroes(GuestOffset::new(1000), 7001, false).unwrap();
        model[1000..8001].fill(0);
        image.discard(GuestOffset::new(16 << 10), 16 << 10).unwrap();
        model[16 << 10..32 << 10].fill(0);
        for (at, length) in [(0, 1 << 20), (1, 600), (8000, 3), (1 << 19, 513)] {
            let mut read = vec![0; length];
            image.read(GuestOffset::new(at as u64), &mut read).unwrap();
            assert!(read == model[at..at + length], "{layout}: {at} {length}");
        }
        image.close().unwrap();
        assert!(bytes(dir.path(), &qcow2("a")) == model, "{layout}");
        own(dir.path(), "check", &["-q", "--image-opts", &qcow2("a")]).success();
    }
}

#[test]
fn convert_writes_into_images_that_exist() {
    let dir = folder();
    let disk = content(1 << 20, 5);
    fs::write(dir.path().join("disk"), &disk).unwrap();
    create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(CIPHERS[0]), "a", "1M"]);
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "b", "1M"]);
    for (format, target) in [("qcow2", qcow2("a")), ("luks", luks("b"))] {
        guest(dir.path(), &target, "write -q -P 9 0 1M");
        let args = ["-n", "-f", "raw", "-O", format, "--target-image-opts", "disk", &target];
        own(dir.path(), "convert", &args).success();
        assert!(bytes(dir.path(), &target) == disk, "{format}");
    }
}

#[test]
fn chains_are_committed_rebased_and_resized() {
    let dir = folder();
    create(dir.path(), &["-f", "qcow2", "base", "1M"]);
    qemu_ok(dir.path(), "qemu-io", &["-c", "write -q -P 3 0 1M", "base"]);
    let options = format!("{},backing_file=base,backing_fmt=qcow2", in_qcow2(CIPHERS[0]));
    create(dir.path(), &["-f", "qcow2", "-o", &options, "top", "1M"]);
    guest(dir.path(), &qcow2("top"), "write -q -P 5 200k 100k");
    let before = bytes(dir.path(), &qcow2("top"));
    let top = qcow2("top");
    // What was in the backing file is in the image now.
    fs::copy(dir.path().join("top"), dir.path().join("copy")).unwrap();
    own(dir.path(), "rebase", &["-b", "", "--image-opts", &qcow2("copy")]).success();
    assert!(bytes(dir.path(), &qcow2("copy")) == before);
    own(dir.path(), "resize", &["--image-opts", &qcow2("copy"), "1500k"]).success();
    let grown = bytes(dir.path(), &qcow2("copy"));
    assert!(grown[..1 << 20] == before && grown[1 << 20..].iter().all(|&byte| byte == 0));
    own(dir.path(), "commit", &["--image-opts", &top]).success();
    let base = [&["compare"], &SECRET[..], &["--image-opts"]].concat();
    let base = [&base[..], &[&top, "driver=qcow2,file.filename=base"]].concat();
    qemu_ok(dir.path(), "qemu-img", &base);
    assert!(bytes(dir.path(), &top) == before);
}

#[test]
fn a_disk_grows_over_what_its_last_cluster_had() {
    let dir = folder();
    create(dir.path(), &["-f", "qcow2", "-o", &in_qcow2(CIPHERS[0]), "a", "1000k"]);
    guest(dir.path(), &qcow2("a"), "write -q -P 5 0 1000k");
    let image = qcow2("a");
    own(dir.path(), "resize", &["--shrink", "--image-opts", &image, "900k"]).success();
    own(dir.path(), "resize", &["--image-opts", &image, "2M"]).success();
    let read = bytes(dir.path(), &image);
    assert!(read[..900 << 10].iter().all(|&byte| byte == 5));
    assert!(read[900 << 10..].iter().all(|&byte| byte == 0));
}

#[test]
fn luks_images_are_resized_as_by_qemu_img() {
    let plain = content(1 << 20, 3);
    for args in [
        &["2M"][..],
        &["+1000"],
        &["--preallocation=falloc", "2M"],
        &["--preallocation=full", "2M"],
        &["--preallocation=metadata", "2M"],
        &["512k"],
        &["--shrink", "512k"],
        &["--shrink", "-1024"],
    ] {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let at = folders[0].path();
        create(at, &["-f", "luks", "-o", "key-secret=s,iter-time=10", "a", "1M"]);
        fs::write(at.join("disk"), &plain).unwrap();
        guest(at, &luks("a"), "write -q -s disk 0 1M");
        fs::copy(at.join("a"), folders[1].path().join("a")).unwrap();
        let (image, (options, size)) = (luks("a"), args.split_at(args.len() - 1));
        let args = [&["resize"], &SECRET[..], options, &["--image-opts", &image], size].concat();
        let real = qemu(at, "qemu-img", &args);
        let ran = qcheck(folders[1].path(), &args);
        assert_eq!((ran.code, &ran.out), (real.code, &real.out), "{args:?}: {}", ran.err);
        let length = |n: usize| fs::metadata(folders[n].path().join("a")).unwrap().len();
        assert_eq!(length(1), length(0), "{args:?}");
        let disk = bytes(folders[1].path(), &image);
        let same = disk.len().min(plain.len());
        assert!(disk[..same] == plain[..same], "{args:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "a", "1M"]);
    guest(dir.path(), &luks("a"), "write -q -P 9 0 1M");
    let dry = ["--dry-run", "--shrink", "--image-opts", &luks("a"), "512k"];
    let ran = own(dir.path(), "resize", &dry).success();
    assert!(ran.out.contains("would lose 512 KiB"), "{}", ran.out);
    let ran = own(dir.path(), "resize", &["a", "2M"]);
    assert!(ran.err.contains("Parameter 'key-secret' is required for cipher"), "{}", ran.err);
}

#[test]
fn an_image_over_luks_has_its_size_and_needs_no_secret_to_be_made() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), &["-f", "luks", "-o", "key-secret=s,iter-time=10", "base", "1M"]);
    guest(dir.path(), &luks("base"), "write -q -P 9 0 1M");
    fs::write(dir.path().join("other"), [1; 5000]).unwrap();
    let described = r#"json:{"driver":"luks","key-secret":"s","file.filename":"base"}"#;
    for base in ["base", described, "other", "missing"] {
        let args = ["create", "-f", "qcow2", "-b", base, "-F", "luks"];
        let real = qemu(dir.path(), "qemu-img", &[&args[..], &["real"]].concat());
        let ran = qcheck(dir.path(), &[&args[..], &["own"]].concat());
        assert_eq!(ran.code, real.code, "{base}: {} {}", ran.err, real.err);
        assert_eq!(ran.out.replace("own", "real"), real.out, "{base}");
        let cause = real.err.lines().next().unwrap_or_default().rsplit(": ").next().unwrap();
        assert!(ran.err.contains(cause), "{base}: {} instead of {}", ran.err, real.err);
        if ran.code != 0 {
            continue;
        }
        let image = ["-O", "raw", "own", "raw"];
        let read = own(dir.path(), "convert", &image);
        assert_eq!(read.code == 0, base == described, "{base}: {}", read.err);
    }
    assert!(fs::read(dir.path().join("raw")).unwrap() == vec![9; 1 << 20]);
}
