//! Why a chain is not followed.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::remote::without_secrets;

/// Most images in a chain (QEMU's limit).
pub const MAX_DEPTH: usize = 200;

/// Why a chain is not followed further.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stop {
    /// The name in this image cannot be followed.
    Name(PathBuf, Error),
    /// This file is in the chain already.
    Loop(PathBuf),
    /// With this file the chain would be too long.
    TooLong(PathBuf),
    /// The first bytes of this file cannot be read.
    Unreadable(PathBuf, Error),
    /// No format is recorded for this file, and it begins like an image.
    Unrecorded {
        /// The file.
        path: PathBuf,
        /// The format that it begins like.
        looks_like: &'static str,
    },
}

impl Stop {
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Name(path, _)
            | Self::Loop(path)
            | Self::TooLong(path)
            | Self::Unreadable(path, _)
            | Self::Unrecorded { path, .. } => path,
        }
    }
}

/// What is wrong, without the file.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(_, error) | Self::Unreadable(_, error) => error.fmt(f),
            Self::Loop(_) => f.write_str("the backing chain comes back to it"),
            Self::TooLong(_) => {
                write!(f, "the backing chain is longer than {MAX_DEPTH} images")
            }
            Self::Unrecorded { looks_like, .. } => {
                write!(f, "its format is not recorded, and it begins like {looks_like}")
            }
        }
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unreadable(path, Self::Io { source, .. }) => {
                Self::Open { path: without_secrets(&path), source }
            }
            Stop::Name(_, error) | Stop::Unreadable(_, error) => error,
            Stop::Loop(path) => {
                let path = without_secrets(&path);
                Self::Refused(format!("the backing chain comes back to '{}'", path.display()))
            }
            Stop::TooLong(_) => Self::Refused(stop.to_string()),
            Stop::Unrecorded { path, looks_like } => {
                Self::BackingFormat { path: without_secrets(&path), looks_like }
            }
        }
    }
}
