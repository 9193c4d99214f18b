//! Digests of disks, a line each.

use std::io::{self, Write};

use qcheck::verify::Digests;

/// A line for each digest, after `prefix`.
pub fn print(out: &mut dyn Write, prefix: &str, digests: &Digests) -> io::Result<()> {
    if let Some(digest) = &digests.active {
        writeln!(out, "{prefix}{}: {}", digest.algorithm.name(), digest.hex())?;
    }
    for one in &digests.snapshots {
        let Some(digest) = &one.digest else { continue };
        // A name must not pass for another line.
        let (id, name) = (one.snapshot.id.escape_debug(), one.snapshot.name.escape_debug());
        let algorithm = digest.algorithm.name();
        writeln!(out, "{prefix}{algorithm} of snapshot {id} ({name}): {}", digest.hex())?;
    }
    Ok(())
}

/// The same as one text; `None` where there is no digest.
pub fn lines(digests: &Digests) -> Option<String> {
    let mut bytes = Vec::new();
    print(&mut bytes, "", digests).ok()?;
    let lines = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Some(lines).filter(|lines| !lines.is_empty())
}
