//! Results for programs: one type for each document, from which its schema in `docs/schema/` is
//! generated.

mod absent;
pub mod checked;
pub mod compacted;
pub mod described;
pub mod document;
pub mod extents;
pub mod losses;
pub mod measured;
pub mod sarif;
pub mod stream;
