//! Images that are made to exhaust memory and time.

mod data;
mod headers;
mod tables;
