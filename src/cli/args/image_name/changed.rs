//! The image that a command changes in place, and what the command shows meanwhile.

use anyhow::{Context, Result};
use qcheck::ImageFormat;

use super::object::Objects;
use super::{ImageName, Named, parser};
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// The arguments of an image that is changed.
#[derive(Debug, clap::Args)]
pub struct Changed {
    /// Take the image as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Show the progress
    #[arg(short, long)]
    progress: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// The image
    #[arg(value_parser = parser(), required = true)]
    image: Option<ImageName>,
}

impl Changed {
    /// The image; `format` is that of `-f`.
    pub fn named(&self, format: Option<ImageFormat>) -> Result<Named> {
        // qemu-img's words.
        let image = self.image.as_ref().context("Expecting one image file name")?;
        image.named(self.image_opts, format, &self.objects.secrets()?)
    }

    /// The meter, as requested.
    pub fn meter(&self, ui: &Ui) -> Meter {
        Meter::of_qemu(ui, self.progress, self.quiet)
    }
}
