//! Which file a name means: several names, links among them, can be those of one file.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, fstat, major, minor};

/// A file or a block device, whatever name it was opened by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileId {
    /// Anything on a file system: the number of the file system's device, and the inode.
    File(u64, u64),
    /// The number of a block device, for which there can be several nodes.
    Device(u64),
}

impl FileId {
    /// The file that a name means; symbolic links are followed. Fails with the system's error, as
    /// where there is no such file.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        let metadata: Metadata = fs::metadata(path)?;
        Ok(match metadata.file_type().is_block_device() {
            true => Self::of_device(metadata.rdev()),
            false => Self::File(metadata.dev(), metadata.ino()),
        })
    }

    /// A block device; a loop device that shows a file from its beginning is that file.
    fn of_device(number: u64) -> Self {
        let device = format!("/sys/dev/block/{}:{}/loop", major(number), minor(number));
        let shown = |name: &str| fs::read_to_string(format!("{device}/{name}"));
        let file = match (shown("offset").as_deref().map(str::trim), shown("backing_file")) {
            (Ok("0"), Ok(name)) => fs::metadata(name.trim_end_matches('\n')).ok(),
            _ => None,
        };
        match file {
            Some(file) if file.is_file() => Self::File(file.dev(), file.ino()),
            _ => Self::Device(number),
        }
    }

    /// A file that is open. Fails with the system's error.
    pub fn of_open(file: impl AsFd) -> io::Result<Self> {
        let stat = fstat(file)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Self::of_device(stat.st_rdev),
            _ => Self::File(stat.st_dev, stat.st_ino),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn links_mean_the_file_that_they_were_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let [file, hard, symbolic, other] =
            ["file", "hard", "symbolic", "other"].map(|name| dir.path().join(name));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        fs::hard_link(&file, &hard).unwrap();
        std::os::unix::fs::symlink(&file, &symbolic).unwrap();
        let id = FileId::of_path(&file).unwrap();
        assert_eq!(FileId::of_path(&hard).unwrap(), id);
        assert_eq!(FileId::of_path(&symbolic).unwrap(), id);
        assert_eq!(FileId::of_open(File::open(&hard).unwrap()).unwrap(), id);
        assert_ne!(FileId::of_path(&other).unwrap(), id);
        assert!(FileId::of_path(&dir.path().join("absent")).is_err());
    }
}
