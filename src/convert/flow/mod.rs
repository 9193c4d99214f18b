//! From a source to a target: items, the threads that work on them, and their order.
//!
//! * `item`: a piece of work; `pipeline`: the threads; `scan`: the source cut into items; `stream`:
//!   items of a stream
//! * `in_order`: one item after the other; `salvage`: what cannot be read; `rate`, `buffer`

pub(super) mod buffer;
pub(super) mod in_order;
pub(super) mod item;
pub(super) mod pipeline;
pub(super) mod rate;
pub(super) mod salvage;
pub(super) mod scan;
pub(super) mod stream;

pub(crate) use buffer::{Buffer, Pool};
pub(crate) use in_order::InOrder;
pub(crate) use item::{Item, Items, Kind};
pub(crate) use pipeline::{Target, Work, run};
pub(crate) use rate::Rate;
pub use salvage::Loss;
