//! An image's layout and its disk's allocation as grids of cells.

use std::io;

use anstyle::AnsiColor::{Black, Blue, BrightGreen, Cyan, Green, Magenta, Red, White, Yellow};
use anstyle::Style;
use qcheck::layout::{FileRun, GuestMap, GuestState, Layout, Role};
use qcheck::remote::without_secrets;

use crate::cli::args::size::human_size;
use crate::cli::render::inspected::Inspected;
use crate::cli::terminal::color::{FAINT, PLAIN, STRONG, letters, on};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Most rows of the file's grid and of the disk's.
const ROWS: (u64, u64) = (16, 8);
/// Cells of a row are a multiple of this, so that rows begin at round places.
const STEP: usize = 16;

/// The longest name in the legend.
const NAME: usize = 25;
/// The width of lines from which a space follows it, with shares in per cent.
const WITH_SHARES: usize = 51;

/// What a cell can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    letter: &'static str,
    style: Style,
    text: &'static str,
    /// It is shown wherever it is, however little there is of it.
    first: bool,
}

const fn look(letter: &'static str, style: Style, text: &'static str) -> Look {
    Look { letter, style, text, first: false }
}

const fn first(letter: &'static str, style: Style, text: &'static str) -> Look {
    Look { letter, style, text, first: true }
}

/// What cells of the file show: the first ones wherever they are, then what there is most of, and
/// of equals the one that comes first.
const FILE: [Look; 12] = [
    first("!", on(Red, White).bold(), "errors"),
    first("?", on(Magenta, White).bold(), "lost tables and data"),
    first("x", on(Yellow, Black), "leaked"),
    look("H", on(White, Black), "headers"),
    look("R", on(Blue, White), "refcount table and blocks"),
    look("L", on(Cyan, Black), "L1 and L2 tables"),
    look("S", on(White, Blue), "snapshot table"),
    look("B", on(Magenta, Black), "bitmaps"),
    look("c", on(Green, Black), "compressed data"),
    look("#", on(Green, Green), "data"),
    look("s", on(BrightGreen, Black), "data of snapshots only"),
    look(".", FAINT, "free"),
];

/// What cells of the disk show.
const DISK: [Look; 5] = [
    first("!", on(Red, White).bold(), "not readable, or not read"),
    look("#", on(Green, Green), "data"),
    look("c", on(Green, Black), "compressed data"),
    look("0", on(Cyan, Black), "zeroes"),
    look(".", FAINT, "not allocated"),
];

/// Of a cell that is mostly free, or not allocated, though not all of it is.
const PARTLY: Look = look(":", letters(Green), "partly used, less than not");

const fn of_run(run: &FileRun) -> usize {
    if run.damaged {
        return 0;
    }
    match run.role {
        Role::Lost => 1,
        Role::Leaked => 2,
        Role::Header | Role::CryptoHeader => 3,
        Role::Reftable | Role::Refblock => 4,
        Role::L1Table | Role::L2Table => 5,
        Role::SnapshotTable => 6,
        Role::BitmapDirectory | Role::BitmapTable | Role::BitmapData => 7,
        Role::Compressed => 8,
        Role::Data => 9,
        Role::SnapshotData => 10,
        Role::Free => 11,
    }
}

const fn of_state(state: GuestState) -> usize {
    match state {
        GuestState::Unknown => 0,
        GuestState::Data => 1,
        GuestState::Compressed => 2,
        GuestState::Zero => 3,
        GuestState::Unallocated => 4,
    }
}

/// A range of bytes in cells of equal size.
struct Grid<'l> {
    looks: &'l [Look],
    cell_bytes: u64,
    width: usize,
    row: usize,
    label: usize,
    /// Bytes by look, cell by cell.
    cells: Vec<Vec<u64>>,
    totals: Vec<u64>,
}

impl<'l> Grid<'l> {
    /// A grid for `bytes` bytes, in lines of `width` characters and not more than `rows`. A cell
    /// stands for `unit` bytes, or for twice as many, and so on.
    fn new(looks: &'l [Look], bytes: u64, unit: u64, width: usize, rows: u64) -> Self {
        let label = format!("{bytes:#x}").len();
        let row = (width.saturating_sub(label + 2) / STEP).max(1) * STEP;
        let most = rows * row as u64;
        let mut cell_bytes = unit;
        while bytes.div_ceil(cell_bytes) > most {
            cell_bytes *= 2;
        }
        let count = usize::try_from(bytes.div_ceil(cell_bytes)).unwrap_or(0);
        let cells = vec![vec![0; looks.len()]; count];
        let totals = vec![0; looks.len()];
        Self { looks, cell_bytes, width, row, label, cells, totals }
    }

