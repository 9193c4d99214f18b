//! The refcount table and the positions of its blocks. Comes after everything else is counted, as
//! what it reports of a block depends on the other referrers of the cluster.

use std::collections::HashSet;
use std::io;

use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::check::survey::extent::Extent;
use crate::check::survey::refcounts::{Block, Refcounts};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::refcount::{MAX_REFTABLE_BYTES, ReftableEntry, counted_in_either};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::tables::load_entries;

/// Loads the table, claims it and its blocks.
pub fn run(ctx: &mut Context) -> Refcounts {
    let header = &ctx.area.header;
    let (offset, clusters) = (header.reftable, header.reftable_clusters);
    let bytes = u64::from(clusters) * ctx.geometry.cluster_bytes();
    let mut refcounts = Refcounts::default();
    if clusters == 0 {
        return refcounts;
    }
    let limit = MAX_REFTABLE_BYTES.max(ctx.geometry.cluster_bytes());
    if !ctx.geometry.is_aligned(offset) || offset.get() == 0 || bytes > limit {
        refcounts.unreadable = true;
        return refcounts;
    }
    ctx.claim(RegionKind::Reftable, offset, bytes, Place::Reftable);
    match load_entries(ctx.source, offset, bytes / TABLE_ENTRY_BYTES) {
        Ok(entries) => refcounts.entries = entries,
        Err(error) => {
            let kind =
                Kind::Unreadable { what: "refcount table", offset, error: error.to_string() };
            ctx.find(kind, Place::Reftable);
            refcounts.unreadable = true;
        }
    }
    request_blocks(ctx, &refcounts.entries);
    let mut owned = Owned { table: ctx.geometry.span(offset, bytes), blocks: HashSet::new() };
    for (index, &bits) in (0u64..).zip(&refcounts.entries) {
        if bits != 0 {
            let block = block(ctx, ReftableIndex::new(index), ReftableEntry(bits), &mut owned);
            refcounts.blocks.push(block);
        }
    }
    refcounts
}

/// Has the blocks requested before they are compared, where they come from a server.
fn request_blocks(ctx: &Context, entries: &[u64]) {
    if !ctx.source.is_remote() {
        return;
    }
    let offsets = entries.iter().map(|&bits| ReftableEntry(bits).offset().get());
    for offset in offsets.filter(|&offset| offset != 0 && offset < ctx.file_bytes) {
        ctx.source.will_need(offset..offset.saturating_add(ctx.geometry.cluster_bytes()));
    }
}

/// Clusters of refcount structures.
struct Owned {
    table: (HostCluster, ClusterCount),
    blocks: HashSet<HostCluster>,
}

impl Owned {
    fn contains(&self, cluster: HostCluster) -> bool {
        let (first, count) = self.table;
        cluster.get() == 0
            || (first..first + count).contains(&cluster)
            || self.blocks.contains(&cluster)
    }
}

fn block(
    ctx: &mut Context,
    index: ReftableIndex,
    entry: ReftableEntry,
    owned: &mut Owned,
) -> Block {
    let offset = entry.offset();
    let place = Place::Refblock(index);
    let mut sound = offset.get() != 0;
    let cluster = ctx.geometry.cluster_floor(offset);
    if entry.has_reserved_bits() {
        ctx.find(Kind::ReftableReserved, place);
        sound = false;
    }
    if !ctx.geometry.is_aligned(offset) {
        ctx.find(Kind::RefblockUnaligned, place);
        sound = false;
    } else if cluster >= HostCluster::new(ctx.file_clusters().get()) {
        ctx.find(Kind::RefblockOutside, place);
        sound = false;
    } else if offset.get() != 0 {
        // Counted before the block itself, whose claim makes it one more.
        let others = ctx.map.get(cluster);
        let genuine = others == 0 && !entry.has_reserved_bits()
            || !owned.contains(cluster)
                && is_genuine(ctx, index, offset).unwrap_or_else(|error| {
                    let error = error.to_string();
                    ctx.find(Kind::Unreadable { what: "refcount block", offset, error }, place);
                    false
                });
        owned.blocks.insert(cluster);
        if genuine {
            ctx.claim(RegionKind::Refblock, offset, ctx.geometry.cluster_bytes(), place);
        } else {
            claim_wrongly(ctx, offset);
        }
        let references = ctx.map.get(cluster);
        sound &= genuine;
        // More than a refcount can hold is reported as such.
        let references = references.min(ctx.geometry.refcount_max());
        if references != 1 {
            ctx.find(Kind::RefblockShared { references }, place);
        }
    }
    Block { index, offset, sound }
}

/// Counts the reference of an entry that points to what is not a refcount block.
fn claim_wrongly(ctx: &mut Context, offset: HostOffset) {
    let bytes = ctx.geometry.cluster_bytes();
    let extent = Extent::of(&ctx.geometry, ctx.file_bytes, offset, bytes);
    ctx.count(&extent);
    ctx.add_region(RegionKind::Refblock, extent, true);
}

/// Whether a cluster that a mapping refers to as well is this refcount block: most refcounts in it
/// can be those of the references found. Then it is the other pointer that is wrong.
fn is_genuine(ctx: &Context, index: ReftableIndex, offset: HostOffset) -> io::Result<bool> {
    let mut stored = vec![0; ctx.geometry.cluster_len()];
    let mut expected = stored.clone();
    ctx.source.read_padded_at(offset.get(), &mut stored)?;
    ctx.map.encode_block(index, &ctx.geometry, &mut expected);
    let order = ctx.geometry.refcount_order();
    let (mut right, mut wrong) = (0u64, 0u64);
    let known = ctx.plausible();
    let entries = 0..ctx.geometry.refblock_len();
    for (_, is, should) in counted_in_either((&stored, &expected), order, entries) {
        let plausible = is >= should && known.allows(is, should);
        right += u64::from(should > 0 && plausible);
        wrong += u64::from(!plausible);
    }
    Ok(right > wrong)
}
