//! `qcheck undo`: put back what an image was before a repair; and the file that makes it possible.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qcheck::format::probe::ImageFormat;
use qcheck::storage::{Access, FileStorage, Latch, Storage, sync_directory_of};
use qcheck::undo::{Record, UndoLog, Undone, undo};

use crate::cli::args::file_name;
use crate::cli::files::open::{self, Purpose, quoted};
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// Undo a repair: put back every byte that 'check -r .. --undo FILE' recorded before it wrote.
///
/// An image that has changed since is refused, and so is another image. An undo that was
/// interrupted is ended by the next one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put the bytes back even if the image has changed since: what was written meanwhile may not
    /// fit them
    #[arg(long)]
    force: bool,

    /// Do not tell that it is done
    #[arg(short, long)]
    quiet: bool,

    /// Show progress even where standard error is no terminal
    #[arg(short, long)]
    progress: bool,

    /// What 'check --undo' wrote
    file: PathBuf,

    /// The image
    #[arg(value_parser = file_name::parser())]
    image: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let what = || open::could_not_open(&args.file);
    let file = FileStorage::open_read(&args.file).with_context(what)?;
    // Not told from its first bytes: they may be what is to be mended.
    let image = open::open(&args.image, Some(ImageFormat::Qcow2), Purpose::Change, false)?;
    let meter = Meter::new(ui.name(), args.progress, args.quiet, ui.err.is_terminal());
    let record = Record::load(&file).with_context(|| quoted(&args.file).to_string())?;
    let done = undo(&record, &Latch::new(image.storage), args.force, &meter);
    let done = done.with_context(|| quoted(&args.image).to_string())?;
    drop(meter);
    if !args.quiet {
        let text = match done {
            Undone::Restored { bytes } => {
                format!("Repair undone: {bytes} bytes were put back.")
            }
            Undone::Nothing => "Nothing to undo: the image is as it was before the repair.".into(),
        };
        ui.out.line(&text)?;
        ui.out.flush()?;
    }
    Ok(ExitCode::Success)
}

/// An undo file that a repair is to write.
pub struct UndoFile<'a> {
    path: &'a Path,
    storage: FileStorage,
    is_ours: bool,
}

impl<'a> UndoFile<'a> {
    /// Makes the file, or takes an empty one that is there.
    pub fn create(path: &'a Path) -> Result<Self> {
        let what = || format!("could not create {}", quoted(path));
        let (storage, is_ours) = match FileStorage::create_new(path) {
            Ok(storage) => (storage, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (FileStorage::open_write(path).with_context(what)?, false)
            }
            Err(error) => return Err(error).with_context(what),
        };
        open::take_lock(&storage, path, Access::Write)?;
        if is_ours {
            sync_directory_of(path).with_context(what)?;
        }
        Ok(Self { path, storage, is_ours })
    }

    /// Runs a repair whose writes are recorded, and closes the record. Where nothing was written, the
    /// file goes again.
    pub fn record<T>(
        self,
        image: impl Storage,
        repair: impl FnOnce(&dyn Storage) -> qcheck::error::Result<T>,
    ) -> Result<T> {
        let name = || quoted(self.path).to_string();
        let log = UndoLog::new(image, &self.storage).with_context(name)?;
        let result = repair(&Latch::new(&log)).map_err(anyhow::Error::from);
        let result = match result {
            Ok(outcome) => log.finish().map(|_| outcome).with_context(name),
            Err(error) => Err(error),
        };
        let has_begun = log.has_begun();
        drop(log);
        if has_begun {
            return result;
        }
        self.remove().with_context(name).and(result)
    }

    fn remove(&self) -> io::Result<()> {
        if self.is_ours { fs::remove_file(self.path) } else { Ok(()) }
    }
}
