//! Every state of two files that a crash may leave: each loses its own unflushed writes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use qcheck::storage::{Capacity, ReadAt, Storage};

use crate::support::storages::crash::{Op, Plan, WriteLog, plans};

/// Which file was changed or flushed, in order.
type Order = Arc<Mutex<Vec<usize>>>;

/// One of two files whose operations have one order.
#[derive(Debug)]
pub struct Twin {
    log: WriteLog,
    base: Vec<u8>,
    who: usize,
    order: Order,
}

/// Two files with these contents on disk.
pub fn twins(first: Vec<u8>, second: Vec<u8>) -> [Twin; 2] {
    let order = Order::default();
    let twin = |base: Vec<u8>, who| {
        let log = WriteLog::new(base.clone());
        Twin { log, base, who, order: order.clone() }
    };
    [twin(first, 0), twin(second, 1)]
}

impl Twin {
    fn record(&self, call: impl FnOnce(&WriteLog) -> io::Result<()>) -> io::Result<()> {
        let mut order = self.order.lock().unwrap();
        call(&self.log)?;
        order.push(self.who);
        Ok(())
    }
}

impl ReadAt for Twin {
    fn len(&self) -> io::Result<u64> {
        self.log.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.log.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.log.next_data(offset)
    }
}

impl Storage for Twin {
    fn capacity(&self) -> Capacity {
        self.log.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(|log| log.write_at(offset, data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(|log| log.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.record(WriteLog::sync)
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.record(|log| log.discard(offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.record(|log| log.write_zeroes(offset, length))
    }
}

/// One file at some moment: what is on disk, and what may have arrived since.
struct Moment<'a> {
    durable: Vec<u8>,
    pending: &'a [Op],
}

impl<'a> Moment<'a> {
    fn of(base: &[u8], ops: &'a [Op]) -> Self {
        let synced = ops.iter().rposition(|op| *op == Op::Sync).map_or(0, |at| at + 1);
        let changes: Vec<Op> =
            ops[..synced].iter().filter(|op| **op != Op::Sync).cloned().collect();
        let durable = Plan::prefix(changes.len()).image(base, &changes, false);
        Self { durable, pending: &ops[synced..] }
    }

    fn after(&self, plan: &Plan) -> (Vec<u8>, String) {
        let bytes = plan.image(&self.durable, self.pending, false);
        (bytes, plan.story(0, self.pending))
    }

    /// Everything that may be there.
    fn all(&self) -> Vec<(Vec<u8>, String)> {
        plans(self.pending).map(|plan| self.after(&plan)).collect()
    }

    /// All that was written, or nothing that was not flushed.
    fn extremes(&self) -> Vec<(Vec<u8>, String)> {
        [0, self.pending.len()].iter().map(|&n| self.after(&Plan::prefix(n))).collect()
    }
}

/// Shows `visit` the pairs of contents that a crash may leave, different ones only, with their
/// story; returns how many there were. Of one file everything is tried that its unflushed writes
/// allow, with all or none of the other's.
pub fn crash_pairs(twins: &[Twin; 2], mut visit: impl FnMut(&[u8], &[u8], &str)) -> usize {
    let order = twins[0].order.lock().unwrap().clone();
    let ops = [twins[0].log.ops(), twins[1].log.ops()];
    let mut seen = HashSet::new();
    for end in 0..=order.len() {
        let count = |who| order[..end].iter().filter(|&&w| w == who).count();
        let moments: Vec<Moment> =
            (0..2).map(|who| Moment::of(&twins[who].base, &ops[who][..count(who)])).collect();
        let pairs =
            [(moments[0].all(), moments[1].extremes()), (moments[0].extremes(), moments[1].all())];
        for (firsts, seconds) in &pairs {
            for (first, one) in firsts {
                for (second, two) in seconds {
                    let mut hasher = DefaultHasher::new();
                    (first, second).hash(&mut hasher);
                    if seen.insert(hasher.finish()) {
                        let story = format!("after {end} operations, {one} and {two}");
                        visit(first, second, &story);
                    }
                }
            }
        }
    }
    seen.len()
}
