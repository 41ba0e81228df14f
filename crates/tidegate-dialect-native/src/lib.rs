//! Tidegate's own dialect: its documents, its routes, its error table.

#![forbid(unsafe_code)]

pub mod document;
