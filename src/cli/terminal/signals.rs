//! Signals: SIGINT, SIGTERM and SIGHUP end the work, the first in order, the second at once;
//! SIGUSR1 asks how far it is.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Set when somebody asks for the progress.
static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A flag that is set when the user interrupts the work.
pub fn interruption() -> Arc<AtomicBool> {
    let wanted = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&s| !has(ignored, s)) {
        // Registered first, so that it acts from the second signal on. Without handlers a signal
        // ends the program as it always did.
        let _ = flag::register_conditional_shutdown(signal, 128 + signal, wanted.clone());
        let _ = flag::register(signal, wanted.clone());
    }
    wanted
}

/// From now on SIGUSR1 asks for the progress and does not end the program.
pub fn answer_about_progress() {
    let asked = ASKED.get_or_init(Arc::default);
    if !has(ignored(), SIGUSR1) {
        let _ = flag::register(SIGUSR1, asked.clone());
    }
}

/// Whether somebody has requested the progress since the last call.
pub fn is_progress_asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.swap(false, Ordering::Relaxed))
}

/// The signals that whoever started the program has it ignore (`nohup`, jobs in the background):
/// one bit each. None where the system does not show them.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn has(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 != 0
}
