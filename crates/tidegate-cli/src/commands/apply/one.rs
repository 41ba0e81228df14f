//! One function of a manifest, on its way; and what became of it, as of a trigger.

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value as Json, json};
use tidegate_build::PackOptions;
use tidegate_document::{API_VERSION, FUNCTION, Function, FunctionStatus, Phase};
use tidegate_manifest::{MANIFEST, Source, Wanted};

use super::difference::difference;
use crate::client::{self, ANSWER, Client};
use crate::commands::deploy::{PATIENCE, SOURCE, Ship, fetch, is_address, language, pack, upload};
use crate::commands::functions::{path, short, url};
use crate::error::{Error, Result};
use crate::time::elapsed;

/// What Tidegate's own tools note on functions; what a manifest does not say of these stays.
pub(super) const OURS: &str = "tidegate.dev/";

/// What other commands set of a specification, and manifests need not speak of.
const BY_HAND: [&str; 2] = ["traffic", "rollout"];

/// What is to be done for one function.
pub(crate) struct Work<'a> {
    pub(crate) client: &'a Client,
    pub(crate) wanted: &'a Wanted,
    pub(crate) namespace: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) wait: bool,
    pub(crate) draw: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether it is a trigger, and no function.
    pub(crate) trigger: bool,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) revision: Option<String>,
    pub(crate) url: Option<String>,
    /// When a trigger that was written is due next; or that it is paused.
    pub(crate) next: Option<String>,
    pub(crate) warnings: Vec<String>,
    /// The last lines that the code wrote, where it failed.
    pub(crate) log: Vec<String>,
    /// What is to be said beside, a line each.
    pub(crate) notes: Vec<String>,
    /// What would change, where nothing is to be changed.
    pub(crate) difference: String,
    pub(crate) error: Option<Error>,
}

/// What is done to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Created,
    Updated,
    /// Nothing but whose it is.
    Adopted,
    Unchanged,
    Deleted,
}

impl Action {
    pub(crate) const fn done(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Adopted => "adopted",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }

    pub(super) const fn would(self) -> &'static str {
        match self {
            Self::Created => "would create",
            Self::Updated => "would update",
            Self::Adopted => "would adopt",
            Self::Unchanged => "unchanged",
            Self::Deleted => "would delete",
        }
    }

    pub(super) const fn style(self) -> Style {
        match self {
            Self::Created | Self::Adopted => AnsiColor::Green.on_default(),
            Self::Updated => AnsiColor::Yellow.on_default(),
            Self::Unchanged => Style::new(),
            Self::Deleted => AnsiColor::Red.on_default(),
        }
    }
}

impl Outcome {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            trigger: false,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            action: Action::Unchanged,
            revision: None,
            url: None,
            next: None,
            warnings: Vec::new(),
            log: Vec::new(),
            notes: Vec::new(),
            difference: String::new(),
            error: None,
        }
    }

    pub(super) fn of_trigger(namespace: &str, name: &str) -> Self {
        Self {
            trigger: true,
            ..Self::new(namespace, name)
        }
    }

    /// Its name, with its namespace where that is not the usual one.
    pub(crate) fn shown(&self, usual: &str) -> String {
        let what = if self.trigger { "trigger " } else { "" };
        if self.namespace == usual {
            format!("{what}{}", self.name)
        } else {
            format!("{what}{}/{}", self.namespace, self.name)
        }
    }

    pub(super) fn json(&self) -> Json {
        let mut map = Map::new();
        map.insert("name".to_owned(), json!(self.name));
        map.insert("namespace".to_owned(), json!(self.namespace));
        let action = match &self.error {
            Some(_) => "failed",
            None => self.action.done(),
        };
        map.insert("action".to_owned(), json!(action));
        let optional = [
            ("revision", self.revision.clone()),
            ("url", self.url.clone()),
            ("next", self.next.clone()),
            (
                "difference",
                Some(self.difference.clone()).filter(|d| !d.is_empty()),
            ),
            ("error", self.error.as_ref().map(|e| e.message.clone())),
        ];
        for (key, value) in optional {
            map.extend(value.map(|v| (key.to_owned(), json!(v))));
        }
        Json::Object(map)
    }
}

