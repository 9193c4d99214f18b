//! Formats by the names that images and options have for them.

/// A format that is recorded for a backing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the file as they are.
    Raw,
    /// qcow2.
    Qcow2,
    /// Another one, by its name.
    Other(String),
}

impl Format {
    /// The format of this name. QEMU records the names of its protocols too: they are raw.
    pub fn of_name(name: &str) -> Self {
        match name {
            "raw" | "file" | "host_device" => Self::Raw,
            "qcow2" => Self::Qcow2,
            other => Self::Other(other.to_owned()),
        }
    }
}
