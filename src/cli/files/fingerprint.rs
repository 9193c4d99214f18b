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

/// A file that was written less than this long ago may be written again with the same time: the
/// clock of files goes by the ticks of the kernel.
const TICK: Duration = Duration::from_millis(50);
/// The same where times have no fraction: such file systems count in steps of up to two seconds.
const COARSE: Duration = Duration::from_secs(3);

/// Which file it is, its length, when it last changed, and a digest of its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fingerprint {
    /// Bytes of the file.
    length: u64,
    /// When it was last written: seconds since 1970 with nine digits after the point.
    modified: String,
    /// When anything of it last changed, which no program can set.
    changed: String,
    /// The device and inode numbers: another file can have been given this name.
    inode: (u64, u64),
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
        let step = if found.mtime_nsec() == 0 { COARSE } else { TICK };
        let time = |seconds: i64, nanoseconds: i64| format!("{seconds}.{nanoseconds:09}");
        let digest = Sha256::digest(&beginning);
        Ok(Some(Self {
            length: found.len(),
            modified: time(found.mtime(), found.mtime_nsec()),
            changed: time(found.ctime(), found.ctime_nsec()),
            inode: (found.dev(), found.ino()),
            header_digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            is_settled: age > step,
        }))
    }

    /// Whether the file that this was made of is proven to have the same content now.
    pub fn proves(&self, now: &Self) -> bool {
        self.is_settled && self == now
    }
}
