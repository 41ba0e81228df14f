//! `scale`.

use clap::Args;
use tidegate_core::Name;
use tidegate_document::{Function, ScaleChange};

use super::functions::{get, missing, of_openfaas, path};
use crate::client::Gateway;
use crate::context::Context;
use crate::error::{Error, Result};

/// Change how many instances a function has
///
/// `tidegate scale NAME 3` keeps exactly three; `tidegate scale NAME 0` lets it go to zero when idle.
#[derive(Args)]
pub(crate) struct Scale {
    /// The function
    name: Name,
    /// Exactly this many; 0 lets it go to zero
    #[arg(value_name = "N", conflicts_with_all = ["min", "max"], required_unless_present_any = ["min", "max"])]
    count: Option<u32>,
    /// Never fewer than this many
    #[arg(long, value_name = "N")]
    min: Option<u32>,
    /// Never more than this many
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Print the function as JSON
    #[arg(long)]
    json: bool,
}

impl Scale {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let change = match (self.count, self.min, self.max) {
            (Some(0), ..) => ScaleChange {
                min: Some(0),
                max: None,
            },
            (Some(n), ..) => ScaleChange {
                min: Some(n),
                max: Some(n),
            },
            (None, Some(min), Some(max)) if min > max => {
                return Err(Error::usage(format!(
                    "--min {min} is more than --max {max}"
                )));
            }
            (None, min, max) => ScaleChange { min, max },
        };
        let client = context.client()?;
        let target = format!("{}/scale", path(&context.namespace, self.name.as_str()));
        let scaled: Result<Function, _> = client.put(&target, &change).await;
        let function = match scaled {
            Ok(function) => function,
            Err(error) => {
                let name = self.name.as_str();
                if let Some((gateway, place)) = of_openfaas(context, &client, &error, name).await? {
                    return self.by_hand(context, &gateway, place.as_deref()).await;
                }
                return Err(missing(&client, error, &context.namespace, name).await);
            }
        };
        let scale = &function.spec.scale;
        let bound = |n: Option<u32>| n.map_or_else(|| "default".to_owned(), |n| n.to_string());
        context.note(format!(
            "scaled {}: min {}, max {}",
            self.name,
            bound(scale.min),
            bound(scale.max)
        ));
        if self.json {
            context.json(&function)?;
        }
        Ok(())
    }

    /// One of OpenFaaS's: a number is asked for as its clients do, and bounds are its labels.
    async fn by_hand(
        self,
        context: &mut Context,
        gateway: &Gateway,
        place: Option<&str>,
    ) -> Result {
        let name = self.name.as_str();
        let Some(count) = self.count else {
            return Err(Error::usage(format!(
                "{name} is OpenFaaS's: its bounds are the labels com.openfaas.scale.min and com.openfaas.scale.max"
            ))
            .hint(format!(
                "{} asks for a number",
                context.advice(format!("scale {name} N"))
            )));
        };
        gateway.scale(place, name, count).await?;
        context.note(match count {
            0 => format!("scaled {name} to 0; the next call starts it again"),
            n => format!("scaled {name} to {n}, for now"),
        });
        if self.json {
            let client = context.client()?;
            let function = get(&client, &context.namespace, name).await?;
            context.json(&function)?;
        }
        Ok(())
    }
}
