//! What a step is for, and what it risks.

/// Whether something is lost by a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing that can be read, and nothing that may still be found, is lost.
    Safe,
    /// Something that was in the image cannot be read or found through it any more, or the write is
    /// part of such a loss: without leave to lose data it is not made.
    Lossy,
}

impl Risk {
    /// The risk of a write that is made after something was given up, or not.
    pub const fn of(given_up: bool) -> Self {
        if given_up { Self::Lossy } else { Self::Safe }
    }
}

/// What a step is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// What it changes, as a phrase.
    pub what: String,
    /// The codes of the findings that it repairs.
    pub fixes: Vec<&'static str>,
    /// Whether something is lost.
    pub risk: Risk,
}

impl Purpose {
    /// What changes, which findings that repairs, and what it risks.
    pub fn new(what: impl Into<String>, fixes: Vec<&'static str>, risk: Risk) -> Self {
        Self { what: what.into(), fixes, risk }
    }
}
