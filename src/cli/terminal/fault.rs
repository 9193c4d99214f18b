//! An error as the one line that a person reads.

use std::io;

use qcheck::error::{Error, cause};

use super::redacted::redacted;

/// The error's text, from what was being done down to the cause, without credentials.
pub fn line(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for part in error.chain() {
        parts.push(text(part));
        // Its text has those of its sources.
        if part.is::<Error>() {
            break;
        }
    }
    redacted(&parts.join(": ")).into_owned()
}

fn text(part: &(dyn std::error::Error + 'static)) -> String {
    part.downcast_ref().map_or_else(|| part.to_string(), |system: &io::Error| cause(system))
}

/// [`line`], and what helps a command that reads.
pub fn failure(error: &anyhow::Error) -> String {
    let hints = [lock_hint(error), record_hint(error), remote_hint(error)];
    format!("{}{}", line(error), hints.concat())
}

/// The cause alone.
pub fn root(error: &anyhow::Error) -> String {
    text(error.root_cause())
}

/// What helps where a lock could not be had.
pub fn lock_hint(error: &anyhow::Error) -> String {
    match library(error) {
        Some(Error::Locked(conflict)) if conflict.is_readable => {
            "; -U reads it all the same".into()
        }
        _ => String::new(),
    }
}

/// What helps where an image names a remote file.
pub fn remote_hint(error: &anyhow::Error) -> String {
    match library(error) {
        Some(Error::RemoteName(_)) => "; --allow-remote-names opens it".into(),
        _ => String::new(),
    }
}

/// What helps where the format of a backing file is not recorded; `option` gives it.
pub fn format_hint(error: &anyhow::Error, option: &str) -> String {
    match library(error) {
        Some(Error::BackingFormat { looks_like, .. }) => {
            format!("; if it is such an image, {option} {looks_like} opens it")
        }
        _ => String::new(),
    }
}

/// Likewise, where the command has no such option.
pub fn record_hint(error: &anyhow::Error) -> String {
    match library(error) {
        Some(Error::BackingFormat { looks_like, .. }) => format!(
            "; if it is such an image, 'rebase -u' of the image that names it, with -F \
             {looks_like} and the same -b, records that"
        ),
        _ => String::new(),
    }
}

fn library(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|part| part.downcast_ref::<Error>()).map(Error::innermost)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let missing = || io::Error::from_raw_os_error(libc::ENOENT);
        let error = Err::<(), _>(missing()).context("Could not open 'x'").unwrap_err();
        assert_eq!(line(&error), "Could not open 'x': No such file or directory");
        let library = Error::Open { path: "x".into(), source: missing() };
        let error = Err::<(), _>(library).context("'top'").unwrap_err();
        assert_eq!(line(&error), "'top': Could not open 'x': No such file or directory");
    }
}
