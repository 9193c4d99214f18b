//! `check --explain`: what each kind of finding means, what to do, and which guest data it touches.

use std::io::{self, Write};

use qcheck::check::{
    Affected, CheckReport, Finding, GuestRange, Kind, Severity, place_text, region_text,
};

use crate::cli::render::findings::{meaning, snapshot};
use crate::cli::terminal::color::{BAD, PLAIN, STRONG, WARNING};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Findings of one kind whose places are named.
const NAMED: usize = 8;

/// Explains every kind of finding: what it means, what to do, and which guest data it affects.
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
