//! Everything about an image's metadata for people: aligned, grouped, and bounded whatever the
//! image has.

use std::io;
use std::path::Path;

use qcheck::check::{Finding, Kind, Place, RegionKind, Source, Verb};
use qcheck::format::HostOffset;
use qcheck::layout::{self, Field, Role, Structures, Table, Totals};
use qcheck::remote::without_secrets;

use crate::cli::args::size::human_size;
use crate::cli::render::inspected::Inspected;
use crate::cli::terminal::color::{BAD, PLAIN, STRONG};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Rows of a list that are printed; the rest is counted.
const ROWS: usize = 24;
/// How wide the column of names is, at least and at most.
const MIN_NAME: usize = 20;
const MAX_NAME: usize = 48;
/// Findings that are printed below the part where they were made.
const FINDINGS: usize = 8;

/// The part of the output that a finding belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Tables,
    L2Tables,
    Overlaps,
    /// Counts.
    Space,
}

impl Part {
    fn of(finding: &Finding) -> Self {
        match (&finding.kind, finding.place) {
            (
                Kind::Overlap { .. }
                | Kind::L2TableTwice { .. }
                | Kind::CompressedOverlap { .. }
                | Kind::SharedData,
                _,
            ) => Self::Overlaps,
            (_, Place::Header(_)) => Self::Header,
            (_, Place::L1(..) | Place::L2(..)) => Self::L2Tables,
            (_, Place::Clusters(..)) => Self::Space,
            _ => Self::Tables,
        }
    }
}

/// Prints the name and the header's fields.
pub fn head(out: &mut Output, path: &Path, fields: &[Field]) -> io::Result<()> {
    out.line(&format!("image: {}", without_secrets(path).display()))?;
    out.line("")?;
    out.styled(&[(STRONG, "Header:")])?;
    out.line("      at  size  field                    value")?;
    for field in fields {
        let hexadecimal = field.name.contains("offset")
            || field.name.contains("features")
            || field.name == "magic";
        let value = match hexadecimal && field.value != 0 {
            true => format!("{:#x}", field.value),
            false => field.value.to_string(),
        };
        let Field { offset, bytes, name, meaning, .. } = field;
        let line = format!("    {offset:>4}  {bytes:>4}  {name:<23}  {value:<20}  {meaning}");
        out.line(line.trim_end())?;
    }
    Ok(())
}

/// Prints everything that follows the header's fields.
pub fn rest(out: &mut Output, image: &Inspected) -> io::Result<()> {
    extensions(out, image)?;
    let structures = Structures::of(&image.storage, &image.survey);
    out.line("")?;
    tables(out, image, &structures)?;
    for (title, wanted) in RUNS {
        runs(out, image, title, *wanted)?;
    }
    findings(out, image, Part::L2Tables)?;
    out.line("")?;
    space(out, image)
}

type Wanted = fn(RegionKind) -> bool;

/// What there can be any number of.
const RUNS: &[(&str, Wanted)] = &[
    ("Refcount blocks", |kind| kind == RegionKind::Refblock),
    ("L2 tables", |kind| kind == RegionKind::L2Table),
    ("Bitmap data", |kind| matches!(kind, RegionKind::BitmapData(_))),
];

fn extensions(out: &mut Output, image: &Inspected) -> io::Result<()> {
    let area = &image.survey.area;
    let extensions = layout::extensions(area);
    if !extensions.is_empty() {
        out.line("")?;
        out.styled(&[(STRONG, "Header extensions:")])?;
        out.line("      at  size  type        what it is")?;
    }
    for extension in extensions.iter().take(ROWS) {
        let (offset, bytes, magic) = (extension.offset, extension.bytes, extension.magic);
        let colon = if extension.meaning.is_empty() { "" } else { ": " };
        let (name, meaning) = (extension.name, &extension.meaning);
        out.line(&format!("    {offset:>4}  {bytes:>4}  {magic:#010x}  {name}{colon}{meaning}"))?;
    }
    more(out, extensions.len())?;
    if let Some(name) = &area.backing_name {
        let (at, bytes) = (area.header.backing_name_offset, name.len());
        let name = String::from_utf8_lossy(name);
        out.line("")?;
        out.line(&format!("Backing file's name: {bytes} bytes at {at}: {name}"))?;
    }
    findings(out, image, Part::Header)
}

