//! The section of one image: its verdict, its findings, what it consists of.

use std::fmt::Write as _;

use qcheck::contents::Contents;
use qcheck::info::Qcow2Info;

use super::result::{Finding, Line};
use super::words::{badge, text};
use crate::cli::args::size::human_size;
use crate::cli::render::verdict::record::time_text;
use crate::cli::terminal::count::counted;

/// Places of one kind of finding that are listed.
const PLACES: usize = 12;
/// Guest ranges that are named of one finding.
const RANGES: usize = 6;

/// A file of a backing chain.
#[derive(Debug, Clone)]
pub struct Below {
    /// Its name.
    pub name: String,
    /// Its format, where it is known.
    pub format: String,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// The heading and the verdict.
pub fn head(line: &Line, host: &str, id: &str) -> String {
    let host = if host.is_empty() { String::new() } else { format!(" on {}", text(host)) };
    let mut out = format!(
        "<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{} {}{host}</h2>",
        badge(line.class(), &line.verdict),
        text(&line.filename)
    );
    let mut words = Vec::new();
    if line.corruptions > 0 {
        words.push(counted(line.corruptions, "error", "errors"));
    }
    if line.leaks > 0 {
        let bytes = human_size(line.leaked_bytes());
        words.push(format!(
            "{} ({bytes})",
            counted(line.leaks, "leaked cluster", "leaked clusters")
        ));
    }
    if line.check_errors > 0 {
        let parts = counted(line.check_errors, "part", "parts");
        words.push(format!("{parts} that could not be checked"));
    }
    if !line.error.is_empty() {
        words.push(line.error.clone());
    }
    words.extend(line.violations.iter().map(|violation| violation.message.clone()));
    if words.is_empty() {
        words.push(match line.verdict.as_str() {
            "clean" => "Nothing is wrong with the image's metadata.".into(),
            "no-checker" => format!("There is no checker for the format {}.", line.format),
            other => other.into(),
        });
    }
    let _ = write!(out, "<p>{}</p>", text(&words.join(", ")));
    if line.cluster_size > 0 {
        let _ = write!(out, "<dl>{}</dl>", numbers(line));
    }
    out
}

fn numbers(line: &Line) -> String {
    let allocated = human_size(line.allocated_bytes());
    [
        ("Virtual size", human_size(line.virtual_size)),
        ("Allocated", allocated),
        ("Cluster size", human_size(line.cluster_size)),
        ("Fragmentation", format!("{} %", line.fragmentation())),
        ("Compressed clusters", line.compressed_clusters.to_string()),
        ("Snapshots", line.snapshot_count.to_string()),
    ]
    .iter()
    .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", text(value)))
    .collect()
}

/// The findings by kind: what it means, what to do, where it is.
pub fn findings(line: &Line) -> String {
    let mut out = String::new();
    let mut codes: Vec<&str> = Vec::new();
    for finding in &line.findings {
        if !codes.contains(&finding.code.as_str()) {
            codes.push(&finding.code);
        }
    }
    for code in &codes {
        let all: Vec<&Finding> = line.findings.iter().filter(|f| f.code == *code).collect();
        out.push_str(&kind(code, &all));
    }
    for (code, count) in line.codes.iter().filter(|(code, _)| !codes.contains(&code.as_str())) {
        let _ = write!(out, "<h3>{}</h3><p>{count} places.</p>", text(code));
    }
    if line.findings_omitted > 0 {
        let _ = write!(out, "<p>{} more findings are not listed.</p>", line.findings_omitted);
    }
    match out.is_empty() {
        true => out,
        false => format!("<div class=\"findings\">{out}</div>"),
    }
}

fn kind(code: &str, all: &[&Finding]) -> String {
    let Some(first) = all.first() else { return String::new() };
    let mut out = format!(
        "<h3>{} <span class=\"severity\">{}</span></h3><p>{}</p><p><strong>What to do:</strong> \
         {}</p><ul>",
        text(code),
        text(&first.severity),
        text(&first.meaning),
        text(&first.remedy),
    );
    for finding in all.iter().take(PLACES) {
        let _ = write!(out, "<li><code>{}</code>", text(&finding.message));
        let ranges: Vec<String> = finding.ranges().take(RANGES).map(|g| text(&g.text())).collect();
        if !ranges.is_empty() {
            let _ = write!(out, "<br>{}", ranges.join("<br>"));
        }
        out.push_str("</li>");
    }
    if all.len() > PLACES {
        let more = counted((all.len() - PLACES) as u64, "more place", "more places");
        let _ = write!(out, "<li>and {more}</li>");
    }
    out + "</ul>"
}

/// Partitions and file systems.
pub fn contents(contents: &Contents) -> String {
    let cells = |part: &qcheck::contents::Part| {
        let found = part.file_system.as_ref();
        let number = part.number.map_or_else(|| "whole disk".to_owned(), |n| n.to_string());
        let label = found.and_then(|f| f.label.clone()).or_else(|| part.label.clone());
        [
            number,
            format!("{:#x}", part.range.start),
            human_size(part.range.end - part.range.start),
            part.kind.clone().unwrap_or_default(),
            found.map(|f| f.kind.to_owned()).unwrap_or_default(),
            label.unwrap_or_default(),
            found.and_then(|f| f.uuid.clone()).unwrap_or_default(),
        ]
    };
    let heads = ["Partition", "Offset", "Size", "Type", "File system", "Label", "UUID"];
    table("What is on the disk", &heads, contents.parts.iter().map(cells))
}

/// Snapshots and bitmaps.
pub fn tables(info: &Qcow2Info) -> String {
    let snapshots = info.snapshots.iter().map(|snapshot| {
        let time = jiff::Timestamp::from_second(snapshot.date_sec.into()).unwrap_or_default();
        let state = human_size(snapshot.vm_state_bytes);
        [snapshot.id.clone(), snapshot.name.clone(), time_text(time), state]
    });
    let bitmaps = info.bitmaps.iter().map(|bitmap| {
        let flags = match (bitmap.in_use, bitmap.auto) {
            (true, _) => "in use, or not stored completely",
            (false, true) => "records writes",
            (false, false) => "",
        };
        [bitmap.name.clone(), human_size(bitmap.granularity), flags.into()]
    });
    table("Snapshots", &["ID", "Name", "Taken", "VM state"], snapshots)
        + &table("Bitmaps", &["Name", "Granularity", "State"], bitmaps)
}

/// The image and its backing files, each within the one above.
pub fn chain(files: &[Below]) -> String {
    if files.len() < 2 {
        return String::new();
    }
    let mut out = "<h3>Backing chain</h3>".to_owned();
    for file in files {
        let problem = file.problem.as_ref().map(|problem| format!(": {problem}"));
        let line = format!("{} ({}){}", file.name, file.format, problem.unwrap_or_default());
        let _ = write!(out, "<ul class=\"tree\"><li>{}", text(&line));
    }
    out + &"</li></ul>".repeat(files.len())
}

/// A table under a heading; nothing where it has no rows.
pub fn table<const N: usize>(
    heading: &str,
    heads: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let cell = |cell: &String| format!("<td>{}</td>", text(cell));
    let rows: String =
        rows.map(|row| format!("<tr>{}</tr>", row.iter().map(cell).collect::<String>())).collect();
    if rows.is_empty() {
        return rows;
    }
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<h3>{heading}</h3><div class=\"wide\" tabindex=\"0\" role=\"region\" \
         aria-label=\"{heading}\"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>\
         </table></div>"
    )
}
