//! Images from real registries and bad ones, from archives and folders, and what hostile layers come to.
//!
//! The real registry is Debian's `docker-registry`; the bad ones are servers of these tests. All images are made here.

mod fake;
mod imports;
mod kept;
mod made;
mod pulls;
mod real;
mod traps;