fn tables(out: &mut Output, image: &Inspected, structures: &Structures<'_>) -> io::Result<()> {
    let mut rows = vec![Row::of("refcount table".into(), &structures.reftable)];
    for (source, l1) in structures.l1_tables.iter().take(ROWS) {
        let name = match source {
            Source::Active => "active L1 table".into(),
            Source::Snapshot(index) => format!("L1 table of snapshot {}", image.snapshot(*index)),
        };
        rows.push(Row::of(name, l1));
    }
    rows.extend(Row::more(structures.l1_tables.len()));
    rows.extend(structures.snapshots.iter().map(|t| Row::of("snapshot table".into(), t)));
    rows.extend(structures.crypto.map(|(offset, bytes)| {
        let columns = [at(offset), bytes.to_string(), String::new(), String::new()];
        Row { name: "encryption header".into(), columns }
    }));
    rows.extend(structures.directory.iter().map(|t| Row::of("bitmap directory".into(), t)));
    for bitmap in structures.bitmaps.iter().take(ROWS) {
        rows.push(Row::of(format!("table of bitmap '{}'", bitmap.name), &bitmap.table));
    }
    rows.extend(Row::more(structures.bitmaps.len()));
    let names = rows.iter().map(|row| row.name.chars().count());
    let width = names.max().unwrap_or(0).clamp(MIN_NAME, MAX_NAME);
    out.styled(&[(STRONG, "Tables:")])?;
    let titles = ["offset", "bytes", "entries", "in use"].map(str::to_owned);
    out.line(&Row { name: "structure".into(), columns: titles }.text(width))?;
    for row in rows {
        out.line(&row.text(width))?;
    }
    findings(out, image, Part::Tables)
}

/// A row of the list of tables.
struct Row {
    name: String,
    columns: [String; 4],
}

impl Row {
    fn of(name: String, table: &Table) -> Self {
        let Table { offset, bytes, entries, used } = table;
        let columns = [at(*offset), bytes.to_string(), entries.to_string(), used.to_string()];
        Self { name, columns }
    }

    /// What stands for the rows that are not printed.
    fn more(count: usize) -> Option<Self> {
        let more = count.checked_sub(ROWS).filter(|more| *more > 0)?;
        let name = format!("and {more} more; --output json has all");
        Some(Self { name, columns: Default::default() })
    }

    fn text(&self, width: usize) -> String {
        let [offset, bytes, entries, used] = &self.columns;
        let name = &self.name;
        let text =
            format!("    {name:<width$}  {offset:>14}  {bytes:>12}  {entries:>9}  {used:>9}");
        text.trim_end().to_owned()
    }
}

fn at(offset: HostOffset) -> String {
    format!("{:#x}", offset.get())
}

fn runs(out: &mut Output, image: &Inspected, title: &str, wanted: Wanted) -> io::Result<()> {
    let (mut count, mut tables, mut bytes) = (0, 0, 0);
    let mut listed = Vec::new();
    for run in layout::runs(&image.survey, wanted) {
        (count, tables, bytes) = (count + 1, tables + run.tables, bytes + run.bytes);
        if listed.len() < ROWS {
            listed.push(run);
        }
    }
    if count == 0 {
        return Ok(());
    }
    out.line("")?;
    let places = if count == 1 { String::new() } else { format!(" in {count} places") };
    let text = format!(": {tables}{places}, {}", sized(bytes));
    out.styled(&[(STRONG, title), (PLAIN, &text)])?;
    for run in &listed {
        let start = run.offset.get();
        let last = start + run.bytes.saturating_sub(1);
        out.line(&format!("    {start:#14x} to {last:#14x}  {:>9}", run.tables))?;
    }
    more(out, count)
}

