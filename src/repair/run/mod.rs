//! A repair under way: what it begins with, its rounds, how each is carried out, and what follows
//! the verdict.

pub mod apply;
pub mod begin;
pub mod dry_run;
pub mod end;
pub mod journal;
pub mod mark;
pub mod round;
pub mod rounds;
