//! Images made shorter in place: what they hold stays, through crashes, failures and interruptions.

mod aged;
mod command;
mod crash;
mod fail;
mod images;
mod killed;
