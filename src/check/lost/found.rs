//! What the search for lost tables found.

use crate::check::report::Finding;
use crate::check::survey::refcount_map::RefcountMap;

/// What the search found.
#[derive(Debug, Default)]
pub struct Found {
    /// Lost tables, other signs of a loss, and what could not be read.
    pub findings: Vec<Finding>,
    /// References that the lost tables would have and make if an L1 entry pointed to them.
    pub claims: RefcountMap,
}
