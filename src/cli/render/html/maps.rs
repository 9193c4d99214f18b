//! The layout of a file and of its virtual disk as SVG.

use std::fmt::Write as _;

use qcheck::layout::{FileRun, GuestMap, GuestState, Role};

use super::result::Guest;
use super::words::text;
use crate::cli::args::size::human_size;
use crate::cli::render::inspected::Inspected;

/// Cells in a row, rows, and the size of a cell.
const COLUMNS: usize = 64;
const ROWS: u64 = 12;
const CELL: usize = 12;

/// What cells of a file show, with their classes: the first three wherever they are.
const FILE: [&str; 9] = [
    "errors",
    "lost tables and data",
    "leaked",
    "header and snapshot table",
    "refcount table and blocks",
    "L1 and L2 tables, bitmaps",
    "compressed data",
    "data",
    "free",
];
const FILE_CLASSES: [&str; 9] = ["e", "l", "k", "h", "r", "t", "c", "d", "f"];

/// What cells of a disk show.
const DISK: [&str; 5] =
    ["findings, or not readable", "compressed data", "zeroes", "data", "not allocated"];
const DISK_CLASSES: [&str; 5] = ["e", "c", "z", "d", "f"];

const fn of_run(run: &FileRun) -> usize {
    match run.role {
        _ if run.damaged => 0,
        Role::Lost => 1,
        Role::Leaked => 2,
        Role::Header | Role::CryptoHeader | Role::SnapshotTable => 3,
        Role::Reftable | Role::Refblock => 4,
        Role::L1Table
        | Role::L2Table
        | Role::BitmapDirectory
        | Role::BitmapTable
        | Role::BitmapData => 5,
        Role::Compressed => 6,
        Role::Data | Role::SnapshotData => 7,
        Role::Free => 8,
    }
}

const fn of_state(state: GuestState) -> usize {
    match state {
        GuestState::Unknown => 0,
        GuestState::Compressed => 1,
        GuestState::Zero => 2,
        GuestState::Data => 3,
        GuestState::Unallocated => 4,
    }
}

/// A range of bytes in cells of equal size.
struct Grid {
    cell_bytes: u64,
    kinds: usize,
    /// Kinds that a cell shows however little there is of them.
    first: usize,
    cells: Vec<Vec<u64>>,
    totals: Vec<u64>,
}

impl Grid {
    fn new(bytes: u64, unit: u64, kinds: usize, first: usize) -> Self {
        let mut cell_bytes = unit.max(1);
        while bytes.div_ceil(cell_bytes) > ROWS * COLUMNS as u64 {
            cell_bytes = cell_bytes.saturating_mul(2);
        }
        let count = usize::try_from(bytes.div_ceil(cell_bytes)).unwrap_or(0);
        Self {
            cell_bytes,
            kinds,
            first,
            cells: vec![vec![0; kinds]; count],
            totals: vec![0; kinds],
        }
    }

    /// Adds bytes of a kind.
    fn add(&mut self, offset: u64, length: u64, kind: usize) {
        self.totals[kind] = self.totals[kind].saturating_add(length);
        self.mark(offset, length, kind);
    }

    /// Adds bytes to the cells and not to the totals.
    fn mark(&mut self, offset: u64, length: u64, kind: usize) {
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let next = (at / self.cell_bytes + 1).saturating_mul(self.cell_bytes).min(end);
            let cell = usize::try_from(at / self.cell_bytes).ok();
            let Some(cell) = cell.and_then(|cell| self.cells.get_mut(cell)) else { return };
            cell[kind] = cell[kind].saturating_add(next - at);
            at = next;
        }
    }

    fn kind(&self, cell: &[u64]) -> usize {
        if let Some(kind) = (0..self.first).find(|&kind| cell[kind] > 0) {
            return kind;
        }
        let most = (self.first..self.kinds).rev().max_by_key(|&kind| cell[kind]);
        most.unwrap_or(self.kinds - 1)
    }

    /// The map with its legend; neighbours of one kind in a row are one rectangle.
    fn figure(&self, title: &str, names: &[&str], classes: &[&str]) -> String {
        let rows = self.cells.len().div_ceil(COLUMNS).max(1);
        let (width, height) = (COLUMNS * CELL, rows * CELL);
        let mut out = format!(
            "<figure><figcaption>{}; a cell is {}</figcaption><svg class=\"map\" role=\"img\" \
             viewBox=\"0 0 {width} {height}\" aria-label=\"{}\">",
            text(title),
            human_size(self.cell_bytes),
            text(&self.words(title, names)),
        );
        for (row, cells) in self.cells.chunks(COLUMNS).enumerate() {
            let mut at = 0;
            while at < cells.len() {
                let kind = self.kind(&cells[at]);
                let same = cells[at..].iter().take_while(|cell| self.kind(cell) == kind).count();
                let first = (row * COLUMNS + at) as u64 * self.cell_bytes;
                let length = (same as u64).saturating_mul(self.cell_bytes);
                let last = first.saturating_add(length - 1);
                let _ = write!(
                    out,
                    "<rect class=\"m{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>\
                     {first:#x} to {last:#x}: {}</title></rect>",
                    classes[kind],
                    at * CELL,
                    row * CELL,
                    same * CELL - 1,
                    CELL - 1,
                    names[kind],
                );
                at += same;
            }
        }
        out.push_str("</svg><ul class=\"legend\">");
        for (kind, name) in names.iter().enumerate() {
            let is_shown = self.totals[kind] > 0 || self.cells.iter().any(|cell| cell[kind] > 0);
            if is_shown {
                let total = match self.totals[kind] {
                    0 => String::new(),
                    bytes => format!(" {}", human_size(bytes)),
                };
                let class = classes[kind];
                let _ = write!(
                    out,
                    "<li><svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect \
                     class=\"m{class}\" width=\"12\" height=\"12\"/></svg> {name}{total}</li>"
                );
            }
        }
        out.push_str("</ul></figure>");
        out
    }

    /// The totals in words, for whoever cannot see the map.
    fn words(&self, title: &str, names: &[&str]) -> String {
        let totals = names.iter().zip(&self.totals).filter(|(_, bytes)| **bytes > 0);
        let totals: Vec<String> =
            totals.map(|(name, bytes)| format!("{name} {}", human_size(*bytes))).collect();
        format!("{title}: {}", totals.join(", "))
    }
}

/// Both maps of an image. Of the disk, the ranges of findings are marked.
pub fn maps(image: &Inspected, marked: &[&Guest]) -> String {
    let layout = image.layout();
    let geometry = &image.survey.area.geometry;
    let unit = geometry.cluster_bytes();
    let mut file = Grid::new(image.survey.file_bytes, unit, FILE.len(), 3);
    layout.for_each(|run| {
        let (offset, length) = layout.bytes_of(&run);
        file.add(offset.get(), length, of_run(&run));
    });
    let mut disk = Grid::new(geometry.virtual_size(), unit, DISK.len(), 1);
    let map = GuestMap::new(&image.storage, &image.survey);
    let _: Result<(), ()> = map.try_for_each(|run| {
        disk.add(run.offset, run.bytes, of_state(run.state));
        Ok(())
    });
    for range in marked.iter().filter(|range| range.snapshot.is_none()) {
        disk.mark(range.offset, range.length, 0);
    }
    let size = human_size(image.survey.file_bytes);
    let virtual_size = human_size(geometry.virtual_size());
    file.figure(&format!("Layout of the file, {size}"), &FILE, &FILE_CLASSES)
        + &disk.figure(&format!("Virtual disk, {virtual_size}"), &DISK, &DISK_CLASSES)
}
