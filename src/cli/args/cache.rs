//! Cache modes by the names that QEMU gives them.

use super::nearest;

/// Cache modes of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Through the page cache, flushed at the end.
    #[default]
    Writeback,
    /// Likewise.
    Writethrough,
    /// Without the page cache, flushed at the end.
    None,
    /// Likewise.
    Directsync,
    /// Through the page cache, and not flushed.
    Unsafe,
}

impl Cache {
    /// Whether the page cache is bypassed.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }
}

/// Their names.
const CACHE_MODES: [&str; 5] = ["none", "writeback", "writethrough", "directsync", "unsafe"];

/// A cache mode.
pub fn parse_cache(name: &str) -> Result<Cache, String> {
    Ok(match name {
        "none" | "off" => Cache::None,
        "writeback" => Cache::Writeback,
        "writethrough" => Cache::Writethrough,
        "directsync" => Cache::Directsync,
        "unsafe" => Cache::Unsafe,
        _ => {
            let hint = nearest::hint(name, &CACHE_MODES);
            return Err(format!("valid are {}{hint}", CACHE_MODES.join(", ")));
        }
    })
}
