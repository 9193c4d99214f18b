//! Which images are checked, and how many at a time.

use std::path::PathBuf;

use anyhow::{Result, bail};
use qcheck::ImageFormat;
use qcheck::policy::Policy;
use qcheck::threads;

use super::shard::Shard;
use crate::cli::args::size::parse_number;
use crate::cli::files::targets::{self, Target};

/// Which images, and how many at a time.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Many images")]
#[group(skip)]
pub struct Args {
    /// Check also the images that this file names, one a line or with a zero byte after each; - is
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,

    /// Check the backing files of the images too, each once
    #[arg(long, conflicts_with = "policy")]
    pub backing_chain: bool,

    /// Check this many images at a time, 1 if not given; 0: one for each processor. The
    /// form of the output is that of several images
    #[arg(short, long, value_name = "N", value_parser = parse_number::<usize>)]
    pub jobs: Option<usize>,

    /// Check only part I of N of the images: the name alone, as given, decides to which part an
    /// image belongs. A part without images is a success
    #[arg(long, value_name = "I/N", value_parser = Shard::parse, conflicts_with = "repair")]
    pub shard: Option<Shard>,

    /// Do not check images again that were clean when an earlier run recorded them in this file,
    /// and whose length, time and header are the same; they count as clean. The file is replaced at
    /// the end; at first it need not exist
    #[arg(long, value_name = "STATE", conflicts_with_all = ["repair", "data", "digest"])]
    pub since: Option<PathBuf>,
}

impl Args {
    /// How many images are checked at a time.
    pub fn jobs(&self) -> usize {
        threads::or_cores(self.jobs.unwrap_or(1))
    }

    /// The images that arguments name, and those that a list names.
    pub fn named(
        &self,
        mut images: Vec<Target>,
        format: Option<ImageFormat>,
    ) -> Result<Vec<Target>> {
        if let Some(list) = &self.files_from {
            let listed = targets::listed(list)?;
            images.extend(listed.into_iter().map(|path| Target::listed(path, format)));
        }
        Ok(images)
    }

    /// Those of the part that was requested, and those below them.
    pub fn targets(
        &self,
        mut images: Vec<Target>,
        force_share: bool,
        policy: &Policy,
    ) -> Result<Vec<Target>> {
        if let Some(shard) = self.shard {
            images.retain(|image| shard.has(&image.path));
        }
        if !self.backing_chain {
            return Ok(images);
        }
        if policy.is_active() {
            bail!("--backing-chain opens files that an image names, which a policy does not");
        }
        Ok(targets::with_chains(images, force_share))
    }
}
