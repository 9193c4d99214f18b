//! What shows that an image has not changed since it was checked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes at the beginning of a file that its digest covers: the header and its extensions.
const HEADER_BYTES: u64 = 64 << 10;

/// A file that was written less than this long ago may be written again with the same time; file
/// systems count in steps of up to two seconds.
const STEP: Duration = Duration::from_secs(3);

/// The length of a file, when it was last written, and a digest of its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fingerprint {
    /// Bytes of the file.
    length: u64,
    /// Seconds since 1970 with nine digits after the point.
    modified: String,
    /// SHA-256 of the first 64 KiB.
    header_digest: String,
    /// Whether it was last written long enough before for its time to be proof.
    is_settled: bool,
}

impl Fingerprint {
    /// Of the file at `path`; of what is not a regular file there is not one.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        let found = file.metadata()?;
        let mut beginning = Vec::new();
        file.take(HEADER_BYTES).read_to_end(&mut beginning)?;
        let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
        let digest = Sha256::digest(&beginning);
        Ok(Some(Self {
            length: found.len(),
            modified: format!("{}.{:09}", found.mtime(), found.mtime_nsec()),
            header_digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            is_settled: age > STEP,
        }))
    }

    /// Whether the file that this was made of is proven to have the same content now.
    pub fn proves(&self, now: &Self) -> bool {
        self.is_settled && self == now
    }
}
