//! Free clusters given back to the file system as holes.

use super::job::Job;
use crate::error::{Error, Result};

/// Free space between two looks at whether the work is to end, in bytes.
const STEP_BYTES: u64 = 1 << 30;

/// Makes holes of all free clusters that are not holes yet.
pub(super) fn free_space(job: &mut Job<'_>) -> Result<()> {
    let end = job.image.used_end()?;
    let bytes = job.image.geometry().offset_of(end).get();
    job.control.progress.stage("giving back free space", bytes);
    let (mut data, mut done, mut seen, mut punched) = (0..0, 0, 0, 0);
    let image = job.image;
    image.each_free_run(end, |offset, bytes| {
        job.control.progress.advance(offset + bytes - done);
        done = offset + bytes;
        if done - seen >= STEP_BYTES {
            seen = done;
            job.begin(0)?;
        }
        let mut at = offset;
        while at < offset + bytes {
            if data.end <= at {
                let found = image.storage().next_data(at);
                let found = found.map_err(|e| Error::io("look for holes", at, e))?;
                data = found.unwrap_or(u64::MAX..u64::MAX);
            }
            let start = data.start.max(at);
            let stop = data.end.min(offset + bytes);
            if start >= stop {
                break;
            }
            if !job.is_plan() {
                image.punch(start, stop - start)?;
            }
            punched += stop - start;
            at = stop;
        }
        Ok(())
    })?;
    job.outcome.punched = punched;
    Ok(())
}
