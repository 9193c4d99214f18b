//! Which process holds a lock: the system's list of open files has it, as far as this process may
//! read it.

use std::fs;
use std::path::Path;

use crate::error::Process;
use crate::storage::FileId;

/// Where the system lists its processes.
const PROCESSES: &str = "/proc";

/// The process of this number, if the system shows it.
pub(super) fn process(id: u32) -> Option<Process> {
    let name = fs::read_to_string(Path::new(PROCESSES).join(id.to_string()).join("comm")).ok()?;
    Some(Process { id, name: name.trim_end().to_owned() })
}

/// The first other process with a lock on this byte of the file. `None` too where it belongs to
/// another user, or runs on another system.
pub(super) fn with_lock(file: FileId, byte: u8) -> Option<Process> {
    let own = std::process::id();
    let mut ids: Vec<u32> = fs::read_dir(PROCESSES)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&id| id != own)
        .collect();
    ids.sort_unstable();
    ids.into_iter().find(|&id| holds(id, file, byte)).and_then(process)
}

/// Whether an open file of this process is the one, and has the byte locked.
fn holds(id: u32, file: FileId, byte: u8) -> bool {
    let process = Path::new(PROCESSES).join(id.to_string());
    let Ok(open) = fs::read_dir(process.join("fd")) else { return false };
    open.filter_map(Result::ok)
        .filter(|entry| FileId::of_path(&entry.path()).is_ok_and(|id| id == file))
        .filter_map(|entry| fs::read_to_string(process.join("fdinfo").join(entry.file_name())).ok())
        .any(|info| info.lines().any(|line| covers(line, byte)))
}

/// Whether a line of the system's description of an open file is a lock of this byte:
/// `lock: 1: OFDLCK ADVISORY READ -1 08:01:1234 100 101`, with `EOF` for an end that is open.
fn covers(line: &str, byte: u8) -> bool {
    let Some(lock) = line.strip_prefix("lock:") else { return false };
    let fields: Vec<&str> = lock.split_whitespace().collect();
    let [.., first, last] = fields[..] else { return false };
    let first = first.parse::<u64>();
    let last = if last == "EOF" { Ok(u64::MAX) } else { last.parse() };
    matches!((first, last), (Ok(first), Ok(last)) if (first..=last).contains(&byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_covers_the_bytes_of_its_line() {
        let line = "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:10321933 100 101";
        assert!(covers(line, 100) && covers(line, 101) && !covers(line, 102));
        let open_end = "lock:\t1: POSIX  ADVISORY  WRITE 17 fe:00:10321933 0 EOF";
        assert!(covers(open_end, 200));
        assert!(!covers("flags:\t0100002 100 101", 100) && !covers("lock:", 0));
    }
}
