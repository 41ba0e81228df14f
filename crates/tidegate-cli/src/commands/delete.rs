//! `delete`.

use clap::Args;
use tidegate_core::Name;

use super::functions::{missing, of_openfaas, path};
use crate::context::Context;
use crate::error::{Error, Result};

/// Delete functions
///
/// Calls that are running end; new ones are answered 404.
#[derive(Args)]
pub(crate) struct Delete {
    /// The functions
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Name>,
    /// Do not fail where one is not there
    #[arg(long)]
    ignore_missing: bool,
}

impl Delete {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let namespace = context.namespace.clone();
        // All are tried: the one that is missing should not keep the others.
        let mut failed: Option<Error> = None;
        for name in &self.names {
            let mut gone = client.delete(&path(&namespace, name.as_str()), &[]).await;
            if let Err(error) = &gone
                && let Some((gateway, place)) =
                    of_openfaas(context, &client, error, name.as_str()).await?
            {
                gone = gateway.delete(place.as_deref(), name.as_str()).await;
            }
            match gone {
                Ok(()) => context.note(format!("deleted {name}")),
                Err(error) if self.ignore_missing && error.status() == Some(404) => {
                    context.note(format!("{name} was not there"));
                }
                Err(error) => {
                    let error = missing(&client, error, &namespace, name.as_str()).await;
                    if let Some(earlier) = failed.replace(error) {
                        context.report(&earlier);
                    }
                    let over = failed
                        .as_ref()
                        .is_some_and(|e| e.code == crate::exit::UNREACHABLE);
                    if over {
                        break;
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
