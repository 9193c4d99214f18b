//! Lists what is known of a disk's bytes without reading them, as a backup program needs it.
//!
//! ```sh
//! cargo run --example list_extents -- disk.qcow2
//! ```

use std::error::Error;

use qcheck::Disk;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: list_extents IMAGE")?;
    let disk = Disk::open(path)?;
    for extent in disk.extents(0..disk.size()?) {
        let extent = extent?;
        let zero = if extent.zero { ", zeroes" } else { "" };
        let host = extent.host.map_or(String::new(), |host| format!(" at host offset {host:#x}"));
        println!(
            "{:#x}: {} bytes, {:?}{zero}, {} backing files down{host}",
            extent.start, extent.length, extent.kind, extent.depth
        );
    }
    Ok(())
}
