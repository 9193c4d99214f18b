//! Colours: whether there are any, and which.

use std::ffi::OsString;

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Color, Style};
use clap::ValueEnum;

/// When output has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is
    #[default]
    Auto,
    /// Wherever it goes
    Always,
    /// Nowhere
    Never,
}

impl When {
    /// What the arguments ask for, before they are known to be right: what is wrong with them is
    /// printed in colours or not, too.
    pub fn given(args: &[OsString]) -> Self {
        let args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
        let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
        let mut when = Self::default();
        for (number, arg) in args.iter().enumerate() {
            let value = match arg.strip_prefix("--color") {
                Some("") => args.get(number + 1).map(|next| next.as_ref()),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            when = value.and_then(|value| Self::from_str(value, false).ok()).unwrap_or(when);
        }
        when
    }

    /// Whether a stream gets colours.
    pub fn applies_to(self, stream: &impl RawStream) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => AutoStream::choice(stream) != anstream::ColorChoice::Never,
        }
    }
}

/// A colour of the letters, in the terminal's own palette.
pub const fn letters(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(color)))
}

/// A background colour for letters of another.
pub const fn on(behind: AnsiColor, front: AnsiColor) -> Style {
    letters(front).bg_color(Some(Color::Ansi(behind)))
}

/// No colour.
pub const PLAIN: Style = Style::new();
/// What stands out.
pub const STRONG: Style = Style::new().bold();
/// What is of no weight.
pub const FAINT: Style = Style::new().dimmed();
/// Nothing is wrong.
pub const GOOD: Style = letters(AnsiColor::Green);
/// Something is wrong that does no harm.
pub const WARNING: Style = letters(AnsiColor::Yellow);
/// Something is wrong.
pub const BAD: Style = letters(AnsiColor::Red).bold();

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> When {
        When::given(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_choice_before_two_dashes_is_taken() {
        assert_eq!(given(&["qcheck", "check", "a"]), When::Auto);
        assert_eq!(given(&["qcheck", "--color", "never", "check"]), When::Never);
        assert_eq!(given(&["qcheck", "check", "--color=never", "--color=always"]), When::Always);
        assert_eq!(given(&["qcheck", "check", "--", "--color=always"]), When::Auto);
        assert_eq!(given(&["qcheck", "check", "--color=pink"]), When::Auto);
        assert_eq!(given(&["qcheck", "--color"]), When::Auto);
    }
}
