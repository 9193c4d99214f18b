//! How far a long operation has come: a bar on a terminal, or plain lines where `-p` asks for them.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qcheck::progress::Progress;

use super::signals;
use super::ui::{QEMU_IMG, Ui};

/// How long an operation may take before its progress is drawn.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shows the progress.
pub struct Meter {
    shown: Shown,
    /// The current stage, for whoever asks by SIGUSR1.
    stage: Mutex<Percent>,
    /// Set when the user interrupts the operation.
    cancel: Option<Arc<AtomicBool>>,
}

/// How the progress is shown.
enum Shown {
    /// Not at all.
    Hidden,
    /// A bar with the time that is left, on a terminal.
    Bar(Bar),
    /// A line for each stage and each tenth of it, on standard error.
    Lines(Mutex<Lines>),
    /// qemu-img's line of percents, on standard output.
    Percent,
}

/// Where the current stage is.
#[derive(Debug, Default)]
pub struct Lines {
    name: String,
    what: String,
    total: u64,
    done: u64,
    told: u64,
}

impl Meter {
    /// Chooses by what the user requested and where standard error goes. Under qemu-img's name
    /// nothing is drawn: it has no bar.
    pub fn new(name: &str, wanted: bool, quiet: bool, terminal: bool) -> Self {
        let is_dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let can_draw = terminal && name != QEMU_IMG && !is_dumb();
        let shown = match (quiet, can_draw, wanted) {
            (true, ..) | (false, false, false) => Shown::Hidden,
            (false, true, _) => Shown::Bar(Bar::new()),
            (false, false, true) => {
                Shown::Lines(Mutex::new(Lines { name: name.into(), ..Lines::default() }))
            }
        };
        Self { shown, stage: Mutex::default(), cancel: None }
    }

    /// As qemu-img shows it: percents where `wanted` asks for them and standard output is not a
    /// terminal, or the program has qemu-img's name, and what [`Meter::new`] chooses otherwise.
    pub fn of_qemu(ui: &Ui, wanted: bool, quiet: bool) -> Self {
        if wanted && !quiet && (!ui.out.is_terminal() || ui.name() == QEMU_IMG) {
            return Self::percent();
        }
        Self::new(ui.name(), wanted, quiet, ui.err.is_terminal())
    }

    /// Percents of everything in one line on standard output, as programs read them from qemu-img.
    pub fn percent() -> Self {
        Self { shown: Shown::Percent, stage: Mutex::default(), cancel: None }
    }

    /// Has the operation end when the user interrupts it.
    pub fn cancelled_by(mut self, interruption: Arc<AtomicBool>) -> Self {
        self.cancel = Some(interruption);
        self
    }

    /// Takes the bar away, so that other output has the terminal for itself.
    pub fn finish(&self) {
        match &self.shown {
            Shown::Bar(bar) => bar.drawn.finish_and_clear(),
            Shown::Percent => locked(&self.stage).finish(),
            Shown::Hidden | Shown::Lines(_) => {}
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Meter {
    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    fn stage(&self, what: &str, total: u64) {
        log::info!("{what}: {total} bytes");
        let mut stage = locked(&self.stage);
        match &self.shown {
            Shown::Percent => {
                stage.total = total;
                stage.tell();
                return;
            }
            Shown::Hidden => {}
            Shown::Bar(bar) => bar.stage(what, total),
            Shown::Lines(lines) => locked(lines).stage(what, total),
        }
        *stage = Percent { total, ..Percent::default() };
    }

    fn advance(&self, bytes: u64) {
        let mut stage = locked(&self.stage);
        let is_further = stage.advance(bytes);
        match &self.shown {
            Shown::Percent if is_further => stage.tell(),
            Shown::Hidden | Shown::Percent => {}
            Shown::Bar(bar) => bar.advance(bytes),
            Shown::Lines(lines) => locked(lines).advance(bytes),
        }
        if signals::is_progress_asked() {
            // Nobody who reads it must not end the work.
            let _ = writeln!(io::stderr(), "{stage}");
        }
    }
}

/// A bar that is drawn once the work has taken a while.
struct Bar {
    drawn: ProgressBar,
    start: Instant,
}

impl Bar {
    fn new() -> Self {
        let drawn = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { drawn, start: Instant::now() }
    }

    /// Draws from now on, if it is time.
    fn show(&self) {
        if self.drawn.is_hidden() && self.start.elapsed() >= PATIENCE {
            self.drawn.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        }
    }

    fn stage(&self, what: &str, total: u64) {
        let template = if total > 0 {
            "{msg} [{bar:30}] {percent}% {bytes_per_sec} {eta} left"
        } else {
            "{msg} {spinner} {elapsed}"
        };
        self.show();
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.drawn.set_style(style.progress_chars("=> "));
        }
        self.drawn.reset();
        self.drawn.set_message(what.to_owned());
        self.drawn.set_length(total);
    }

    fn advance(&self, bytes: u64) {
        self.show();
        self.drawn.inc(bytes);
    }
}

/// How much of everything is done.
#[derive(Debug, Default)]
pub struct Percent {
    total: u64,
    done: u64,
    told: u64,
    finished: bool,
}

impl Percent {
    fn hundredths(&self) -> u64 {
        let part = (u128::from(self.done) * 10_000).checked_div(self.total.into());
        u64::try_from(part.unwrap_or(10_000)).unwrap_or(10_000).min(10_000)
    }

    /// Counts bytes; returns whether that makes another percent.
    fn advance(&mut self, bytes: u64) -> bool {
        self.done = self.done.saturating_add(bytes);
        let percent = self.hundredths() / 100;
        let is_further = percent > self.told;
        self.told = self.told.max(percent);
        is_further
    }

    fn tell(&self) {
        let mut out = io::stdout();
        // Nobody who reads it must not end the work.
        let _ = write!(out, "{self}\r");
        let _ = out.flush();
    }

    fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.tell();
            let _ = writeln!(io::stdout());
        }
    }
}

/// qemu-img's form of it.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.hundredths();
        write!(f, "    ({}.{:02}/100%)", part / 100, part % 100)
    }
}

impl Lines {
    fn stage(&mut self, what: &str, total: u64) {
        let name = std::mem::take(&mut self.name);
        *self = Self { name, what: what.into(), total, ..Self::default() };
        self.tell("");
    }

    fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        let tenth = (u128::from(self.done) * 10).checked_div(self.total.into()).unwrap_or(0);
        let tenth = u64::try_from(tenth).unwrap_or(10).min(10);
        if tenth > self.told {
            self.told = tenth;
            self.tell(&format!(" {}%", tenth * 10));
        }
    }

    fn tell(&self, how_far: &str) {
        // Nobody who reads it must not end the work.
        let _ = writeln!(io::stderr(), "{}: {}{how_far}", self.name, self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_most_eleven_times_a_stage() {
        let mut lines = Lines { total: 1000, ..Lines::default() };
        let mut changes = 0;
        for _ in 0..2000 {
            let before = lines.told;
            lines.advance(1);
            changes += u32::from(lines.told != before);
        }
        assert_eq!((lines.told, changes), (10, 10));
    }

    #[test]
    fn a_stage_of_unknown_length_divides_by_nothing() {
        let mut lines = Lines::default();
        lines.advance(7);
        assert_eq!(lines.told, 0);
    }
}
