//! From a tree to functions, collecting what is wrong on the way.

use std::collections::BTreeMap;
use std::ops::Range;

use tidegate_manifest::node::{self, Entry, Node, Value};
use tidegate_manifest::{Mistake, Mistakes, Origin, near};

use super::substitute::Substituted;
use super::{
    PROVIDERS, Recipe, Stack, StackFunction, Surroundings, TemplateSource, VERSION, tagged,
};
use crate::{FunctionDeployment, Resources};

/// Keys of a stack file.
const FILE: [&str; 4] = ["version", "provider", "functions", "configuration"];

/// Keys of its provider.
const PROVIDER: [&str; 2] = ["name", "gateway"];

/// Keys of a function.
const FUNCTION: [&str; 20] = [
    "lang",
    "handler",
    "image",
    "namespace",
    "fprocess",
    "environment",
    "environment_file",
    "secrets",
    "labels",
    "annotations",
    "constraints",
    "limits",
    "requests",
    "readonly_root_filesystem",
    "skip_build",
    "build_options",
    "build_args",
    "build_secrets",
    "platforms",
    "name",
];

/// Longest name of a function: that of a Kubernetes service, which is a DNS label.
const MAX_NAME: usize = 63;

/// The template that is none.
pub const DOCKERFILE: &str = "dockerfile";

