//! OpenFaaS's formats, shared by the dialect that serves its clients and by the command line.
//!
//! A *deployment* is what a client asks for: a name, an image, an environment. An *image* here is no container image but
//! what a template's build context was made into, kept under the name that the context's sender gave it; a deployment that
//! names it runs it. A *template* is a way of calling a handler: its build context is recognised by its language, and
//! [`templates::prepare`] turns it into a source tree of Tidegate's own with an entry that calls the handler in just the
//! way that the template's own entry does.

#![forbid(unsafe_code)]

pub mod build;
mod deployment;
mod image;
pub mod seal;
pub mod stack;
pub mod templates;

pub use deployment::{FunctionDeployment, Resources};
pub use image::{BuildConfig, Image, Prepared, WatchdogKind};
