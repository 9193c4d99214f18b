//! Everything about an image's metadata for programs: all tables, each on its own.

use std::io;

use qcheck::check::{Source, Verb, place_text};
use qcheck::format::HostOffset;
use qcheck::layout::{self, Field, Layout, Role, Structures, Table, Totals};
use serde_json::{Value, json};

use super::check::severity;
use super::document::{self, Object};
use super::stream::{Sink, Streamed};
use crate::cli::render::inspected::Inspected;
use crate::cli::terminal::ui::Output;

/// Prints one object.
pub fn print(out: &mut Output, image: &Inspected, fields: &[Field]) -> io::Result<()> {
    let survey = &image.survey;
    let structures = Structures::of(&image.storage, survey);
    let layout = image.layout();
    let mut object = Streamed::default();
    object
        .set("filename", image.path.to_string_lossy().into_owned())
        .set("file-length", survey.file_bytes)
        .set("actual-size", image.disk_bytes)
        .set("cluster-size", survey.area.geometry.cluster_bytes())
        .set("header", fields.iter().map(field).collect::<Vec<_>>())
        .each("header-extensions", |sink| extensions(image, sink));
    if let Some(name) = &survey.area.backing_name {
        let offset = survey.area.header.backing_name_offset;
        let text = String::from_utf8_lossy(name);
        let value = json!({ "offset": offset, "length": name.len(), "name": text });
        object.set("backing-filename", value);
    }
    object
        .set("refcount-table", table(&structures.reftable))
        .each("refcount-blocks", |sink| blocks(image, sink))
        .each("l1-tables", |sink| l1_tables(image, &structures, sink))
        .each("l1-entries", |sink| l1_entries(image, &structures, sink))
        .each("l2-tables", |sink| l2_tables(image, sink));
    if let Some(snapshots) = &structures.snapshots {
        object.set("snapshot-table", table(snapshots));
    }
    if let Some((offset, bytes)) = structures.crypto {
        object.set("encryption-header", json!({ "offset": offset.get(), "length": bytes }));
    }
    if let Some(directory) = &structures.directory {
        object.set("bitmap-directory", table(directory));
        object.each("bitmaps", |sink| bitmaps(&structures, sink));
    }
    object.set("space", space(&layout)).each("findings", |sink| findings(image, sink));
    document::write(out, &object)
}

fn field(field: &Field) -> Value {
    let mut object = Object::default();
    object
        .set("name", field.name)
        .set("offset", field.offset)
        .set("length", field.bytes)
        .set("value", field.value);
    if !field.meaning.is_empty() {
        object.set("meaning", field.meaning.as_str());
    }
    object.into_value()
}

fn extensions(image: &Inspected, sink: &mut Sink<'_>) {
    for extension in layout::extensions(&image.survey.area) {
        let mut object = Object::default();
        object
            .set("type", extension.magic)
            .set("name", extension.name)
            .set("offset", extension.offset)
            .set("length", extension.bytes);
        if !extension.meaning.is_empty() {
            object.set("meaning", extension.meaning);
        }
        if !sink(object.into_value()) {
            return;
        }
    }
}

fn table(table: &Table) -> Value {
    described(table).into_value()
}

fn described(table: &Table) -> Object {
    let mut object = Object::default();
    object
        .set("offset", table.offset.get())
        .set("length", table.bytes)
        .set("entries", table.entries)
        .set("in-use", table.used);
    object
}

fn blocks(image: &Inspected, sink: &mut Sink<'_>) {
    let geometry = &image.survey.area.geometry;
    for block in &image.survey.refcounts.blocks {
        let value = json!({
            "index": block.index.get(),
            "offset": block.offset.get(),
            "first-cluster": geometry.first_cluster_of_block(block.index).get(),
            "sound": block.sound,
        });
        if !sink(value) {
            return;
        }
    }
}

/// The snapshot whose table it is; the active one has none.
fn disk(object: &mut Object, image: &Inspected, source: Source) {
    if let Source::Snapshot(index) = source {
        let names = &image.survey.report.snapshots;
        let id = usize::try_from(index).ok().and_then(|index| names.get(index));
        object.set("snapshot", id.map_or_else(|| index.to_string(), |name| name.id.clone()));
    }
}

fn l1_tables(image: &Inspected, structures: &Structures<'_>, sink: &mut Sink<'_>) {
    for (source, l1) in &structures.l1_tables {
        let mut object = described(l1);
        disk(&mut object, image, *source);
        if !sink(object.into_value()) {
            return;
        }
    }
}

fn l1_entries(image: &Inspected, structures: &Structures<'_>, sink: &mut Sink<'_>) {
    let geometry = &image.survey.area.geometry;
    let first = qcheck::format::L2Index::new(0);
    for (source, _) in &structures.l1_tables {
        for visit in structures.visits(*source) {
            let mut object = Object::default();
            object
                .set("index", visit.index.get())
                .set("guest-offset", geometry.guest_offset(visit.index, first).get())
                .set("l2-table", visit.entry.offset().get())
                .set("copied", visit.entry.copied());
            disk(&mut object, image, *source);
            if !sink(object.into_value()) {
                return;
            }
        }
    }
}

fn l2_tables(image: &Inspected, sink: &mut Sink<'_>) {
    let geometry = &image.survey.area.geometry;
    let tables = image.survey.regions.iter();
    for region in tables.filter(|r| r.kind == qcheck::check::RegionKind::L2Table) {
        let offset: HostOffset = geometry.offset_of(region.first);
        if !sink(json!({ "offset": offset.get(), "pointers": region.pointers })) {
            return;
        }
    }
}

fn bitmaps(structures: &Structures<'_>, sink: &mut Sink<'_>) {
    for bitmap in &structures.bitmaps {
        let mut object = Object::default();
        object.set("name", bitmap.name.as_str()).set("table", table(&bitmap.table));
        if !sink(object.into_value()) {
            return;
        }
    }
}

/// Bytes by role; together they are the file's length.
pub fn space(layout: &Layout<'_>) -> Value {
    let totals: Totals = layout.totals();
    let mut object = Object::default();
    for role in Role::ALL.into_iter().filter(|role| totals.bytes(*role) > 0) {
        let value = json!({ "bytes": totals.bytes(role), "holes": totals.holes(role) });
        object.set(role.code(), value);
    }
    object.set("sum", totals.sum()).set("touched-by-errors", totals.damaged);
    object.into_value()
}

fn findings(image: &Inspected, sink: &mut Sink<'_>) {
    for finding in &image.survey.report.findings {
        let value = json!({
            "code": finding.code(),
            "severity": severity(finding.severity()),
            "place": place_text(finding.place),
            "message": finding.line(0, Verb::Tell),
        });
        if !sink(value) {
            return;
        }
    }
}
