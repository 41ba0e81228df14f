//! From a path to an archive, and from an archive to a folder that can be run.
//!
//! The client side, [`pack`], looks at a file or folder, says what it is ([`Detected`]) and makes one `.tar.gz` of it. The
//! archive is a function of the content alone: names sorted, times and owners zero, two modes, a fixed gzip header. So the
//! same code has the same digest on every machine, an upload that the server already has is skipped, and a deploy of
//! unchanged code makes no new revision. Credential files never enter it.
//!
//! The server side, [`unpack`], trusts nothing: an archive is outside input, whoever made it. Entries are read one by one
//! in the order they stand, every count has a limit that is checked before memory or disk is spent, and what could leave
//! the folder (absolute names, `..`, links, devices) is refused rather than rewritten, because an archive that needs
//! rewriting was not made by a packer worth trusting.
//!
//! Between the two stands [`plan()`]: which commands make the folder runnable, decided from its content and from the
//! [`Tools`] of the machine, as data that somebody else runs. What comes out is archived by [`archive_folder`], and where it
//! failed, [`explain`] finds the line that says why.
//!
//! All of it blocks; callers on an async runtime give them a thread.

#![forbid(unsafe_code)]

#[cfg(unix)]
mod archive;
mod credential;
mod detect;
mod digest;
mod explain;
mod ignore;
mod limits;
mod link;
#[cfg(unix)]
mod opened;
mod pack;
mod plan;
#[cfg(unix)]
mod recipe;
mod source;
#[cfg(unix)]
mod tools;
mod tree;
#[cfg(unix)]
mod unpack;

#[cfg(unix)]
pub use archive::{Archived, archive_folder};
pub use detect::{DetectError, Detected, Runtime};
pub use digest::{DIGEST_PREFIX, digest};
pub use explain::explain;
pub use ignore::IgnoreError;
pub use limits::{
    LAYER_ARCHIVE, LAYER_DEPTH, LAYER_ENTRIES, LAYER_EXPANDED, LAYER_PATH, MAX_ARCHIVE, MAX_DEPTH,
    MAX_ENTRIES, MAX_EXPANDED, MAX_PATH,
};
pub use link::{LinkError, check as check_link};
pub use pack::{Archive, PackError, PackOptions, Packed, pack};
pub use plan::{CONFIG_FILES, Compile, Dependencies, Generated, HOME, Plan, Step};
#[cfg(unix)]
pub use recipe::{PlanError, Wanted, plan};
#[cfg(unix)]
pub use tools::{Missing, Tool, ToolName, ToolPaths, Toolchain, Tools};
pub use tree::{Kind, Node, Tree, TreeError};
#[cfg(unix)]
pub use unpack::{NameError, UnpackError, UnpackLimits, unpack, unpack_tar, unpack_zip};
