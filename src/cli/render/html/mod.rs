//! Results as one page of HTML that needs nothing else: no network, no script to be read.

pub mod maps;
pub mod result;
pub mod section;
mod words;

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use qcheck::Class;

use super::verdict::record::time_text;
use crate::cli::args::size::human_size;
use crate::cli::terminal::count::counted;
use result::Line;
use words::{badge, text};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Bytes of all sections; more images have a row in the table only.
const MOST_SECTIONS: usize = 3 << 20;
/// Images up to which those without findings have a section too.
pub const FEW: usize = 20;

/// An image on the page.
#[derive(Debug)]
pub struct Entry {
    /// The latest result.
    pub line: Line,
    /// The host that the result is of, where it is named: images of two hosts may have one name.
    pub host: String,
    /// The file that the result is from; nothing for an image that was checked for the page.
    pub source: String,
    /// Maps of an image that was checked for the page, as HTML.
    pub maps: String,
    /// Its tables and its chain.
    pub about: String,
    /// Earlier results, the latest first.
    pub earlier: Vec<Line>,
}

impl Entry {
    /// A result for the page, from a file.
    pub fn new(line: Line, host: String, source: String) -> Self {
        let none = String::new;
        Self { line, host, source, maps: none(), about: none(), earlier: Vec::new() }
    }

    /// Where it is from, in one word.
    fn from(&self) -> &str {
        if self.host.is_empty() { &self.source } else { &self.host }
    }
}

/// Joins results of the same image of the same host: the latest counts. The worst image is first.
pub fn joined(all: Vec<Entry>) -> Vec<Entry> {
    let mut by_name: BTreeMap<(String, String), Vec<Entry>> = BTreeMap::new();
    for entry in all {
        let name = (entry.host.clone(), entry.line.filename.clone());
        by_name.entry(name).or_default().push(entry);
    }
    let mut entries: Vec<Entry> = by_name.into_values().filter_map(latest).collect();
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.line.class(), entry.line.corruptions, entry.line.leaks);
        key(b).cmp(&key(a)).then_with(|| a.line.filename.cmp(&b.line.filename))
    });
    entries
}

/// The latest of the results of one image, with the others.
fn latest(mut entries: Vec<Entry>) -> Option<Entry> {
    // Of equal times the last one that was given counts.
    entries.sort_by(|a, b| a.line.checked_at.cmp(&b.line.checked_at));
    let mut last = entries.pop()?;
    last.earlier = entries.into_iter().rev().map(|entry| entry.line).collect();
    Some(last)
}

/// Writes the page.
pub fn write(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    let worst = entries.iter().map(|entry| entry.line.class()).max().unwrap_or_default();
    let sections = Sections::of(entries);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; script-src 'unsafe-inline'\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} - qcheck report</title>\
         <style>{STYLE}</style></head><body><a class=\"skip\" href=\"#main\">To the images</a>\
         <header><h1>{} <span>{}</span></h1><p>{}</p><p class=\"made\">Made {} by qcheck {}.</p>\
         </header><main id=\"main\">",
        text(&summary(entries)),
        badge(worst, word(worst)),
        text(&headline(entries, worst)),
        text(&totals(entries)),
        time_text(Timestamp::now()),
        env!("CARGO_PKG_VERSION"),
    )?;
    if entries.len() > 1 {
        table(out, entries, &sections)?;
    }
    for section in sections.texts.iter().flatten() {
        out.write_all(section.as_bytes())?;
    }
    if sections.left_out > 0 {
        let more = counted(sections.left_out, "image has", "images have");
        write!(out, "<p>{more} no section of their own, so that the page stays small.</p>")?;
    }
    write!(out, "</main><script>{SCRIPT}</script></body></html>")?;
    out.write_all(b"\n")
}

/// The sections as HTML; none for images that have only a row.
struct Sections {
    texts: Vec<Option<String>>,
    left_out: u64,
}

impl Sections {
    fn of(entries: &[Entry]) -> Self {
        let (mut bytes, mut left_out) = (0, 0);
        let mut texts = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let is_worth_it = entry.line.has_details() || !entry.earlier.is_empty();
            if !is_worth_it && entries.len() > FEW {
                texts.push(None);
                continue;
            }
            let section = section(entry, number);
            bytes += section.len();
            let fits = bytes <= MOST_SECTIONS;
            left_out += u64::from(!fits);
            texts.push(fits.then_some(section));
        }
        Self { texts, left_out }
    }
}

