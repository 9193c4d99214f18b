//! Images made by real qemu-img and qemu-io, of every kind they make.

use crate::support::programs::oracle::{IMAGE, LOCKED, SECRET, Scratch};
use crate::support::programs::run::Ran;

/// An image and what it is.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub image: Scratch,
}

impl Case {
    /// A 4 MiB image with these creation options.
    fn new(name: &str, options: &str) -> Self {
        Self::sized(name, options, "4M")
    }

    fn sized(name: &str, options: &str, size: &str) -> Self {
        let case = Self::bare(name);
        case.img(&["create", "-q", "-f", "qcow2", "-o", options, IMAGE, size]);
        case
    }

    /// A directory where the image is still to be made.
    fn bare(name: &str) -> Self {
        Self { name: name.into(), image: Scratch::new() }
    }

    /// A 1 MiB image that takes the secret to open.
    pub fn encrypted(options: &str) -> Self {
        let mut case = Self::bare(options);
        case.image.encrypted = true;
        let create =
            ["create", "-q", "-f", "qcow2", "--object", SECRET, "-o", options, IMAGE, "1M"];
        case.img(&create);
        let open = ["--object", SECRET, "--image-opts", LOCKED];
        case.run_io(&open, &["write -P 1 0 100k", "discard 16k 8k"]).success();
        case
    }

    /// Runs qemu-img, which must succeed.
    fn img(&self, args: &[&str]) -> &Self {
        self.image.qemu_img(args).success();
        self
    }

    /// Runs these qemu-io commands on the image, which must succeed.
    fn io(&self, commands: &[&str]) -> &Self {
        self.run_io(&[IMAGE], commands).success();
        self
    }

    /// Runs these qemu-io commands and then kills the process, so that nothing is flushed after them.
    fn io_killed(&self, image: &[&str], commands: &[&str]) -> &Self {
        let ran = self.run_io(image, &[commands, &["sigraise 9"]].concat());
        assert_eq!(ran.code, 128 + 9, "{}: qemu-io survived: {ran:#?}", self.name);
        self
    }

    fn run_io(&self, image: &[&str], commands: &[&str]) -> Ran {
        let mut args = vec!["-d", "unmap"];
        args.extend(commands.iter().flat_map(|command| ["-c", *command]));
        args.extend(image);
        let ran = self.image.run("qemu-io", &args);
        assert!(!ran.out.contains("failed"), "{}: {ran:#?}", self.name);
        ran
    }

    /// Every command that moves data once: neighbours, holes, zeroes of both kinds, discards, rewrites.
    fn work(&self) -> &Self {
        self.io(&[
            "write -P 1 0 100k",
            "write -P 2 1M 33k",
            "write -z 16k 16k",
            "write -z -u 1032k 8k",
            "discard 64k 16k",
            "write -P 3 20k 2k",
            "write -P 4 3000k 5k",
        ])
    }

    /// `qemu-img check` on a copy.
    pub fn qemu_check(&self, options: &[&str]) -> Ran {
        self.image.copy().qemu_check(options)
    }
}

/// Both versions, every cluster size and every refcount width, worked on.
pub fn geometries() -> Vec<Case> {
    let mut all = Vec::new();
    for options in ["compat=0.10", "compat=1.1"] {
        for cluster in ["512", "1k", "2k", "4k", "64k", "2M"] {
            let options = format!("{options},cluster_size={cluster}");
            let case = Case::new(&options, &options);
            case.work();
            all.push(case);
        }
    }
    for bits in [1, 2, 4, 8, 16, 32, 64] {
        for cluster in ["512", "4k", "64k"] {
            let options = format!("refcount_bits={bits},cluster_size={cluster}");
            let case = Case::new(&options, &options);
            case.work();
            all.push(case);
        }
    }
    for size in ["0", "512", "1000000", "64G"] {
        let case = Case::sized(&format!("size {size}"), "cluster_size=64k", size);
        all.push(case);
    }
    all
}

