//! SIGINT, SIGTERM and SIGHUP: the first asks the work to end in order, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// A flag that is set when the user wants the work to end.
pub fn interruption() -> Arc<AtomicBool> {
    let wanted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Registered first, so that it acts from the second signal on. Without handlers a signal ends the
        // program as it always did.
        let _ = flag::register_conditional_shutdown(signal, 128 + signal, wanted.clone());
        let _ = flag::register(signal, wanted.clone());
    }
    wanted
}
