//! What the targets need of the tests: building images, and reading them without the library.
#![allow(dead_code, reason = "the tests need more of it")]

#[path = "../../tests/it/support/builder.rs"]
pub mod builder;
#[path = "../../tests/it/support/bytes.rs"]
pub mod bytes;
#[path = "../../tests/it/support/layout.rs"]
pub mod layout;
#[path = "../../tests/it/support/reader.rs"]
pub mod reader;
#[path = "../../tests/it/support/unsure.rs"]
pub mod unsure;
