//! The transcript and the picture of the README are from real runs, and its examples work. With
//! `QCHECK_REGENERATE` transcript and picture are written.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::programs::run::qcheck;

/// The image that both are about.
const IMAGE: &str = "damaged.qcow2";
/// Width of a character and height of a line of the picture.
const CELL: (f64, f64) = (8.4, 18.0);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(path("tests/data").join(IMAGE), folder.path().join(IMAGE)).unwrap();
    folder
}

/// Panics if a generated file differs from what it should hold; writes it if that is requested.
fn is_current(name: &str, now: &str) {
    if std::env::var_os("QCHECK_REGENERATE").is_some() {
        fs::write(path(name), now).unwrap();
    }
    let stored = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(stored == now, "{name}: QCHECK_REGENERATE=1 cargo test --test it docs::readme");
}

#[test]
fn the_transcript_is_what_the_commands_print() {
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let (before, rest) = readme.split_once("```console\n").expect("a transcript");
    let (transcript, after) = rest.split_once("```").expect("its end");
    let folder = folder();
    let mut now = String::new();
    for command in transcript.lines().filter_map(|line| line.strip_prefix("$ ")) {
        // Both streams go to one pipe, in the order in which they are written, as on a terminal.
        let program = Path::new(env!("CARGO_BIN_EXE_qcheck")).parent().unwrap();
        let paths = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command} 2>&1")]).env("PATH", paths);
        let done = shell.current_dir(folder.path()).output().unwrap();
        writeln!(now, "$ {command}\n{}", String::from_utf8(done.stdout).unwrap()).unwrap();
    }
    is_current("README.md", &format!("{before}```console\n{}\n```{after}", now.trim_end()));
}

#[test]
fn the_picture_is_of_a_real_run() {
    let folder = folder();
    let ran = qcheck(folder.path(), &["info", "--layout", "--color", "always", IMAGE]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    is_current("docs/layout.svg", &svg(&ran.out));
}

/// How characters of a terminal look.
#[derive(Debug, Clone, Default)]
struct Style {
    letters: Option<u32>,
    ground: Option<u32>,
    bold: bool,
    faint: bool,
}

impl Style {
    /// What an escape sequence for colours changes.
    fn apply(&mut self, codes: &str) {
        for code in codes.split(';').map(|code| code.parse().unwrap_or(0)) {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.faint = true,
                30..=37 => self.letters = Some(code - 30),
                40..=47 => self.ground = Some(code - 40),
                90..=97 => self.letters = Some(code - 90 + 8),
                100..=107 => self.ground = Some(code - 100 + 8),
                _ => panic!("the colour {code}"),
            }
        }
    }

    fn fill(&self) -> &'static str {
        match (self.letters, self.faint) {
            (Some(color), _) => rgb(color),
            (None, true) => "#8b949e",
            (None, false) => "#e6edf3",
        }
    }
}

/// The colours of a terminal: eight, and eight bright ones.
fn rgb(color: u32) -> &'static str {
    const COLORS: [&str; 16] = [
        "#0d1117", "#da3633", "#2ea043", "#d29922", "#388bfd", "#a371f7", "#39c5cf", "#f0f6fc",
        "#6e7681", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
    ];
    COLORS[color as usize]
}

/// Draws what a terminal shows.
fn svg(text: &str) -> String {
    let mut style = Style::default();
    let (mut body, mut columns, mut rows) = (String::new(), 0, 0);
    for line in text.lines() {
        rows += 1;
        let mut column = 0;
        for (number, part) in line.split("\u{1b}[").enumerate() {
            let shown = match part.split_once('m').filter(|_| number > 0) {
                Some((codes, shown)) => {
                    style.apply(codes);
                    shown
                }
                None => part,
            };
            cells(&mut body, shown, &style, column, rows);
            column += shown.chars().count();
        }
        columns = columns.max(column);
    }
    let (width, height) = ((columns + 2) as f64 * CELL.0, (rows + 1) as f64 * CELL.1);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#0d1117\" rx=\"6\"/>\n{body}</svg>\n"
    )
}

/// Draws characters of one style.
fn cells(out: &mut String, text: &str, style: &Style, column: usize, row: usize) {
    let count = text.chars().count();
    let (x, y) = ((column + 1) as f64 * CELL.0, row as f64 * CELL.1);
    let width = count as f64 * CELL.0;
    if let Some(ground) = style.ground {
        let (top, height, fill) = (y - 13.0, CELL.1, rgb(ground));
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>"
        )
        .unwrap();
    }
    if !text.trim().is_empty() {
        let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y}\" textLength=\"{width:.1}\" xml:space=\"preserve\" \
             fill=\"{}\"{weight}>{text}</text>",
            style.fill()
        )
        .unwrap();
    }
}

/// The commands that a part of the README shows, in their order.
fn shown(readme: &str, from: &str, to: &str) -> Vec<String> {
    let (_, rest) = readme.split_once(from).unwrap();
    let (part, _) = rest.split_once(to).unwrap();
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in part.lines() {
        match line {
            "```sh" => is_code = true,
            "```" => is_code = false,
            line if is_code => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

#[test]
fn the_examples_work_when_pasted_in_order_and_stay_small() {
    let dir = folder();
    fs::create_dir_all(dir.path().join("tests/data")).unwrap();
    let damaged = "tests/data/damaged.qcow2";
    fs::copy(path(damaged), dir.path().join(damaged)).unwrap();
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let lines = shown(&readme, "\n## Use\n", "\n### All commands\n");
    assert!(lines.len() > 60, "{lines:?}");
    // A verdict has a code of its own; 1 is a failure of every command.
    let mut script = String::new();
    for (n, line) in lines.iter().enumerate() {
        writeln!(script, "{line}\n[ $? != 1 ] || echo 'failed: {n}'").unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_qcheck")).parent().unwrap();
    let search = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.current_dir(dir.path()).env("PATH", search).args(["-c", &script]);
    let output = bash.stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str| line.strip_prefix("failed: ")?.parse::<usize>().ok();
    let failed: Vec<_> = printed.lines().filter_map(number).map(|n| &lines[n]).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(failed.is_empty(), "{failed:#?}\n{errors}");
    let files = fs::read_dir(dir.path().join("try")).unwrap().map(|file| file.unwrap());
    let used: u64 = files.map(|file| file.metadata().unwrap().blocks() * 512).sum();
    assert!(used < 64 << 20, "{used} bytes");
}
