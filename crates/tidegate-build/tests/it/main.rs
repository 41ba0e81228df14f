//! Plans run for real, with this machine's tools and the registries.

mod run;

mod node;
mod python;
