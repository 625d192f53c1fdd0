//! Ctrl-C, SIGTERM and SIGHUP.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on the first signal asks the run to save and stop, and the second ends it at once.
pub fn catch() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            // 128 + SIGINT, as a shell reports an interrupted program.
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step, then saving (a second signal stops at once)");
    })
    .context("cannot catch signals")
}

/// Whether a signal asked the run to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}
