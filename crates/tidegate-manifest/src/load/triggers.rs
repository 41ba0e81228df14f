//! Triggers of a manifest.

use serde_json::{Map, Value as Json};
use tidegate_core::Name;
use tidegate_core::schedule::{Plan, Schedule, ScheduleError, UTC};

use super::{FileReader, notes, text, tidy};
use crate::node::{Entry, Node};
use crate::schema;
use crate::wanted::{MANIFEST, Origin, WantedTrigger};

/// What of a trigger says what its function is called with, which documents have in a map of its own.
const REQUEST: [&str; 5] = ["method", "path", "headers", "contentType", "body"];

impl FileReader<'_> {
    /// What stands under `triggers`; `namespace` is that of those that name none.
    pub(super) fn triggers(&mut self, triggers: &Node, namespace: Option<&Json>, project: &str) {
        for entry in self.reader.entries(triggers, "triggers") {
            let path = format!("triggers.{}", entry.key);
            let mut spec = self.reader.map(&entry.value, schema::TRIGGER, &path);
            let named = spec
                .remove("name")
                .unwrap_or_else(|| entry.key.clone().into());
            let mut metadata = Map::new();
            for key in ["namespace", "labels", "annotations"] {
                metadata.extend(spec.remove(key).map(|v| (key.to_owned(), v)));
            }
            if !metadata.contains_key("namespace") {
                let of_function = self.namespace_of(&spec);
                let space = of_function.or_else(|| namespace.cloned());
                metadata.extend(space.map(|v| ("namespace".to_owned(), v)));
            }
            metadata.insert("name".to_owned(), named);
            let mut request = Map::new();
            for key in REQUEST {
                request.extend(spec.remove(key).map(|v| (key.to_owned(), v)));
            }
            if !request.is_empty() {
                spec.insert("request".to_owned(), Json::Object(request));
            }
            self.trigger(entry, &entry.value, &path, metadata, spec, project);
        }
    }

    /// A trigger's document, as the API has it.
    pub(super) fn trigger_document(&mut self, node: &Node) {
        let mut document = self.reader.map(node, schema::TRIGGER_DOCUMENT, "");
        let project = self.project();
        self.projects.insert(project.clone());
        let mut part = |name: &str| match document.remove(name) {
            Some(Json::Object(map)) => map,
            _ => Map::new(),
        };
        let (metadata, spec) = (part("metadata"), part("spec"));
        let place = Entry {
            key: String::new(),
            key_at: node.at.start..node.at.start,
            value: node.clone(),
        };
        let nothing = Node {
            value: crate::node::Value::Null,
            at: place.key_at.clone(),
        };
        let said = node.get("spec").unwrap_or(&nothing);
        self.trigger(&place, said, "spec", metadata, spec, &project);
    }

    /// The namespace of the one function of this file that a trigger calls.
    fn namespace_of(&self, spec: &Map<String, Json>) -> Option<Json> {
        let called = spec.get("function")?.as_str()?;
        let mut of_name = self.found.iter().filter(|(w, _)| w.name.as_str() == called);
        let namespace = of_name.next()?.0.namespace.as_ref()?;
        match of_name.next() {
            None => Some(namespace.as_str().into()),
            Some(_) => None,
        }
    }

    /// `said`: where its settings stand, which are called `path` in messages.
    fn trigger(
        &mut self,
        entry: &Entry,
        said: &Node,
        path: &str,
        mut metadata: Map<String, Json>,
        spec: Map<String, Json>,
        project: &str,
    ) {
        let at = &entry.key_at;
        let name = match metadata
            .remove("name")
            .and_then(text)
            .map(|n| Name::new(&n))
        {
            Some(Ok(name)) => name,
            Some(Err(why)) => return self.reader.mistake(at, format!("{path}: {why}")),
            None => {
                let message = "the trigger has no metadata with a name".to_owned();
                return self.reader.mistake(at, message);
            }
        };
        for (key, help) in [
            ("function", "name the function that is called"),
            (
                "schedule",
                "say when: five fields such as \"*/5 * * * *\", @daily, or @every 90s",
            ),
        ] {
            // Where it is there but wrong, that has been told.
            if said.get(key).is_none() {
                let message = format!("{path} has no {key}; {help}");
                self.reader.mistake(at, message);
            }
        }
        self.check_schedule(said, path, &spec);
        let namespace = metadata.remove("namespace").and_then(text);
        let mut annotations = notes(metadata.remove("annotations"));
        annotations
            .entry(MANIFEST.to_owned())
            .or_insert_with(|| project.to_owned());
        let line = self.reader.text[..at.start].matches('\n').count() + 1;
        let wanted = WantedTrigger {
            name,
            namespace: namespace.and_then(|n| Name::new(&n).ok()),
            labels: notes(metadata.remove("labels")),
            annotations,
            spec: tidy(spec),
            origin: Origin {
                file: self.reader.file.to_owned(),
                line,
            },
        };
        self.triggers.push((wanted, at.clone()));
    }

    /// The schedule, its zone and its jitter, as the server will read them.
    fn check_schedule(&mut self, said: &Node, path: &str, spec: &Map<String, Json>) {
        let of = |key: &str| spec.get(key).and_then(Json::as_str);
        let mut wrong = |key: &str, error: ScheduleError| {
            let at = said.get(key).unwrap_or(said).at.clone();
            self.reader.mistake(&at, format!("{path}.{key}: {error}"));
        };
        if let Some(schedule) = of("schedule") {
            let zone = of("timeZone").unwrap_or(UTC);
            match Schedule::parse(schedule, zone, jiff::tz::db()) {
                Ok(_) => {}
                // A zone in front of the schedule is the schedule's.
                Err(ScheduleError::Zone { value }) if of("timeZone") == Some(value.as_str()) => {
                    wrong("timeZone", ScheduleError::Zone { value });
                }
                Err(error) => wrong("schedule", error),
            }
        }
        if let Some(Err(error)) = of("jitter").map(Plan::parse_jitter) {
            wrong("jitter", error);
        }
    }
}
