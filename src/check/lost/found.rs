//! What the search for lost tables found.

use crate::check::report::Finding;
use crate::check::survey::beyond::Beyond;
use crate::check::survey::context::Context;
use crate::check::survey::refcount_map::RefcountMap;

/// What the search found.
#[derive(Debug)]
pub struct Found {
    /// Lost tables, other signs of a loss, and what could not be read.
    pub findings: Vec<Finding>,
    /// References that the lost tables would have and make if an L1 entry pointed to them.
    pub claims: RefcountMap,
    /// What they would refer to past the end of the file.
    pub beyond: Beyond,
}

impl Found {
    /// Nothing as yet.
    pub fn new(ctx: &Context) -> Self {
        let beyond = Beyond::new(&ctx.geometry, ctx.file_bytes);
        Self { findings: Vec::new(), claims: RefcountMap::default(), beyond }
    }
}