impl Work<'_> {
    /// Does it. Whatever goes wrong stands in the outcome, since it is one function's and not the command's.
    pub(crate) async fn run(&self) -> Outcome {
        let mut outcome = Outcome::new(self.namespace, self.wanted.name.as_str());
        if let Err(error) = self.carry_out(&mut outcome).await {
            outcome.error = Some(error);
        }
        outcome
    }

    async fn carry_out(&self, outcome: &mut Outcome) -> Result {
        let path = path(self.namespace, self.wanted.name.as_str());
        let (spec, packed, source) = self.code(outcome).await?;
        let there: Option<Json> = match self.client.get::<Json>(&path, &[], ANSWER).await {
            Ok(mut function) => {
                // The server's own note, of which nobody has a wish.
                if let Some(Json::Object(spec)) = function.get_mut("spec") {
                    spec.remove("imageDigest");
                }
                Some(function)
            }
            Err(e) if e.status() == Some(404) => None,
            Err(e) => return Err(e.into()),
        };
        let document = self.document(spec, source, there.as_ref(), outcome);
        outcome.action = compare(there.as_ref(), &document);
        if self.dry_run {
            if outcome.action != Action::Unchanged {
                outcome.difference = difference(there.as_ref(), &document);
            }
            return Ok(());
        }
        let written: Function = match (outcome.action, there) {
            (Action::Unchanged, Some(there)) => serde_json::from_value(there)
                .map_err(|e| Error::unexpected("the server gave no function").because(&e))?,
            _ => {
                if let Some(packed) = packed {
                    upload(self.draw, self.client, packed).await?;
                }
                self.write(&path, &document).await?
            }
        };
        outcome.url = Some(url(self.client, &written));
        if self.wait {
            self.wait(outcome, &written).await
        } else {
            Ok(())
        }
    }

    /// The specification with its code, the archive to send, and where it came from if that is elsewhere.
    async fn code(
        &self,
        outcome: &mut Outcome,
    ) -> Result<(
        Map<String, Json>,
        Option<tidegate_build::Packed>,
        Option<String>,
    )> {
        let mut spec = self.wanted.spec.clone();
        let (written, path, entry) = match &self.wanted.source {
            Source::Blob { digest, entry } => {
                spec.insert(
                    "code".to_owned(),
                    json!({ "digest": digest, "entry": entry }),
                );
                return Ok((spec, None, None));
            }
            Source::Image { name } => {
                spec.insert("image".to_owned(), json!(name));
                return Ok((spec, None, None));
            }
            Source::Path {
                written,
                path,
                entry,
            } => (written, path, entry),
        };
        let runtime = match spec.get("runtime").and_then(Json::as_str) {
            Some(word) => Some(language(word).parse().map_err(Error::usage)?),
            None => None,
        };
        let made = spec.get("build").and_then(|build| build.get("command"));
        let options = PackOptions {
            runtime,
            entry: entry.clone(),
            built: made.is_some(),
        };
        // Clones and archives take their time, in which the other functions go on.
        let (written, path) = (written.clone(), path.clone());
        let work = move || -> Result<_> {
            if is_address(&written) {
                let fetched = fetch(&written)?;
                let packed = pack(&fetched.folder, &options)?;
                return Ok((packed, Some(fetched.source)));
            }
            Ok((pack(&path, &options)?, None))
        };
        let (packed, source) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::unexpected("packing failed").because(&e))??;
        outcome.warnings.extend(packed.warnings.iter().cloned());
        let detected = &packed.detected;
        // A version that was named stays.
        spec.entry("runtime")
            .or_insert_with(|| json!(detected.runtime.as_str()));
        spec.entry("contract")
            .or_insert_with(|| json!(detected.contract));
        spec.insert(
            "code".to_owned(),
            json!({ "digest": packed.digest, "entry": detected.entry }),
        );
        Ok((spec, Some(packed), source))
    }

    fn document(
        &self,
        mut spec: Map<String, Json>,
        source: Option<String>,
        there: Option<&Json>,
        outcome: &mut Outcome,
    ) -> Json {
        let mut annotations = self.wanted.annotations.clone();
        if let Some(source) = source {
            annotations.insert(SOURCE.to_owned(), source);
        }
        let mut metadata = json!({
            "name": self.wanted.name.as_str(),
            "namespace": self.namespace,
        });
        if let Some(there) = there {
            // What other tools of ours noted stays.
            if let Some(Json::Object(noted)) = there.pointer("/metadata/annotations") {
                for (key, value) in noted {
                    if let (true, Some(text)) =
                        (key.starts_with(OURS) && key != SOURCE, value.as_str())
                    {
                        annotations
                            .entry(key.clone())
                            .or_insert_with(|| text.to_owned());
                    }
                }
            }
            metadata["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
            if let Json::Object(before) = tidied(&there["spec"]) {
                keep_what_was_done_by_hand(&before, &mut spec, outcome);
            }
        }
        if !self.wanted.labels.is_empty() {
            metadata["labels"] = json!(self.wanted.labels);
        }
        metadata["annotations"] = json!(annotations);
        json!({
            "apiVersion": API_VERSION,
            "kind": FUNCTION,
            "metadata": metadata,
            "spec": spec,
        })
    }

    async fn write(&self, path: &str, document: &Json) -> Result<Function> {
        let written = self.client.put(path, document).await;
        written.map_err(explained)
    }

    async fn wait(&self, outcome: &mut Outcome, written: &Function) -> Result {
        let ship = Ship {
            client: self.client,
            namespace: self.namespace,
            name: &self.wanted.name,
        };
        let mut status = written.status.clone().unwrap_or_default();
        let settled = outcome.action == Action::Unchanged
            && status.observed_generation >= written.metadata.generation
            && status.phase != Phase::Pending;
        if !settled {
            // Several builds at once would talk over one another; what a failed one said last is told with its failure.
            ship.build(written, |_| ()).await?;
            let function = ship.settled(written).await?;
            outcome.url = Some(url(self.client, &function));
            status = function.status.unwrap_or_default();
        }
        self.judge(outcome, &ship, written.metadata.generation, &status)
            .await
    }

    async fn judge(
        &self,
        outcome: &mut Outcome,
        ship: &Ship<'_>,
        generation: u64,
        status: &FunctionStatus,
    ) -> Result {
        if !status.revision.is_empty() {
            outcome.revision = Some(short(&status.revision).to_owned());
        }
        match status.phase {
            Phase::Ready => Ok(()),
            Phase::Failed => {
                let (log, error) = ship.failed(generation, status).await;
                outcome.log = log;
                Err(error)
            }
            Phase::Pending => Err(Error::failed(format!(
                "{} is still not ready after {}",
                self.wanted.name,
                elapsed(PATIENCE)
            ))),
        }
    }
}

