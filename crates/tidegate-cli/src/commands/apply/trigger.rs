//! One trigger of a manifest, on its way, and those that are no longer wanted.

use serde_json::{Map, Value as Json, json};
use tidegate_document::{API_VERSION, Metadata, TRIGGER, Trigger, TriggerList};
use tidegate_manifest::{MANIFEST, WantedTrigger};

use super::difference::difference;
use super::one::{Action, OURS, Outcome, compare, explained, tidied};
use crate::client::{ANSWER, Client};
use crate::error::{Error, Result};

/// What is so where a specification does not say otherwise. Whether it is said makes no difference.
const USUAL: [(&str, &str, &str); 4] = [
    ("/spec", "missed", "once"),
    ("/spec", "timeZone", "UTC"),
    ("/spec/request", "method", "POST"),
    ("/spec/request", "path", "/"),
];

/// Tries of a write: the server writes a trigger's status at each tick.
const TRIES: usize = 5;

/// What is to be done for one trigger.
pub(crate) struct TriggerWork<'a> {
    pub(crate) client: &'a Client,
    pub(crate) wanted: &'a WantedTrigger,
    pub(crate) namespace: &'a str,
    pub(crate) dry_run: bool,
}

/// The path of a trigger.
fn path(namespace: &str, name: &str) -> String {
    format!("/namespaces/{namespace}/triggers/{name}")
}

impl TriggerWork<'_> {
    /// Does it. Whatever goes wrong stands in the outcome.
    pub(crate) async fn run(&self) -> Outcome {
        let mut outcome = Outcome::of_trigger(self.namespace, self.wanted.name.as_str());
        if let Err(error) = self.carry_out(&mut outcome).await {
            outcome.error = Some(error);
        }
        outcome
    }

    async fn carry_out(&self, outcome: &mut Outcome) -> Result {
        let path = path(self.namespace, self.wanted.name.as_str());
        let mut tried = 0;
        let written: Trigger = loop {
            tried += 1;
            let there: Option<Json> = match self.client.get::<Json>(&path, &[], ANSWER).await {
                Ok(trigger) => Some(plain(trigger)),
                Err(e) if e.status() == Some(404) => None,
                Err(e) => return Err(e.into()),
            };
            let document = self.document(there.as_ref());
            outcome.action = compare(there.as_ref(), &document);
            if self.dry_run {
                if outcome.action != Action::Unchanged {
                    outcome.difference = difference(there.as_ref(), &document);
                }
                return Ok(());
            }
            let written = match (outcome.action, there) {
                (Action::Unchanged, _) => return Ok(()),
                (_, Some(_)) => self.client.put(&path, &document).await,
                (_, None) => self.client.put_new(&path, &document).await,
            };
            match written {
                Ok(written) => break written,
                Err(e) if e.status() == Some(409) && tried < TRIES => {}
                Err(e) => return Err(explained(e)),
            }
        };
        let status = written.status.unwrap_or_default();
        match status.upcoming.first() {
            Some(next) => outcome.next = Some(next.clone()),
            None if written.spec.paused => outcome.next = Some("paused".to_owned()),
            None => {
                let warning = "it is never due: that moment is past";
                outcome.warnings.push(warning.to_owned());
            }
        }
        Ok(())
    }

    fn document(&self, there: Option<&Json>) -> Json {
        let mut annotations = self.wanted.annotations.clone();
        let mut spec = self.wanted.spec.clone();
        let mut metadata = json!({
            "name": self.wanted.name.as_str(),
            "namespace": self.namespace,
        });
        if let Some(there) = there {
            let noted = there.pointer("/metadata/annotations");
            for (key, value) in noted.and_then(Json::as_object).into_iter().flatten() {
                if let (true, Some(text)) = (key.starts_with(OURS), value.as_str()) {
                    annotations
                        .entry(key.clone())
                        .or_insert_with(|| text.to_owned());
                }
            }
            metadata["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
            // One that somebody paused stays paused until the manifest says something of it.
            if !spec.contains_key("paused") && there["spec"]["paused"] == true {
                spec.insert("paused".to_owned(), json!(true));
            }
        }
        if !self.wanted.labels.is_empty() {
            metadata["labels"] = json!(self.wanted.labels);
        }
        metadata["annotations"] = json!(annotations);
        plain(json!({
            "apiVersion": API_VERSION,
            "kind": TRIGGER,
            "metadata": metadata,
            "spec": spec,
        }))
    }
}

