//! What several subjects need.

pub mod broken;
pub mod builder;
pub mod bytes;
pub mod chains;
pub mod crash;
pub mod damage;
pub mod disks;
pub mod fail;
pub mod fields;
pub mod imports;
pub mod layout;
pub mod luks;
pub mod matrix;
#[expect(dead_code, reason = "the benchmarks take more from it")]
#[path = "../../../benches/measure.rs"]
pub mod measure;
pub mod oracle;
pub mod reader;
pub mod rng;
pub mod run;
pub mod twin;
pub mod undo;
pub mod unsure;
