//! A header that was rebuilt, in words.

use std::io;

use qcheck::repair::{RebuiltHeader, Unknown};

use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Ui;

/// Reports a header on standard error.
pub fn tell(ui: &mut Ui, name: &str, rebuilt: &RebuiltHeader) -> io::Result<()> {
    let header = &rebuilt.header;
    let what = if rebuilt.kept { "set right" } else { "rebuilt" };
    ui.message(&format!(
        "'{name}': the header was {what}: version {}, clusters of {} bytes, a disk of {} bytes, \
         the L1 table at {:#x}, the refcount table at {:#x}, counts of {}, {}",
        header.version,
        1u64 << header.cluster_bits,
        header.size,
        header.l1_table.get(),
        header.reftable.get(),
        counted(1 << header.refcount_order, "bit", "bits"),
        counted(u64::from(header.snapshot_count), "snapshot", "snapshots"),
    ))?;
    if rebuilt.empty {
        ui.message(&format!("'{name}': no L1 table was found; the disk is empty"))?;
    }
    if rebuilt.size_guessed {
        ui.message(&format!(
            "'{name}': the size of the disk is what its tables map; --hint-size sets another one"
        ))?;
    }
    if !rebuilt.unknown.is_empty() {
        let what: Vec<&str> = rebuilt.unknown.iter().map(|&what| words(what)).collect();
        ui.message(&format!(
            "'{name}': the new header has none of what only the old one recorded: {}",
            what.join(", ")
        ))?;
    }
    Ok(())
}

const fn words(what: Unknown) -> &'static str {
    match what {
        Unknown::BackingFile => "a backing file (--hint-backing names it)",
        Unknown::DataFile => "an external data file (--hint-data-file names it)",
        Unknown::Aes => "AES encryption",
    }
}
