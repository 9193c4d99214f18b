//! Valid images of every kind, made by real qemu-img and qemu-io from a seed, some in the state that a killed QEMU
//! leaves.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::writes::Writes;
use crate::support::programs::run::{Ran, qemu};
use crate::support::rng::Rng;

/// An image before it is damaged.
pub struct Base {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The image at earlier moments of its life.
    pub former: Vec<Vec<u8>>,
}

const SECRET: &str = "secret,id=key,data=correct horse";

/// How an image is opened and what it can do.
struct Maker<'a> {
    folder: &'a Path,
    rng: Rng,
    size: u64,
    cluster: u64,
    luks: bool,
    snapshots: Vec<String>,
    bitmaps: u64,
    compressed: bool,
    data_file: bool,
    v3: bool,
    wide: bool,
    former: Vec<Vec<u8>>,
    name: String,
}

/// The image of a seed; `None` where QEMU did not make what was requested.
pub fn base(seed: u64) -> Option<Base> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder");
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(17));
    let options = Options::choose(&mut rng);
    let mut maker = Maker::create(folder.path(), rng, &options)?;
    let steps = 3 + maker.rng.below(8);
    for _ in 0..steps {
        maker.step();
    }
    let bytes = maker.ending();
    let name = format!("{seed} {}", maker.name);
    Some(Base { name, bytes, former: maker.former })
}

struct Options {
    text: String,
    size: u64,
    cluster: u64,
    v3: bool,
    luks: bool,
    data_file: bool,
    backing: bool,
    bits: u64,
}

impl Options {
    fn choose(rng: &mut Rng) -> Self {
        let v3 = rng.below(5) > 0;
        let extended = v3 && rng.below(6) == 0;
        let sizes: &[u64] = &[9, 9, 9, 10, 12, 12, 12, 14, 16, 16];
        let mut cluster_bits = sizes[rng.below(10) as usize];
        if rng.below(40) == 0 {
            cluster_bits = 21;
        }
        if extended {
            cluster_bits = cluster_bits.max(14);
        }
        let cluster = 1 << cluster_bits;
        let entry = if extended { 16 } else { 8 };
        let span = cluster / entry * cluster;
        let size = match cluster_bits {
            9..=12 => span * (1 + rng.below(5)) + rng.below(3) * span / 2,
            14 => (2 << 20) + rng.below(60) * (1 << 20),
            16 => (1 << 20) + rng.below(16) * (1 << 20) + rng.below(3) * (600 << 20),
            _ => 64 << 20,
        };
        let data_file = v3 && rng.below(10) == 0;
        let luks = v3 && !data_file && rng.below(16) == 0;
        let backing = !luks && !data_file && rng.below(6) == 0;
        let widths: &[u64] = &[1, 2, 4, 8, 16, 16, 16, 16, 32, 64];
        let bits = if v3 { widths[rng.below(10) as usize] } else { 16 };
        let mut text = format!("cluster_size={cluster},compat={}", if v3 { "1.1" } else { "0.10" });
        if v3 {
            text += &format!(",refcount_bits={bits}");
            if extended {
                text += ",extended_l2=on";
            }
            if rng.below(8) == 0 {
                text += ",lazy_refcounts=on";
            }
            if rng.below(3) == 0 && !data_file {
                text += ",compression_type=zstd";
            }
            if data_file {
                text += ",data_file=data.raw";
                if rng.below(2) == 0 {
                    text += ",data_file_raw=on";
                }
            }
            if luks {
                text += ",encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
                text +=
                    ",encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain64";
            }
        }
        if rng.below(12) == 0 && !backing {
            text += ",preallocation=metadata";
        }
        let size = size.next_multiple_of(512);
        Self { text, size, cluster, v3, luks, data_file, backing, bits }
    }
}

