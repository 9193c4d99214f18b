//! Whether guest data, bitmaps and the files that an image names are there: `tables` gathers what
//! the L2 tables refer to, `clusters` and `compressed` read it once, `blame` finds whose it is
//! where that fails.

mod bitmaps;
mod blame;
mod clusters;
mod compressed;
mod deep;
mod files;
mod packed;
mod tables;

pub use deep::deep;
