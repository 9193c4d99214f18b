//! The log of QEMU's driver `blklogwrites`: what a program wrote, in order.

/// Bytes of an entry of the log and of its padding.
const SECTOR: usize = 512;
const DISCARD: u64 = 4;

/// What was written.
pub struct Writes {
    writes: Vec<(u64, Vec<u8>)>,
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?).swap_bytes())
}

impl Writes {
    /// Reads a log; `None` where it is not one.
    pub fn decode(log: &[u8]) -> Option<Self> {
        let entries = word(log, 16)?;
        let sector =
            usize::try_from(u32::from_be_bytes(log.get(24..28)?.try_into().ok()?).swap_bytes())
                .ok()?;
        let mut at = sector.max(SECTOR);
        let mut writes = Vec::new();
        for _ in 0..entries {
            let (place, sectors, flags) = (word(log, at)?, word(log, at + 8)?, word(log, at + 16)?);
            at += sector;
            let length = usize::try_from(sectors).ok()? * sector;
            if flags & DISCARD != 0 {
                writes.push((place * sector as u64, vec![0; length]));
            } else {
                writes.push((place * sector as u64, log.get(at..at + length)?.to_vec()));
                at += length;
            }
        }
        writes.retain(|(_, bytes)| !bytes.is_empty());
        Some(Self { writes })
    }

    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// The image after the first of these writes.
    pub fn replay(&self, mut image: Vec<u8>, count: usize) -> Vec<u8> {
        for (at, bytes) in &self.writes[..count] {
            let at = *at as usize;
            if image.len() < at + bytes.len() {
                image.resize(at + bytes.len(), 0);
            }
            image[at..at + bytes.len()].copy_from_slice(bytes);
        }
        image
    }
}
