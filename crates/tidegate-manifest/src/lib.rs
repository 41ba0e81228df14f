//! From `tidegate.toml` and YAML to the functions that are wanted, and the triggers that call them.
//!
//! Three stages, each with a type of its own. A file of whichever format becomes one tree of nodes that know where they
//! stand ([`node`]). In its texts, and only there, variables are put in ([`substitute`]). Then one table of every key
//! ([`schema`]) reads the tree into documents. Deriving the reading from structs would be shorter, but stops at the first
//! mistake and forgets where a value stood; whoever writes a manifest of twenty functions wants all mistakes at once, each
//! with its line and the key that was probably meant.
//!
//! Specifications leave here as JSON in the form of the native documents rather than as their types: it is what they are
//! compared with and sent as, and whatever is not set stays absent.
//!
//! Nothing here talks to a server or packs code.

#![forbid(unsafe_code)]

mod dotenv;
mod load;
mod mistake;
mod near;
pub mod node;
mod read;
mod schema;
mod substitute;
mod wanted;

pub use dotenv::MAX_ENV_FILE;
pub use load::{Input, Loaded, Loader, MAX_MANIFEST, Text, is_manifest, manifest_in, open};
pub use mistake::{Mistake, Mistakes};
pub use near::near;
pub use schema::{Reference, reference};
pub use substitute::{SubstituteError, escape, substitute};
pub use wanted::{MANIFEST, Origin, Source, Wanted, WantedTrigger};
