//! Which image of a backing chain data is committed to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::chain::{Format, Link, Opener, Walk, resolve};
use crate::error::{Error, Result};
use crate::remote::without_secrets;
use crate::storage::ReadAt;
use crate::tables::HeaderArea;

/// An image below another one in its backing chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// How many images of the chain are above it, at least 1.
    pub layers: usize,
}

/// Finds the image that `name` means in the backing chain of `image`, which is open and whose path
/// is `path`: by the name that the image above it has for it, or as a path from the folder of that
/// image. `None` means the image's own backing file.
///
/// Fails with [`Error::Refused`] if there is no backing file, or none of that name, and if the
/// chain up to the base cannot be followed.
pub fn find_base(
    image: &dyn ReadAt,
    path: &Path,
    name: Option<&OsStr>,
    opener: &dyn Opener,
) -> Result<Base> {
    let mut walk = Walk::new(opener, Some(path));
    let mut above = path.to_owned();
    let mut area = HeaderArea::load(image)?;
    for layers in 1.. {
        let Some(link) = walk.next(&area, &above)? else { break };
        let stored = area.backing_name.as_deref().unwrap_or_default();
        let is_base = name.is_none_or(|name| means(name, stored, &link, &above, opener));
        let below = link.open(opener)?;
        let format = link.format(below.as_ref())?;
        if is_base {
            return Ok(Base { path: link.path, format, layers });
        }
        if format != Format::Qcow2 {
            break;
        }
        area = HeaderArea::load(below.as_ref())?;
        above = link.path;
    }
    // qemu-img's words, which programs match.
    Err(Error::Refused(match name {
        None => "Image does not have a backing file".into(),
        Some(name) => format!(
            "Did not find '{}' in the backing chain of '{}'",
            without_secrets(Path::new(name)).display(),
            without_secrets(path).display()
        ),
    }))
}

/// Whether a name means the backing file of the image at `above`, which calls it `stored`.
fn means(name: &OsStr, stored: &[u8], link: &Link, above: &Path, opener: &dyn Opener) -> bool {
    let is_same = |path: PathBuf| opener.identity(&path) == opener.identity(&link.path);
    name.as_bytes() == stored || resolve(Some(above), name.as_bytes()).is_ok_and(is_same)
}
