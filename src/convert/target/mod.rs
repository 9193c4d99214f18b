//! What a conversion writes to.

pub(super) mod existing;
pub(super) mod fresh;
pub(super) mod held;
pub(super) mod pipe;
pub(super) mod raw;
