//! Watchdogs, around real processes and a real HTTP server, without walls: what those do is the isolation's test.

mod classic;
mod files;
mod fork;
mod http;
mod settings;
mod world;
