//! How an image was seen that another program may be writing, as JSON.

use qcheck::live::View;
use serde::Serialize;

/// How the image was seen.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Live {
    /// How long before its end the check began to read what the result depends on, in seconds.
    age_seconds: f64,
    /// How often what was suspected was read again; 0 where nothing was.
    rounds: u32,
    /// Findings that are not decided, each one of the code `in-flux`.
    in_flux: u64,
    /// Whether another program has the image open for writing; left out where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_open_for_writing: Option<bool>,
}

impl From<&View> for Live {
    fn from(view: &View) -> Self {
        Self {
            age_seconds: view.age.as_secs_f64(),
            rounds: view.rounds,
            in_flux: view.in_flux,
            is_open_for_writing: view.is_open_for_writing,
        }
    }
}
