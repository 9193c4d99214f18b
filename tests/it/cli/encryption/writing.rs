//! Encrypted images that exist, written with their secrets and read by real qemu-img.

use std::fs;

use qcheck::crypt::{Key, Secret, Secrets};
use qcheck::format::GuestOffset;
use qcheck::image::{Image, OpenOptions};
use qcheck::storage::FileStorage;
use std::sync::Arc;

use super::{CIPHERS, SECRET, bytes, content, create, guest, in_qcow2, luks, own, qcow2};
use crate::support::programs::run::qemu_ok;

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
