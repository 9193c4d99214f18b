//! Opening an image to change it; one that was not closed is repaired first.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use qcheck::check::CheckOptions;
use qcheck::image::{Image, OpenOptions, Opened, Opener};
use qcheck::medium::Medium;
use qcheck::repair::{RepairMode, repair};

use crate::cli::args::file_name::could_not_open;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// Opens a qcow2 image for writing. One that is marked dirty is checked and repaired first, with a
/// notice.
pub fn open_qcow2(
    storage: Medium,
    path: &Path,
    options: OpenOptions,
    opener: &dyn Opener,
    ui: &mut Ui,
) -> Result<Image> {
    open_clean(storage, path, options, opener, ui).with_context(|| could_not_open(path))
}

fn open_clean(
    storage: Medium,
    path: &Path,
    options: OpenOptions,
    opener: &dyn Opener,
    ui: &mut Ui,
) -> Result<Image> {
    let storage = Arc::new(storage);
    let options = options.path(Some(path.to_owned()));
    let open = || Image::open_write(storage.clone(), &options, opener);
    if let Opened::Ready(image) = open()? {
        return Ok(*image);
    }
    ui.message(
        "NOTICE: the image was not closed by its last writer; it is checked and repaired first",
    )?;
    let meter = Meter::new(ui.name(), false, true, ui.err.is_terminal());
    let outcome = repair(&*storage, RepairMode::All, &CheckOptions::default(), &meter)?;
    let verdict = outcome.report().tally;
    if verdict.corruptions > 0 || verdict.check_errors > 0 {
        bail!("the repair left errors; see 'check' for what they are");
    }
    match open()? {
        Opened::Ready(image) => Ok(*image),
        Opened::NeedsRepair => bail!("the image is still marked dirty after its repair"),
    }
}
