//! What is known of guest bytes without reading them.

use std::path::Path;

use super::read::Disk;
use crate::error::{Error, Result};
use crate::format::GuestOffset;
use crate::image::{Backing, Image, RawImage, RunKind, Stored};

/// What guest bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtentKind {
    /// Bytes that a file holds.
    Data,
    /// Zeroes that an image records, or a hole in a raw image.
    Zero,
    /// In no image of the chain: zeroes.
    Unallocated,
}

/// Neighbouring guest bytes that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent<'a> {
    /// Guest offset of the first byte.
    pub start: u64,
    /// Length in bytes, at least 1.
    pub length: u64,
    /// What they are.
    pub kind: ExtentKind,
    /// Whether they surely are zeroes. Data is, too, where its space was never written.
    pub zero: bool,
    /// How many images of the chain are above the one that decides it.
    pub depth: usize,
    /// Whether the data is compressed.
    pub compressed: bool,
    /// Offset of the first byte in `file`; what is not data can have space there, too. `None`
    /// without such space, and for data that is compressed or encrypted.
    pub host: Option<u64>,
    /// The name of the file that `host` is an offset in, as far as it is known.
    pub file: Option<&'a Path>,
    /// How many images of the chain leave the bytes to the next one.
    pub(crate) left: usize,
}

impl Extent<'_> {
    fn new(start: u64, length: u64, kind: ExtentKind) -> Self {
        Self {
            start,
            length,
            kind,
            zero: kind != ExtentKind::Data,
            depth: 0,
            compressed: false,
            host: None,
            file: None,
            left: 0,
        }
    }

    /// What is past the end of a disk.
    pub(crate) fn nothing(start: u64) -> Self {
        Self::new(start, u64::MAX - start, ExtentKind::Unallocated)
    }

    /// Guest offset of the byte after the last.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// The rest of it from `at` on, an offset in it.
    pub(super) fn from(self, at: u64) -> Self {
        let gone = at - self.start;
        let host = self.host.map(|host| host + gone);
        Self { start: at, length: self.length - gone, host, ..self }
    }

    /// Whether `next`, which follows, is alike, and goes on in the file where this one ends.
    pub(super) fn goes_on_with(&self, next: &Self) -> bool {
        let here = |extent: &Self| (extent.kind, extent.zero, extent.depth, extent.compressed);
        // Comparing paths takes longer than all the rest.
        let same_file = match (self.file, next.file) {
            (Some(file), Some(next)) => std::ptr::eq(file, next) || file == next,
            (file, next) => file == next,
        };
        let in_order = match (self.host, next.host) {
            (Some(host), Some(next)) => host.checked_add(self.length) == Some(next),
            (None, None) => true,
            _ => false,
        };
        in_order && here(self) == here(next) && same_file
    }
}

/// What is known of the images of a chain, from the first one down, ahead of the bytes that were
/// asked for. Right only while offsets go up.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    images: Vec<Known>,
    /// Whether more will be asked for.
    goes_on: bool,
}

/// What is known of one image.
#[derive(Debug, Default)]
struct Known {
    /// Up to here all bytes are left to the next image: a long run of them is looked at once,
    /// however many extents are below it.
    clear: u64,
    /// Runs in their order, those before `next` done with.
    runs: Vec<Stored>,
    next: usize,
}

impl Ahead {
    /// For a reader that goes through a disk.
    pub(super) fn of_reader() -> Self {
        Self { images: Vec::new(), goes_on: true }
    }

    fn of(&mut self, depth: usize) -> &mut Known {
        if self.images.len() <= depth {
            self.images.resize_with(depth + 1, Known::default);
        }
        &mut self.images[depth]
    }

    /// The run at `at` of an image, at most `most` bytes of it.
    fn run(&mut self, image: &Image, depth: usize, at: u64, most: u64) -> Result<Stored> {
        let start = GuestOffset::new(at);
        if !self.goes_on {
            return image.map_stored(start, most);
        }
        let known = self.of(depth);
        let rest = known.runs.get(known.next..).unwrap_or_default();
        known.next += rest.iter().take_while(|run| run.end() <= at).count();
        let here = |run: &&Stored| run.run.start <= start;
        if let Some(run) = known.runs.get(known.next).filter(here) {
            return Ok(run.from(start, most));
        }
        known.runs.clear();
        known.next = 0;
        image.map_ahead(start, most, &mut known.runs)?;
        Ok(known.runs[0])
    }
}

/// An extent, and the image that decides it where that can have space never written.
type Held<'a> = (Extent<'a>, Option<&'a Image>);

