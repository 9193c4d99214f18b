//! An image that is not a file: a new image in pages of memory, written, read and checked. A
//! program that keeps images in an object store or reads them over a protocol implements the same two
//! traits.
//!
//! ```sh
//! cargo run --example custom_storage
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qcheck::Image;
use qcheck::check::{CheckOptions, check};
use qcheck::create::{CreateOptions, NewImage};
use qcheck::format::GuestOffset;
use qcheck::image::OpenOptions;
use qcheck::progress::Silent;
use qcheck::storage::{Capacity, ReadAt, Storage};

const PAGE: usize = 4096;

/// Pages that are not there are zero.
#[derive(Default)]
struct Pages {
    bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

#[derive(Default)]
struct Paged(Mutex<Pages>);

impl Paged {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The page, the place in it and the bytes of each part of a range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let end = length.min(done + PAGE - within);
        let part = (at / PAGE as u64, within, done..end);
        let is_more = done < length;
        done = end;
        is_more.then_some(part)
    })
}

impl ReadAt for Paged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inner = self.lock();
        let length = inner.bytes.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (page, within, range) in parts(offset, length) {
            match inner.pages.get(&page) {
                Some(page) => buf[range.clone()].copy_from_slice(&page[within..][..range.len()]),
                None => buf[range].fill(0),
            }
        }
        Ok(length)
    }
}

impl Storage for Paged {
    fn capacity(&self) -> Capacity {
        Capacity::Growable
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        for (page, within, range) in parts(offset, data.len()) {
            let page = inner.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            page[within..][..range.len()].copy_from_slice(&data[range]);
        }
        inner.bytes = inner.bytes.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.pages.split_off(&len.div_ceil(PAGE as u64));
        if let Some(page) = inner.pages.get_mut(&(len / PAGE as u64)) {
            page[(len % PAGE as u64) as usize..].fill(0);
        }
        inner.bytes = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.write_at(offset, &vec![0; length])
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(Paged::default());
    let options = CreateOptions::default().size(64 << 20);
    NewImage::new(&options)?.write(&*storage, None, &Silent)?;
    let image = Image::open_on(storage.clone(), &OpenOptions::default())?;
    image.write(GuestOffset::new(1 << 20), b"hello")?;
    let mut bytes = [0; 5];
    image.read(GuestOffset::new(1 << 20), &mut bytes)?;
    image.close()?;
    println!("read back: {}", String::from_utf8_lossy(&bytes));
    let report = check(&*storage, &CheckOptions::default(), &Silent)?;
    println!("{} corruptions, {} leaked clusters", report.tally.corruptions, report.tally.leaks);
    Ok(())
}
