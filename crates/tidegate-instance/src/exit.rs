//! How an instance or a process ended.

use std::fmt;

/// How it ended, and why as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of the main process.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Why.
    pub reason: Reason,
}

/// Why something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It ended by itself.
    Exited,
    /// Tidegate ended it.
    Killed,
    /// It used more memory than it may.
    Memory,
    /// It had as many processes as it may have when it ended.
    Processes,
    /// It wrote more than it may.
    Disk,
    /// It took longer than it may.
    Time,
}

impl Exit {
    /// What is told when the kernel's own account is gone with the process's parent.
    pub const KILLED: Self = Self {
        code: None,
        signal: Some(9),
        reason: Reason::Killed,
    };

    /// Whether it ended by itself with code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!((self.code, self.reason), (Some(0), Reason::Exited))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with code {code}")?,
            (None, Some(signal)) => write!(f, "was ended by signal {signal}")?,
            (None, None) => f.write_str("ended")?,
        }
        match self.reason {
            Reason::Exited | Reason::Killed => Ok(()),
            Reason::Memory => f.write_str(" over its memory limit"),
            Reason::Processes => f.write_str(" at its process limit"),
            Reason::Disk => f.write_str(" over its disk limit"),
            Reason::Time => f.write_str(" over its time limit"),
        }
    }
}
