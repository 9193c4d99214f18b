//! An image that is checked for the page.

use std::path::Path;

use anyhow::Result;
use qcheck::ImageFormat;
use qcheck::check::{Affected, CheckOptions, survey};
use qcheck::file::Intent;
use qcheck::front::Unchecked;
use qcheck::info::qcow2_info;
use qcheck::progress::Silent;
use qcheck::remote::without_secrets;

use crate::cli::args::file_name::quoted;
use crate::cli::files::targets::{self, Target};
use crate::cli::files::{contents, open};
use crate::cli::render::html::result::Line;
use crate::cli::render::html::section::{self, Below};
use crate::cli::render::html::{Entry, maps};
use crate::cli::render::inspected::Inspected;
use crate::cli::render::json::checked::verdict::{Limits, OneOfMany};
use crate::cli::render::outcome::Outcome;
use crate::cli::render::verdict::record::time_text;
use crate::cli::render::verdict::{Judged, Verdict};
use crate::cli::terminal::fault;

/// Findings that are shown one by one.
const FINDINGS: u64 = 300;

/// Checks an image.
pub fn look(target: &Target, share: bool) -> Entry {
    let name = without_secrets(&target.path).to_string_lossy().into_owned();
    let mut judged = Judged::new(name, false);
    let inspected = match &target.problem {
        Some(problem) => {
            judged.verdict = Verdict::Failed(problem.clone());
            None
        }
        None => inspect(target, share, &mut judged).unwrap_or_else(|error| {
            judged.verdict = Verdict::Failed(fault::failure(&error));
            None
        }),
    };
    let limits = Limits { findings: FINDINGS, writes: 0, explain: true };
    let line = serde_json::to_value(OneOfMany::new(&judged, limits)).map_err(anyhow::Error::from);
    let mut line = line.and_then(Line::from_json).unwrap_or_else(|error| Line {
        filename: judged.name.clone(),
        verdict: "no-verdict".into(),
        error: fault::line(&error),
        ..Line::default()
    });
    line.checked_at = time_text(judged.begun);
    let mut entry = Entry::new(line, String::new(), String::new());
    if let Some(image) = inspected {
        let findings = &entry.line.findings;
        let marked: Vec<_> = findings.iter().flat_map(|finding| finding.ranges()).collect();
        entry.maps = maps::maps(&image, &marked);
        entry.about = about(target, share, &image, &judged);
    }
    entry
}

/// Checks a qcow2 image and keeps what its layout is drawn from.
fn inspect(target: &Target, share: bool, judged: &mut Judged) -> Result<Option<Inspected>> {
    let path = target.path.as_path();
    let file = open::open(path, target.format, Intent::ReadMetadata, share)?;
    if file.format != ImageFormat::Qcow2 {
        judged.verdict = Verdict::NoChecker(Unchecked::image(file.format, None));
        return Ok(None);
    }
    let context = |error| anyhow::Error::from(error).context(quoted(path).to_string());
    let survey = survey(&file.storage, &CheckOptions::default(), &Silent).map_err(context)?;
    let affected = Affected::find(&file.storage, &survey);
    let report = Box::new(survey.report.clone());
    judged.verdict = Verdict::Checked(Outcome::Checked { report, affected });
    judged.contents = contents::of(path, target.format, share, &target.key);
    let (path, disk_bytes) = (path.to_owned(), None);
    Ok(Some(Inspected { path, storage: file.storage, disk_bytes, survey }))
}

/// What is on the disk, snapshots, bitmaps, chain.
fn about(target: &Target, share: bool, image: &Inspected, judged: &Judged) -> String {
    let mut out = String::new();
    if let Some(found) = &judged.contents {
        out.push_str(&section::contents(found));
    }
    if let Ok(info) = qcow2_info(&image.storage) {
        out.push_str(&section::tables(&info));
    }
    out + &section::chain(&chain(target, share))
}

/// The image and its backing files.
fn chain(target: &Target, share: bool) -> Vec<Below> {
    let chain = targets::with_chains(vec![target.clone()], share);
    chain.into_iter().map(|target| below(&target, share)).collect()
}

fn below(target: &Target, share: bool) -> Below {
    let path: &Path = &target.path;
    let opened = match &target.problem {
        Some(problem) => Err(problem.clone()),
        None => open::open(path, target.format, Intent::Describe, share)
            .map(|file| file.format)
            .map_err(|error| fault::line(&error)),
    };
    let format = target.format.or(opened.as_ref().ok().copied());
    Below {
        name: without_secrets(path).to_string_lossy().into_owned(),
        format: format.map_or("format not known", |format| format.name()).to_owned(),
        problem: opened.err(),
    }
}
