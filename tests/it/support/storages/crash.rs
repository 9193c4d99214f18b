//! Every image that a crash may leave, from a log of what was written.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::sync::Mutex;

use qcheck::storage::{Capacity, MemoryStorage, ReadAt, Storage};

/// Up to this many operations since the last sync, every subset of them is tried.
const ALL_SUBSETS_UP_TO: usize = 8;
/// Up to this many, each prefix is tried without each single one.
const EACH_DROPPED_UP_TO: usize = 64;
/// Pseudo-random subsets of the operations of a longer prefix.
const RANDOM_SUBSETS: usize = 4;
/// What a disk writes completely or not at all, in bytes.
const SECTOR: u64 = 512;

/// An operation that changes a storage, or the sync that makes those before it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Write { offset: u64, data: Vec<u8> },
    WriteZeroes { offset: u64, length: u64 },
    Discard { offset: u64, length: u64 },
    SetLen(u64),
    Sync,
}

impl Op {
    fn apply(&self, to: &MemoryStorage) -> io::Result<()> {
        match self {
            Op::Write { offset, data } => to.write_at(*offset, data),
            Op::WriteZeroes { offset, length } => to.write_zeroes(*offset, *length),
            Op::Discard { offset, length } => to.discard(*offset, *length),
            Op::SetLen(len) => to.set_len(*len),
            Op::Sync => Ok(()),
        }
    }

    /// The first and the last half, in whole sectors, of a write that has several.
    fn torn(&self) -> Option<[Op; 2]> {
        let Op::Write { offset, data } = self else { return None };
        let end = offset + data.len() as u64;
        let middle = (offset + data.len() as u64 / 2).next_multiple_of(SECTOR);
        let middle = if middle < end { middle } else { middle - SECTOR };
        if data.len() as u64 <= SECTOR || middle <= *offset {
            return None;
        }
        let (first, last) = data.split_at((middle - offset) as usize);
        Some([
            Op::Write { offset: *offset, data: first.to_vec() },
            Op::Write { offset: middle, data: last.to_vec() },
        ])
    }

    fn describe(&self) -> String {
        match self {
            Op::Write { offset, data } => format!("write {offset:#x}+{:#x}", data.len()),
            other => format!("{other:x?}"),
        }
    }
}

/// A storage in memory that remembers every change, in order.
#[derive(Debug)]
pub struct WriteLog {
    base: Vec<u8>,
    fixed: bool,
    current: MemoryStorage,
    ops: Mutex<Vec<Op>>,
}

impl WriteLog {
    /// Starts as `base`, which counts as being on disk, and can grow.
    pub fn new(base: Vec<u8>) -> Self {
        Self::with(base, false)
    }

    /// Starts as `base` and keeps its length.
    pub fn fixed(base: Vec<u8>) -> Self {
        Self::with(base, true)
    }

    fn with(base: Vec<u8>, fixed: bool) -> Self {
        let current = storage(base.clone(), fixed);
        Self { base, fixed, current, ops: Mutex::default() }
    }

    /// What happened so far. Operations that failed are not in it.
    pub fn ops(&self) -> Vec<Op> {
        self.ops.lock().unwrap().clone()
    }

    /// The content without a crash.
    pub fn image(&self) -> Vec<u8> {
        self.current.to_vec()
    }

    fn record(&self, op: Op) -> io::Result<()> {
        let mut ops = self.ops.lock().unwrap();
        op.apply(&self.current)?;
        ops.push(op);
        Ok(())
    }
}

impl ReadAt for WriteLog {
    fn len(&self) -> io::Result<u64> {
        self.current.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.current.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.current.next_data(offset)
    }
}

