//! Where the targets begin: small images, and damage to them.

use std::fs;
use std::path::Path;

use super::damage::{CHANGE_BYTES, bases};

/// An input: its file's name and its bytes.
pub type Seed = (String, Vec<u8>);

/// Bytes of an image at most. Of a longer one a seed is the beginning: a LUKS header takes half a MiB.
const MOST_BYTES: usize = 192 << 10;
/// Bytes of such a beginning.
const BEGINNING: usize = 32 << 10;
/// Images that qemu-img made.
const BY_QEMU: [&str; 3] = ["dirty", "zlib", "zstd"];

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "check" => images().collect(),
        "convert" => images().enumerate().map(asked).collect(),
        "repair" => repairs(),
        other => panic!("no target is named {other}"),
    }
}

fn images() -> impl Iterator<Item = Seed> {
    let cut = |image: &[u8]| match image.len() {
        0..=MOST_BYTES => image.to_vec(),
        _ => image[..BEGINNING].to_vec(),
    };
    let built = bases().iter().enumerate().map(move |(n, b)| (format!("built-{n}"), cut(b)));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let made = BY_QEMU.into_iter().map(move |name| {
        let path = folder.join(format!("{name}.qcow2"));
        (name.to_owned(), fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    });
    built.chain(made)
}

/// An image with a target that it is to be converted to.
fn asked((number, (name, image)): (usize, Seed)) -> Seed {
    let asked = (number * 37) as u8;
    (name, [&[asked], &image[..]].concat())
}

/// One change of every kind to every image, in all modes by turns; and images that are damaged already.
fn repairs() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for which in 0..bases().len() as u8 {
        for kind in 0..12_u8 {
            let mut seed = vec![which, kind.wrapping_add(which) % 3 + 0x80 * (kind % 2)];
            for (number, how) in [kind, kind + 5].into_iter().enumerate() {
                let mut change = [0; CHANGE_BYTES];
                (change[0], change[1], change[2]) = (kind, which * 5 + how, how);
                change[5] = 3 * kind + number as u8;
                change[12] = which;
                change[13] = 7 * how;
                seed.extend(change);
            }
            seeds.push((format!("image-{which}-change-{kind}"), seed));
        }
    }
    let own = bases().len() as u8;
    seeds.extend(bases()[..2].iter().enumerate().map(|(n, image)| {
        let mut image = [&[own, 2 - n as u8], &image[..]].concat();
        image[2 + 48 + n * 16..][..8].fill(0);
        (format!("whole-{n}"), image)
    }));
    seeds
}
