//! What a finding means and what to do about it: from `docs/findings.md`, which has an entry for each.

use std::io::{self, Write};

use qcheck::check::{
    Affected, CheckReport, Finding, GuestRange, Kind, Severity, Source, place_text, region_text,
};

use crate::cli::terminal::color::{BAD, PLAIN, STRONG, WARNING};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Every entry: a heading with the code, then a paragraph that ends with the repair.
const FINDINGS: &str = include_str!("../../../../docs/findings.md");
/// Findings of one kind whose places are named.
const NAMED: usize = 8;

/// A finding's meaning, and its remedy, both in sentences without marks of the document.
pub fn meaning(code: &str) -> (String, String) {
    let heading = format!("### `{code}`\n");
    let entry = FINDINGS.split_once(&heading).map_or("", |(_, rest)| rest);
    let paragraph = entry.split("\n\n").next().unwrap_or("").trim();
    let (meaning, remedy) = paragraph.split_once(" Repair: ").unwrap_or((paragraph, "None."));
    // The severity is told by itself.
    let meaning = meaning.trim_start_matches("Notice. ").trim_start_matches("Check error. ");
    (meaning.replace('`', ""), remedy.replace('`', ""))
}

/// Which disk a guest range is of: nothing for the active one, else the snapshot's id.
pub fn snapshot(report: &CheckReport, source: Source) -> Option<String> {
    let Source::Snapshot(index) = source else { return None };
    let name = usize::try_from(index).ok().and_then(|index| report.snapshots.get(index));
    Some(name.map_or_else(|| index.to_string(), |name| name.id.clone()))
}

/// Tells of every kind of finding what it means, what to do, and which guest data it touches.
pub fn print(out: &mut Output, report: &CheckReport, affected: &Affected) -> io::Result<()> {
    let mut codes: Vec<&str> = report.findings.iter().map(Finding::code).collect();
    codes.dedup();
    let mut told = Vec::new();
    for code in codes {
        if !told.contains(&code) {
            told.push(code);
            kind(out, report, affected, code)?;
        }
    }
    if report.findings.iter().any(|f| f.severity() == Severity::Corruption) {
        writeln!(
            out,
            "\nGuest data at risk: {}",
            counted(affected.bytes_at_risk, "byte", "bytes")
        )?;
    }
    Ok(())
}

fn kind(out: &mut Output, report: &CheckReport, affected: &Affected, code: &str) -> io::Result<()> {
    let all = report.findings.iter().enumerate().filter(|(_, f)| f.code() == code);
    let all: Vec<(usize, &Finding)> = all.collect();
    let (meaning, remedy) = meaning(code);
    let style = match all.first().map(|(_, finding)| finding.severity()) {
        Some(Severity::Corruption | Severity::CheckError) => BAD,
        Some(Severity::Leak) => WARNING,
        Some(Severity::Notice) | None => STRONG,
    };
    out.line("")?;
    out.styled(&[(style, code), (PLAIN, &format!(": {meaning}"))])?;
    out.styled(&[(STRONG, "  Repair:"), (PLAIN, &format!(" {remedy}"))])?;
    for &(number, finding) in all.iter().take(NAMED) {
        writeln!(out, "  {}", place_text(finding.place))?;
        if let Some(range) = report.guest_range(finding) {
            writeln!(out, "    guest data {}", range_text(report, &range))?;
        }
        if let Kind::OrphanTable(orphan) = &finding.kind {
            for range in report.orphan_ranges(orphan) {
                writeln!(out, "    possible data {}", range_text(report, &range))?;
            }
        }
        for owner in affected.owners(number).iter().take(NAMED) {
            let what = owner.metadata.map_or("guest data", region_text);
            let range = owner.guest.map(|range| range_text(report, &range)).unwrap_or_default();
            writeln!(out, "    used by {what} {range}")?;
        }
    }
    match all.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(out, "  and at {}", counted(more as u64, "more place", "more places")),
    }
}

fn range_text(report: &CheckReport, range: &GuestRange) -> String {
    let start = range.offset.get();
    let end = start.saturating_add(range.bytes.saturating_sub(1));
    match snapshot(report, range.source) {
        Some(id) => format!("{start:#x} to {end:#x} of snapshot {id}"),
        None => format!("{start:#x} to {end:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_ends_where_the_repair_begins() {
        let (meaning, remedy) = meaning("copied-data");
        assert_eq!(meaning, "COPIED of an L2 entry disagrees with the refcount of its cluster.");
        assert_eq!(remedy, "-r all corrects it, -r leaks where no refcount is too low.");
        let (meaning, remedy) = super::meaning("unreadable");
        assert!(meaning.starts_with("The system could not read"), "{meaning}");
        assert!(remedy.starts_with("None, "), "{remedy}");
    }

    #[test]
    fn every_entry_of_the_documentation_is_a_meaning_on_one_line() {
        let codes = FINDINGS.lines().filter_map(|l| l.strip_prefix("### `")?.strip_suffix('`'));
        let mut count = 0;
        for code in codes {
            let (meaning, remedy) = meaning(code);
            assert!(meaning.len() > 20 && !meaning.contains('\n'), "{code}: {meaning}");
            assert!(!remedy.contains('\n'), "{code}: {remedy}");
            let whole = |text: &str| {
                let begins = text.starts_with(|c: char| c.is_uppercase());
                let is_mode = ["-r all ", "-r leaks "].iter().any(|mode| text.starts_with(mode));
                (begins || is_mode) && text.ends_with('.') && !text.contains('`')
            };
            assert!(whole(&meaning) && whole(&remedy), "{code}: {meaning} {remedy}");
            let more_than_a_mode = remedy.split(' ').count() > 3 || remedy.starts_with("None");
            assert!(more_than_a_mode, "{code}: {remedy}");
            count += 1;
        }
        assert!(count > 30, "{count}");
    }
}
