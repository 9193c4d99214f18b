//! The qcow2 format: bytes to values and back. No I/O.
//!
//! Decoding is total: any bytes decode, and what is wrong with them is told as a *defect*, so that
//! the writing engine can refuse what the checker reports.

pub mod addr;
pub mod bitmap;
pub mod crypto;
pub mod extension;
pub mod feature;
pub mod geometry;
pub mod header;
pub mod l1;
pub mod l2;
pub mod refcount;
pub mod snapshot;

pub use addr::{
    ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset, L1Index, L2Index,
    RefblockIndex, ReftableIndex,
};
pub use geometry::Geometry;
