//! What the integration tests share.

pub mod builder;
pub mod bytes;
pub mod damage;
pub mod layout;
pub mod matrix;
pub mod oracle;
pub mod rng;
