//! What a step is for, and what it risks.

/// Whether something is lost by a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing that can be read, and nothing that may still be found, is lost.
    Safe,
    /// Something that was in the image cannot be read or found through it any more.
    Lossy,
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
    /// A step that is safe and repairs these.
    pub fn safe(what: impl Into<String>, fixes: Vec<&'static str>) -> Self {
        Self { what: what.into(), fixes, risk: Risk::Safe }
    }
}