/// Why a document was not written, and what helps.
pub(super) fn explained(error: client::Error) -> Error {
    let hint = match error.status() {
        Some(404) => "--create-namespaces creates namespaces that are not there",
        Some(409) => "somebody else changed it meanwhile; apply again",
        _ => return error.into(),
    };
    Error::from(error).hint(hint)
}

/// A split, a promotion or a rollback outlives an apply that changes nothing else, and ends with the next revision, as it
/// does with a deploy. A manifest that says something of them has the last word.
fn keep_what_was_done_by_hand(
    before: &Map<String, Json>,
    spec: &mut Map<String, Json>,
    outcome: &mut Outcome,
) {
    let kept: Vec<(&&str, &Json)> = BY_HAND
        .iter()
        .filter(|key| !spec.contains_key(**key))
        .filter_map(|key| Some((key, before.get(*key)?)))
        .collect();
    let mut with = spec.clone();
    with.extend(
        kept.iter()
            .map(|(key, value)| ((**key).to_owned(), (*value).clone())),
    );
    if tidied(&Json::Object(with.clone())) == Json::Object(before.clone()) {
        *spec = with;
    } else if kept.iter().any(|(key, _)| **key == "traffic") {
        outcome.warnings.push(
            "its traffic was set by hand; from now on the newest revision takes it all".to_owned(),
        );
    }
}

