//! Repairs an image, and records in an undo file what is overwritten.
//!
//! ```sh
//! cp tests/data/damaged.qcow2 disk.qcow2
//! cargo run --example repair_with_undo -- disk.qcow2 before.undo
//! ```

use std::error::Error;

use qcheck::{Repair, RepairMode};

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<_> = std::env::args_os().skip(1).collect();
    let [image, record] = &names[..] else {
        return Err("usage: repair_with_undo IMAGE FILE".into());
    };
    let outcome = Repair::new(image).mode(RepairMode::All).undo(record).run()?;
    for finding in outcome.comparison().repaired() {
        println!("repaired: {}", finding.code());
    }
    let left = outcome.report().tally;
    println!("{} corruptions and {} leaked clusters are left", left.corruptions, left.leaks);
    Ok(())
}
