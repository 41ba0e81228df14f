//! Scaling decisions.
