//! What the documents, generated files and the source must hold.

mod api;
mod ci;
mod completions;
mod fleet;
mod interface;
mod layers;
mod prose;
mod readme;
mod schema;
mod shape;
mod texts;
