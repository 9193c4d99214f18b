//! A file that is written whole or not at all: whoever reads it sees the former content until the
//! new one is complete, whatever ends the program before.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::file::{ImageFile, Intent};
use rustix::fs::{AtFlags, CWD, linkat};

use super::targets::Target;
use crate::cli::args::file_name::{could_not_open, quoted};

/// Bytes of an existing file in which a result has no zero byte.
const TEXT_BYTES: u64 = 64 << 10;

/// A file that has no name yet.
pub struct WholeFile {
    file: File,
    /// Its name, once links were followed.
    path: PathBuf,
    /// What has this name now.
    former: Option<Metadata>,
    /// The name that it has meanwhile, on a file system without files that have none.
    temporary: Option<PathBuf>,
}

impl WholeFile {
    /// Begins a file for this name, in the folder where it is going to be. An existing file is
    /// replaced at the end; what is not a regular file with text, or begins like an image, is an
    /// error.
    pub fn begin(path: &Path) -> Result<Self> {
        let context = || format!("could not create {}", quoted(path));
        let former = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(context),
        };
        if former.is_none() && path.is_symlink() {
            bail!("{}: the symbolic link refers to a file that does not exist", quoted(path));
        }
        let mut full = path.to_owned();
        if let Some(found) = &former {
            full = fs::canonicalize(path).with_context(context)?;
            refuse_image(path, found)?;
        }
        let (file, temporary) = without_name(&full).with_context(context)?;
        if let Some(found) = &former {
            file.set_permissions(found.permissions()).with_context(context)?;
            // Only root can give a file to another user.
            let _ = fchown(&file, Some(found.uid()), Some(found.gid()));
        }
        Ok(Self { file, path: full, former, temporary })
    }

    /// Whether this is the file that it replaces, by another name or the same.
    pub fn replaces(&self, path: &Path) -> bool {
        let same = |found: &Metadata| {
            fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (found.dev(), found.ino()))
        };
        self.former.as_ref().is_some_and(same)
    }

    /// An error where the file that it replaces is one of these images; `name` is how it was given.
    pub fn require_no_image(&self, name: &Path, images: &[Target]) -> Result<()> {
        if images.iter().any(|image| self.replaces(&image.path)) {
            bail!("{}: the file is one of the images", quoted(name));
        }
        Ok(())
    }

    /// An error where the file that it replaces is one that is read.
    pub fn require_none_of<'a>(&self, read: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        if read.into_iter().any(|path| self.replaces(path)) {
            bail!("{}: the file is read as well, and is not replaced", quoted(&self.path));
        }
        Ok(())
    }

    /// Where its content is written.
    pub fn writer(&self) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(self.file.try_clone()?))
    }

    /// Gives the file its name, once all of it is on the disk.
    pub fn finish(mut self) -> Result<()> {
        let context = || format!("could not write {}", quoted(&self.path));
        self.file.sync_all().with_context(context)?;
        let named = match self.temporary.clone() {
            Some(temporary) => temporary,
            None if self.former.is_none() => return self.link(&self.path).with_context(context),
            None => {
                let beside = beside(&self.path);
                self.link(&beside).with_context(context)?;
                beside
            }
        };
        let renamed = fs::rename(&named, &self.path);
        if renamed.is_err() {
            let _ = fs::remove_file(&named);
        }
        renamed.with_context(context)?;
        sync_folder(&self.path).with_context(context)?;
        self.temporary = None;
        Ok(())
    }

    /// Gives the nameless file a name that no file has.
    fn link(&self, name: &Path) -> io::Result<()> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?;
        sync_folder(name)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// No result replaces an image by a slip of the command line.
fn refuse_image(path: &Path, found: &Metadata) -> Result<()> {
    if !found.is_file() {
        bail!("{}: only a regular file can be replaced as a whole", quoted(path));
    }
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TEXT_BYTES).read_to_end(&mut beginning));
    read.with_context(|| could_not_open(path))?;
    if beginning.contains(&0) {
        // A raw disk has no magic number, but it is not a text either.
        bail!("{}: the file is not a text, as results are, and is not replaced", quoted(path));
    }
    let image = ImageFile::open(path, None, Intent::Describe, true)?;
    if image.format != ImageFormat::Raw {
        let format = image.format.name();
        bail!("{}: the file is a {format} image, which is not replaced", quoted(path));
    }
    Ok(())
}

fn without_name(path: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o666);
    match options.clone().custom_flags(libc::O_TMPFILE).open(folder(path)) {
        Ok(file) => Ok((file, None)),
        // Not every file system can make one without a name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let beside = beside(path);
            Ok((options.create_new(true).open(&beside)?, Some(beside)))
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name in the same folder.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    folder(path).join(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn nothing_is_left_of_a_file_that_was_not_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        for _ in 0..2 {
            let file = WholeFile::begin(&path).unwrap();
            file.writer().unwrap().write_all(b"half").unwrap();
            drop(file);
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn the_former_content_is_there_until_the_end_and_its_mode_stays() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        fs::write(&path, "former").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("result", dir.path().join("link")).unwrap();
        let file = WholeFile::begin(&dir.path().join("link")).unwrap();
        assert!(file.replaces(&path));
        file.writer().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "former");
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn a_file_that_another_one_made_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        let file = WholeFile::begin(&path).unwrap();
        fs::write(&path, "of another program").unwrap();
        if file.temporary.is_none() {
            assert!(file.finish().is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), "of another program");
        }
    }
}
