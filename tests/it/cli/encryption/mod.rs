//! Encrypted images with their secrets, against real qemu-img.

mod making;
mod reading;
mod slots;
mod writing;

use std::path::Path;

use crate::support::programs::run::{Ran, qcheck, qemu_ok};
use crate::support::rng::Rng;

/// The secret of the images that these tests make.
pub const SECRET: [&str; 2] = ["--object", "secret,id=s,data=a passphrase"];

/// LUKS with each mode, generator of initial vectors, key length and hash that is read.
pub const CIPHERS: [&str; 6] = [
    "cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256",
    "cipher-alg=aes-128,cipher-mode=xts,ivgen-alg=plain,hash-alg=sha1",
    "cipher-alg=aes-192,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha384",
    "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512",
    "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain64,hash-alg=sha224",
    "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha256",
];

/// Options of LUKS as those of a qcow2 image.
pub fn in_qcow2(cipher: &str) -> String {
    let own = cipher.split(',').map(|option| format!("encrypt.{option}"));
    let all = own.collect::<Vec<_>>().join(",");
    format!("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,{all}")
}

/// The description of a qcow2 image with its secret.
pub fn qcow2(name: &str) -> String {
    format!("driver=qcow2,encrypt.key-secret=s,file.filename={name}")
}

/// The description of a LUKS image with its secret.
pub fn luks(name: &str) -> String {
    format!("driver=luks,key-secret=s,file.filename={name}")
}

/// Bytes of a disk.
pub fn content(length: usize, seed: u64) -> Vec<u8> {
    Rng::new(seed).bytes(length)
}

/// Makes an image with real qemu-img.
pub fn create(folder: &Path, args: &[&str]) {
    qemu_ok(folder, "qemu-img", &[&["create", "-q"], &SECRET[..], args].concat());
}

/// Runs a command of real qemu-io on a described image.
pub fn guest(folder: &Path, image: &str, command: &str) {
    let args = [&SECRET[..], &["--image-opts", "-c", command, image]].concat();
    let out = qemu_ok(folder, "qemu-io", &args);
    assert!(!out.contains("failed"), "{command}: {out}");
}

/// What a guest reads from a described image, by real qemu-img.
pub fn bytes(folder: &Path, image: &str) -> Vec<u8> {
    let args = [&["convert", "-O", "raw"], &SECRET[..], &["--image-opts", image, "bytes"]].concat();
    qemu_ok(folder, "qemu-img", &args);
    std::fs::read(folder.join("bytes")).unwrap()
}

/// Runs a command of qcheck with the secret on described images.
pub fn own(folder: &Path, command: &str, args: &[&str]) -> Ran {
    qcheck(folder, &[&[command], &SECRET[..], args].concat())
}
