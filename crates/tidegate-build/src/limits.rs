//! Limits that both sides share, so that nothing is packed that the server would refuse.

/// Largest archive in bytes. Functions are code, not data sets; beyond this, cold starts are about disk, and a mistaken
/// path such as a home folder is more likely than a wish.
pub const MAX_ARCHIVE: u64 = 256 << 20;

/// Largest sum of file sizes in bytes: four times the archive, which code with its dependencies stays under.
pub const MAX_EXPANDED: u64 = 1 << 30;

/// Most files, folders and links. A large dependency tree has about half as many.
pub const MAX_ENTRIES: usize = 50_000;

/// Longest path in bytes, relative to the root: a quarter of the kernel's own limit, the rest being for where it lands.
pub const MAX_PATH: usize = 1024;

/// Deepest nesting in components, which bounds every recursion over the tree.
pub const MAX_DEPTH: usize = 64;

/// Largest sum of file sizes of a layer or of a bundle that a build made, in bytes. The largest usual sets of packages,
/// for data and images, stay under it; beyond, what is wanted is a machine of one's own.
pub const LAYER_EXPANDED: u64 = 2 << 30;

/// Largest archive of such a one in bytes.
pub const LAYER_ARCHIVE: u64 = 1 << 30;

/// Most files, folders and links of such a one. A front end's packages for a build may be 100 000 files.
pub const LAYER_ENTRIES: usize = 200_000;

/// Longest path of such a one, in bytes: packages nest in packages.
pub const LAYER_PATH: usize = 2048;

/// Deepest nesting of such a one.
pub const LAYER_DEPTH: usize = MAX_DEPTH;
