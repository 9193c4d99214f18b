//! The repair of an image from its name to its outcome.

use std::path::PathBuf;

use super::undo_file::UndoFile;
use crate::check::CheckOptions;
use crate::error::{Error, Result};
use crate::file::{ImageFile, Intent};
use crate::format::probe::ImageFormat;
use crate::medium::Medium;
use crate::progress::{Cancellation, Progress, Silent};
use crate::remote::Settings;
use crate::repair::{
    DryRun, Hints, Reattach, RepairMode, RepairOutcome, Request, dry_run, repair_as_asked,
};
use crate::storage::{Cancelable, Latch, Storage};

/// Repairs one image: opens and locks it, records what is overwritten where that is requested,
/// repairs, and checks again.
///
/// ```
/// use qcheck::{Repair, RepairMode};
///
/// # let folder = std::env::temp_dir().join(format!("qcheck-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let image = folder.join("disk.qcow2");
/// # std::fs::copy("tests/data/damaged.qcow2", &image)?;
/// # let undo = folder.join("before.undo");
/// let outcome = Repair::new(&image).mode(RepairMode::All).undo(&undo).run()?;
/// assert!(outcome.report().tally.is_clean());
/// println!("{} errors are repaired", outcome.fixed().corruptions);
/// # assert!(undo.exists());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Repair<'a> {
    path: PathBuf,
    format: Option<ImageFormat>,
    share: bool,
    server: Settings,
    undo: Option<PathBuf>,
    request: Request,
    options: CheckOptions,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for Repair<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Repair");
        debug.field("path", &self.path).field("request", &self.request).finish_non_exhaustive()
    }
}

impl<'a> Repair<'a> {
    /// A repair of the image at `path` by [`RepairMode::All`]: everything that can be repaired
    /// without losing data.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            share: false,
            server: Settings::default(),
            undo: None,
            request: Request::new(RepairMode::All),
            options: CheckOptions::default(),
            progress: &Silent,
        }
    }

    /// What may be repaired.
    pub const fn mode(mut self, mode: RepairMode) -> Self {
        self.request.mode = mode;
        self
    }

    /// The image's format, whatever its first bytes announce. Only qcow2 images are repaired; an
    /// image whose header is lost has no first bytes that announce it.
    pub const fn format(mut self, format: ImageFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// Records what is overwritten in this file, new or empty, before it is overwritten, so that
    /// [`undo`](crate::undo::undo) can put it back.
    pub fn undo(mut self, file: impl Into<PathBuf>) -> Self {
        self.undo = Some(file.into());
        self
    }

    /// What is known of an image whose header is damaged; only for [`RepairMode::Lossy`].
    pub fn hints(mut self, hints: Hints) -> Self {
        self.request.hints = hints;
        self
    }

    /// Which lost L2 tables are put back, beside those that are proven to be.
    pub fn reattach(mut self, reattach: Reattach) -> Self {
        self.request.reattach = reattach;
        self
    }

    /// Whether a plan reads the image though another process may be writing it. A repair never
    /// does.
    pub const fn share(mut self, share: bool) -> Self {
        self.share = share;
        self
    }

    /// How the server of a remote image is used; not of those that the image names.
    pub const fn server(mut self, settings: Settings) -> Self {
        self.server = settings;
        self
    }

    /// How many threads read; 0, the default, chooses by the machine.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// How many runs of findings a plan keeps one by one, 100,000 by default; more are only
    /// counted.
    pub const fn keep(mut self, findings: usize) -> Self {
        self.options.keep = findings;
        self
    }

    /// Who hears of the progress and may cancel the repair. What was written until then is what a
    /// crash would leave: no worse than before, and the same repair goes on from it.
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Opens and repairs the image.
    ///
    /// `Err` means that the repair has no outcome: the file cannot be opened, read or written,
    /// another process uses it, it is not a qcow2 image ([`Error::NotQcow2`], [`Error::Header`]),
    /// what must be written has no free space ([`Error::NoRoom`]), the undo file fails
    /// ([`Error::Create`], [`Error::UndoFile`]), or [`Error::Cancelled`].
    pub fn run(&self) -> Result<RepairOutcome> {
        let file = self.open(Intent::Change, false)?;
        self.run_file(file)
    }

    /// Repairs an image that is open for writing already, and locked for [`Intent::Change`].
    pub fn run_file(&self, file: ImageFile) -> Result<RepairOutcome> {
        self.with(file, |image, progress| {
            let repair = |storage: &dyn Storage| {
                repair_as_asked(storage, &self.request, &self.options, progress, &mut ())
            };
            match &self.undo {
                Some(path) => UndoFile::create(path, &image)?.record(image, repair),
                None => repair(&Latch::new(image)),
            }
        })
    }

    /// What [`Self::run`] would write; nothing is written. The changes are kept in memory, and a
    /// repair that changes more than fits there is an error.
    pub fn plan(&self) -> Result<DryRun> {
        let file = self.open(Intent::ReadMetadata, self.share)?;
        self.plan_file(file)
    }

    /// Plans the repair of an image that is open already, and locked for [`Intent::ReadMetadata`].
    pub fn plan_file(&self, file: ImageFile) -> Result<DryRun> {
        self.with(file, |image, progress| {
            dry_run(&image, image.capacity(), &self.request, &self.options, progress)
        })
    }

    fn open(&self, intent: Intent, share: bool) -> Result<ImageFile> {
        ImageFile::open_with(&self.path, self.format, intent, share, self.server)
    }

    /// Works on a qcow2 image until the work ends or is cancelled.
    fn with<T>(
        &self,
        file: ImageFile,
        work: impl FnOnce(Cancelable<Medium>, &dyn Progress) -> Result<T>,
    ) -> Result<T> {
        if file.format != ImageFormat::Qcow2 {
            return Err(Error::NotQcow2);
        }
        let cancellation = Cancellation::default();
        let progress = cancellation.watch(self.progress);
        let outcome = work(Cancelable::new(file.storage, cancellation.clone()), &progress);
        if cancellation.has_refused() { Err(Error::Cancelled) } else { outcome }
    }
}
