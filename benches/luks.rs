//! LUKS read and written in memory by all threads, against the cipher alone on the same threads:
//! what there is beside the cipher. `convert` rows compare whole commands with qemu-img.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use qcheck::crypt::luks::{LuksOptions, NewHeader};
use qcheck::crypt::{CipherSpec, Key, Secret, Secrets, SectorCipher, Volume};
use qcheck::disk::Disk;
use qcheck::storage::{Capacity, ReadAt, Storage};

use super::measure::median;

/// Bytes of the disk.
const DISK: u64 = 256 << 20;
/// Bytes that a thread takes at once.
const PIECE: usize = 1 << 20;
/// Runs of each in a row.
const RUNS: usize = 7;
/// What reading and writing reach of the cipher's speed.
const GOAL: f64 = 0.9;

/// What is done with a piece of the disk at an offset.
type Work<'a> = dyn Fn(u64, &mut [u8]) + Sync + 'a;

/// A LUKS image that takes no time of its own: reading copies memory, writing changes nothing.
struct Image {
    header: Vec<u8>,
    length: u64,
}

impl ReadAt for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.header.get(offset as usize..).unwrap_or_default();
        let here = rest.len().min(buf.len());
        buf[..here].copy_from_slice(&rest[..here]);
        buf[here..].fill(5);
        Ok(buf.len())
    }
}

impl Storage for Image {
    fn capacity(&self) -> Capacity {
        Capacity::Growable
    }
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the rows if `wanted` is a part of their name.
pub fn rows(wanted: &str) {
    if !"luks in memory".contains(wanted) {
        return;
    }
    let spec = CipherSpec::of_header("aes", "xts-plain64", 64).expect("it is supported");
    let cipher = SectorCipher::new(&spec, &[7; 64]).expect("the key fits");
    let alone = Aes256::new(&[7; 32].into());
    let (file, key) = luks();
    let disk = Disk::luks(file.clone(), &key).expect("the secret opens it");
    let volume = Volume::open(Image { header: file.header.clone(), length: file.length }, &key)
        .expect("the secret opens it");
    let sector = |at: u64| at / 512;
    let works: [(&str, &Work<'_>); 5] = [
        ("aes-256 without a mode", &|_, buf| {
            alone.encrypt_blocks(aes::Block::slice_as_chunks_mut(buf).0);
        }),
        ("aes-256-xts, encrypt", &|at, buf| cipher.encrypt(sector(at), buf)),
        ("aes-256-xts, decrypt", &|at, buf| cipher.decrypt(sector(at), buf)),
        ("luks in memory, write", &|at, buf| volume.write_at(at, buf).expect("it is written")),
        ("luks in memory, read", &|at, buf| disk.read_at(buf, at).expect("it is read")),
    ];
    let mut speeds = vec![Vec::new(); works.len()];
    // In turn, so that what else the machine does is the same for all.
    for _ in 0..RUNS {
        for (speeds, (_, work)) in speeds.iter_mut().zip(works) {
            speeds.push(speed(work));
        }
    }
    let speeds: Vec<f64> = speeds.into_iter().map(median).collect();
    println!("{:<34} {:>10} {:>7} {:>6}", "median of runs in turn", "MiB/s", "ratio", "goal");
    for ((name, _), speed) in works.iter().zip(&speeds).take(3) {
        println!("{name:<34} {speed:>10.0}");
    }
    for (row, of) in [(3, 1), (4, 2)] {
        let (name, speed, ratio) = (works[row].0, speeds[row], speeds[row] / speeds[of]);
        println!("{name:<34} {speed:>10.0} {ratio:>6.2}x {GOAL:>5.1}x");
    }
}

/// A LUKS image, and its secret.
fn luks() -> (Arc<Image>, Key) {
    let secret = Secret::new(b"bench".to_vec());
    let options = LuksOptions { time: Duration::ZERO, ..LuksOptions::default() };
    let header = NewHeader::new(&options, &secret).expect("it is made");
    let length = header.payload_offset() + DISK;
    let secrets = Secrets::new([("s".to_owned(), secret)].into());
    let key = Key { secrets, name: Some("s".to_owned()) };
    (Arc::new(Image { header: header.bytes().to_vec(), length }), key)
}

/// MiB in a second that all threads work through.
fn speed(work: &Work<'_>) -> f64 {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut buf = vec![3; PIECE];
                loop {
                    let at = next.fetch_add(PIECE as u64, Ordering::Relaxed);
                    if at >= DISK {
                        break;
                    }
                    work(at, &mut buf);
                }
            });
        }
    });
    (DISK >> 20) as f64 / start.elapsed().as_secs_f64()
}
