//! From an image to its backing file, and on to the last: one rule for formats, loops and depth.

use std::fmt;
use std::path::{Path, PathBuf};

use super::link::Link;
use super::opener::Opener;
use super::stop::{MAX_DEPTH, Stop};
use crate::tables::HeaderArea;

/// The images on the way so far.
pub struct Walk<'a> {
    opener: &'a dyn Opener,
    seen: Vec<PathBuf>,
    depth: usize,
}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<'a> Walk<'a> {
    /// A chain of one image, which has a path or not.
    pub fn new(opener: &'a dyn Opener, image: Option<&Path>) -> Self {
        let seen = image.map(|path| opener.identity(path)).into_iter().collect();
        Self { opener, seen, depth: 1 }
    }

    /// How to open files.
    pub const fn opener(&self) -> &'a dyn Opener {
        self.opener
    }

    /// Goes on to the backing file of the image at `image`, if it names one. A name with options in
    /// place of what is in the file is not followed: who walks looks at files alone.
    pub fn next(
        &mut self,
        area: &HeaderArea,
        image: &Path,
    ) -> std::result::Result<Option<Link>, Stop> {
        let link = Link::of(area, Some(image)).map_err(|e| Stop::Name(image.to_owned(), e))?;
        if let Some(link) = &link {
            link.require_plain().map_err(|error| Stop::Name(image.to_owned(), error))?;
            self.enter(&link.path)?;
        }
        Ok(link)
    }

    /// Goes on to this file.
    pub fn enter(&mut self, path: &Path) -> std::result::Result<(), Stop> {
        self.opener.may_follow(path).map_err(|error| Stop::Name(path.to_owned(), error))?;
        let identity = self.opener.identity(path);
        if self.seen.contains(&identity) {
            return Err(Stop::Loop(path.to_owned()));
        }
        if self.depth >= MAX_DEPTH {
            return Err(Stop::TooLong(path.to_owned()));
        }
        self.depth += 1;
        self.seen.push(identity);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileOpener;
    use super::*;

    #[test]
    fn a_chain_has_an_end() {
        let files = FileOpener::default();
        let mut walk = Walk::new(&files, Some(Path::new("0")));
        for n in 1..MAX_DEPTH {
            walk.enter(Path::new(&n.to_string())).unwrap();
        }
        let again = walk.enter(Path::new("7")).unwrap_err();
        assert!(matches!(again, Stop::Loop(ref path) if path == Path::new("7")), "{again}");
        let last = walk.enter(Path::new("200")).unwrap_err();
        assert!(matches!(last, Stop::TooLong(_)), "{last}");
    }
}