fn more(out: &mut Output, count: usize) -> io::Result<()> {
    match count.saturating_sub(ROWS) {
        0 => Ok(()),
        more => out.line(&format!("    and {more} more; --output json has all")),
    }
}

fn sized(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", human_size(bytes))
}

/// Which bytes of the file are for what; together they are all of them.
fn space(out: &mut Output, image: &Inspected) -> io::Result<()> {
    let totals: Totals = image.layout().totals();
    out.styled(&[(STRONG, "Space:")])?;
    for role in Role::ALL {
        let bytes = totals.bytes(role);
        let always = matches!(role, Role::Header | Role::Data | Role::Leaked | Role::Free);
        if bytes > 0 || always {
            let holes = match totals.holes(role) {
                0 => String::new(),
                holes if holes == bytes => "  all of it holes".into(),
                holes => format!("  {} of it holes", human_size(holes)),
            };
            out.line(&format!("{}{holes}", amount(role_text(role), bytes)))?;
        }
    }
    let length = image.survey.file_bytes;
    let equal = if totals.sum() == length { "the file's length" } else { "not the file's length" };
    out.line(&format!("{}  {equal}", amount("together", totals.sum())))?;
    if totals.damaged > 0 {
        let text = "touched by errors";
        out.line(&format!("{}  counted above already", amount(text, totals.damaged)))?;
    }
    beyond(out, image)?;
    findings(out, image, Part::Overlaps)?;
    findings(out, image, Part::Space)
}

fn amount(text: &str, bytes: u64) -> String {
    format!("    {text:<36}  {:>9}  {bytes:>20}", human_size(bytes))
}

/// What pointers put past the end of the file.
fn beyond(out: &mut Output, image: &Inspected) -> io::Result<()> {
    let all = image.survey.report.findings.iter();
    let bytes: Vec<u64> = all
        .filter_map(|finding| match finding.kind {
            Kind::BeyondEnd { bytes, .. } => Some(bytes),
            _ => None,
        })
        .collect();
    if bytes.is_empty() {
        return Ok(());
    }
    let sum = bytes.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let places = counted(bytes.len() as u64, "entry", "entries");
    out.line(&format!("{}  claimed by {places}", amount("past the end", sum)))
}

/// A role in words.
pub const fn role_text(role: Role) -> &'static str {
    match role {
        Role::Header => "header",
        Role::CryptoHeader => "encryption header",
        Role::Reftable => "refcount table",
        Role::Refblock => "refcount blocks",
        Role::L1Table => "L1 tables",
        Role::L2Table => "L2 tables",
        Role::SnapshotTable => "snapshot table",
        Role::BitmapDirectory => "bitmap directory",
        Role::BitmapTable => "bitmap tables",
        Role::BitmapData => "bitmap data",
        Role::Compressed => "clusters with compressed data",
        Role::Data => "guest data",
        Role::SnapshotData => "data that only snapshots have",
        Role::Lost => "lost tables and data",
        Role::Leaked => "leaked: counted, used by nothing",
        Role::Free => "free",
    }
}

/// The findings that were made in a part, up to a limit.
fn findings(out: &mut Output, image: &Inspected, part: Part) -> io::Result<()> {
    let all = image.survey.report.findings.iter().filter(|finding| Part::of(finding) == part);
    let mut more = 0u64;
    for (number, finding) in all.enumerate() {
        match number {
            0..FINDINGS => warning(out, &line(finding))?,
            _ => more += 1,
        }
    }
    match more {
        0 => Ok(()),
        more => warning(out, &format!("and {more} more: 'qcheck check' has all")),
    }
}

/// A run of equal counts on one line.
fn line(finding: &Finding) -> String {
    let line = finding.line(0, Verb::Tell);
    match finding.line_count() {
        0 | 1 => line,
        2 => format!("{line}, and likewise the cluster after it"),
        lines => format!("{line}, and likewise {} clusters after it", lines - 1),
    }
}

fn warning(out: &mut Output, text: &str) -> io::Result<()> {
    out.styled(&[(BAD, "  !"), (PLAIN, &format!(" {text}"))])
}