/// What it takes to get from what is there to what is wanted.
pub(super) fn compare(there: Option<&Json>, wanted: &Json) -> Action {
    let Some(there) = there else {
        return Action::Created;
    };
    let same = |pointer: &str| {
        let of = |document: &Json| tidied(document.pointer(pointer).unwrap_or(&Json::Null));
        of(there) == of(wanted)
    };
    if !same("/spec") || !same("/metadata/labels") {
        return Action::Updated;
    }
    if same("/metadata/annotations") {
        return Action::Unchanged;
    }
    let others = |document: &Json| {
        let mut notes = tidied(
            document
                .pointer("/metadata/annotations")
                .unwrap_or(&Json::Null),
        );
        if let Json::Object(map) = &mut notes {
            map.remove(MANIFEST);
        }
        tidied(&notes)
    };
    if others(there) == others(wanted) {
        Action::Adopted
    } else {
        Action::Updated
    }
}

/// A list that is the strictest where it is empty, and none where it is absent.
const EGRESS: &str = "egress";

/// Without what says nothing, so that an absent member and an empty one are the same.
pub(super) fn tidied(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let kept: Map<String, Json> = map
                .iter()
                .map(|(key, value)| match value {
                    Json::Array(_) if key == EGRESS => (key.clone(), value.clone()),
                    value => (key.clone(), tidied(value)),
                })
                .filter(|(_, value)| !value.is_null())
                .collect();
            if kept.is_empty() {
                Json::Null
            } else {
                Json::Object(kept)
            }
        }
        Json::Array(list) if list.is_empty() => Json::Null,
        Json::Array(list) => Json::Array(list.iter().map(tidied).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_list_of_what_is_reached_says_something() {
        let spec =
            serde_json::json!({ "args": [], "env": {}, "egress": [], "network": "outbound" });
        let kept = serde_json::json!({ "egress": [], "network": "outbound" });
        assert_eq!(tidied(&spec), kept);
    }

    #[test]
    fn what_differs_is_told_from_what_only_looks_so() {
        let there = json!({
            "metadata": { "labels": {}, "annotations": { "a": "b", "tidegate.dev/manifest": "x" } },
            "spec": { "env": {}, "secrets": [], "limits": { "memory": null }, "runtime": "python" },
        });
        let wanted =
            |notes: Json, spec: Json| json!({ "metadata": { "annotations": notes }, "spec": spec });
        let notes = json!({ "a": "b", "tidegate.dev/manifest": "x" });
        for (wanted, expected) in [
            (
                wanted(notes.clone(), json!({ "runtime": "python" })),
                Action::Unchanged,
            ),
            (wanted(notes, json!({ "runtime": "node" })), Action::Updated),
            (
                wanted(
                    json!({ "a": "b", "tidegate.dev/manifest": "y" }),
                    json!({ "runtime": "python" }),
                ),
                Action::Adopted,
            ),
            (
                wanted(
                    json!({ "a": "c", "tidegate.dev/manifest": "x" }),
                    json!({ "runtime": "python" }),
                ),
                Action::Updated,
            ),
        ] {
            assert_eq!(compare(Some(&there), &wanted), expected, "{wanted}");
        }
        assert_eq!(compare(None, &there), Action::Created);
    }
}
