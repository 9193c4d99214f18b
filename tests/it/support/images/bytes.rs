//! Reading and patching the bytes of an image where the specification defines them.
//!
//! Everything here is literal constants of the specification; nothing comes from the library.

/// Bits 9 to 55 of an L1 or L2 entry: the host offset.
pub const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an L1 or L2 entry: the count of what it points at is exactly one.
pub const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;

/// A field of the header: its name, offset and width.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub at: usize,
    pub width: usize,
}

const fn field(name: &'static str, at: usize, width: usize) -> Field {
    Field { name, at, width }
}

/// Every field of the header, in file order.
pub const HEADER: &[Field] = &[
    field("magic", 0, 4),
    field("version", 4, 4),
    field("backing_file_offset", 8, 8),
    field("backing_file_size", 16, 4),
    field("cluster_bits", 20, 4),
    field("size", 24, 8),
    field("crypt_method", 32, 4),
    field("l1_size", 36, 4),
    field("l1_table_offset", 40, 8),
    field("refcount_table_offset", 48, 8),
    field("refcount_table_clusters", 56, 4),
    field("nb_snapshots", 60, 4),
    field("snapshots_offset", 64, 8),
    field("incompatible_features", 72, 8),
    field("compatible_features", 80, 8),
    field("autoclear_features", 88, 8),
    field("refcount_order", 96, 4),
    field("header_length", 100, 4),
];

/// The header field of this name.
pub fn header_field(name: &str) -> Field {
    *HEADER.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no header field {name}"))
}

/// The big-endian number of `width` bytes at `at`.
pub fn peek(image: &[u8], at: usize, width: usize) -> u64 {
    image[at..at + width].iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Writes `value` as a big-endian number of `width` bytes at `at`.
pub fn poke(image: &mut [u8], at: usize, width: usize, value: u64) {
    for i in 0..width {
        image[at + i] = (value >> (8 * (width - 1 - i))) as u8;
    }
}

/// The 32-bit number at `at`.
pub fn be32(image: &[u8], at: usize) -> u64 {
    peek(image, at, 4)
}

/// The 64-bit number at `at`.
pub fn be64(image: &[u8], at: usize) -> u64 {
    peek(image, at, 8)
}

/// The value of a header field.
pub fn header(image: &[u8], name: &str) -> u64 {
    let f = header_field(name);
    peek(image, f.at, f.width)
}

/// Changes a header field.
pub fn set_header(image: &mut [u8], name: &str, value: u64) {
    let f = header_field(name);
    poke(image, f.at, f.width, value);
}

/// Bytes in a cluster.
pub fn cluster_size(image: &[u8]) -> u64 {
    1 << header(image, "cluster_bits")
}

/// Width of a refcount in bits.
pub fn refcount_bits(image: &[u8]) -> u64 {
    if header(image, "version") < 3 { 16 } else { 1 << header(image, "refcount_order") }
}

/// Bytes in an L2 entry: 16 with subclusters, 8 without.
pub fn l2_entry_size(image: &[u8]) -> u64 {
    let extended =
        header(image, "version") >= 3 && header(image, "incompatible_features") & 0x10 != 0;
    if extended { 16 } else { 8 }
}

/// Guest bytes mapped by one L2 table.
pub fn l2_span(image: &[u8]) -> u64 {
    cluster_size(image) / l2_entry_size(image) * cluster_size(image)
}

/// Where the active L1 entry `index` is.
pub fn l1_entry_at(image: &[u8], index: u64) -> usize {
    (header(image, "l1_table_offset") + 8 * index) as usize
}

/// Where the L2 entry is that maps the guest offset through the L1 table at `l1`, if there is a table.
pub fn l2_entry_through(image: &[u8], l1: u64, guest: u64) -> Option<usize> {
    let l1_entry = be64(image, (l1 + 8 * (guest / l2_span(image))) as usize);
    let table = l1_entry & OFFSET_MASK;
    let index = guest % l2_span(image) / cluster_size(image);
    (table != 0).then(|| (table + index * l2_entry_size(image)) as usize)
}

/// Where the active L2 entry is that maps this guest offset.
pub fn l2_entry_at(image: &[u8], guest: u64) -> usize {
    l2_entry_through(image, header(image, "l1_table_offset"), guest)
        .unwrap_or_else(|| panic!("no L2 table for guest offset {guest:#x}"))
}

/// Where the refcount table entry `index` is.
pub fn reftable_entry_at(image: &[u8], index: u64) -> usize {
    (header(image, "refcount_table_offset") + 8 * index) as usize
}

/// Where the refcount block is that the refcount table names at `index`.
pub fn refblock_at(image: &[u8], index: u64) -> usize {
    (be64(image, reftable_entry_at(image, index)) & OFFSET_MASK) as usize
}

/// The block, and the bit within it, of the count of a host cluster.
fn refcount_place(image: &[u8], cluster: u64) -> (usize, u64) {
    let per_block = cluster_size(image) * 8 / refcount_bits(image);
    let block = refblock_at(image, cluster / per_block);
    assert_ne!(block, 0, "no refcount block for cluster {cluster}");
    (block, cluster % per_block * refcount_bits(image))
}

/// The stored count of a host cluster.
pub fn refcount(image: &[u8], cluster: u64) -> u64 {
    let (block, bit) = refcount_place(image, cluster);
    let bits = refcount_bits(image);
    let at = block + (bit / 8) as usize;
    if bits >= 8 {
        peek(image, at, (bits / 8) as usize)
    } else {
        (u64::from(image[at]) >> (bit % 8)) & ((1 << bits) - 1)
    }
}

/// Changes the stored count of a host cluster. Counts narrower than a byte start at the least significant bit.
pub fn set_refcount(image: &mut [u8], cluster: u64, count: u64) {
    let (block, bit) = refcount_place(image, cluster);
    let bits = refcount_bits(image);
    let at = block + (bit / 8) as usize;
    if bits >= 8 {
        poke(image, at, (bits / 8) as usize, count);
    } else {
        let mask = ((1u8 << bits) - 1) << (bit % 8);
        image[at] = (image[at] & !mask) | (((count as u8) << (bit % 8)) & mask);
    }
}

/// Where every entry of the snapshot table starts.
pub fn snapshot_entries(image: &[u8]) -> Vec<usize> {
    let mut at = header(image, "snapshots_offset") as usize;
    let mut entries = Vec::new();
    for _ in 0..header(image, "nb_snapshots") {
        entries.push(at);
        let id = peek(image, at + 12, 2) as usize;
        let name = peek(image, at + 14, 2) as usize;
        let extra = be32(image, at + 36) as usize;
        at = (at + 40 + extra + id + name).next_multiple_of(8);
    }
    entries
}

/// Where the data of the header extension of this type starts, and its length.
pub fn extension(image: &[u8], wanted: u32) -> Option<(usize, usize)> {
    let v3 = header(image, "version") >= 3;
    let mut at = if v3 { header(image, "header_length") as usize } else { 72 };
    while at + 8 <= image.len() {
        let (kind, len) = (be32(image, at), be32(image, at + 4) as usize);
        if kind == 0 {
            return None;
        }
        if kind == u64::from(wanted) {
            return Some((at + 8, len));
        }
        at += 8 + len.next_multiple_of(8);
    }
    None
}
