//! A persistent bitmap of an image: added, removed, cleared, merged with others, recording or not.
//!
//! All actions of a call are one change: a crash, a failure or an interruption leaves each bitmap
//! as it was, or as it is to be.

use crate::convert::Control;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::bitmap::{
    BitmapEntry, MAX_GRANULARITY_BITS, MAX_NAME_BYTES, MIN_GRANULARITY_BITS,
};
use crate::image::{BitmapBits, BitmapEdit, BitmapResult, BitmapStart, Image};

/// Bounds of the granularity that follows from the cluster size, as powers of two (QEMU's).
const DEFAULT_GRANULARITY_BITS: (u32, u32) = (12, 16);

/// What is done with a bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A new bitmap without a bit set, which records writes.
    Add {
        /// Guest bytes for each bit, a power of two from 512 to 2 GiB; `None`: the cluster size, at
        /// least 4 KiB and at most 64 KiB.
        granularity: Option<u64>,
    },
    /// The bitmap is removed, also one that was left in use.
    Remove,
    /// No bit is set.
    Clear,
    /// It records writes.
    Enable,
    /// It records no writes.
    Disable,
    /// Each bit is set whose guest bytes have a bit set in the bitmap of this name. Granularities
    /// may differ.
    Merge(Vec<u8>),
}

impl Action {
    const fn word(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Remove => "remove",
            Self::Clear => "clear",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Merge(_) => "merge",
        }
    }
}

/// Does all actions, in their order, with the bitmap `name` of an image that is open for writing.
/// Bitmaps to merge are those of `source`, or of the image itself.
///
/// What is not possible is refused before the first write, with [`Error::Refused`] and a text that
/// begins like qemu-img's: of a name that exists or is missing, of a bitmap that was left in use,
/// of QEMU's limits (65,535 bitmaps, 512 MiB of data for one, a name of 1,023 bytes), of disks of
/// different sizes. Fails with [`Error::Cancelled`] once `control.cancel` is set, and with the
/// error of a read, write or flush.
pub fn bitmap(
    image: Image,
    name: &[u8],
    actions: &[Action],
    source: Option<&Disk>,
    control: Control<'_>,
) -> Result<()> {
    control.progress.stage("changing the bitmap", image.virtual_size());
    let mut draft = Draft::of(&image, name, source)?;
    for action in actions {
        draft.apply(action).map_err(|error| with_action(error, action.word(), name))?;
    }
    let is_new = draft.is_new();
    let existed = draft.existed;
    let result = draft.now.map(|state| state.result);
    if result.is_some() || existed {
        let advance = |bytes| control.advance(bytes);
        let outcome = image.edit_bitmap(&BitmapEdit { name, result }, &advance);
        outcome.map_err(|error| if is_new { with_action(error, "add", name) } else { error })?;
    }
    image.close()
}

fn with_action(error: Error, action: &str, name: &[u8]) -> Error {
    match error {
        Error::Refused(why) => {
            Error::Refused(format!("Operation {action} on bitmap {} failed: {why}", text(name)))
        }
        error => error,
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

fn refused<T>(why: String) -> Result<T> {
    Err(Error::Refused(why))
}

/// What the bitmap is after the actions so far.
struct Draft<'a> {
    image: &'a Image,
    name: &'a [u8],
    source: Option<&'a Disk>,
    existed: bool,
    now: Option<State<'a>>,
}

struct State<'a> {
    /// Left in use: its bits are not known.
    is_inconsistent: bool,
    result: BitmapResult<'a>,
}

impl<'a> Draft<'a> {
    fn of(image: &'a Image, name: &'a [u8], source: Option<&'a Disk>) -> Result<Self> {
        let found = image.bitmaps()?.into_iter().find(|entry| entry.name == name);
        let now = found.map(|entry| State {
            is_inconsistent: entry.is_in_use(),
            result: BitmapResult {
                start: BitmapStart::Stored,
                records: entry.is_recording(),
                merged: Vec::new(),
            },
        });
        Ok(Self { image, name, source, existed: now.is_some(), now })
    }

