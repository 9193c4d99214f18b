//! What `info --metadata` and `info --layout` show: an image that was gone through once.

use std::path::PathBuf;

use qcheck::check::Survey;
use qcheck::layout::Layout;
use qcheck::medium::Medium;
use qcheck::storage::ReadAt;

/// An image and what a check found in it.
pub struct Inspected {
    /// Its name, as given.
    pub path: PathBuf,
    /// Its bytes.
    pub storage: Medium,
    /// Bytes that it takes on its file system, where that is known.
    pub disk_bytes: Option<u64>,
    /// What was found.
    pub survey: Survey,
}

impl Inspected {
    /// What its clusters are for.
    pub fn layout(&self) -> Layout<'_> {
        Layout::new(&self.storage as &dyn ReadAt, &self.survey)
    }

    /// Which disk an L1 table is of, in words: nothing for the active one.
    pub fn snapshot(&self, index: u32) -> String {
        let name = usize::try_from(index).ok().and_then(|i| self.survey.report.snapshots.get(i));
        name.map_or_else(|| index.to_string(), |name| format!("{} '{}'", name.id, name.name))
    }
}