/// Reads the nodes of one file.
pub(super) struct Reader<'a> {
    file: &'a str,
    written: &'a str,
    substituted: &'a Substituted,
    pub(super) mistakes: Mistakes,
    pub(super) notes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, written: &'a str, substituted: &'a Substituted) -> Self {
        Self {
            file,
            written,
            substituted,
            mistakes: Mistakes::default(),
            notes: Vec::new(),
        }
    }

    /// The file's documents; none, with mistakes, where it is no YAML.
    pub(super) fn documents(&mut self) -> Vec<Node> {
        let text = &self.substituted.text;
        let mut told = Mistakes::default();
        let documents = node::yaml(self.file, text, &mut told);
        for mistake in told.0 {
            if mistake.line == 0 {
                self.mistakes.push(mistake);
                continue;
            }
            let lines = text.split_inclusive('\n').take(mistake.line - 1);
            let begin: usize = lines.map(str::len).sum();
            let inner = text[begin..].chars().take(mistake.column - 1);
            let at = begin + inner.map(char::len_utf8).sum::<usize>();
            self.mistake(&(at..at), mistake.message);
        }
        documents
    }

    pub(super) fn mistake(&mut self, at: &Range<usize>, message: String) {
        let at = self.substituted.written(at);
        let mistake = Mistake::at(self.file, self.written, at, message);
        self.mistakes.push(mistake);
    }

    pub(super) fn origin(&self, at: &Range<usize>) -> Origin {
        let start = self.substituted.written(at).start;
        Origin {
            file: self.file.to_owned(),
            line: self.written[..start].matches('\n').count() + 1,
        }
    }

    fn note(&mut self, at: &Range<usize>, text: &str) {
        let place = self.origin(at);
        self.notes.push(format!("{place}: {text}"));
    }

    /// The entries of a map; none, with a mistake, of anything else.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                self.mistake(&node.at, format!("{path} is {}, not a map", other.kind()));
                &[]
            }
        }
    }

    /// A key that has no meaning here. Other tools read these files too, so it is no mistake; but it may be a slip.
    pub(super) fn ignored(&mut self, entry: &Entry, keys: &[&str], path: &str) {
        let whole = join(path, &entry.key);
        let close = near(&entry.key, keys.iter().copied());
        let help = match close.is_empty() {
            true => String::new(),
            false => format!("; did you mean {}?", close.join(" or ")),
        };
        self.note(&entry.key_at, &format!("{whole} has no effect{help}"));
    }

    /// A text; a number or a flag is the text that it was written as.
    pub(super) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Flag(flag) => {
                let written = self.substituted.text.get(node.at.clone()).map(str::trim);
                let same = written.filter(|w| w.eq_ignore_ascii_case(&flag.to_string()));
                Some(same.map_or_else(|| flag.to_string(), str::to_owned))
            }
            Value::Null => None,
            other => {
                self.mistake(&node.at, format!("{path} is {}, not a text", other.kind()));
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        match &node.value {
            Value::List(items) => {
                let mut texts = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let inner = format!("{path}[{at}]");
                    match self.text(item, &inner) {
                        Some(text) => texts.push(text),
                        None if matches!(item.value, Value::Null) => {
                            self.mistake(&item.at, format!("{inner} is nothing, not a text"));
                        }
                        None => {}
                    }
                }
                texts
            }
            Value::Null => Vec::new(),
            other => {
                let what = other.kind();
                self.mistake(&node.at, format!("{path} is {what}, not a list of texts"));
                Vec::new()
            }
        }
    }

    /// A map of texts; what is nothing is an empty text.
    pub(super) fn table(&mut self, node: &Node, path: &str) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for entry in self.entries(node, path) {
            let inner = join(path, &entry.key);
            let value = match entry.value.value {
                Value::Null => Some(String::new()),
                _ => self.text(&entry.value, &inner),
            };
            table.extend(value.map(|v| (entry.key.clone(), v)));
        }
        table
    }

    /// A flag, in any of the words that YAML ever had for one.
    pub(super) fn flag(&mut self, node: &Node, path: &str) -> bool {
        let told = match &node.value {
            Value::Null => Some(false),
            Value::Flag(flag) => Some(*flag),
            Value::Text(text) => match text.to_ascii_lowercase().as_str() {
                "y" | "yes" | "on" | "true" => Some(true),
                "n" | "no" | "off" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if told.is_none() {
            let what = node.value.kind();
            self.mistake(&node.at, format!("{path} is {what}, not true or false"));
        }
        told.unwrap_or(false)
    }

    /// Memory and processor.
    pub(super) fn resources(&mut self, node: &Node, path: &str) -> Option<Resources> {
        let mut resources = Resources::default();
        for (key, value) in self.table(node, path) {
            match key.as_str() {
                "memory" => resources.memory = Some(value),
                "cpu" => resources.cpu = Some(value),
                _ => {
                    resources.others.insert(key, value.into());
                }
            }
        }
        (resources != Resources::default()).then_some(resources)
    }

    /// Tells of a name that no function can have.
    pub(super) fn name(&mut self, at: &Range<usize>, name: &str) {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edge = |b: Option<u8>| b.is_some_and(|b| inner(b) && b != b'-');
        let good = name.len() <= MAX_NAME
            && name.bytes().all(inner)
            && edge(name.bytes().next())
            && edge(name.bytes().last());
        if !good {
            self.mistake(
                at,
                format!(
                    "{name:?} is no name of a function; use lower-case letters, digits and hyphens, a letter or digit at \
                     both ends, at most {MAX_NAME}"
                ),
            );
        }
    }

    /// A whole stack file.
    pub(super) fn stack(&mut self, node: &Node, around: &Surroundings<'_>, stack: &mut Stack) {
        for entry in self.entries(node, "the stack file") {
            match entry.key.as_str() {
                "version" => {
                    let version = self.text(&entry.value, "version");
                    if let Some(version) = version.filter(|v| v != VERSION) {
                        let at = &entry.value.at;
                        self.mistake(
                            at,
                            format!("version {version:?} is not known; {VERSION} is"),
                        );
                    }
                }
                "provider" => self.provider(&entry.value, stack),
                "functions" => {
                    for entry in self.entries(&entry.value, "functions") {
                        self.function(entry, around, stack);
                    }
                }
                "configuration" => self.configuration(&entry.value, stack),
                _ => self.ignored(entry, &FILE, ""),
            }
        }
        if node.get("provider").is_none() {
            let at = node.at.start..node.at.start;
            self.mistake(
                &at,
                "the file has no provider; write provider: and name: openfaas below it".to_owned(),
            );
        }
        if stack.functions.is_empty() && self.mistakes.is_empty() {
            let at = node.at.start..node.at.start;
            self.mistake(&at, "the file has no functions".to_owned());
        }
    }

    fn provider(&mut self, node: &Node, stack: &mut Stack) {
        let mut named = None;
        for entry in self.entries(node, "provider") {
            let inner = join("provider", &entry.key);
            match entry.key.as_str() {
                "name" => {
                    named = self
                        .text(&entry.value, &inner)
                        .map(|n| (n, entry.value.at.clone()));
                }
                "gateway" => {
                    stack.gateway = self.text(&entry.value, &inner).filter(|g| !g.is_empty());
                }
                // Of the days of Swarm.
                "network" => {}
                _ => self.ignored(entry, &PROVIDER, "provider"),
            }
        }
        match named {
            Some((name, _)) if PROVIDERS.contains(&name.as_str()) => {}
            Some((name, at)) => {
                self.mistake(
                    &at,
                    format!("provider.name {name:?} is not known; openfaas is"),
                );
            }
            None if node.get("name").is_none()
                && matches!(node.value, Value::Map(_) | Value::Null) =>
            {
                self.mistake(
                    &node.at,
                    "provider has no name; write name: openfaas".to_owned(),
                );
            }
            None => {}
        }
    }

    fn function(&mut self, entry: &Entry, around: &Surroundings<'_>, stack: &mut Stack) {
        let path = join("functions", &entry.key);
        self.name(&entry.key_at, &entry.key);
        let mut deployment = FunctionDeployment {
            service: entry.key.clone(),
            ..FunctionDeployment::default()
        };
        let mut recipe = Recipe::default();
        let mut skipped = false;
        let mut files = Vec::new();
        for entry in self.entries(&entry.value, &path) {
            let value = &entry.value;
            let inner = join(&path, &entry.key);
            let inner = inner.as_str();
            match entry.key.as_str() {
                "lang" => {
                    let lang = self.text(value, inner).unwrap_or_default();
                    let plain = lang.eq_ignore_ascii_case(DOCKERFILE);
                    recipe.lang = if plain { DOCKERFILE.to_owned() } else { lang };
                }
                "handler" => recipe.handler = self.text(value, inner).unwrap_or_default(),
                "image" => deployment.image = tagged(&self.text(value, inner).unwrap_or_default()),
                "namespace" => {
                    deployment.namespace = self.text(value, inner).filter(|n| !n.is_empty());
                }
                "fprocess" => {
                    deployment.env_process = self.text(value, inner).filter(|p| !p.is_empty());
                }
                "environment" => {
                    let table = self.table(value, inner);
                    deployment.env_vars.get_or_insert_default().extend(table);
                }
                "environment_file" => files.extend(self.environments(value, inner, around)),
                "secrets" => deployment.secrets = some(self.texts(value, inner)),
                "labels" => deployment.labels = Some(self.table(value, inner)),
                "annotations" => deployment.annotations = Some(self.table(value, inner)),
                "constraints" => deployment.constraints = some(self.texts(value, inner)),
                "limits" => deployment.limits = self.resources(value, inner),
                "requests" => deployment.requests = self.resources(value, inner),
                "readonly_root_filesystem" => {
                    deployment.read_only_root_filesystem = self.flag(value, inner);
                }
                "skip_build" => skipped = self.flag(value, inner),
                "build_options" => recipe.options = self.texts(value, inner),
                "build_args" => recipe.args = self.table(value, inner),
                "build_secrets" => recipe.secrets = self.table(value, inner),
                "platforms" => recipe.platforms = self.text(value, inner),
                // For registries, of which there is none.
                "registry_auth" => {}
                _ => self.ignored(entry, &FUNCTION, &path),
            }
        }
        // Files win over what stands beside their names, the last of them over all.
        for table in files {
            deployment.env_vars.get_or_insert_default().extend(table);
        }
        deployment.env_vars = deployment.env_vars.filter(|e| !e.is_empty());
        let said = entry.value.get("image").map(|i| &i.value);
        if deployment.image.is_empty() && !matches!(said, Some(Value::List(_) | Value::Map(_))) {
            let name = &entry.key;
            self.mistake(
                &entry.key_at,
                format!("{path} has no image; write image: {name}:latest"),
            );
        }
        let has = (!recipe.lang.is_empty(), !recipe.handler.is_empty());
        let missing = match has {
            _ if skipped => None,
            (true, false) => Some(("lang", "handler: ./FOLDER")),
            (false, true) => Some(("handler", "lang: TEMPLATE")),
            _ => None,
        };
        if let Some((there, missing)) = missing {
            self.mistake(
                &entry.key_at,
                format!("{path} has a {there} alone; write {missing} too, or skip_build: true"),
            );
        }
        stack.functions.push(StackFunction {
            deployment,
            recipe: (has == (true, true) && !skipped).then_some(recipe),
            origin: self.origin(&entry.key_at),
        });
    }

    /// The maps of files of variables, in their order.
    fn environments(
        &mut self,
        node: &Node,
        path: &str,
        around: &Surroundings<'_>,
    ) -> Vec<BTreeMap<String, String>> {
        let mut tables = Vec::new();
        for name in self.texts(node, path) {
            let text = match (around.file)(&name) {
                Ok(text) => text,
                Err(e) => {
                    self.mistake(&node.at, format!("{path}: cannot read {name}: {e}"));
                    continue;
                }
            };
            let plain = Substituted::plain(&text);
            let mut inner = Reader::new(&name, &text, &plain);
            let documents = inner.documents();
            let named = documents.first().and_then(|d| d.get("environment"));
            match named {
                Some(named) => tables.push(inner.table(named, "environment")),
                None if inner.mistakes.is_empty() => {
                    inner.mistake(
                        &(0..0),
                        "the file has no environment: with variables below it".to_owned(),
                    );
                }
                None => {}
            }
            for mistake in inner.mistakes.0 {
                self.mistakes.push(mistake);
            }
        }
        tables
    }

    fn configuration(&mut self, node: &Node, stack: &mut Stack) {
        for entry in self.entries(node, "configuration") {
            let inner = join("configuration", &entry.key);
            match (entry.key.as_str(), &entry.value.value) {
                ("copy", _) => stack.copy = self.texts(&entry.value, &inner),
                ("templates", Value::List(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        let source = self.template(item, &format!("{inner}[{at}]"));
                        stack.templates.extend(source);
                    }
                }
                ("templates", Value::Null) => {}
                ("templates", other) => {
                    let what = other.kind();
                    self.mistake(&entry.value.at, format!("{inner} is {what}, not a list"));
                }
                _ => self.ignored(entry, &["templates", "copy"], "configuration"),
            }
        }
    }

    fn template(&mut self, node: &Node, path: &str) -> Option<TemplateSource> {
        let (mut name, mut source) = (None, None);
        for entry in self.entries(node, path) {
            let inner = join(path, &entry.key);
            match entry.key.as_str() {
                "name" => name = self.text(&entry.value, &inner),
                "source" => source = self.text(&entry.value, &inner).filter(|s| !s.is_empty()),
                _ => self.ignored(entry, &["name", "source"], path),
            }
        }
        if name.is_none() && matches!(node.value, Value::Map(_) | Value::Null) {
            self.mistake(&node.at, format!("{path} has no name"));
        }
        Some(TemplateSource {
            name: name?,
            source,
        })
    }
}

pub(super) fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

pub(super) fn join(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}
