//! From a source to a target: items, the threads that work on them, and their order.
//!
//! * `pipeline`: the threads; `scan`: the source cut into items; `stream`: items of a stream
//! * `in_order`: one item after the other; `salvage`: what cannot be read; `rate`, `buffer`

pub(super) mod buffer;
pub(super) mod in_order;
pub(super) mod pipeline;
pub(super) mod rate;
pub(super) mod salvage;
pub(super) mod scan;
pub(super) mod stream;

pub(crate) use in_order::InOrder;
pub use salvage::Loss;
