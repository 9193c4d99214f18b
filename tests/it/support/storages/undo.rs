//! Undoing from bytes.

use qcheck::error::Result;
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, Storage};
use qcheck::undo::{Record, Undone, undo};

/// Undoes what an undo file with these bytes recorded.
pub fn undone(file: &[u8], image: &dyn Storage, force: bool) -> Result<Undone> {
    let file = MemoryStorage::new(file.to_vec());
    undo(&Record::load(&file)?, image, force, &Silent)
}
