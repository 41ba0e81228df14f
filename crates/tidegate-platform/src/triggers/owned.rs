//! Triggers that a function's document asks for.

use tidegate_document::{API_VERSION, TRIGGER as KIND, TriggerRequest, TriggerSpec};
use tidegate_store::{Object, Query};

use super::{Trigger, key, read, stored};
use crate::{Error, Platform};

/// Longest name of a trigger: what every name of ours has.
const MAX_NAME: usize = 63;

/// Tries of a write that the loop races with.
const TRIES: usize = 8;

/// When a function's document wants it to be called, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The schedule, as it is written.
    pub schedule: String,
    /// What it is called with.
    pub request: TriggerRequest,
}

/// A document that may want triggers, and which it wants.
pub(crate) struct Wishes<'a> {
    pub(crate) document: &'a Object,
    /// The function's name.
    pub(crate) function: &'a str,
    pub(crate) schedules: &'a [Scheduled],
}

impl Platform {
    /// Brings the triggers of a function's document in line with what it wants. One whose schedule stays goes on where it
    /// is, and stays paused where it was.
    pub(crate) async fn keep_triggers(&self, wishes: Wishes<'_>) -> Result<(), Error> {
        let namespace = wishes.document.key().namespace();
        let query = Query::kind(API_VERSION, KIND)
            .namespace(namespace)
            .name_prefix(&wishes.stem());
        let mut there: Vec<Trigger> = self
            .list_all(&query)
            .await?
            .into_iter()
            .filter_map(read)
            .collect();
        there.retain(|trigger| belongs(trigger, wishes.document));
        for (at, scheduled) in wishes.schedules.iter().enumerate() {
            let name = format!("{}{}", wishes.stem(), at + 1);
            let before = there.iter().position(|t| t.object.key().name() == name);
            let before = before.map(|at| there.swap_remove(at));
            self.keep_trigger(&wishes, &name, scheduled, before).await?;
        }
        for gone in there {
            let deleted = self.delete(gone.object.key(), Default::default()).await;
            match deleted {
                Ok(_) | Err(Error::Store(tidegate_store::Error::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn keep_trigger(
        &self,
        wishes: &Wishes<'_>,
        name: &str,
        scheduled: &Scheduled,
        mut before: Option<Trigger>,
    ) -> Result<(), Error> {
        let wanted = |paused| TriggerSpec {
            function: wishes.function.to_owned(),
            schedule: scheduled.schedule.clone(),
            request: scheduled.request.clone(),
            paused,
            ..TriggerSpec::default()
        };
        let key = key(wishes.document.key().namespace(), name)?;
        let mut tries = 0;
        loop {
            let Some(trigger) = before else {
                let object = Object::with_spec(&key, stored(&wanted(false))?)?;
                let object = object.owned_by(&wishes.document.owner_reference())?;
                return match self.store().objects().create(object).await {
                    Ok(_) => Ok(()),
                    Err(tidegate_store::Error::AlreadyExists { .. }) => Err(Error::InUse(format!(
                        "trigger {name:?} is somebody's own, and has the name of one that this function wants; delete it"
                    ))),
                    Err(error) => Err(error.into()),
                };
            };
            let spec = wanted(trigger.spec.paused);
            if spec == trigger.spec {
                return Ok(());
            }
            let changed = trigger.object.replace_spec(stored(&spec)?)?;
            match self.store().objects().update(changed).await {
                Err(tidegate_store::Error::Conflict { .. }) if tries < TRIES => tries += 1,
                Err(tidegate_store::Error::NotFound { .. }) => {}
                written => return written.map(drop).map_err(Error::from),
            }
            before = self
                .find_trigger(&key)
                .await?
                .filter(|trigger| belongs(trigger, wishes.document));
        }
    }
}

fn belongs(trigger: &Trigger, document: &Object) -> bool {
    let mut owners = trigger.object.owner_references();
    owners.any(|owner| owner.uid == document.uid())
}

impl Wishes<'_> {
    /// What the names of the triggers begin with.
    fn stem(&self) -> String {
        let room = MAX_NAME - "-schedule-00".len();
        if self.function.len() <= room {
            return format!("{}-schedule-", self.function);
        }
        // Names that agree in all that is kept are told apart by the random end of the document's uid.
        let uid = self.document.uid();
        let word = &uid[uid.len().saturating_sub(8)..];
        let kept = self.function[..room - word.len() - 1].trim_end_matches('-');
        format!("{kept}-{word}-schedule-")
    }
}
