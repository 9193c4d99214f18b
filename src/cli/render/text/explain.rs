//! `check --explain`: what each kind of finding means, what to do, and which guest data it touches.

use std::io::{self, Write};

use qcheck::check::{Affected, Finding, Kind, Severity, place_text, region_text};

use crate::cli::render::findings::{Ranges, meaning};
use crate::cli::terminal::color::{BAD, PLAIN, STRONG, WARNING};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Findings of one kind whose places are named.
const NAMED: usize = 8;

/// Explains every kind of finding: what it means, what to do, and which guest data it affects.
pub fn print(out: &mut Output, ranges: &Ranges<'_>, affected: &Affected) -> io::Result<()> {
    let report = ranges.report;
    let mut codes: Vec<&str> = report.findings.iter().map(Finding::code).collect();
    codes.dedup();
    let mut told = Vec::new();
    for code in codes {
        if !told.contains(&code) {
            told.push(code);
            kind(out, ranges, affected, code)?;
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

fn kind(out: &mut Output, ranges: &Ranges<'_>, affected: &Affected, code: &str) -> io::Result<()> {
    let report = ranges.report;
    let all = report.findings.iter().enumerate().filter(|(_, f)| f.code() == code);
    let all: Vec<(usize, &Finding)> = all.collect();
    let Some((_, first)) = all.first() else { return Ok(()) };
    let (meaning, remedy) = meaning(first.row());
    let style = match first.severity() {
        Severity::Corruption | Severity::CheckError => BAD,
        Severity::Leak => WARNING,
        Severity::Notice => STRONG,
    };
    out.line("")?;
    out.styled(&[(style, code), (PLAIN, &format!(": {meaning}"))])?;
    out.styled(&[(STRONG, "  Repair:"), (PLAIN, &format!(" {remedy}"))])?;
    for &(number, finding) in all.iter().take(NAMED) {
        writeln!(out, "  {}", place_text(finding.place))?;
        if let Some(range) = report.guest_range(finding) {
            writeln!(out, "    guest data {}", ranges.text(&range))?;
        }
        if let Kind::OrphanTable(orphan) = &finding.kind {
            for range in report.orphan_ranges(orphan) {
                writeln!(out, "    possible data {}", ranges.text(&range))?;
            }
        }
        for owner in affected.owners(number).iter().take(NAMED) {
            let what = owner.metadata.map_or("guest data", region_text);
            let range = owner.guest.map(|range| ranges.text(&range)).unwrap_or_default();
            writeln!(out, "    used by {what} {range}")?;
        }
    }
    match all.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(out, "  and at {}", counted(more as u64, "more place", "more places")),
    }
}
