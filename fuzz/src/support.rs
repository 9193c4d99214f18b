//! What the targets need of the tests: building images, and reading them without the library.
#![allow(dead_code, reason = "the tests need more of it")]

#[path = "../../tests/it/support/images/mod.rs"]
pub mod images;
#[path = "../../tests/it/support/truth/mod.rs"]
pub mod truth;
