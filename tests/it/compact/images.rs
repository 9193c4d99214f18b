//! Images of real QEMU that were written to for a while.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qcheck::compact::{CompactOptions, Outcome, compact};
use qcheck::convert::Control;
use qcheck::error::Result;
use qcheck::image::Image;
use qcheck::progress::Silent;
use qcheck::storage::Storage;

use crate::image::change::states::Case;
use crate::image::change::switch::{Contents, contents};
use crate::image::tools::qemu;
use crate::support::rng::Rng;

/// How an image is made.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub create: &'static str,
    /// Kilobytes of the disk.
    pub kilobytes: u64,
    pub snapshots: usize,
    pub seed: u64,
    /// Commands between two snapshots.
    pub commands: usize,
}

impl Recipe {
    fn cluster(&self) -> u64 {
        let text = self.create.split("cluster_size=").nth(1).unwrap_or("64k");
        let text = text.split(',').next().unwrap();
        match text.strip_suffix('k') {
            Some(text) => text.parse::<u64>().unwrap() << 10,
            None => text.parse().unwrap(),
        }
    }

    /// Random writes, discards, zeroes and compressed clusters.
    fn writes(&self, rng: &mut Rng) -> Vec<String> {
        let (cluster, size) = (self.cluster(), self.kilobytes << 10);
        let unit = 4096.min(cluster);
        let command = |_| {
            let at = rng.below(size / unit) * unit;
            let length = (unit << rng.below(5)).min(size - at);
            let value = 1 + rng.below(255);
            match rng.below(10) {
                0..=4 => format!("write -q -P {value} {at} {length}"),
                5 => format!("write -q -P 0 {at} {length}"),
                6 | 7 => format!("discard -q {at} {length}"),
                8 => format!("write -q -z {at} {length}"),
                _ => format!("write -q -c -P {value} {} {cluster}", at / cluster * cluster),
            }
        };
        (0..self.commands).map(command).collect()
    }

    /// Writes to the image at a path for a while.
    pub fn age(&self, path: &Path) {
        let name = path.to_str().unwrap();
        let mut rng = Rng::new(self.seed);
        for n in 0..=self.snapshots {
            let mut args = vec!["-f".into(), "qcow2".into()];
            self.writes(&mut rng)
                .into_iter()
                .for_each(|command| args.extend(["-c".into(), command]));
            if n == 1 {
                args.extend(["-c".into(), "write -q -b -P 9 0 12k".into()]);
            }
            args.push(name.into());
            // Compressed data is written only where nothing is allocated; elsewhere that fails.
            std::process::Command::new("qemu-io").args(&args).output().unwrap();
            if n < self.snapshots {
                // Where compressed clusters have all references that a refcount can hold, that fails.
                let args = ["snapshot", "-c", &format!("s{n}"), name];
                std::process::Command::new("qemu-img").args(args).output().unwrap();
            }
        }
        if self.snapshots > 1 {
            let args = ["snapshot", "-d", "s0", name];
            std::process::Command::new("qemu-img").args(args).output().unwrap();
        }
        // What qemu-img refused, and compressed writes that failed, can leave errors.
        let args = ["check", "-q", "-f", "qcow2", "-r", "all", name];
        std::process::Command::new("qemu-img").args(args).output().unwrap();
    }

    pub fn case(&self) -> Case {
        Case::new(|path| {
            let name = path.to_str().unwrap();
            let size = format!("{}k", self.kilobytes);
            qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", self.create, name, &size]);
            if !self.create.contains("0.10") {
                qemu("qemu-img", &["bitmap", "--add", name, "map"]);
            }
            self.age(path);
        })
    }
}

/// An image of which all that is in use is at the end: a snapshot with tables and data of its own, with others that the disk
/// shares, and newer ones of the disk.
pub fn layered(create: &str, kilobytes: u64) -> Case {
    Case::new(|path| {
        let name = path.to_str().unwrap();
        let size = kilobytes << 10;
        let io = |commands: &[String]| {
            let mut args = vec!["-f", "qcow2"];
            commands.iter().for_each(|command| args.extend(["-c", command]));
            qemu("qemu-io", &[&args[..], &[name]].concat());
        };
        let text = size.to_string();
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, &text]);
        if !create.contains("0.10") {
            qemu("qemu-img", &["bitmap", "--add", "-g", "512", name, "map"]);
        }
        io(&[format!("write -q -P 1 0 {size}")]);
        qemu("qemu-img", &["snapshot", "-c", "gone", name]);
        io(&[format!("write -q -P 2 0 {size}")]);
        qemu("qemu-img", &["snapshot", "-c", "kept", name]);
        qemu("qemu-img", &["snapshot", "-d", "gone", name]);
        io(&["write -q -P 3 4k 4k".into(), format!("write -q -P 4 {} 8k", size / 2)]);
    })
}

/// Compacts the image of a case on a storage.
pub fn run(case: &Case, storage: Arc<dyn Storage>, options: &CompactOptions) -> Result<Outcome> {
    let never = AtomicBool::new(false);
    compact(case.open(storage)?, options, Control { cancel: &never, progress: &Silent })
}

/// The same until a flag is set.
pub fn run_until(image: Image, options: &CompactOptions, cancel: &AtomicBool) -> Result<Outcome> {
    compact(image, options, Control { cancel, progress: &Silent })
}

/// All that a user has in an image.
pub fn all_of(case: &Case, bytes: &[u8]) -> Contents {
    contents(case, bytes)
}

pub fn with_zeroes() -> CompactOptions {
    CompactOptions::default().zeroes(true)
}
