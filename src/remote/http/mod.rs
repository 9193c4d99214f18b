//! Objects of web servers, read in parts: `http://` and `https://`.
//!
//! * `location`: where an object is; `message`: requests and answers as bytes; `connection`: over
//!   which they go, with TLS or without
//! * `client`: parts of one version of an object, with redirects and with requests that are made
//!   again
//! * `pages`: what is here, on its way or requested; `ahead`: what reads in a row will need;
//!   [`Object`]: the storage

mod ahead;
mod client;
mod connection;
mod location;
mod message;
mod object;
mod pages;

pub(crate) use location::Location;
pub use object::Object;
