//! A client of the network block device protocol, as NetworkBlockDevice/nbd's `doc/proto.md`
//! specifies it: fixed newstyle handshake with `NBD_OPT_GO`, simple and structured replies.
//!
//! * [`Address`]: a server and the name of its export
//! * `wire`: the numbers of the protocol; `handshake`: what is agreed on before the first request
//! * `reply`: what answers one request; `channel`: requests of several threads on one connection
//! * `allocation`: which ranges read as zeroes; [`Export`]: the storage

mod address;
mod allocation;
mod channel;
mod export;
mod handshake;
mod reply;
mod wire;

pub use super::stream::Server;
pub use address::Address;
pub use export::Export;
