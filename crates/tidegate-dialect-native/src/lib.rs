//! Tidegate's own dialect: its documents, its routes, its error table.
//!
//! Control lives under `/tidegate/v1`, an [axum] router that speaks JSON documents. Calls live under
//! `/fn/NAME[.NAMESPACE]/rest…` and at `NAME.NAMESPACE.fn.localhost`, with `TAG---` before the name for a tagged revision, and do not pass through a router: they are on the
//! warm path, and finding the function is all there is to route.

#![forbid(unsafe_code)]

mod api;
mod call;
pub use tidegate_document as document;
mod error;
mod image;
mod later;
mod logs;
mod lower;
mod openapi;
mod render;

pub use api::{Info, MAX_CODE_BYTES, is_open, router};
pub use call::{Routed, call, inside, route, route_inside};
pub use error::ApiError;
pub use lower::{Native, defaults};
pub use openapi::openapi;

/// Where the control routes live.
pub const CONTROL_PREFIX: &str = "/tidegate/v1";