fn section(entry: &Entry, number: usize) -> String {
    let mut out = section::head(&entry.line, &entry.host, &format!("image-{number}"));
    out.push_str(&entry.maps);
    out.push_str(&section::findings(&entry.line));
    out.push_str(&entry.about);
    let all = std::iter::once(&entry.line).chain(&entry.earlier);
    if !entry.earlier.is_empty() {
        let row = |line: &Line| {
            let numbers = [line.corruptions, line.leaks, line.snapshot_count];
            let [errors, leaks, snapshots] = numbers.map(|number| number.to_string());
            let allocated = human_size(line.allocated_bytes());
            let fragmentation = format!("{} %", line.fragmentation());
            let verdict = line.verdict.clone();
            [line.checked_at.clone(), verdict, errors, leaks, allocated, fragmentation, snapshots]
        };
        let heads =
            ["Checked", "Verdict", "Errors", "Leaks", "Allocated", "Fragmentation", "Snapshots"];
        out.push_str(&section::table("History", &heads, all.map(row)));
    }
    out + "</section>"
}

/// The table of all images, the worst first; a script lets it be sorted otherwise.
fn table(out: &mut dyn Write, entries: &[Entry], sections: &Sections) -> io::Result<()> {
    let heads = [
        ("Verdict", "num"),
        ("Image", "text"),
        ("Errors", "num"),
        ("Leaked", "num"),
        ("Allocated", "num"),
        ("Fragmentation", "num"),
        ("Snapshots", "num"),
        ("Checked", "text"),
        ("From", "text"),
    ];
    write!(
        out,
        "<h2 id=\"images\">Images</h2><div class=\"wide\" tabindex=\"0\" role=\"region\" \
         aria-labelledby=\"images\"><table class=\"sortable\"><thead><tr>"
    )?;
    for (head, sort) in heads {
        write!(out, "<th scope=\"col\" data-sort=\"{sort}\">{head}</th>")?;
    }
    out.write_all(b"</tr></thead><tbody>\n")?;
    for (number, entry) in entries.iter().enumerate() {
        row(out, entry, number, sections.texts[number].is_some())?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

fn row(out: &mut dyn Write, entry: &Entry, number: usize, has_section: bool) -> io::Result<()> {
    let line = &entry.line;
    let name = text(&line.filename);
    let name = match has_section {
        true => format!("<a href=\"#image-{number}\">{name}</a>"),
        false => name,
    };
    let (class, verdict) = (line.class(), badge(line.class(), &line.verdict));
    write!(out, "<tr><td data-v=\"{}\">{verdict}</td><th scope=\"row\">{name}</th>", class as u8)?;
    write!(out, "<td data-v=\"{0}\">{0}</td>", line.corruptions)?;
    for bytes in [line.leaked_bytes(), line.allocated_bytes()] {
        write!(out, "<td data-v=\"{bytes}\">{}</td>", human_size(bytes))?;
    }
    write!(out, "<td data-v=\"{0}\">{0} %</td>", line.fragmentation())?;
    write!(out, "<td data-v=\"{0}\">{0}</td>", line.snapshot_count)?;
    writeln!(
        out,
        "<td class=\"time\">{}</td><td>{}</td></tr>",
        text(&line.checked_at),
        text(entry.from())
    )
}

/// One word for a class, for people.
const fn word(class: Class) -> &'static str {
    class.word()
}

/// The verdict over all images.
fn headline(entries: &[Entry], worst: Class) -> String {
    match entries {
        [one] => one.line.filename.clone(),
        _ => {
            let count = entries.iter().filter(|entry| entry.line.class() == worst).count() as u64;
            let all = counted(entries.len() as u64, "image", "images");
            match worst {
                Class::Clean => format!("{all}, nothing is wrong"),
                _ => format!("{count} of {all}"),
            }
        }
    }
}

/// The same for the title of the page.
fn summary(entries: &[Entry]) -> String {
    let worst = entries.iter().map(|entry| entry.line.class()).max().unwrap_or_default();
    format!("{}: {}", word(worst), headline(entries, worst))
}

/// How many images have each verdict, and what all of them take.
fn totals(entries: &[Entry]) -> String {
    if let [Entry { line, .. }] = entries {
        return format!("Checked {}", line.checked_at);
    }
    let mut words: BTreeMap<(std::cmp::Reverse<Class>, &str), u64> = BTreeMap::new();
    let (mut allocated, mut leaked) = (0_u64, 0_u64);
    for Entry { line, .. } in entries {
        *words.entry((std::cmp::Reverse(line.class()), &line.verdict)).or_default() += 1;
        allocated = allocated.saturating_add(line.allocated_bytes());
        leaked = leaked.saturating_add(line.leaked_bytes());
    }
    let words: Vec<String> =
        words.iter().map(|((_, word), count)| format!("{word}: {count}")).collect();
    let sizes = format!("{} allocated, {} leaked", human_size(allocated), human_size(leaked));
    format!("{}; {sizes}", words.join(", "))
}
