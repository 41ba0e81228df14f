//! One file a command.

mod completions;
mod connect;
mod delete;
mod deploy;
mod describe;
mod doctor;
mod functions;
mod invoke;
mod list;
mod login;
mod logs;
mod namespace;
mod scale;
mod secret;
mod up;

pub(crate) use completions::Completions;
pub(crate) use delete::Delete;
pub(crate) use deploy::Deploy;
pub(crate) use describe::Describe;
pub(crate) use doctor::Doctor;
pub(crate) use invoke::Invoke;
pub(crate) use list::List;
pub(crate) use login::{Login, Logout};
pub(crate) use logs::Logs;
pub(crate) use namespace::Namespace;
pub(crate) use scale::Scale;
pub(crate) use secret::Secret;
pub(crate) use up::{Up, after_help as up_settings};