impl Disk {
    /// What is known of the bytes from `at` on, at most `most` of them (at least 1). Holes in an
    /// image file are not looked for.
    pub(crate) fn extent(&self, at: u64, most: u64) -> Result<Extent<'_>> {
        Ok(held(self, at, most, &mut Ahead::default())?.0)
    }
}

/// What is known of the bytes from `at` on, and which image decides it.
pub(super) fn held<'a>(disk: &'a Disk, at: u64, most: u64, ahead: &mut Ahead) -> Result<Held<'a>> {
    match disk {
        Disk::Raw(raw) => Ok((of_raw(raw, at, most)?, None)),
        Disk::Qcow2(image) => of_image(image, at, most, 0, ahead),
    }
}

fn of_raw(raw: &RawImage, at: u64, most: u64) -> Result<Extent<'_>> {
    let data = raw.storage().next_data(at).map_err(|e| Error::io("look for data", at, e))?;
    let (length, kind) = match data {
        Some(range) if range.start <= at => ((range.end - at).min(most), ExtentKind::Data),
        Some(range) => ((range.start - at).min(most), ExtentKind::Zero),
        None => (most, ExtentKind::Zero),
    };
    let Some(start) = raw.start() else { return Ok(Extent::new(at, length, kind)) };
    let host = Some(start.saturating_add(at));
    Ok(Extent { host, file: raw.path(), ..Extent::new(at, length, kind) })
}

fn of_image<'a>(
    image: &'a Image,
    at: u64,
    most: u64,
    depth: usize,
    ahead: &mut Ahead,
) -> Result<Held<'a>> {
    let inside = image.virtual_size().saturating_sub(at).min(most);
    if inside == 0 {
        return Ok((Extent::new(at, most, ExtentKind::Unallocated), Some(image)));
    }
    if let Some(backing) = image.backing() {
        let clear = ahead.of(depth).clear;
        if clear > at {
            return of_next(backing, at, inside.min(clear - at), depth, ahead);
        }
    }
    let stored = ahead.run(image, depth, at, inside)?;
    let run = stored.run;
    // What is at an offset of the file is not what a guest reads.
    let is_encrypted = image.is_encrypted();
    let host = stored.host.filter(|_| !is_encrypted).map(|host| host.get());
    let file = host.and_then(|_| image.data_path());
    let own = |kind| Extent { host, file, ..Extent::new(at, run.length, kind) };
    let extent = match run.kind {
        RunKind::Zero => own(ExtentKind::Zero),
        RunKind::Data(_) => own(ExtentKind::Data),
        RunKind::Compressed(_) => Extent { compressed: true, ..own(ExtentKind::Data) },
        RunKind::Unallocated => match image.backing() {
            None => own(ExtentKind::Unallocated),
            // Past its end nothing is looked up in a backing file.
            Some(backing) if size_of(backing)? <= at => {
                Extent { left: 1, ..own(ExtentKind::Unallocated) }
            }
            Some(backing) => {
                ahead.of(depth).clear = (at + run.length).min(size_of(backing)?);
                return of_next(backing, at, run.length, depth, ahead);
            }
        },
    };
    Ok((extent, Some(image)))
}

/// What an image leaves to its backing file.
fn of_next<'a>(
    backing: &'a Backing,
    at: u64,
    most: u64,
    depth: usize,
    ahead: &mut Ahead,
) -> Result<Held<'a>> {
    let (below, image) = of_backing_at(backing, at, most, depth + 1, ahead)?;
    let (depth, left) = (below.depth + 1, below.left + 1);
    Ok((Extent { depth, left, ..below }, image))
}

/// One that was left closed may be of any size.
fn size_of(backing: &Backing) -> Result<u64> {
    match backing {
        Backing::Closed => Ok(u64::MAX),
        backing => backing.virtual_size(),
    }
}

/// What is known of a backing file's bytes from `at` on.
pub(crate) fn of_backing(backing: &Backing, at: u64, most: u64) -> Result<Extent<'_>> {
    Ok(of_backing_at(backing, at, most, 0, &mut Ahead::default())?.0)
}

fn of_backing_at<'a>(
    backing: &'a Backing,
    at: u64,
    most: u64,
    depth: usize,
    ahead: &mut Ahead,
) -> Result<Held<'a>> {
    match backing {
        Backing::Raw(raw) => {
            let extent = match raw.virtual_size()?.saturating_sub(at) {
                0 => Extent::new(at, most, ExtentKind::Unallocated),
                inside => of_raw(raw, at, most.min(inside))?,
            };
            Ok((extent, None))
        }
        Backing::Qcow2(image) => of_image(image, at, most, depth, ahead),
        Backing::Closed => Ok((Extent::new(at, most, ExtentKind::Data), None)),
    }
}
