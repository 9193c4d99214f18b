//! The check of an image from its name to its class.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checked::{Checked, Unchecked, Verdict};
use super::deep::Deep;
use crate::check::CheckOptions;
use crate::crypt::Key;
use crate::error::{Error, Result};
use crate::file::{ImageFile, Intent};
use crate::format::probe::ImageFormat;
use crate::live::LiveOptions;
use crate::policy::{Policy, Violation};
use crate::progress::{Cancellation, Progress, Silent};
use crate::remote::Settings;
use crate::storage::{Cancelable, ReadAt};
use crate::verify::Algorithm;

/// Checks one image: opens and locks it, applies a policy, checks it, and reads its guest data
/// where that is requested.
///
/// ```
/// use qcheck::{Checker, Class};
///
/// let checked = Checker::new("tests/data/damaged.qcow2").check()?;
/// assert_eq!(checked.class(), Class::Errors);
/// for finding in &checked.report().expect("it is a qcow2 image").findings {
///     println!("{}", finding.code());
/// }
/// # Ok::<(), qcheck::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Checker<'a> {
    path: PathBuf,
    format: Option<ImageFormat>,
    share: bool,
    server: Settings,
    remote: Option<Settings>,
    policy: Policy,
    data: bool,
    digest: Option<Algorithm>,
    key: Key,
    live: Option<LiveOptions>,
    options: CheckOptions,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for Checker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Checker<'a> {
    /// A check of the image at `path`, in the format that its first bytes announce, without a
    /// policy, of metadata alone.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            share: false,
            server: Settings::default(),
            remote: None,
            policy: Policy::default(),
            data: false,
            digest: None,
            key: Key::default(),
            live: None,
            options: CheckOptions::default(),
            progress: &Silent,
        }
    }

    /// The image's format, whatever its first bytes announce.
    pub const fn format(mut self, format: ImageFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// Whether the image is read though another process may be writing it; what is found may then
    /// be a state that it never had.
    pub const fn share(mut self, share: bool) -> Self {
        self.share = share;
        self
    }

    /// How the server of a remote image is used; not of those that the image names.
    pub const fn server(mut self, settings: Settings) -> Self {
        self.server = settings;
        self
    }

    /// How remote files are used that the image names. `None`, the default: they are not opened,
    /// since such a name is of whoever made the image.
    pub const fn remote_names(mut self, settings: Option<Settings>) -> Self {
        self.remote = settings;
        self
    }

    /// Checks an image that another program is writing, without locks: what is found is read again,
    /// and what does not stay is not reported. Implies [`Self::share`]. Guest data that is read and
    /// digests are not protected like that.
    pub const fn live(mut self, options: LiveOptions) -> Self {
        self.live = Some(options);
        self.share = true;
        self
    }

    /// What the image may not have. Files whose names it denies are not opened.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether all guest data is read and decompressed, of snapshots and bitmaps too, and the
    /// external data file and all backing files are opened.
    pub const fn data(mut self, data: bool) -> Self {
        self.data = data;
        self
    }

    /// Makes digests of the virtual disk and of each snapshot's.
    pub const fn digest(mut self, algorithm: Algorithm) -> Self {
        self.digest = Some(algorithm);
        self
    }

    /// The secret of an encrypted image and those of its backing files, for a digest.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// How many threads read; 0, the default, chooses by the machine.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// How many runs of findings are kept one by one, 100,000 by default; more are only counted.
    pub const fn keep(mut self, findings: usize) -> Self {
        self.options.keep = findings;
        self
    }

    /// Who hears of the progress and may cancel the check.
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// What the image has to be opened for, for whoever opens it and calls [`Self::check_file`].
    pub const fn intent(&self) -> Intent {
        match self.data || self.digest.is_some() {
            true => Intent::ReadData,
            false => Intent::ReadMetadata,
        }
    }

    /// Opens and checks the image.
    ///
    /// `Err` means that there is no verdict and nothing that the policy denies: the file cannot be
    /// opened or read, another process is writing it, its header is not valid, or
    /// [`Error::Cancelled`]. What is wrong with an image is in the report.
    pub fn check(&self) -> Result<Checked> {
        match self.without_opening() {
            Some(checked) => Ok(checked),
            None => self.check_file(ImageFile::open_with(
                &self.path,
                self.format,
                self.intent(),
                self.share,
                self.server,
            )?),
        }
    }

    /// The result for what is not opened: a character device, which QEMU takes for a raw image.
    pub fn without_opening(&self) -> Option<Checked> {
        let is_raw = self.format.is_none_or(|format| format == ImageFormat::Raw);
        let is_device = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
        };
        (is_raw && is_device(&self.path))
            .then(|| Checked::new(Verdict::NoChecker(Unchecked::device())))
    }

    /// Checks an image that is open already, and locked for [`Self::intent`]. Names in it are
    /// resolved against the folder of the checker's path.
    ///
    /// Errors as for [`Self::check`].
    pub fn check_file(&self, file: ImageFile) -> Result<Checked> {
        let (mut violations, file_bytes) = self.announced(&file)?;
        let cancellation = Cancellation::default();
        let progress = cancellation.watch(self.progress);
        let deep = self.deep(&progress);
        let likeness = if self.format.is_none() { file.likeness() } else { None };
        let storage = Arc::new(Cancelable::new(file.storage, cancellation.clone()));
        let checked = match file.format {
            ImageFormat::Qcow2 => deep.check(storage),
            format => {
                let unchecked = Verdict::NoChecker(Unchecked::image(format, likeness));
                deep.raw(storage, format).map(|digests| Checked::new(unchecked).with(digests))
            }
        };
        let mut checked = match checked {
            _ if cancellation.has_refused() => return Err(Error::Cancelled),
            Ok(checked) => checked,
            Err(error) if violations.is_empty() => return Err(error),
            Err(error) => Checked::new(Verdict::Failed(error)),
        };
        if let Some(report) = checked.report() {
            violations.extend(self.policy.judge(report, file_bytes));
        }
        checked.violations = violations;
        Ok(checked)
    }

    fn deep<'b>(&'b self, progress: &'b dyn Progress) -> Deep<'b> {
        Deep {
            path: &self.path,
            share: self.share,
            remote: self.remote,
            policy: &self.policy,
            data: self.data,
            digest: self.digest,
            key: &self.key,
            options: &self.options,
            live: self.live,
            progress,
        }
    }

    /// Violations of the policy that show before the check, and the file's length.
    fn announced(&self, file: &ImageFile) -> Result<(Vec<Violation>, u64)> {
        let policy = &self.policy;
        if !policy.is_active() {
            return Ok((Vec::new(), 0));
        }
        let bytes = file.storage.len().map_err(|e| Error::file("read the file's length", e))?;
        let violations = match file.format {
            ImageFormat::Qcow2 => policy.inspect(&file.storage)?,
            ImageFormat::Raw => policy.inspect_size(bytes).into_iter().collect(),
            ImageFormat::Other(name) => policy.inspect_other_format(name).into_iter().collect(),
        };
        Ok((violations, bytes))
    }
}
