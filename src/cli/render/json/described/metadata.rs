//! Everything about an image's metadata for programs: all tables, each on its own.

use std::borrow::Cow;
use std::io;

use qcheck::check::{RegionKind, Source, Verb, place_text};
use qcheck::format::{HostOffset, L2Index};
use qcheck::layout::{self, ExtensionPlace, Structures};
use qcheck::remote::without_secrets;
use serde::Serialize;

use super::space::Space;
use crate::cli::render::findings;
use crate::cli::render::inspected::Inspected;
use crate::cli::render::json::checked::result::Severity;
use crate::cli::render::json::document;
use crate::cli::render::json::stream::{Each, Sink};
use crate::cli::terminal::ui::Output;

/// All metadata of an image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Metadata<'a> {
    /// The image's name as it was given.
    filename: Cow<'a, str>,
    /// Bytes.
    file_length: u64,
    /// Bytes that the file takes on its file system, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_size: Option<u64>,
    /// Bytes.
    cluster_size: u64,
    /// The fields of the header, in its order.
    header: Vec<Field<'a>>,
    header_extensions: Vec<Extension>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename: Option<BackingName<'a>>,
    refcount_table: Table,
    refcount_blocks: Each<'a, Block>,
    l1_tables: Each<'a, L1Table>,
    /// The L1 entries that point to something.
    l1_entries: Each<'a, L1Entry>,
    l2_tables: Each<'a, L2Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_table: Option<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_header: Option<Range>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitmap_directory: Option<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitmaps: Option<Vec<Bitmap<'a>>>,
    space: Space,
    findings: Each<'a, Finding>,
}

/// A field of the header.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Field<'a> {
    /// Its name in the specification.
    name: &'static str,
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: usize,
    value: u64,
    /// The meaning of the value, where the number does not show it.
    #[serde(skip_serializing_if = "str::is_empty")]
    meaning: &'a str,
}

/// A header extension.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Extension {
    r#type: u32,
    name: &'static str,
    /// Host offset in bytes.
    offset: u64,
    /// Bytes of data.
    length: u64,
    /// The meaning of the data.
    #[serde(skip_serializing_if = "String::is_empty")]
    meaning: String,
}

/// The name of the backing file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BackingName<'a> {
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: usize,
    name: Cow<'a, str>,
}

/// A table as the image describes it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct Table {
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    entries: u64,
    /// Entries that point to something.
    in_use: u64,
}

/// Bytes of the file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Range {
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
}

/// A refcount block.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct Block {
    /// Its index in the refcount table.
    index: u64,
    /// Host offset in bytes.
    offset: u64,
    /// The first cluster whose refcount it holds.
    first_cluster: u64,
    /// Whether its pointer is valid and the cluster its own.
    sound: bool,
}

/// An L1 table.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct L1Table {
    #[serde(flatten)]
    table: Table,
    /// The ID of the snapshot whose it is; none for the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
}

/// An L1 entry.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct L1Entry {
    index: u32,
    /// The first byte of the virtual disk that it maps.
    guest_offset: u64,
    /// Host offset of the L2 table.
    l2_table: u64,
    /// Its COPIED flag.
    copied: bool,
    /// The ID of the snapshot whose it is; none for the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
}

/// An L2 table.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct L2Table {
    /// Host offset in bytes.
    offset: u64,
    /// L1 entries that point to it.
    pointers: u64,
}

/// A persistent bitmap.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Bitmap<'a> {
    name: &'a str,
    table: Table,
}

/// What is wrong in one place.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Finding {
    /// Its kind; `docs/findings.md` has an entry for each.
    code: &'static str,
    severity: Severity,
    /// Where it was found, in words.
    place: String,
    /// What was found, as printed for people.
    message: String,
}