/// Without what goes without saying.
fn plain(mut document: Json) -> Json {
    for (at, key, usual) in USUAL {
        let map = document.pointer_mut(at).and_then(Json::as_object_mut);
        if let Some(map) = map
            && map.get(key).is_some_and(|value| value == usual)
        {
            map.remove(key);
        }
    }
    let spec = document.get_mut("spec").and_then(Json::as_object_mut);
    if let Some(spec) = spec {
        if spec.get("paused") == Some(&json!(false)) {
            spec.remove("paused");
        }
        let said = tidied(&Json::Object(std::mem::take(spec)));
        *spec = match said {
            Json::Object(said) => said,
            _ => Map::new(),
        };
    }
    document
}

/// The triggers of a namespace that an apply of these projects made and that are no longer wanted; with a selector those
/// alone that it takes.
pub(super) async fn left_over(
    client: &Client,
    namespace: &str,
    is_ours: impl Fn(&str) -> bool,
    is_wanted: impl Fn(&str) -> bool,
    selector: Option<&str>,
) -> Result<Vec<String>> {
    let all: Result<TriggerList, _> = client
        .get(&format!("/namespaces/{namespace}/triggers"), &[], ANSWER)
        .await;
    let all = match all {
        Ok(all) => all.items,
        // There cannot be triggers in a namespace that is not there.
        Err(e) if e.status() == Some(404) => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    let mut chosen: Vec<Metadata> = all.into_iter().map(|trigger| trigger.metadata).collect();
    chosen.retain(|meta| {
        meta.annotations.get(MANIFEST).is_some_and(|p| is_ours(p)) && !is_wanted(&meta.name)
    });
    // Where there is nothing to choose from, it makes no difference what the selector asks.
    if let Some(selector) = selector.filter(|_| !chosen.is_empty()) {
        let asked = equalities(selector)?;
        chosen.retain(|meta| {
            let has =
                |(key, value): &(&str, &str)| meta.labels.get(*key).is_some_and(|v| v == value);
            asked.iter().all(has)
        });
    }
    Ok(chosen.into_iter().map(|meta| meta.name).collect())
}

/// The labels that a selector asks for.
pub(super) fn equalities(selector: &str) -> Result<Vec<(&str, &str)>> {
    let parts = selector.split(',').map(str::trim);
    let parts = parts.map(|part| match part.split_once('=') {
        Some((key, value)) if !key.ends_with('!') => Ok((
            key.trim(),
            value.trim_start_matches('=').trim(),
        )),
        _ => Err(Error::usage(format!(
            "--selector {selector:?} is not for triggers, which are pruned by labels such as app=shop alone"
        ))),
    });
    parts.collect()
}

/// Deletes one.
pub(crate) async fn delete(client: &Client, namespace: &str, name: &str, dry_run: bool) -> Outcome {
    let mut outcome = Outcome::of_trigger(namespace, name);
    outcome.action = Action::Deleted;
    if dry_run {
        return outcome;
    }
    // If it was not there, somebody else did.
    outcome.error = remove(client, namespace, name).await.err();
    outcome
}

/// Removes one, and tells whether it was there.
pub(crate) async fn remove(client: &Client, namespace: &str, name: &str) -> Result<bool> {
    match client.delete(&path(namespace, name), &[]).await {
        Ok(()) => Ok(true),
        Err(e) if e.status() == Some(404) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether there is one.
pub(crate) async fn exists(client: &Client, namespace: &str, name: &str) -> Result<bool> {
    let path = path(namespace, name);
    match client.get::<Json>(&path, &[], ANSWER).await {
        Ok(_) => Ok(true),
        Err(e) if e.status() == Some(404) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_without_saying_makes_no_difference() {
        let said = json!({ "spec": {
            "function": "f", "schedule": "@daily", "missed": "once", "timeZone": "UTC", "paused": false,
            "request": { "method": "POST", "path": "/", "headers": {} },
        } });
        let short = json!({ "spec": { "function": "f", "schedule": "@daily" } });
        assert_eq!(plain(said), short);
        let other = json!({ "spec": { "missed": "all", "request": { "method": "PUT" } } });
        assert_eq!(plain(other.clone()), other);
    }

    #[test]
    fn selectors_of_labels_are_read() {
        let read = |text| equalities(text).ok();
        assert_eq!(read("a=b, c==d"), Some(vec![("a", "b"), ("c", "d")]));
        for other in ["a!=b", "a", "!a", "a in (b)"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