    fn add(&mut self, offset: u64, bytes: u64, look: usize) {
        self.totals[look] += bytes;
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let number = at / self.cell_bytes;
            let until = ((number + 1).saturating_mul(self.cell_bytes)).min(end);
            if let Some(cell) = usize::try_from(number).ok().and_then(|n| self.cells.get_mut(n)) {
                cell[look] += until - at;
            }
            at = until;
        }
    }

    /// What a cell shows.
    fn shown(&self, cell: &[u64]) -> &'l Look {
        let unused = &self.looks[self.looks.len() - 1];
        let present = || self.looks.iter().zip(cell).filter(|(_, bytes)| **bytes > 0);
        let urgent = present().find(|(look, _)| look.first);
        // Of equals the last one would be taken.
        let most = || present().rev().max_by_key(|(_, bytes)| **bytes);
        match urgent.or_else(most) {
            None => unused,
            Some((look, _)) if look == unused && present().count() > 1 => &PARTLY,
            Some((look, _)) => look,
        }
    }

    fn print(&self, out: &mut Output) -> io::Result<()> {
        for (number, cells) in self.cells.chunks(self.row).enumerate() {
            let start = number as u64 * self.row as u64 * self.cell_bytes;
            let label = format!("{start:#width$x}  ", width = self.label);
            let mut row: Vec<(Style, String)> = Vec::new();
            for cell in cells {
                let look = self.shown(cell);
                match row.last_mut() {
                    Some((style, letters)) if *style == look.style => letters.push_str(look.letter),
                    _ => row.push((look.style, look.letter.to_owned())),
                }
            }
            let cells = row.iter().map(|(style, letters)| (*style, letters.as_str()));
            let parts: Vec<_> = std::iter::once((FAINT, label.as_str())).chain(cells).collect();
            out.styled(&parts)?;
        }
        self.legend(out)
    }

    fn legend(&self, out: &mut Output) -> io::Result<()> {
        let all: u64 = self.totals.iter().sum();
        if all > 0 {
            out.line("")?;
        }
        for (look, &bytes) in self.looks.iter().zip(&self.totals).filter(|(_, b)| **b > 0) {
            let shares = self.width >= WITH_SHARES;
            let name = NAME + usize::from(shares);
            let mut text = format!("  {:<name$} {:>9}", look.text, human_size(bytes));
            if shares {
                text.push_str(&format!("  {:>6.2} %", percent(bytes, all)));
            }
            out.styled(&[(PLAIN, "  "), (look.style, look.letter), (PLAIN, &text)])?;
        }
        if self.cells.iter().any(|cell| *self.shown(cell) == PARTLY) {
            let text = format!("  {}", PARTLY.text);
            out.styled(&[(PLAIN, "  "), (PARTLY.style, PARTLY.letter), (PLAIN, &text)])?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are printed")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// Prints both grids in lines of `width` characters.
pub fn print(out: &mut Output, image: &Inspected, width: usize) -> io::Result<()> {
    let geometry = &image.survey.area.geometry;
    let unit = geometry.cluster_bytes();
    let layout: Layout<'_> = image.layout();
    let mut file = Grid::new(&FILE, image.survey.file_bytes, unit, width, ROWS.0);
    layout.for_each(|run| {
        let (offset, bytes) = layout.bytes_of(&run);
        file.add(offset.get(), bytes, of_run(&run));
    });
    let name = without_secrets(&image.path).display().to_string();
    title(out, &name, image.survey.file_bytes, &file, unit)?;
    file.print(out)?;
    let more = image.survey.report.unlisted;
    if more > 0 {
        let more = counted(more, "further finding is", "further findings are");
        out.line(&format!("  {more} not drawn"))?;
    }
    out.line("")?;
    let mut disk = Grid::new(&DISK, geometry.virtual_size(), unit, width, ROWS.1);
    let read: Result<(), ()> = GuestMap::new(&image.storage, &image.survey).try_for_each(|run| {
        disk.add(run.offset, run.bytes, of_state(run.state));
        Ok(())
    });
    debug_assert!(read.is_ok(), "nothing that is drawn fails");
    title(out, "The virtual disk", geometry.virtual_size(), &disk, unit)?;
    disk.print(out)?;
    if let Some(name) = &image.survey.area.backing_name {
        let name = String::from_utf8_lossy(name);
        let (what, file) =
            ("  What is not allocated is read from the", format!("backing file: {name}"));
        if what.len() + 1 + file.chars().count() > width {
            out.line(what)?;
            // A name that is longer than a line is not cut.
            out.line(&format!("  {file}"))?;
        } else {
            out.line(&format!("{what} {file}"))?;
        }
    }
    Ok(())
}

/// What a grid shows, and how much a cell of it stands for: on two lines where one is too short.
fn title(out: &mut Output, name: &str, bytes: u64, grid: &Grid<'_>, unit: u64) -> io::Result<()> {
    let clusters = match grid.cell_bytes / unit {
        1 => "a cluster".into(),
        many => format!("{many} clusters"),
    };
    let size = format!(": {}", human_size(bytes));
    let cell = format!("a cell is {clusters}, {}", human_size(grid.cell_bytes));
    if [name, &size, "; ", &cell].map(|part| part.chars().count()).iter().sum::<usize>()
        > grid.width
    {
        out.styled(&[(STRONG, name), (PLAIN, &size)])?;
        out.line(&format!("  {cell}"))?;
    } else {
        out.styled(&[(STRONG, name), (PLAIN, &format!("{size}; {cell}"))])?;
    }
    out.line("")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_cell_shows_errors_and_leaks_first_and_then_what_it_has_most_of() {
        let grid = Grid::new(&FILE, 16, 1, 80, 1);
        let mut cell = [0; FILE.len()];
        assert_eq!(grid.shown(&cell).letter, ".");
        (cell[9], cell[11]) = (5, 5);
        assert_eq!(grid.shown(&cell).letter, "#", "of equals the first");
        cell[11] = 6;
        assert_eq!(grid.shown(&cell).letter, ":");
        cell[2] = 1;
        assert_eq!(grid.shown(&cell).letter, "x");
        cell[0] = 1;
        assert_eq!(grid.shown(&cell).letter, "!");
    }

    #[test]
    fn a_grid_fits_its_width_and_its_rows() {
        for (bytes, width) in [(1, 80), (1 << 20, 80), (u64::MAX / 4, 200), (12345, 20), (0, 80)] {
            let grid = Grid::new(&FILE, bytes, 512, width, 16);
            assert!(grid.cells.len() <= 16 * grid.row);
            assert!(grid.row % STEP == 0 && grid.cell_bytes % 512 == 0);
            assert!(grid.row == STEP || grid.row + grid.label + 2 <= width, "{width}");
        }
    }

    /// What is printed of a grid with everything in it, under its title.
    fn printed(looks: &[Look], width: usize) -> String {
        let mut grid = Grid::new(looks, 1 << 50, 1 << 16, width, 16);
        let each = 1 << 40;
        (0..looks.len()).for_each(|look| grid.add(look as u64 * each, each, look));
        let kept = Rc::new(RefCell::new(Vec::new()));
        let mut out = Output::new(Box::new(Kept(kept.clone())), false);
        title(&mut out, "The virtual disk", 1 << 50, &grid, 1 << 16).unwrap();
        grid.print(&mut out).unwrap();
        io::Write::flush(&mut out).unwrap();
        let bytes = kept.borrow().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Kept(Rc<RefCell<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn titles_and_legends_fit_their_width() {
        for looks in [&FILE[..], &DISK] {
            for width in [40, 41, 50, 51, 60, 80] {
                let text = printed(looks, width);
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(longest <= Some(width), "{width}: {text}");
                assert!(text.contains(" KiB") || text.contains(" TiB"));
            }
            assert!(printed(looks, 80).contains(" %") && !printed(looks, 40).contains('%'));
        }
    }

    #[test]
    fn bytes_are_shared_out_to_the_cells_that_they_are_in() {
        let mut grid = Grid::new(&DISK, 1000, 10, 80, 1);
        assert_eq!(grid.cell_bytes, 20);
        grid.add(15, 30, 1);
        let data: Vec<u64> = grid.cells.iter().take(4).map(|cell| cell[1]).collect();
        assert_eq!(data, [5, 20, 5, 0]);
        assert_eq!(grid.totals[1], 30);
    }
}
