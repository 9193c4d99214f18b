//! Digests of disks as JSON.

use qcheck::verify::{Digest, Digests, SnapshotDigest};
use serde_json::{Value, json};

/// Adds the digests to an image's object, behind qemu-img's keys.
pub fn add_to(value: &mut Value, digests: &Digests) {
    if let Some(digest) = &digests.active {
        value["digest"] = describe(digest);
    }
    if !digests.snapshots.is_empty() {
        let one = |one: &SnapshotDigest| {
            let mut value = json!({ "id": one.snapshot.id, "name": one.snapshot.name });
            if let Some(digest) = &one.digest {
                value["digest"] = describe(digest);
            }
            value
        };
        value["snapshots"] = digests.snapshots.iter().map(one).collect();
    }
}

fn describe(digest: &Digest) -> Value {
    json!({ "algorithm": digest.algorithm.name(), "value": digest.hex(), "size": digest.size })
}
