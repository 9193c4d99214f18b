//! What several subjects need.

pub mod code;
pub mod damages;
pub mod images;
#[expect(dead_code, reason = "the benchmarks take more from it")]
#[path = "../../../benches/measure.rs"]
pub mod measure;
pub mod programs;
pub mod rng;
pub mod sample;
pub mod servers;
pub mod skip;
pub mod storages;
#[allow(dead_code, reason = "not every test of repairs asks for all of it")]
pub mod truth;
