//! Digests of virtual disks as JSON.

use qcheck::verify;
use serde::Serialize;

/// The digests among the keys of an image, where they were requested.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Digests<'a> {
    /// The digest of the virtual disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// The digests of the snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<SnapshotDigest<'a>>,
}

/// The digest of a snapshot.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SnapshotDigest<'a> {
    /// The snapshot's ID.
    id: &'a str,
    /// Its name.
    name: &'a str,
    /// None where not all of its disk can be read, which a finding reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

/// A digest of a virtual disk as a guest reads it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Digest {
    /// `sha256` or `blake3`.
    algorithm: &'static str,
    /// Hexadecimal digits.
    value: String,
    /// The bytes of the disk.
    size: u64,
}

impl From<&verify::Digest> for Digest {
    fn from(digest: &verify::Digest) -> Self {
        let (algorithm, value) = (digest.algorithm.name(), digest.hex());
        Self { algorithm, value, size: digest.size }
    }
}

impl<'a> From<&'a verify::Digests> for Digests<'a> {
    fn from(digests: &'a verify::Digests) -> Self {
        let snapshots = digests.snapshots.iter().map(|one| SnapshotDigest {
            id: &one.snapshot.id,
            name: &one.snapshot.name,
            digest: one.digest.as_ref().map(Digest::from),
        });
        Self { digest: digests.active.as_ref().map(Digest::from), snapshots: snapshots.collect() }
    }
}
