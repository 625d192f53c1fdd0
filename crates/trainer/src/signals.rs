//! Ctrl-C, SIGTERM and SIGHUP.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::output;

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on the first signal asks the run to save and stop, and the second ends it at once.
pub fn catch() -> Result<()> {
    catch_saying("stopping after this step, then saving (a second signal stops at once)")
}

/// The same of something that stops otherwise: what a person is told then.
pub fn catch_saying(what: &'static str) -> Result<()> {
    let without_terminal = hangup::is_ignored();
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::SeqCst) {
            // 128 + SIGINT, as a shell reports an interrupted program.
            std::process::exit(130);
        }
        output::note(&format!("\n{what}"));
    })
    .context("cannot catch signals")?;
    if without_terminal {
        hangup::ignore();
    }
    Ok(())
}

/// Whether a signal asked the run to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// SIGHUP, which `nohup` has a program ignore so that it outlives its terminal.
#[cfg(unix)]
mod hangup {
    use std::mem::MaybeUninit;

    /// Whether whoever started this process asked it to ignore SIGHUP.
    pub fn is_ignored() -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with no new action, sigaction only writes the present one to `action`, which may be all zeros too.
        unsafe {
            libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }

    /// Ignores SIGHUP.
    pub fn ignore() {
        // SAFETY: SIG_IGN is a valid disposition of SIGHUP and runs no code of this process.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
}

#[cfg(not(unix))]
mod hangup {
    pub fn is_ignored() -> bool {
        false
    }

    pub fn ignore() {}
}
