//! Reads the first sector of a disk through its backing chain, and prints the chain.
//!
//! ```sh
//! cargo run --example read_chain -- overlay.qcow2
//! ```

use std::error::Error;
use std::path::Path;

use qcheck::Disk;
use qcheck::image::Backing;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: read_chain IMAGE")?;
    let disk = Disk::open(&path)?;
    println!("{}: {} bytes", Path::new(&path).display(), disk.size()?);
    let mut below = match &disk {
        Disk::Qcow2(image) => image.backing(),
        Disk::Raw(_) => None,
    };
    while let Some(backing) = below {
        let (name, image) = match backing {
            Backing::Qcow2(image) => (image.data_path(), Some(image)),
            Backing::Raw(raw) => (raw.path(), None),
            Backing::Closed => break,
        };
        let name = name.unwrap_or(Path::new("?"));
        println!("backing file {}: {} bytes", name.display(), backing.virtual_size()?);
        below = image.and_then(|image| image.backing());
    }
    let mut sector = [0; 512];
    disk.read_at(&mut sector, 0)?;
    println!("the first byte is {:#04x}", sector[0]);
    Ok(())
}
