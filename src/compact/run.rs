//! One image compacted, or a plan made.

use super::job::Job;
use super::rounds::Rounds;
use super::{CompactOptions, Outcome, compress, defragment, punch, zeroes};
use crate::check::{CheckOptions, check};
use crate::convert::Control;
use crate::convert::flow::Rate;
use crate::error::{Error, Result};
use crate::format::ClusterCount;
use crate::format::crypto::CryptMethod;
use crate::image::{Copying, Image};
use crate::repair::{RepairMode, repair};
use crate::storage::Capacity;

/// Most bytes of changed metadata that a plan keeps in memory.
const PLAN_BYTES: usize = 1 << 30;

/// Makes the file of an image shorter. The image is open for writing; its backing file need not be
/// open. What the guest reads stays as it is, of the disk and of every snapshot, and so do bitmaps.
///
/// Every crash leaves an image that is clean or has leaks, with the same content. When
/// `control.cancel` is set, the work ends after the move under way, with [`Error::Cancelled`]: the
/// image is clean, and the file as short as the moves so far allow. What an earlier run has leaked
/// that was broken off is freed first.
///
/// Fails with [`Error::Refused`] if a check finds anything wrong with the image, or if it cannot
/// end at [`CompactOptions::target`]; with [`Error::NoKey`] if data would have to be encrypted
/// again; and with the error of a read, write or flush.
pub fn compact(image: Image, options: &CompactOptions, control: Control<'_>) -> Result<Outcome> {
    let capacity = image.capacity();
    let leaks = refuse(&image, options, control)?;
    if let Some(target) = options.target {
        let copy = image.in_memory(capacity, PLAN_BYTES)?;
        let planned =
            free_leaks(&copy, leaks, control).and_then(|_| work(&copy, options, control, true))?;
        require_target(target, &planned)?;
    }
    let recovered = free_leaks(&image, leaks, control)?;
    let outcome = work(&image, options, control, false)?;
    image.close()?;
    Ok(Outcome { recovered, ..outcome })
}

/// What [`compact`] would do; nothing is written. The image is open, also for reading only, and
/// `capacity` is that of its file. Fails as [`compact`] does.
pub fn plan(
    image: &Image,
    capacity: Capacity,
    options: &CompactOptions,
    control: Control<'_>,
) -> Result<Outcome> {
    let leaks = refuse(image, options, control)?;
    let copy = image.in_memory(capacity, PLAN_BYTES)?;
    let recovered = free_leaks(&copy, leaks, control)?;
    let outcome = Outcome { recovered, ..work(&copy, options, control, true)? };
    if let Some(target) = options.target {
        require_target(target, &outcome)?;
    }
    Ok(outcome)
}

/// An error where the image cannot be compacted. Returns how many clusters an earlier run has
/// leaked that was broken off.
fn refuse(image: &Image, options: &CompactOptions, control: Control<'_>) -> Result<u64> {
    let report = check(image.storage(), &CheckOptions::default(), control.progress)?;
    control.advance(0)?;
    let tally = report.tally;
    let errors = tally.corruptions.saturating_add(tally.check_errors);
    if errors > 0 || tally.leaks > 0 && !image.has_unfinished_moves()? {
        let why = format!(
            "a check finds {errors} errors and {} leaked clusters: repair the image first",
            tally.leaks
        );
        return Err(Error::Refused(why));
    }
    if options.compress {
        compress::refuse(image, options)?;
    }
    let method = image.header()?.crypt_method;
    let reads = options.zeroes && method != CryptMethod::None;
    if reads && method != CryptMethod::Luks {
        let why = "zeroes are not looked for in images with the encryption before LUKS";
        return Err(Error::Unsupported(why.into()));
    }
    if reads || method == CryptMethod::Luks && !options.punch_only {
        // LUKS encrypts by the offset in the file.
        image.require_key()?;
    }
    Ok(tally.leaks)
}

/// Frees what an earlier run has leaked, as a repair of leaks does. Returns the bytes.
fn free_leaks(image: &Image, leaks: u64, control: Control<'_>) -> Result<u64> {
    if leaks == 0 {
        return Ok(0);
    }
    let options = CheckOptions::default();
    let done = repair(image.unordered(), RepairMode::Leaks, &options, control.progress)?;
    let left = done.report().tally;
    if !left.is_clean() {
        let why = format!(
            "{} clusters that an earlier run has leaked are in doubt: repair the image first",
            left.leaks
        );
        return Err(Error::Refused(why));
    }
    image.forget_tables()?;
    Ok(image.geometry().bytes_of(ClusterCount::new(leaks)))
}

fn require_target(target: u64, planned: &Outcome) -> Result<()> {
    if planned.end_after <= target {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the image needs {} bytes, and cannot end at {target}",
        planned.end_after
    )))
}

/// Compacts an image that a check found clean.
fn work(
    image: &Image,
    options: &CompactOptions,
    control: Control<'_>,
    is_plan: bool,
) -> Result<Outcome> {
    image.begin_moves()?;
    let copying = if is_plan { Copying::Nothing } else { Copying::Data };
    let rate = options.rate.filter(|_| !is_plan).map(Rate::new);
    let mut job = Job {
        image,
        options,
        control,
        copying,
        rate,
        mixed: image.mixed_clusters()?,
        outcome: Outcome::default(),
    };
    job.outcome.file_before = job.file_bytes()?;
    job.outcome.end_before = job.end()?;
    let before = image.metadata_written()?;
    let done = job.run();
    // What was moved so far has made the file shorter, also where the work was interrupted.
    match done {
        Ok(()) | Err(Error::Cancelled) => {
            job.end_file()?;
            image.end_moves()?;
        }
        Err(_) => {}
    }
    done?;
    job.outcome.written = image.metadata_written()? - before;
    job.outcome.file_after = job.file_bytes()?;
    job.outcome.end_after = job.end()?;
    if is_plan && image.capacity() == Capacity::Growable {
        // Data that would be at the end of the file are not copied there.
        job.outcome.file_after = job.outcome.file_after.max(job.outcome.end_after);
    }
    Ok(job.outcome)
}

impl Job<'_> {
    fn run(&mut self) -> Result<()> {
        if self.options.zeroes {
            zeroes::free(self)?;
        }
        if self.options.compress {
            compress::compress(self)?;
        }
        if self.options.punch_only {
            return punch::free_space(self);
        }
        Rounds::new(self)?.run()?;
        if self.options.defragment {
            defragment::defragment(self)?;
            Rounds::new(self)?.run()?;
        }
        Ok(())
    }

    fn end_file(&self) -> Result<()> {
        if !self.options.punch_only {
            self.image.drop_empty_blocks()?;
        }
        self.image.cut_end()
    }

    fn file_bytes(&self) -> Result<u64> {
        self.image.storage().len().map_err(|e| Error::file("get the length", e))
    }

    /// Where the last cluster in use ends.
    fn end(&self) -> Result<u64> {
        Ok(self.image.geometry().offset_of(self.image.used_end()?).get())
    }
}
