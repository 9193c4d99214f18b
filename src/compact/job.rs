//! What the parts of the work share.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use super::{CompactOptions, Outcome};
use crate::convert::Control;
use crate::convert::flow::Rate;
use crate::error::{Error, Result};
use crate::format::HostCluster;
use crate::image::{Copying, Image};

/// The work on one image.
pub(super) struct Job<'a> {
    pub(super) image: &'a Image,
    pub(super) options: &'a CompactOptions,
    pub(super) control: Control<'a>,
    pub(super) copying: Copying,
    pub(super) rate: Option<Rate>,
    /// Clusters that stay where they are.
    pub(super) mixed: HashSet<HostCluster>,
    pub(super) outcome: Outcome,
}

impl Job<'_> {
    /// [`Error::Cancelled`] where the work is to end; waits where `bytes` are over the rate.
    pub(super) fn begin(&self, bytes: u64) -> Result<()> {
        if let Some(rate) = &self.rate {
            rate.take(bytes, self.control.cancel);
        }
        match self.control.cancel.load(Relaxed) || self.control.progress.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Whether nothing outside of memory is to change.
    pub(super) fn is_plan(&self) -> bool {
        self.copying == Copying::Nothing
    }

    /// Bytes that may still move.
    pub(super) fn left(&self) -> u64 {
        self.options.max_moves.map_or(u64::MAX, |most| most.saturating_sub(self.outcome.moved))
    }

    /// Notes bytes that have moved.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.outcome.moved += bytes;
        self.control.progress.advance(bytes);
    }

    /// The first cluster that may move.
    pub(super) fn floor(&self) -> HostCluster {
        HostCluster::new(self.image.geometry().clusters_for(self.options.floor()).get())
    }
}
