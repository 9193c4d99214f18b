//! What to do where a header cannot be read.

use anyhow::{Result, anyhow};
use qcheck::error::Error;
use qcheck::storage::ReadAt;
use qcheck::tables::HeaderArea;

/// Says how to go on where a header cannot be read.
pub fn with_advice(error: Error) -> anyhow::Error {
    match error {
        Error::Header { .. } => {
            anyhow!(
                "{error}; 'check -r all --allow-data-loss' searches the file for another header"
            )
        }
        // Nobody should lose a disk over advice for another format.
        Error::NotQcow2 => anyhow!("{error}; this may be a raw disk, which has nothing to check"),
        error => error.into(),
    }
}

/// Whether there is a header with which a repair can begin.
pub fn readable(image: &dyn ReadAt) -> Result<()> {
    HeaderArea::load(image).map(|_| ()).map_err(with_advice)
}