    fn is_new(&self) -> bool {
        let start = self.now.as_ref().map(|state| state.result.start);
        matches!(start, Some(BitmapStart::New(_)))
    }

    fn apply(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Add { granularity } => return self.add(*granularity),
            Action::Remove => return self.remove(),
            Action::Merge(name) => return self.merge(name),
            _ => {}
        }
        let result = self.consistent()?;
        match action {
            Action::Enable => result.records = true,
            Action::Disable => result.records = false,
            _ => {
                result.merged.clear();
                if result.start == BitmapStart::Stored {
                    result.start = BitmapStart::Cleared;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, granularity: Option<u64>) -> Result<()> {
        if self.name.is_empty() {
            return refused("Bitmap name cannot be empty".into());
        }
        if self.name.len() > usize::from(MAX_NAME_BYTES) {
            return refused("Name length exceeds maximum (1023 characters)".into());
        }
        if self.now.is_some() {
            return refused(format!("Bitmap already exists: {}", text(self.name)));
        }
        if self.image.virtual_size() == 0 {
            return refused("the disk has no bytes, so that a bitmap has no bits".into());
        }
        let (least, most) = DEFAULT_GRANULARITY_BITS;
        let default = 1 << self.image.geometry().cluster_bytes().ilog2().clamp(least, most);
        let bytes = granularity.unwrap_or(default);
        let range = 1 << MIN_GRANULARITY_BITS..=1 << MAX_GRANULARITY_BITS;
        if !bytes.is_power_of_two() || !range.contains(&bytes) {
            return refused(
                "Granularity must be power of 2 and at least 512, and at most 2147483648".into(),
            );
        }
        let start = BitmapStart::New(u8::try_from(bytes.ilog2()).unwrap_or(MAX_GRANULARITY_BITS));
        let result = BitmapResult { start, records: true, merged: Vec::new() };
        self.now = Some(State { is_inconsistent: false, result });
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        match self.now.take() {
            Some(_) => Ok(()),
            None => refused(not_found(self.name)),
        }
    }

    /// The bitmap, if its bits are known.
    fn consistent(&mut self) -> Result<&mut BitmapResult<'a>> {
        match &mut self.now {
            None => refused(not_found(self.name)),
            Some(state) if state.is_inconsistent => refused(inconsistent(self.name)),
            Some(state) => Ok(&mut state.result),
        }
    }

    fn merge(&mut self, name: &[u8]) -> Result<()> {
        self.consistent()?;
        if self.source.is_none() && name == self.name {
            return Ok(());
        }
        let from = match self.source {
            None => self.image,
            Some(Disk::Qcow2(image)) => image,
            Some(_) => return refused(not_found(name)),
        };
        let entry = source_entry(from, name)?;
        let (size, other) = (self.image.virtual_size(), from.virtual_size());
        if size != other {
            return refused(format!(
                "Bitmaps are of different sizes (destination size is {size}, source size is \
                 {other}) and can't be merged"
            ));
        }
        let bits: BitmapBits<'a> = from.bitmap_bits(&entry)?;
        self.consistent()?.merged.push(bits);
        Ok(())
    }
}

/// The bitmap that is merged, if its bits are known.
fn source_entry(image: &Image, name: &[u8]) -> Result<BitmapEntry> {
    let found = image.stored_bitmaps()?.into_iter().find(|entry| entry.name == name);
    match found {
        None => refused(not_found(name)),
        Some(entry) if entry.is_in_use() => refused(inconsistent(name)),
        Some(entry) => match entry.defects(&image.geometry()).first() {
            Some(defect) => refused(format!("the bitmap '{}' is damaged: {defect}", text(name))),
            None => Ok(entry),
        },
    }
}

fn not_found(name: &[u8]) -> String {
    format!("Dirty bitmap '{}' not found", text(name))
}

fn inconsistent(name: &[u8]) -> String {
    format!(
        "Bitmap '{}' is inconsistent and cannot be used: it was left in use, and can only be \
         removed",
        text(name)
    )
}
