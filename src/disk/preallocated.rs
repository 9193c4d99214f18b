//! Holes in image files: clusters that were reserved and never written.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::storage::ReadAt;

/// What is known of the images of a chain, by how many are above.
#[derive(Debug, Default)]
pub(super) struct Preallocated(BTreeMap<usize, Known>);

#[derive(Debug)]
struct Known {
    /// Whether the file has holes where it has clusters.
    sparse: bool,
    /// The part of the file that was looked at last, and whether it is a hole.
    last: (Range<u64>, bool),
}

impl Preallocated {
    /// How many bytes from `host` on are alike, a hole or not, and which; `None` where there are no
    /// holes to look for.
    pub(super) fn look(
        &mut self,
        image: &Image,
        depth: usize,
        host: u64,
    ) -> Result<Option<(u64, bool)>> {
        let known = match self.0.get_mut(&depth) {
            Some(known) => known,
            None => {
                // Without refcounts it is not known; reading the data does not need it.
                let sparse = image.is_sparse().unwrap_or(false);
                let known = Known { sparse, last: (0..0, false) };
                self.0.entry(depth).or_insert(known)
            }
        };
        if !known.sparse {
            return Ok(None);
        }
        if !known.last.0.contains(&host) {
            known.last = look(image.data_source(), host)?;
        }
        let (range, hole) = &known.last;
        Ok(Some((range.end - host, *hole)))
    }
}

/// The range that `host` begins, and whether it is a hole; what is past the end is one.
fn look(file: &dyn ReadAt, host: u64) -> Result<(Range<u64>, bool)> {
    let data = file.next_data(host).map_err(|e| Error::io("look for data", host, e))?;
    Ok(match data {
        Some(range) if range.start <= host => (host..range.end, false),
        Some(range) => (host..range.start, true),
        None => (host..u64::MAX, true),
    })
}
