//! Checks an image and prints what is wrong with it.
//!
//! ```sh
//! cargo run --example check -- tests/data/damaged.qcow2
//! ```

use std::error::Error;
use std::path::PathBuf;

use qcheck::check::{CheckOptions, Verb, check};
use qcheck::progress::Silent;
use qcheck::storage::{Access, FileStorage, Latch, lock};

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: check IMAGE")?);
    let image = FileStorage::open_read(&path)?;
    // QEMU's lock: while it is held, no virtual machine starts to write to the image.
    lock(&image, Access::Read)?;
    let report = check(&Latch::new(&image), &CheckOptions::default(), &Silent)?;
    for finding in &report.findings {
        println!("{:?}: {}", finding.severity(), finding.line(0, Verb::Tell));
    }
    let tally = report.tally;
    println!("{} corruptions, {} leaked clusters", tally.corruptions, tally.leaks);
    Ok(())
}
