//! Standard input and output as files: read or written at any place, by way of a file without a
//! name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qcheck::storage::{FileStorage, ReadAt};

use crate::cli::args::file_name::could_not_open;

/// The numbers of the standard streams.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// The number of the open file that a name means: `-` is `standard`, the others are Linux's names
/// for one.
fn number(path: &Path, standard: u32) -> Option<u32> {
    match path.to_str()? {
        "-" => Some(standard),
        "/dev/stdin" => Some(STDIN),
        "/dev/stdout" => Some(STDOUT),
        "/dev/stderr" => Some(STDERR),
        name => ["/dev/fd/", "/proc/self/fd/"]
            .iter()
            .find_map(|folder| name.strip_prefix(folder))
            .and_then(|number| number.parse().ok()),
    }
}

/// Whether a name means an open file of this process that is not one on a file system, or `-`.
pub fn is_standard(path: &Path) -> bool {
    let is_file = || {
        fs::metadata(path).is_ok_and(|m| m.file_type().is_file() || m.file_type().is_block_device())
    };
    path == Path::new("-") || number(path, STDIN).is_some() && !is_file()
}

/// Whether what a name means is read or written from its beginning to its end, once:
/// [`is_standard`], or a FIFO.
pub fn is_stream(path: &Path) -> bool {
    is_standard(path) || fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo())
}

/// Opens a stream for reading; of a FIFO this waits until somebody writes to it.
pub fn input(path: &Path) -> Result<File> {
    match number(path, STDIN) {
        Some(STDIN) => copy_of(io::stdin().as_fd()),
        _ => File::open(path),
    }
    .with_context(|| could_not_open(path))
}

/// Opens a stream for writing; of a FIFO this waits until somebody reads from it.
pub fn output(path: &Path) -> Result<File> {
    match number(path, STDOUT) {
        Some(STDOUT) => copy_of(io::stdout().as_fd()),
        Some(STDERR) => copy_of(io::stderr().as_fd()),
        _ => OpenOptions::new().write(true).open(path),
    }
    .with_context(|| could_not_open(path))
}

fn copy_of(file: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(file.try_clone_to_owned()?))
}

/// Everything that comes from a stream, as a file that can be read at any place.
pub fn seekable(path: &Path) -> Result<FileStorage> {
    let file = input(path)?;
    if is_seekable(&file) {
        return FileStorage::from_file(file).with_context(|| could_not_open(path));
    }
    take_in(file)
}

/// Whether a file can be read at any place.
pub fn is_seekable(file: &File) -> bool {
    file.metadata().is_ok_and(|m| m.file_type().is_file() || m.file_type().is_block_device())
}

/// A file without a name in the folder for temporary files: it is gone when it is closed.
pub fn nameless() -> Result<File> {
    let folder: PathBuf = std::env::temp_dir();
    let context = || format!("could not make a temporary file in '{}'", folder.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().custom_flags(libc::O_TMPFILE).mode(0o600).open(&folder) {
        Ok(file) => Ok(file),
        // Not every file system can make one without a name.
        Err(_) => {
            let path = folder.join(format!("qcheck-{}", std::process::id()));
            let file = options.create_new(true).mode(0o600).open(&path).with_context(context)?;
            std::fs::remove_file(&path).with_context(context)?;
            Ok(file)
        }
    }
}

/// Puts a stream into a nameless file.
pub fn take_in(mut input: impl Read) -> Result<FileStorage> {
    let mut file = nameless()?;
    io::copy(&mut input, &mut file).context("could not keep the stream in a temporary file")?;
    Ok(FileStorage::from_file(file)?)
}

/// Writes a file from its beginning to its end.
pub fn give_out(file: &dyn ReadAt, out: &mut dyn Write) -> Result<()> {
    let length = file.len()?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let most = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(at, &mut buffer[..most])?;
        out.write_all(&buffer[..most]).context("could not write standard output")?;
        at += most as u64;
    }
    out.flush().context("could not write standard output")
}
