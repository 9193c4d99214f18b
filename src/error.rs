//! Why an operation could not do its work.
//!
//! A problem *in* the image is a finding (`check::finding`), never an `Error`.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Shorthand for results of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation ended without a result. `Display` is one line without the file's name, which
/// the caller adds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A read, write, flush or other call on the file failed.
    Io {
        /// What was being done, as a phrase ("read the L1 table").
        action: String,
        /// Host offset of the access in bytes; `None` where it was about the file as a whole.
        offset: Option<u64>,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file could not be opened.
    Open {
        /// Its name.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A new file could not be made.
    Create {
        /// Its name.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The undo file of a repair could not be locked or written.
    UndoFile {
        /// Its name.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// An image that is needed to read another one could not be opened.
    OpenBelow {
        /// What it is to that one.
        role: &'static str,
        /// Why.
        source: Box<Error>,
    },
    /// An image does not record the format of its backing file, which begins like an image.
    BackingFormat {
        /// The backing file.
        path: PathBuf,
        /// The format that it begins like.
        looks_like: &'static str,
    },
    /// An image names a remote file, and such names are not to be followed.
    RemoteName(PathBuf),
    /// The file is not a qcow2 image.
    NotQcow2,
    /// The image needs something that this program does not support; the text names it.
    Unsupported(String),
    /// A header field has a value that leaves the rest of the image without meaning.
    Header {
        /// Host offset of the field in bytes.
        offset: u64,
        /// The field and what is wrong with it.
        message: String,
    },
    /// Another process holds a lock on the image that excludes this access.
    Locked(Box<LockConflict>),
    /// The image was not closed by its last writer: it must be repaired before it is written.
    NeedsRepair,
    /// Guest data is encrypted, and no secret was given for it.
    NoKey {
        /// The option that names the secret, as QEMU names it.
        option: &'static str,
    },
    /// No secret has this name.
    NoSecret(String),
    /// The passphrase opens no key slot.
    WrongSecret,
    /// There is no free space for what must be written, and the file cannot grow.
    NoRoom {
        /// Bytes that are needed.
        needed: u64,
        /// What they are needed for.
        purpose: String,
    },
    /// The caller cancelled the operation, through its
    /// [`Progress`](crate::progress::Progress) or a flag.
    Cancelled,
    /// The request itself is not possible; the text gives the reason.
    Refused(String),
}

/// A lock of QEMU's that could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockConflict {
    /// The lock as QEMU names it: `"write" lock`, or `shared "write" lock` where the other process
    /// does what this access does not share.
    pub lock: String,
    /// The name by which the file was opened, where it has one.
    pub file: Option<PathBuf>,
    /// The process that holds a lock against it, where the system shows that.
    pub holder: Option<Process>,
    /// Whether the file can be read all the same, with
    /// [`ReadShared`](crate::storage::Access::ReadShared).
    pub is_readable: bool,
}

/// A process of this system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// The name of its program, as far as the system keeps it (15 bytes on Linux).
    pub name: String,
}

/// Programs match QEMU's phrases, to try again later.
impl fmt::Display for LockConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failed to get {}", self.lock)?;
        if let Some(file) = &self.file {
            write!(f, "; Is another process using the image [{}]?", file.display())?;
        }
        match &self.holder {
            Some(Process { id, name }) => {
                write!(f, " Process {id} ({}) has it open", name.escape_debug())
            }
            None => Ok(()),
        }
    }
}

impl Error {
    /// An [`Error::Io`] from its parts.
    pub fn io(action: impl Into<String>, offset: u64, source: io::Error) -> Self {
        Self::Io { action: action.into(), offset: Some(offset), source }
    }

    /// An [`Error::Io`] of a call on the file as a whole: open, length, flush.
    pub fn file(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io { action: action.into(), offset: None, source }
    }

    /// The error itself, without what it is about.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::OpenBelow { source, .. } => source.innermost(),
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, offset: Some(offset), source } => {
                write!(f, "could not {action} at offset {offset:#x}: {}", cause(source))
            }
            Self::Io { action, offset: None, source } => {
                write!(f, "could not {action}: {}", cause(source))
            }
            Self::Create { path, source } => {
                write!(f, "could not create '{}': {}", path.display(), cause(source))
            }
            Self::UndoFile { path, source } => write!(f, "'{}': {source}", path.display()),
            // From here on, the beginnings are those of QEMU's messages, which programs match.
            Self::Open { path, source } => {
                write!(f, "Could not open '{}': {}", path.display(), cause(source))
            }
            Self::OpenBelow { role, source } => write!(f, "Could not open {role}: {source}"),
            Self::BackingFormat { path, looks_like } => write!(
                f,
                "the image does not record the format of '{}', and that it begins like {looks_like} \
                 does not prove it: a guest could have written that to a raw disk",
                path.display()
            ),
            Self::RemoteName(name) => write!(
                f,
                "'{}' is remote: names that are stored in images are followed to files alone",
                name.display()
            ),
            Self::NotQcow2 => {
                f.write_str("Image is not in qcow2 format: there is no magic number at offset 0")
            }
            Self::NoKey { option } => write!(f, "Parameter '{option}' is required for cipher"),
            Self::NoSecret(name) => write!(f, "No secret with id '{}'", name.escape_debug()),
            Self::WrongSecret => f.write_str("Invalid password, cannot unlock any keyslot"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Header { offset, message } => write!(f, "header offset {offset}: {message}"),
            Self::Locked(conflict) => conflict.fmt(f),
            Self::NoRoom { needed, purpose } => {
                write!(
                    f,
                    "No space left on device: {needed} bytes of {purpose} do not fit, and the file \
                     cannot grow"
                )
            }
            Self::NeedsRepair => f.write_str(
                "the image was not closed by its last writer: repair it before it is written",
            ),
            Self::Cancelled => f.write_str("interrupted"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// The message of the operating system, without its number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|code| format!(" (os error {code})"));
    number.and_then(|number| Some(text.strip_suffix(&number)?.to_owned())).unwrap_or(text)
}

/// The sources are for programs that match them, such as the kind of an [`io::Error`]; `Display`
/// has their text already.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Open { source, .. } | Self::Create { source, .. } => {
                Some(source)
            }
            Self::OpenBelow { source, .. } | Self::UndoFile { source, .. } => Some(source.as_ref()),
            Self::Locked(conflict) => Some(conflict.as_ref()),
            Self::BackingFormat { .. }
            | Self::RemoteName(_)
            | Self::NotQcow2
            | Self::Unsupported(_)
            | Self::Header { .. }
            | Self::NoKey { .. }
            | Self::NoSecret(_)
            | Self::WrongSecret
            | Self::NoRoom { .. }
            | Self::Cancelled
            | Self::NeedsRepair
            | Self::Refused(_) => None,
        }
    }
}

impl std::error::Error for LockConflict {}
