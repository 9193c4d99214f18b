//! How an image was seen that another program may be writing.

use std::io::{self, Write};
use std::time::Duration;

use qcheck::live::View;

use crate::cli::terminal::count::counted;

/// One line about it.
pub fn text(view: &View) -> String {
    let mut text = format!("Seen within {}", seconds(view.age));
    if view.rounds > 0 {
        let rounds = counted(u64::from(view.rounds), "time", "times");
        text.push_str(&format!(", after what was suspected was read again {rounds}"));
    }
    match view.is_open_for_writing {
        Some(true) => text.push_str("; another program has the image open for writing"),
        Some(false) => text.push_str("; no other program has the image open for writing"),
        None => {}
    }
    if view.in_flux > 0 {
        let findings = counted(view.in_flux, "finding is", "findings are");
        text.push_str(&format!("; {findings} not decided"));
    }
    text
}

/// Prints it, where there is one.
pub fn print(out: &mut dyn Write, view: Option<&View>) -> io::Result<()> {
    match view {
        Some(view) => writeln!(out, "{}.", text(view)),
        None => Ok(()),
    }
}

fn seconds(age: Duration) -> String {
    format!("{:.1} s", age.as_secs_f64().max(0.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_nothing() {
        assert_eq!(seconds(Duration::from_micros(70)), "0.1 s");
        assert_eq!(seconds(Duration::from_millis(2340)), "2.3 s");
    }
}
