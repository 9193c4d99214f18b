//! File systems mounted for a test.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::skip::skip;

/// The file that takes what shall not be free.
const FILLER: &str = "filler";

/// A file system, mounted until this is dropped.
pub struct Mounted {
    folder: tempfile::TempDir,
    _file: Option<tempfile::NamedTempFile>,
}

impl Mounted {
    /// One in memory with `bytes` bytes. `None` where the user may not mount one; as root it works.
    pub fn in_memory(bytes: u64) -> Option<Self> {
        let size = format!("size={bytes}");
        Self::mount(&["-t", "tmpfs", "-o", &size, "qcheck-test"], None)
    }

    /// One of a type such as `xfs` in a file of `bytes` bytes. `None` where the user may not mount
    /// one, or where mkfs or the kernel does not have the type.
    pub fn of_type(name: &str, bytes: u64) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        let path = file.path().to_str().expect("a name in UTF-8").to_owned();
        let made = Command::new(format!("mkfs.{name}")).arg("-q").arg(&path).output();
        if !made.is_ok_and(|made| made.status.success()) {
            skip(&format!("a test on {name}"), &format!("mkfs.{name} is missing or fails"));
            return None;
        }
        Self::mount(&["-t", name, "-o", "loop", &path], Some(file))
    }

    fn mount(args: &[&str], file: Option<tempfile::NamedTempFile>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("a test on a file system of its own", "only root can mount one");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("mount").args(args).arg(folder.path()).output().unwrap();
        assert!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr));
        Some(Self { folder, _file: file })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all free space but so many bytes.
    pub fn fill_but(&self, bytes: u64) {
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let length = (free.f_bavail * free.f_frsize).saturating_sub(bytes);
        fs::write(self.path().join(FILLER), vec![1; length as usize]).unwrap();
    }

    /// Gives back what was taken.
    pub fn make_space(&self) {
        fs::remove_file(self.path().join(FILLER)).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "umount {}", self.path().display());
    }
}
