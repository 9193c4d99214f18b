//! Tests that cannot run everywhere.

use std::io::{self, Write};

/// Prints that a test, or a part of one, does not run and why, whether or not output is captured.
/// With `QCHECK_REQUIRE=all` that is a failure.
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("QCHECK_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "{what} does not run: {why}; QCHECK_REQUIRE=all forbids that");
    // Written to the stream itself, since libtest captures only the macros.
    writeln!(io::stderr(), "skipped: {what}: {why}").expect("standard error");
}
