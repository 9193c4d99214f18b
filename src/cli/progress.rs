//! How far a long operation has come: a bar on a terminal, or plain lines where `-p` asks for them.

use std::io::{self, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qcheck::progress::Progress;

/// Shows the progress on standard error.
pub enum Meter {
    /// Nothing.
    Hidden,
    /// A bar with the time that is left, on a terminal.
    Bar(ProgressBar),
    /// A line for each stage and each tenth of it.
    Lines(Mutex<Lines>),
    /// qemu-img's line of percents, on standard output.
    Percent(Mutex<Percent>),
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
    /// Chooses by what the user asked for and where standard error goes.
    pub fn new(name: &str, wanted: bool, quiet: bool, terminal: bool) -> Self {
        if quiet {
            Self::Hidden
        } else if terminal {
            let target = ProgressDrawTarget::stderr_with_hz(8);
            Self::Bar(ProgressBar::with_draw_target(None, target))
        } else if wanted {
            Self::Lines(Mutex::new(Lines { name: name.into(), ..Lines::default() }))
        } else {
            Self::Hidden
        }
    }

    /// Percents of everything in one line on standard output, as programs read them from qemu-img.
    pub fn percent() -> Self {
        Self::Percent(Mutex::default())
    }

    /// Takes the bar away, so that other output has the terminal for itself.
    pub fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Percent(percent) => {
                percent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).finish();
            }
            Self::Hidden | Self::Lines(_) => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Meter {
    fn stage(&self, what: &str, total: u64) {
        match self {
            Self::Hidden => {}
            Self::Bar(bar) => {
                let template = if total > 0 {
                    "{msg} [{bar:30}] {percent}% {bytes_per_sec} {eta} left"
                } else {
                    "{msg} {spinner} {elapsed}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.reset();
                bar.set_message(what.to_owned());
                bar.set_length(total);
            }
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *lines = Lines {
                    name: std::mem::take(&mut lines.name),
                    what: what.into(),
                    total,
                    ..Lines::default()
                };
                lines.tell("");
            }
            Self::Percent(percent) => {
                let mut percent = percent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                percent.total = total;
                percent.tell();
            }
        }
    }

    fn advance(&self, bytes: u64) {
        match self {
            Self::Hidden => {}
            Self::Bar(bar) => bar.inc(bytes),
            Self::Lines(lines) => {
                lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).advance(bytes);
            }
            Self::Percent(percent) => {
                percent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).advance(bytes);
            }
        }
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

    fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        let percent = self.hundredths() / 100;
        if percent > self.told {
            self.told = percent;
            self.tell();
        }
    }

    fn tell(&self) {
        let part = self.hundredths();
        let mut out = io::stdout();
        // Nobody who reads it must not end the work.
        let _ = write!(out, "    ({}.{:02}/100%)\r", part / 100, part % 100);
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

impl Lines {
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
