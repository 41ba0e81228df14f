//! What the isolation is told when it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the isolation is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the isolation's own: language hosts are written there, and sandboxes' roots are mounted there. Made when
    /// absent.
    pub state_dir: PathBuf,
    /// The program to start as launcher; it must call [`crate::is_launcher`] and [`crate::launcher_main`] first of all.
    pub launcher: PathBuf,
    /// How strong the limits must be for the isolation to start at all.
    pub minimum: Minimum,
    /// The Python interpreter of language hosts; the machine's own where absent. It has to lie under `/usr`, since
    /// nothing else of the machine is seen from inside.
    pub python: Option<PathBuf>,
    /// Interpreters of other languages by name (`ruby`, `php`, `java`, `node`), where not the usual ones; under `/usr` too.
    pub interpreters: BTreeMap<String, PathBuf>,
    /// How many network namespaces and cgroups are kept ready.
    pub stock: usize,
    /// First of the user ids that sandboxes run as when the server is root; [`Options::MAX_SANDBOXES`] of them.
    pub uid_base: u32,
    /// Where control groups are.
    pub cgroups: Cgroups,
}

/// Where control groups are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroups {
    /// Found by `/proc/self/mountinfo` and `/proc/self/cgroup`.
    #[default]
    Machine,
    /// None, as if they could not be made: the watchdog takes over.
    Off,
}

/// How strong the limits must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Minimum {
    /// Namespaces, seccomp and no privileges; limits by whatever means the machine permits.
    #[default]
    Walls,
    /// The same, with memory, processor and process limits held by the kernel.
    Limits,
}

impl Options {
    /// Most sandboxes at once: each has a user id and about ten descriptors of the server's.
    pub const MAX_SANDBOXES: u32 = 4096;

    /// Default of [`Options::stock`]: a burst of first calls this long pays no network namespace.
    pub const STOCK: usize = 8;

    /// Default of [`Options::uid_base`]: above what people, daemons and the usual sub-id ranges have, below 2³¹.
    pub const UID_BASE: u32 = 2_000_000_000;

    /// The defaults, with this folder.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            launcher: PathBuf::from("/proc/self/exe"),
            minimum: Minimum::default(),
            python: None,
            interpreters: BTreeMap::new(),
            stock: Self::STOCK,
            uid_base: Self::UID_BASE,
            cgroups: Cgroups::default(),
        }
    }
}
