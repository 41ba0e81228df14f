//! What every test stands on: a server of the built binary, its commands, and a client that sees every byte.

mod command;
mod faas;
mod http;
mod images;
mod instances;
mod projects;
mod server;
mod wait;

pub(crate) use command::{Ran, bare, program};
pub(crate) use faas::{context, signature, template};
pub(crate) use http::{Call, Connection, Reply};
pub(crate) use images::{Image, Item, Registry, copy_program, layer, write};
pub(crate) use instances::{code_of, groups_of, is_alive, processes_of, tagged};
pub(crate) use projects::{Files, example, sample};
pub(crate) use server::{Server, UNPRIVILEGED};
pub(crate) use wait::{eventually, until};

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A server that the tests of a module share, as long as any of them runs.
pub(crate) struct Shared(Mutex<Weak<Server>>);

impl Shared {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The server; a fresh one where no other test holds it now.
    pub(crate) fn get(&self) -> Arc<Server> {
        self.get_or(Server::start)
    }

    /// The same, started in this way.
    pub(crate) fn get_or(&self, start: fn() -> Server) -> Arc<Server> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.upgrade().unwrap_or_else(|| {
            let server = Arc::new(start());
            *kept = Arc::downgrade(&server);
            server
        })
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
