//! Plans run for real, with this machine's tools and the registries.

mod run;

mod compiled;
mod interpreted;
mod node;
mod python;