impl Storage for WriteLog {
    fn capacity(&self) -> Capacity {
        self.current.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(Op::Write { offset, data: data.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(Op::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.record(Op::Sync)
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.record(Op::Discard { offset, length })
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.record(Op::WriteZeroes { offset, length })
    }
}

/// One image that a crash may leave.
pub struct CrashImage {
    pub bytes: Vec<u8>,
    /// How it came about, for the message of a failed assertion.
    pub story: String,
}

/// Shows `visit` every crash image of a log, different ones only, one at a time; returns how many
/// there were.
///
/// After each prefix of the log, any of the operations since the last sync may be missing: of few
/// every subset is tried, of many each one missing, each one alone and some pseudo-random subsets
/// (the same in every run). A write of several sectors may also have arrived half.
pub fn crash_images(log: &WriteLog, mut visit: impl FnMut(&CrashImage)) -> usize {
    let ops = log.ops();
    let mut seen = HashSet::new();
    let mut durable = log.base.clone();
    let mut start = 0;
    for epoch in ops.split_inclusive(|op| *op == Op::Sync) {
        let pending = epoch.strip_suffix(&[Op::Sync]).unwrap_or(epoch);
        for plan in plans(pending) {
            let bytes = plan.image(&durable, pending, log.fixed);
            if seen.insert(hash(&bytes)) {
                visit(&CrashImage { bytes, story: plan.story(start, pending) });
            }
        }
        durable = Plan::prefix(pending.len()).image(&durable, pending, log.fixed);
        start += epoch.len();
    }
    if ops.is_empty() {
        seen.insert(hash(&durable));
        visit(&CrashImage { bytes: durable, story: "nothing was written".into() });
    }
    seen.len()
}

/// Which of the operations since the last sync arrived.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Positions among the operations, ascending.
    kept: Vec<usize>,
    /// One of them that arrived half: its position, and which half (0, 1).
    torn: Option<(usize, usize)>,
}

impl Plan {
    pub(super) fn prefix(length: usize) -> Self {
        Self::of((0..length).collect())
    }

    fn of(kept: Vec<usize>) -> Self {
        Self { kept, torn: None }
    }

    pub(super) fn image(&self, durable: &[u8], pending: &[Op], fixed: bool) -> Vec<u8> {
        let image = storage(durable.to_vec(), fixed);
        for &at in &self.kept {
            let half = self.torn.filter(|torn| torn.0 == at);
            let torn = half.and_then(|(_, half)| Some(pending[at].torn()?[half].clone()));
            torn.as_ref().unwrap_or(&pending[at]).apply(&image).expect("it worked the first time");
        }
        image.into_inner()
    }

    pub(super) fn story(&self, start: usize, pending: &[Op]) -> String {
        let mut story = format!("the first {start} operations are on disk, then arrived:");
        for &at in &self.kept {
            let half = match self.torn {
                Some((torn, half)) if torn == at => ["(first half) ", "(last half) "][half],
                _ => "",
            };
            story += &format!(" [{}] {half}{};", start + at, pending[at].describe());
        }
        story
    }
}

/// Every plan for one run of operations without a sync. A plan for a prefix keeps the prefix's last
/// operation: without it, it is a plan for a shorter one.
pub(super) fn plans(pending: &[Op]) -> impl Iterator<Item = Plan> + '_ {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let whole = pending.len();
    let prefixes = (1..=whole).flat_map(move |length| {
        let mut plans = if length <= ALL_SUBSETS_UP_TO {
            all_subsets(length)
        } else {
            some_subsets(length, length == whole, &mut random)
        };
        // A half write as the last thing that happened, and as the only one.
        plans.extend(torn(Plan::prefix(length), length - 1, pending));
        plans.extend(torn(Plan::of(vec![length - 1]), length - 1, pending));
        plans
    });
    let torn_in_the_middle =
        (0..whole).flat_map(move |at| torn(Plan::prefix(whole), at, pending).collect::<Vec<_>>());
    std::iter::once(Plan::prefix(0)).chain(prefixes).chain(torn_in_the_middle)
}

fn all_subsets(length: usize) -> Vec<Plan> {
    let last = length - 1;
    let chosen = |bits: u32| (0..length).filter(move |&at| at == last || bits >> at & 1 == 1);
    (0..1_u32 << last).map(|bits| Plan::of(chosen(bits).collect())).collect()
}

fn some_subsets(length: usize, is_whole: bool, random: &mut u64) -> Vec<Plan> {
    let last = length - 1;
    let mut plans = vec![Plan::prefix(length), Plan::of(vec![last])];
    let each = length <= EACH_DROPPED_UP_TO || is_whole;
    let dropped = if each { 0..last } else { last - 1..last };
    plans
        .extend(dropped.map(|dropped| Plan::of((0..length).filter(|&at| at != dropped).collect())));
    for _ in 0..RANDOM_SUBSETS {
        let kept = (0..length).filter(|&at| at == last || next_random(random) & 1 == 1);
        plans.push(Plan::of(kept.collect()));
    }
    plans
}

fn torn(plan: Plan, at: usize, pending: &[Op]) -> impl Iterator<Item = Plan> {
    let halves = if pending[at].torn().is_some() { 0..2 } else { 0..0 };
    halves.map(move |half| Plan { torn: Some((at, half)), ..plan.clone() })
}

/// The top bit of a xorshift* generator, in the lowest place.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63
}

fn storage(bytes: Vec<u8>, fixed: bool) -> MemoryStorage {
    if fixed { MemoryStorage::fixed(bytes) } else { MemoryStorage::new(bytes) }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
