//! Images that servers have.

mod hostile;
mod http;
mod names;
mod nbd;
mod web;
mod writes;
