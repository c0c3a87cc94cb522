//! Ctrl-C and the other polite requests to stop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_usize;

/// Notes the signals that ask this process to end, so that it can clean up.
#[derive(Debug)]
pub struct Interrupt {
    /// The number of the signal, 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub fn listen() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            register_usize(number, Arc::clone(&signal), number as usize)
                .with_context(|| format!("cannot handle signal {number}"))?;
        }
        Ok(Self { signal })
    }

    /// An error once a signal came.
    ///
    /// # Errors
    ///
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted { signal }),
        }
    }
}

/// A signal asked this process to end.
#[derive(Debug, Clone, Copy)]
pub struct Interrupted {
    signal: usize,
}

impl Interrupted {
    /// What a shell would report for a process killed by the signal.
    pub fn exit_code(&self) -> u8 {
        128 + u8::try_from(self.signal).unwrap_or(0)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = i32::try_from(self.signal).unwrap_or(0);
        let name = signal_hook::low_level::signal_name(number).unwrap_or("a signal");
        write!(f, "interrupted by {name}")
    }
}

impl std::error::Error for Interrupted {}
