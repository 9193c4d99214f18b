//! What several subjects need.

pub mod crash;
pub mod fail;
pub mod run;
