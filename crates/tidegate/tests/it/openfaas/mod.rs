//! OpenFaaS's clients and functions: every template's handler from its context to its answers, and the gateway's routes as
//! its command line uses them.

mod calls;
mod gateway;
mod languages;
mod scaling;
mod tools;
mod watchdogs;

use crate::harness::{Server, Shared};
use std::sync::Arc;

static SERVER: Shared = Shared::new();

/// A server that builds, and serves metrics at a port of its own.
fn server() -> Arc<Server> {
    SERVER.get_or(|| {
        Server::options()
            .builder()
            // A name that is not here is not looked for elsewhere.
            .set("images.registries", "none")
            .start()
    })
}

const PYTHON: (&str, &str) = ("python3-http", "python index.py");
const FLASK: (&str, &str) = ("python3-flask", "python index.py");
const CLASSIC: (&str, &str) = ("python3", "python3 index.py");
const NODE22: (&str, &str) = ("node22", "node index.js");
const NODE20: (&str, &str) = ("node20", "node index.js");
const GO: (&str, &str) = ("golang-middleware", "./handler");
const GO_HTTP: (&str, &str) = ("golang-http", "./handler");