/// Prints one object.
pub fn print(out: &mut Output, image: &Inspected, fields: &[layout::Field]) -> io::Result<()> {
    let survey = &image.survey;
    let structures = Structures::of(&image.storage, survey);
    let area = &survey.area;
    let backing_filename = area.backing_name.as_deref().map(|name| BackingName {
        offset: area.header.backing_name_offset,
        length: name.len(),
        name: String::from_utf8_lossy(name),
    });
    let bitmaps = structures.directory.as_ref().map(|_| {
        let bitmaps = structures.bitmaps.iter();
        bitmaps.map(|b| Bitmap { name: &b.name, table: Table::from(&b.table) }).collect()
    });
    let shown = without_secrets(&image.path);
    let metadata = Metadata {
        filename: shown.to_string_lossy(),
        file_length: survey.file_bytes,
        actual_size: image.disk_bytes,
        cluster_size: area.geometry.cluster_bytes(),
        header: fields.iter().map(Field::from).collect(),
        header_extensions: layout::extensions(area).into_iter().map(Extension::from).collect(),
        backing_filename,
        refcount_table: Table::from(&structures.reftable),
        refcount_blocks: Each::new(|sink| blocks(image, sink)),
        l1_tables: Each::new(|sink| l1_tables(image, &structures, sink)),
        l1_entries: Each::new(|sink| l1_entries(image, &structures, sink)),
        l2_tables: Each::new(|sink| l2_tables(image, sink)),
        snapshot_table: structures.snapshots.as_ref().map(Table::from),
        encryption_header: structures
            .crypto
            .map(|(offset, length)| Range { offset: offset.get(), length }),
        bitmap_directory: structures.directory.as_ref().map(Table::from),
        bitmaps,
        space: Space::from(&image.layout()),
        findings: Each::new(|sink| found(image, sink)),
    };
    document::write(out, &metadata)
}

impl<'a> From<&'a layout::Field> for Field<'a> {
    fn from(field: &'a layout::Field) -> Self {
        let layout::Field { name, offset, bytes, value, ref meaning } = *field;
        Self { name, offset, length: bytes, value, meaning }
    }
}

impl From<ExtensionPlace> for Extension {
    fn from(extension: ExtensionPlace) -> Self {
        Self {
            r#type: extension.magic,
            name: extension.name,
            offset: extension.offset,
            length: extension.bytes,
            meaning: extension.meaning,
        }
    }
}

impl From<&layout::Table> for Table {
    fn from(table: &layout::Table) -> Self {
        Self {
            offset: table.offset.get(),
            length: table.bytes,
            entries: table.entries,
            in_use: table.used,
        }
    }
}

fn blocks(image: &Inspected, sink: &mut Sink<'_, Block>) {
    let geometry = &image.survey.area.geometry;
    image.survey.refcounts.blocks.iter().all(|block| {
        sink(Block {
            index: block.index.get(),
            offset: block.offset.get(),
            first_cluster: geometry.first_cluster_of_block(block.index).get(),
            sound: block.sound,
        })
    });
}

/// The ID of the snapshot whose table it is; the active one has none.
fn snapshot(image: &Inspected, source: Source) -> Option<String> {
    findings::snapshot(&image.survey.report, source)
}

fn l1_tables(image: &Inspected, structures: &Structures<'_>, sink: &mut Sink<'_, L1Table>) {
    structures.l1_tables.iter().all(|(source, l1)| {
        sink(L1Table { table: Table::from(l1), snapshot: snapshot(image, *source) })
    });
}

fn l1_entries(image: &Inspected, structures: &Structures<'_>, sink: &mut Sink<'_, L1Entry>) {
    let geometry = &image.survey.area.geometry;
    let first = L2Index::new(0);
    for (source, _) in &structures.l1_tables {
        for visit in structures.visits(*source) {
            let entry = L1Entry {
                index: visit.index.get(),
                guest_offset: geometry.guest_offset(visit.index, first).get(),
                l2_table: visit.entry.offset().get(),
                copied: visit.entry.copied(),
                snapshot: snapshot(image, *source),
            };
            if !sink(entry) {
                return;
            }
        }
    }
}

fn l2_tables(image: &Inspected, sink: &mut Sink<'_, L2Table>) {
    let geometry = &image.survey.area.geometry;
    let mut tables = image.survey.regions.iter().filter(|r| r.kind == RegionKind::L2Table);
    tables.all(|region| {
        let offset: HostOffset = geometry.offset_of(region.first);
        sink(L2Table { offset: offset.get(), pointers: region.pointers })
    });
}

fn found(image: &Inspected, sink: &mut Sink<'_, Finding>) {
    image.survey.report.findings.iter().all(|finding| {
        sink(Finding {
            code: finding.code(),
            severity: finding.severity().into(),
            place: place_text(finding.place),
            message: finding.line(0, Verb::Tell),
        })
    });
}
