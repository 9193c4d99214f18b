//! `--live`: an image that a running machine writes.

use qcheck::Checker;
use qcheck::live::LiveOptions;

use crate::cli::args::size::parse_number;

/// How to check it.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Images in use")]
#[group(skip)]
pub struct Args {
    /// Check an image that a running machine is writing: what is found is read again, what vanishes
    /// is not reported, and what cannot be decided is a notice. Implies -U
    #[arg(long, conflicts_with_all = ["repair", "data", "digest"])]
    live: bool,

    /// Read what is suspected so often before it counts, with pauses of 5 ms and then twice as long
    /// each [default: 8, which takes 1.3 s]
    #[arg(long, value_name = "N", requires = "live", value_parser = parse_number::<u32>)]
    live_rounds: Option<u32>,
}

impl Args {
    /// Whether the image may be written meanwhile.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Has a checker do it.
    pub fn apply<'a>(&self, checker: Checker<'a>) -> Checker<'a> {
        if !self.live {
            return checker;
        }
        let options = LiveOptions::default();
        checker.live(self.live_rounds.map_or(options, |rounds| options.rounds(rounds)))
    }
}
