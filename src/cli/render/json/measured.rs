//! The size of an image that is not made yet, as qemu-img's JSON.

use qcheck::measure::Measure;
use serde::Serialize;

/// Bytes of a new image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Bytes of bitmaps, which a conversion copies only if it is asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    bitmaps: Option<u64>,
    /// Bytes with the data that there is.
    required: u64,
    /// Bytes with data all over the disk.
    fully_allocated: u64,
}

impl From<&Measure> for Measured {
    fn from(measure: &Measure) -> Self {
        let Measure { bitmaps, required, fully_allocated, .. } = *measure;
        Self { bitmaps, required, fully_allocated }
    }
}
