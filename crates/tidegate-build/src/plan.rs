//! What has to be run to make a source folder runnable.
//!
//! A plan is data: which commands, with which folders before them, and what of the result is kept. It is decided from the
//! content of the folder and from what tools there are, and run elsewhere, behind walls. It has up to two stages:
//!
//! *Dependencies* sees nothing but the files that name them (a lock file, a manifest), so its result can be kept by the
//! digest of those and used again whatever else changes. It may reach the network. What it makes is the bundle's *layer*,
//! mounted at `/layer` beside the code; interpreted code is then run as it was sent, and a change of it builds nothing.
//!
//! *Compile* sees the whole source and makes another bundle of it. Only its steps that fetch may reach the network.
//!
//! Inside a step there is, beside `/usr` and `/tmp`: `/work`, writable, where the stage's input lies and where the step
//! begins; `/out`, writable and empty at first, what is in it at the end being the result; `/cache`, writable, kept from
//! build to build of a namespace, for the tools' own download caches; `/layer`, read-only, in *compile* where the stage
//! before it made one; and [`Plan::tools`], read-only, at their own paths.

use std::path::PathBuf;

/// See the module. Without any stage the source runs as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Makes the layer.
    pub dependencies: Option<Dependencies>,
    /// Makes the bundle.
    pub compile: Option<Compile>,
    /// Folders of the machine's that the tools need and that are not under `/usr`.
    pub tools: Vec<PathBuf>,
    /// One line each: what the user should know of what was decided.
    pub notes: Vec<String>,
}

/// The stage that makes the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependencies {
    /// The files of the source that lie in `/work`, and all that it depends on.
    pub inputs: Vec<String>,
    /// Tells this stage's result from every other: a digest over the inputs' names and contents, the steps and the
    /// versions of the tools.
    pub key: String,
    /// Whether everything is pinned by hash and no package runs code when it is installed, so that namespaces may share
    /// the result.
    pub pinned: bool,
    /// In order; the first that fails ends the build.
    pub steps: Vec<Step>,
}

/// The stage that makes another bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// In order; the first that fails ends the build.
    pub steps: Vec<Step>,
    /// The file to load or run, relative to `/out`.
    pub entry: String,
    /// Which attribute or class of it is the handler, where the source says.
    pub handler: Option<String>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does, for a progress line: `npm ci`.
    pub title: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Whether it may reach the network.
    pub network: bool,
}
