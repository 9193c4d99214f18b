//! What comes before the first round of a repair: a check, and where the header points to nothing
//! and losses were allowed, another header.

use super::journal::Journal;
use crate::check::report::kind::header::HEADER_FIELD;
use crate::check::{self, CheckOptions, CheckReport, Survey};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repair::mode::RepairMode;
use crate::repair::plan::purpose::{Purpose, Risk};
use crate::repair::plan::step::StageKind;
use crate::repair::search::{self, Hints, RebuiltHeader};
use crate::storage::Storage;

/// What the rounds begin with.
pub struct Begun {
    /// The image as it is now.
    pub survey: Survey,
    /// The header that was written in place of another.
    pub rebuilt_header: Option<RebuiltHeader>,
    /// What was found through that other one, where it could be read.
    pub before: Option<CheckReport>,
    /// What follows the other header completes its loss, where one was given up.
    pub risk: Risk,
}

/// Checks an image, through another header if need be.
pub fn begin(
    storage: &dyn Storage,
    mode: RepairMode,
    hints: &Hints,
    options: &CheckOptions,
    progress: &dyn Progress,
    journal: &mut dyn Journal,
) -> Result<Begun> {
    let options = CheckOptions { assume: mode.assume(), ..*options };
    let look = || check::survey(&storage, &options, progress);
    let lossy = mode == RepairMode::Lossy;
    let (before, rebuilt) = match look() {
        Err(Error::Header { .. } | Error::NotQcow2) if lossy => {
            (None, search::for_lost(storage, hints, &options, progress)?)
        }
        Err(error) => return Err(error),
        Ok(survey) => {
            let better = match lossy {
                true => search::for_doubtful(storage, &survey, hints, &options, progress)?,
                false => search::check_sizes(storage, &survey, &options)?.filter(|_| mode.is_all()),
            };
            match better {
                Some(rebuilt) => (Some(survey.report), rebuilt),
                None => {
                    return Ok(Begun {
                        survey,
                        rebuilt_header: None,
                        before: None,
                        risk: Risk::Safe,
                    });
                }
            }
        }
    };
    write(storage, &rebuilt, lossy, journal)?;
    Ok(Begun { survey: look()?, rebuilt_header: Some(rebuilt), before, risk: Risk::of(lossy) })
}

fn write(
    storage: &dyn Storage,
    rebuilt: &RebuiltHeader,
    lossy: bool,
    journal: &mut dyn Journal,
) -> Result<()> {
    journal.stage(1, StageKind::Header);
    let what = "the header that fits what the file holds";
    journal.step(&|| Purpose::new(what, vec![HEADER_FIELD.code], Risk::of(lossy)));
    search::write(storage, rebuilt)
}
