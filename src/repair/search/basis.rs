//! What a search for a header begins with: hints, and what the file still has.

use std::ops::Range;

use super::remains::Remains;
use super::shape::ANYWHERE;
use crate::format::geometry::{MAX_CLUSTER_BITS, MIN_CLUSTER_BITS};
use crate::storage::ReadAt;

/// What is known of an image from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// Bytes of the guest's disk.
    pub size: Option<u64>,
    /// log2 of the cluster size.
    pub cluster_bits: Option<u32>,
    /// The files that the header named; they are written where nothing of the old header is left.
    pub names: Names,
}

/// The other files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Name and format of the backing file.
    pub backing: Option<(String, String)>,
    /// Name of the external data file.
    pub data_file: Option<String>,
}

impl Hints {
    /// The cluster sizes that are possible, as powers of two.
    pub fn sizes(&self) -> Range<u32> {
        match self.cluster_bits {
            Some(bits) => bits..bits + 1,
            None => MIN_CLUSTER_BITS..MAX_CLUSTER_BITS + 1,
        }
    }
}

/// Cluster size and refcount width of the old header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// They are right.
    Right,
    /// Others have to explain the file convincingly.
    Likely,
    /// Other fields contradict them.
    Doubtful,
}

/// What the candidates come from.
pub struct Search<'a> {
    /// What is known of the old header's sizes.
    pub sizes: Sizes,
    /// The file.
    pub source: &'a dyn ReadAt,
    /// What is left of the old header.
    pub remains: &'a Remains,
    /// What is known from elsewhere.
    pub hints: &'a Hints,
    /// Whether the file can be made longer.
    pub growable: bool,
}

impl Search<'_> {
    /// Where the file ends that guest data is in, if it is another one.
    pub fn data_end(&self) -> Option<u64> {
        self.hints.names.data_file.as_ref().map(|_| ANYWHERE)
    }
}
