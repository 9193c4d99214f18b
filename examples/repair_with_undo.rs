//! Repairs an image, and records in an undo file what is overwritten.
//!
//! ```sh
//! cp tests/data/damaged.qcow2 disk.qcow2
//! cargo run --example repair_with_undo -- disk.qcow2 before.undo
//! ```

use std::error::Error;
use std::path::Path;

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{Access, FileStorage, Latch, lock};
use qcheck::undo::{Durable, UndoLog};

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<_> = std::env::args_os().skip(1).collect();
    let [image, record] = &names[..] else {
        return Err("usage: repair_with_undo IMAGE FILE".into());
    };
    let image = FileStorage::open_write(Path::new(image))?;
    lock(&image, Access::Write)?;
    let log = UndoLog::new(&image, Durable::create(Path::new(record))?)?;
    let outcome = repair(&Latch::new(&log), RepairMode::All, &CheckOptions::default(), &Silent)?;
    let bytes = log.finish()?;
    let after = outcome.after.as_ref().unwrap_or(&outcome.before).tally;
    println!("{} corruptions and {} leaked clusters are left", after.corruptions, after.leaks);
    println!("{bytes} bytes in the undo file");
    Ok(())
}