impl<'a> Maker<'a> {
    fn create(folder: &'a Path, rng: Rng, options: &Options) -> Option<Self> {
        let Options { size, cluster, v3, luks, data_file, .. } = *options;
        let size_text = size.to_string();
        let mut args = vec!["create", "-q", "-f", "qcow2"];
        if luks {
            args.extend(["--object", SECRET]);
        }
        if options.backing {
            fs::write(folder.join("base.raw"), vec![0xba; size as usize / 2]).ok()?;
            args.extend(["-b", "base.raw", "-F", "raw"]);
        }
        args.extend(["-o", &options.text, "i.qcow2", &size_text]);
        let ran = qemu(folder, "qemu-img", &args);
        if ran.code != 0 {
            return None;
        }
        Some(Self {
            folder,
            rng,
            size,
            cluster,
            luks,
            snapshots: Vec::new(),
            bitmaps: 0,
            compressed: false,
            data_file,
            v3,
            wide: options.bits > 1,
            former: Vec::new(),
            name: options.text.clone(),
        })
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.folder.join("i.qcow2")).expect("the image")
    }

    fn image_options(&self) -> String {
        let key = if self.luks { ",encrypt.key-secret=key" } else { "" };
        format!("driver=qcow2,file.filename=i.qcow2{key}")
    }

    /// Runs qemu-io commands; what QEMU refuses changes nothing.
    fn io(&mut self, commands: &[String]) {
        let options = self.image_options();
        let mut args = vec!["-d", "unmap"];
        if self.luks {
            args.extend(["--object", SECRET]);
        }
        for command in commands {
            args.extend(["-c", command]);
        }
        args.extend(["--image-opts", &options]);
        run(self.folder, "qemu-io", &args);
    }

    fn img(&mut self, args: &[&str]) -> bool {
        qemu(self.folder, "qemu-img", args).code == 0
    }

    fn step(&mut self) {
        let before = self.image();
        match self.rng.below(16) {
            0..=6 => self.write(),
            7 => self.compressed_write(),
            8 => self.zeroes(),
            9 | 10 => self.snapshot(),
            11 => self.apply(),
            12 => self.delete(),
            13 => self.bitmap(),
            14 => self.vm_state(),
            _ => self.resize(),
        }
        if self.image() != before {
            self.former.push(before);
        }
    }

    /// A place in the disk, often at a table's border.
    fn place(&mut self, length: u64) -> u64 {
        let most = self.size.saturating_sub(length) / 512;
        let at = match self.rng.below(3) {
            0 => self.rng.below(8) * self.cluster / 512,
            _ => self.rng.next() % (most + 1),
        };
        at.min(most) * 512
    }

    fn length(&mut self) -> u64 {
        let clusters = 1 + self.rng.below(12);
        let bytes = (clusters * self.cluster).min(self.size).min(3 << 20);
        match self.rng.below(4) {
            0 => (bytes / 2).next_multiple_of(512).min(self.size),
            _ => bytes / 512 * 512,
        }
    }

    /// Content that no other cluster has: noise, text, words that look like entries, zeroes here and there.
    fn content(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = self.rng.bytes(length as usize);
        match self.rng.below(5) {
            0 => {
                for word in bytes.chunks_exact_mut(8) {
                    let cluster = u64::from(word[0] % 64);
                    let flag = u64::from(word[1] & 1) << 63;
                    let empty = word[2] % 3 == 0;
                    let entry = if empty { 0 } else { (cluster * self.cluster) | flag };
                    word.copy_from_slice(&entry.to_be_bytes());
                }
            }
            1 => bytes.iter_mut().for_each(|byte| *byte = b' ' + *byte % 90),
            2 => {
                let at = self.rng.below(length) as usize;
                bytes[at..].fill(0);
            }
            _ => {}
        }
        bytes
    }

    fn write(&mut self) {
        let length = self.length();
        let at = self.place(length);
        let content = self.content(length);
        fs::write(self.folder.join("content"), content).expect("space");
        self.io(&[format!("write -q -s content {at} {length}")]);
    }

    fn compressed_write(&mut self) {
        if self.luks || self.data_file {
            return self.write();
        }
        let count = 1 + self.rng.below(6);
        let mut commands = Vec::new();
        for n in 0..count {
            let most = (self.size / self.cluster).max(1);
            let at = self.rng.below(most.min(40)) * self.cluster;
            let length = self.cluster.min(self.size - at.min(self.size));
            if length < self.cluster {
                continue;
            }
            // Half noise, so that it compresses, but not to nothing.
            let mut content = self.rng.bytes(length as usize / 3);
            content.resize(length as usize, n as u8);
            let name = format!("content{n}");
            fs::write(self.folder.join(&name), content).expect("space");
            commands.push(format!("write -q -c -s {name} {at} {length}"));
        }
        self.compressed = true;
        self.io(&commands);
    }

    fn zeroes(&mut self) {
        let length = self.length();
        let at = self.place(length);
        let how = ["write -q -z", "write -q -z -u", "discard -q"][self.rng.below(3) as usize];
        self.io(&[format!("{how} {at} {length}")]);
    }

    fn snapshot(&mut self) {
        let name = format!("s{}", self.rng.below(1000));
        if !self.luks
            && !self.data_file
            && self.wide
            && self.img(&["snapshot", "-c", &name, "i.qcow2"])
        {
            self.snapshots.push(name);
            self.write();
        }
    }

    fn chosen(&mut self) -> Option<String> {
        let count = self.snapshots.len() as u64;
        (count > 0).then(|| self.snapshots[self.rng.below(count) as usize].clone())
    }

    fn apply(&mut self) {
        if let Some(name) = self.chosen() {
            self.img(&["snapshot", "-a", &name, "i.qcow2"]);
        } else {
            self.write();
        }
    }

    fn delete(&mut self) {
        if let Some(name) = self.chosen() {
            if self.img(&["snapshot", "-d", &name, "i.qcow2"]) {
                self.snapshots.retain(|other| *other != name);
            }
        } else {
            self.write();
        }
    }

    fn bitmap(&mut self) {
        if !self.v3 || self.luks {
            return self.write();
        }
        if self.bitmaps > 1 && self.rng.below(3) == 0 {
            self.img(&["bitmap", "--remove", "i.qcow2", "b0"]);
            return;
        }
        let name = format!("b{}", self.bitmaps);
        let granularity = (512 << self.rng.below(4)).to_string();
        if self.img(&["bitmap", "--add", "-g", &granularity, "i.qcow2", &name]) {
            self.bitmaps += 1;
            self.write();
        }
    }

    fn vm_state(&mut self) {
        if self.luks || self.data_file || self.cluster > 1 << 16 {
            return self.write();
        }
        let length = (1 + self.rng.below(3)) * self.cluster;
        let pattern = 1 + self.rng.below(250);
        self.io(&[format!("write -q -b -P {pattern} 0 {length}")]);
        self.snapshot();
    }

    fn resize(&mut self) {
        let more = (1 + self.rng.below(3)) * self.cluster * 8;
        let shrink = self.rng.below(2) == 0 && self.size > 4 * more;
        let size = if shrink { self.size - more } else { self.size + more };
        let text = size.to_string();
        let how: &[&str] = if shrink { &["resize", "-q", "--shrink"] } else { &["resize", "-q"] };
        if self.cluster <= 1 << 16 && !self.luks && self.img(&[how, &["i.qcow2", &text]].concat()) {
            self.size = size;
        }
    }

    /// The image, perhaps as a killed program leaves it.
    fn ending(&mut self) -> Vec<u8> {
        match self.rng.below(6) {
            0 if !self.luks => self.killed(),
            1 if !self.luks => self.interrupted().unwrap_or_else(|| self.image()),
            _ => self.image(),
        }
    }

    /// After writes that were not flushed.
    fn killed(&mut self) -> Vec<u8> {
        let length = self.length();
        let (at, other) = (self.place(length), self.place(length));
        let content = self.content(length);
        fs::write(self.folder.join("content"), content).expect("space");
        self.name += ", killed";
        self.io(&[
            format!("write -q -s content {at} {length}"),
            format!("discard -q {other} {length}"),
            "sigraise 9".to_owned(),
        ]);
        self.image()
    }

    /// A command of qemu-img that ended after any of its writes.
    fn interrupted(&mut self) -> Option<Vec<u8>> {
        let before = self.image();
        fs::write(self.folder.join("log"), []).ok()?;
        let logged = "driver=qcow2,file.driver=blklogwrites,file.file.driver=file,\
                      file.file.filename=i.qcow2,file.log.driver=file,file.log.filename=log";
        let name = self.chosen();
        let smaller = (self.size / 2 / 512 * 512).to_string();
        let kind = self.rng.below(4);
        let (what, done) = match (kind, &name) {
            (0, Some(name)) => {
                ("snapshot -d", self.img(&["snapshot", "-d", name, "--image-opts", logged]))
            }
            (1, Some(name)) => {
                ("snapshot -a", self.img(&["snapshot", "-a", name, "--image-opts", logged]))
            }
            (2, _) if self.wide && !self.data_file => {
                ("snapshot -c", self.img(&["snapshot", "-c", "new", "--image-opts", logged]))
            }
            _ => {
                let args = ["resize", "-q", "--shrink", "--image-opts", logged, &smaller];
                ("resize --shrink", self.img(&args))
            }
        };
        if !done {
            fs::write(self.folder.join("i.qcow2"), before).ok()?;
            return None;
        }
        let log = fs::read(self.folder.join("log")).ok()?;
        let writes = Writes::decode(&log)?;
        let count = self.rng.below(writes.len() as u64 + 1) as usize;
        self.name += &format!(", {what} interrupted after {count} of {} writes", writes.len());
        self.former.push(before.clone());
        Some(writes.replay(before, count))
    }
}

/// Runs a program that may be ended by a signal.
fn run(folder: &Path, tool: &str, args: &[&str]) {
    let output = std::process::Command::new(tool).current_dir(folder).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{tool} does not start ({e})"));
    let _ = output;
    let _: Option<Ran> = None;
}
