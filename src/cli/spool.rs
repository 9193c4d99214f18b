//! Standard input and output as files: read or written at any place, by way of a file without a name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qcheck::storage::{FileStorage, ReadAt};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// The name of standard input and standard output.
pub fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Standard input.
pub fn stdin() -> Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned().context("standard input")?))
}

/// Standard output.
pub fn stdout() -> Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned().context("standard output")?))
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
    io::copy(&mut input, &mut file).context("could not keep standard input")?;
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