/// Every kind of preallocation, subclusters, and external data files.
pub fn layouts() -> Vec<Case> {
    let mut all = Vec::new();
    for options in [
        "preallocation=metadata,cluster_size=4k",
        "preallocation=metadata,cluster_size=512",
        "preallocation=falloc,cluster_size=4k",
        "preallocation=full,cluster_size=64k",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=64k,refcount_bits=32",
        "extended_l2=on,preallocation=metadata,cluster_size=16k",
        "data_file=data.raw,cluster_size=4k",
        "data_file=data.raw,data_file_raw=on,cluster_size=4k",
        "data_file=data.raw,data_file_raw=on,cluster_size=16k,extended_l2=on",
        "data_file=data.raw,preallocation=metadata,cluster_size=4k",
        "lazy_refcounts=on,cluster_size=4k",
    ] {
        let case = Case::new(options, options);
        case.work();
        all.push(case);
    }
    for (options, size) in [("cluster_size=512", "9M"), ("cluster_size=64k", "6M")] {
        let case = Case::new(&format!("grown, {options}"), options);
        case.work().img(&["resize", "-q", IMAGE, size]).io(&["write -P 5 5M 20k"]);
        all.push(case);
        let case = Case::new(&format!("shrunk, {options}"), options);
        case.work().img(&["resize", "-q", "--shrink", IMAGE, "1M"]);
        all.push(case);
    }
    all
}

/// Compressed clusters of both kinds, alone, overwritten and in backing chains.
pub fn compressed() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in ["zlib", "zstd"] {
        for more in ["cluster_size=4k", "cluster_size=64k", "cluster_size=512,refcount_bits=8"] {
            let options = format!("compression_type={kind},{more}");
            let case = Case::new(&format!("compressed, {options}"), &options);
            case.io(&["write -c -P 1 0 256k", "write -c -P 2 512k 64k", "write -P 3 64k 10k"]);
            all.push(case);

            let case = Case::bare(&format!("converted, {options}"));
            let source = "source.raw";
            case.image.write(source, &patterned(700_000));
            case.img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options, source, IMAGE]);
            all.push(case);
        }
    }
    let case = Case::new("compressed, snapshots", "cluster_size=4k");
    case.io(&["write -c -P 1 0 64k"]).img(&["snapshot", "-c", "one", IMAGE]);
    case.io(&["write -P 2 0 10k", "write -c -P 3 128k 16k"]);
    all.push(case);
    let options = "extended_l2=on,cluster_size=16k";
    let case = Case::new("compressed subclusters", options);
    case.io(&["write -c -P 1 0 64k", "write -P 2 2k 2k", "write -P 3 64k 2k"]);
    all.push(case);
    all
}

/// Bytes that compress, but not to nothing.
fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|i| if i / 3000 % 2 == 0 { (i % 97) as u8 } else { (i / 7 % 251) as u8 }).collect()
}

/// Backing files of both formats, internal snapshots and VM state.
pub fn chains() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, format) in [("base.raw", "raw"), ("base.qcow2", "qcow2")] {
        let case = Case::bare(&format!("backed by {format}"));
        case.img(&["create", "-q", "-f", format, name, "4M"]);
        let options = "cluster_size=4k";
        case.img(&["create", "-q", "-f", "qcow2", "-b", name, "-F", format, "-o", options, IMAGE]);
        case.work();
        all.push(case);
    }
    for options in [
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=4", // 2 bits do not hold the references while one is applied
        "cluster_size=64k,refcount_bits=64",
        "compat=0.10,cluster_size=4k",
        "extended_l2=on,cluster_size=16k",
        "lazy_refcounts=on,cluster_size=4k",
    ] {
        let case = Case::new(&format!("snapshots, {options}"), options);
        case.work().img(&["snapshot", "-c", "one", IMAGE]);
        case.io(&["write -P 7 0 20k", "discard 1M 16k", "write -z 96k 4k"]);
        case.img(&["snapshot", "-c", "two", IMAGE]);
        case.io(&["write -P 8 8k 50k"]).img(&["snapshot", "-d", "one", IMAGE]);
        case.img(&["snapshot", "-c", "three", IMAGE]).img(&["snapshot", "-a", "two", IMAGE]);
        case.io(&["write -P 9 2M 9k"]);
        all.push(case);
    }
    let case = Case::new("snapshots of three sizes", "cluster_size=4k");
    case.work().img(&["snapshot", "-c", "small", IMAGE]).img(&["resize", "-q", IMAGE, "9M"]);
    case.io(&["write -P 5 8M 20k"]).img(&["snapshot", "-c", "large", IMAGE]);
    case.img(&["resize", "-q", "--shrink", IMAGE, "8M"]).io(&["write -P 6 7M 4k"]);
    all.push(case);
    for options in ["cluster_size=4k", "cluster_size=64k", "compat=0.10,cluster_size=4k"] {
        let case = Case::new(&format!("VM state, {options}"), options);
        case.work().io(&["write -b -P 9 0 40k"]).img(&["snapshot", "-c", "vm", IMAGE]);
        case.io(&["write -b -P 8 4k 8k"]);
        all.push(case);
    }
    all
}

