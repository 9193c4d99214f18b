//! Findings that are printed by themselves, whatever the numbers of errors and leaks.

use std::io;

use qcheck::check::{CheckReport, Finding, Kind, Verb};

use crate::cli::terminal::ui::Ui;

/// Reports lost tables, which look like leaks and are not, files that were not opened or have no
/// name, and bitmaps that were left in use; at most `most` findings, 0 meaning all.
pub fn print(ui: &mut Ui, name: &str, report: &CheckReport, most: u64) -> io::Result<()> {
    let told = |f: &&Finding| {
        matches!(
            f.kind,
            Kind::OrphanTable(_)
                | Kind::BlankTable { .. }
                | Kind::SnapshotsUncounted(_)
                | Kind::SnapshotBlank
                | Kind::Unaccounted { .. }
                | Kind::NotOpened(_)
                | Kind::DataFileUnnamed
                | Kind::BitmapInUse { .. }
        )
    };
    let told = report.findings.iter().filter(told);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    for finding in told.take(if most == 0 { usize::MAX } else { most }) {
        ui.message(&format!("'{name}': {}", finding.line(0, Verb::Tell)))?;
    }
    Ok(())
}
