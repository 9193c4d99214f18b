//! What the targets do is with the tests, which run it on the seeds.

#[path = "../../tests/it/fuzzing/mod.rs"]
pub mod fuzzing;
mod support;