/// Persistent bitmaps, and both kinds of encryption.
pub fn extensions() -> Vec<Case> {
    let mut all = Vec::new();
    for options in ["cluster_size=4k", "cluster_size=64k", "cluster_size=512"] {
        let case = Case::new(&format!("bitmaps, {options}"), options);
        case.img(&["bitmap", "--add", "-g", "64k", IMAGE, "day"]).work();
        case.img(&["bitmap", "--add", "--disable", "-g", "512", IMAGE, "hour"]);
        case.img(&["bitmap", "--enable", IMAGE, "hour"]).io(&["write -P 6 0 2M"]);
        case.img(&["bitmap", "--add", IMAGE, "sum"]);
        case.img(&["bitmap", "--merge", "day", "--merge", "hour", IMAGE, "sum"]);
        case.img(&["bitmap", "--clear", IMAGE, "day"]);
        all.push(case);
    }
    let case = Case::new("bitmaps left in use", "cluster_size=4k");
    case.img(&["bitmap", "--add", "-g", "4k", IMAGE, "day"]);
    case.io_killed(&[IMAGE], &["write -P 1 0 64k", "flush"]);
    all.push(case);
    for format in ["aes", "luks,encrypt.iter-time=10"] {
        for cluster in ["4k", "64k"] {
            let options =
                format!("encrypt.format={format},encrypt.key-secret=key,cluster_size={cluster}");
            let case = Case::encrypted(&options);
            all.push(case);
        }
    }
    all
}

/// Writers that were killed: dirty images, leaks, and whatever their caches had not written.
pub fn killed() -> Vec<Case> {
    let mut all = Vec::new();
    for options in [
        "lazy_refcounts=on,cluster_size=512",
        "lazy_refcounts=on,cluster_size=4k",
        "lazy_refcounts=on,cluster_size=64k,refcount_bits=64",
        "lazy_refcounts=on,cluster_size=16k,extended_l2=on",
    ] {
        let case = Case::new(&format!("dirty, {options}"), options);
        case.io_killed(&[IMAGE], &["write -P 1 0 90k", "write -P 2 2M 9k", "flush"]);
        all.push(case);
    }
    let case = Case::new("dirty, snapshot", "lazy_refcounts=on,cluster_size=4k");
    case.work().img(&["snapshot", "-c", "one", IMAGE]);
    case.io_killed(&[IMAGE], &["write -P 1 0 90k", "write -P 2 2M 9k", "flush"]);
    all.push(case);
    for seed in 0..10 {
        let options = if seed % 2 == 0 { "cluster_size=512" } else { "cluster_size=1k" };
        let case = Case::new(&format!("killed writer {seed}"), options);
        let caches = "l2-cache-size=2048,refcount-cache-size=4096,cache-clean-interval=0";
        let target = format!("driver=qcow2,{caches},file.filename={IMAGE}");
        let random = random_commands(seed, 10 * seed as usize);
        let mut commands: Vec<&str> = random.iter().map(String::as_str).collect();
        // Mappings are written before counts while clusters are given back: this is what leaks.
        commands.extend(["write 0 1M", "discard 0 1M"]);
        case.io_killed(&["--image-opts", &target], &commands);
        all.push(case);
    }
    all
}

/// Long random workloads that end in order.
pub fn workloads() -> Vec<Case> {
    let mut all = Vec::new();
    for seed in 0..12 {
        let cluster = ["512", "4k", "64k"][seed as usize % 3];
        let bits = [1, 8, 16, 32][seed as usize % 4];
        let options = format!("cluster_size={cluster},refcount_bits={bits}");
        let case = Case::new(&format!("workload {seed}, {options}"), &options);
        for round in 0..3 {
            let commands = random_commands(100 + seed * 10 + round, 40);
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            case.io(&commands);
            if bits > 1 {
                case.img(&["snapshot", "-c", &format!("s{round}"), IMAGE]);
            }
        }
        all.push(case);
    }
    all
}

/// qemu-io commands within 4 MiB, the same for a seed every time.
fn random_commands(seed: u64, count: usize) -> Vec<String> {
    let mut rng = crate::support::rng::Rng::new(seed);
    let mut next = |below: u64| rng.below(below);
    (0..count)
        .map(|_| {
            let at = next(7680) * 512;
            let len = (next(120) + 1) * 512;
            match next(8) {
                0 => format!("write -z {at} {len}"),
                1 => format!("write -z -u {at} {len}"),
                2 | 3 => format!("discard {at} {len}"),
                4 => "flush".to_owned(),
                _ => format!("write -P {} {at} {len}", next(255) + 1),
            }
        })
        .collect()
}
