//! The plan of a repair: what its writes sum up to, and how many of them are listed.

use qcheck::repair::{Action, DryRun, PlannedWrite, Risk};

/// How many of what a plan has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Writes.
    pub writes: u64,
    /// Bytes that they write.
    pub bytes: u64,
    /// Writes that lose something.
    pub lossy: u64,
}

/// The sums of a plan.
pub fn sums(run: &DryRun) -> Sums {
    let mut sums = Sums::default();
    for step in run.stages.iter().flat_map(|stage| &stage.steps) {
        let writes = step.writes.len() as u64;
        sums.writes += writes;
        sums.bytes += step.writes.iter().map(|write| write.length).sum::<u64>();
        sums.lossy += if step.purpose.risk == Risk::Lossy { writes } else { 0 };
    }
    sums
}

/// What a write does, in a word.
pub const fn action(action: Action) -> &'static str {
    match action {
        Action::Write => "write",
        Action::Zero => "zero",
        Action::Discard => "discard",
    }
}

/// Whether something is lost, in a word.
pub const fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Safe => "safe",
        Risk::Lossy => "lossy",
    }
}

/// Hands out the writes that may be printed.
pub struct Budget(u64);

impl Budget {
    /// At most `most` writes; 0 means all.
    pub fn of(most: u64) -> Self {
        Self(if most == 0 { u64::MAX } else { most })
    }

    /// How many of these writes are printed.
    pub fn take(&mut self, writes: &[PlannedWrite]) -> usize {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(writes.len());
        self.0 -= count as u64;
        count
    }
}

/// How many of all writes are listed where at most `most` are; 0 means all.
pub fn listed(most: u64, all: u64) -> u64 {
    if most == 0 { all } else { all.min(most) }
}
