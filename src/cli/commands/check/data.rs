//! `--data` and `--digest`: what is read beside the metadata.

use qcheck::Checker;
use qcheck::verify::Algorithm;

/// What to read.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Data")]
#[group(skip)]
pub struct Args {
    /// Read and decompress all guest data, of snapshots too, and the data of bitmaps, and look
    /// whether the external data file and all backing files are there
    #[arg(long, conflicts_with = "repair")]
    data: bool,

    /// Print a digest of the disk as a guest sees it, and of each snapshot's: the same for each
    /// format
    #[arg(long, value_enum, value_name = "sha256|blake3", conflicts_with = "repair")]
    digest: Option<Hash>,
}

/// Algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Hash {
    /// What sha256sum prints of the raw disk
    Sha256,
    /// What b3sum prints of the raw disk, made by several threads
    Blake3,
}

impl Args {
    /// Has a checker read it.
    pub fn apply<'a>(&self, checker: Checker<'a>) -> Checker<'a> {
        let checker = checker.data(self.data);
        match self.digest {
            Some(Hash::Sha256) => checker.digest(Algorithm::Sha256),
            Some(Hash::Blake3) => checker.digest(Algorithm::Blake3),
            None => checker,
        }
    }
}
