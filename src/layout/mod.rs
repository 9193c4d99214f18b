//! Where everything in an image file is, and what each of its clusters is for: derived from what a
//! check found, so that damaged images have a layout too.

mod damage;
mod fields;
mod guest;
mod holes;
mod paint;
mod structures;

pub use fields::{ExtensionPlace, Field, extensions, fields};
pub use guest::{GuestMap, GuestRun, GuestState};
pub use paint::{FileRun, Layout};
pub use structures::{BitmapPlace, Structures, Table, TableRun, runs};

use crate::check::RegionKind;

/// What a cluster of the file is for. Where it is for several things, the one that comes first here
/// is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The header with its extensions.
    Header,
    /// The encryption header with its key material.
    CryptoHeader,
    /// The refcount table.
    Reftable,
    /// A refcount block.
    Refblock,
    /// The active L1 table, or a snapshot's.
    L1Table,
    /// An L2 table.
    L2Table,
    /// The snapshot table.
    SnapshotTable,
    /// The bitmap directory.
    BitmapDirectory,
    /// A bitmap table.
    BitmapTable,
    /// Bitmap data.
    BitmapData,
    /// Compressed data, of any disk.
    Compressed,
    /// Data of the active disk, perhaps of snapshots too.
    Data,
    /// Data and VM state that only snapshots have.
    SnapshotData,
    /// A lost L2 table, or data that only such a table points to.
    Lost,
    /// Counted, and used by nothing.
    Leaked,
    /// Not counted, and used by nothing.
    Free,
}

impl Role {
    /// All roles, in their order.
    pub const ALL: [Self; 16] = [
        Self::Header,
        Self::CryptoHeader,
        Self::Reftable,
        Self::Refblock,
        Self::L1Table,
        Self::L2Table,
        Self::SnapshotTable,
        Self::BitmapDirectory,
        Self::BitmapTable,
        Self::BitmapData,
        Self::Compressed,
        Self::Data,
        Self::SnapshotData,
        Self::Lost,
        Self::Leaked,
        Self::Free,
    ];

    /// The stable name, for JSON.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::CryptoHeader => "encryption-header",
            Self::Reftable => "refcount-table",
            Self::Refblock => "refcount-block",
            Self::L1Table => "l1-table",
            Self::L2Table => "l2-table",
            Self::SnapshotTable => "snapshot-table",
            Self::BitmapDirectory => "bitmap-directory",
            Self::BitmapTable => "bitmap-table",
            Self::BitmapData => "bitmap-data",
            Self::Compressed => "compressed-data",
            Self::Data => "data",
            Self::SnapshotData => "snapshot-data",
            Self::Lost => "lost",
            Self::Leaked => "leaked",
            Self::Free => "free",
        }
    }

    const fn of(kind: RegionKind) -> Self {
        match kind {
            RegionKind::Header => Self::Header,
            RegionKind::L1Table(_) => Self::L1Table,
            RegionKind::L2Table => Self::L2Table,
            RegionKind::SnapshotTable => Self::SnapshotTable,
            RegionKind::Reftable => Self::Reftable,
            RegionKind::Refblock => Self::Refblock,
            RegionKind::CryptoHeader => Self::CryptoHeader,
            RegionKind::BitmapDirectory => Self::BitmapDirectory,
            RegionKind::BitmapTable(_) => Self::BitmapTable,
            RegionKind::BitmapData(_) => Self::BitmapData,
        }
    }
}

/// How many bytes of the file have each role: together all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    bytes: [u64; Role::ALL.len()],
    holes: [u64; Role::ALL.len()],
    /// Bytes in clusters that an error is about, whatever their role.
    pub damaged: u64,
}

impl Totals {
    /// Adds a run of so many bytes.
    pub const fn add(&mut self, run: &FileRun, bytes: u64) {
        let role = run.role as usize;
        self.bytes[role] += bytes;
        if run.hole {
            self.holes[role] += bytes;
        }
        if run.damaged {
            self.damaged += bytes;
        }
    }

    /// The bytes with a role.
    pub const fn bytes(&self, role: Role) -> u64 {
        self.bytes[role as usize]
    }

    /// Those of them that are holes of the file, as far as whole clusters are.
    pub const fn holes(&self, role: Role) -> u64 {
        self.holes[role as usize]
    }

    /// All bytes.
    pub fn sum(&self) -> u64 {
        self.bytes.iter().sum()
    }
}
