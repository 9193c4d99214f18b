//! Checks an image and prints what is wrong with it.
//!
//! ```sh
//! cargo run --example check -- tests/data/damaged.qcow2
//! ```

use std::error::Error;

use qcheck::Checker;
use qcheck::check::Verb;

fn main() -> Result<(), Box<dyn Error>> {
    let image = std::env::args_os().nth(1).ok_or("usage: check IMAGE")?;
    let checked = Checker::new(image).check()?;
    let Some(report) = checked.report() else { return Err("it is not a qcow2 image".into()) };
    for finding in &report.findings {
        println!("{:?}: {}", finding.severity(), finding.line(0, Verb::Tell));
    }
    let tally = report.tally;
    println!("{} corruptions, {} leaked clusters", tally.corruptions, tally.leaks);
    println!("verdict: {}", checked.class().word());
    Ok(())
}
