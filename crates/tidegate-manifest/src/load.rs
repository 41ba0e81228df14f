//! From files to functions and triggers.

mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use tidegate_core::Name;

use crate::dotenv;
use crate::mistake::{Mistake, Mistakes};
use crate::node::{self, Entry, Node, Value};
use crate::read::Reader;
use crate::schema;
use crate::wanted::{MANIFEST, Origin, Source, Wanted, WantedTrigger};

/// Largest manifest in bytes: a thousand functions at a KiB each.
pub const MAX_MANIFEST: u64 = 1 << 20;

/// Most functions of one command; beyond that a list is generated, and can be given in parts.
const MAX_FUNCTIONS: usize = 1000;

/// Most triggers of one command.
const MAX_TRIGGERS: usize = 1000;

/// Most files taken from one folder.
const MAX_FILES: usize = 100;

/// Names that a folder's manifest has, in the order in which they are looked for.
const NAMES: [&str; 3] = ["tidegate.toml", "tidegate.yaml", "tidegate.yml"];

/// Names that OpenFaaS's command line gives a folder's stack file. The other YAML files beside one are its own business:
/// environments, or another tool's.
const STACKS: [&str; 2] = ["stack.yaml", "stack.yml"];

/// One thing to read.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file, or a folder with manifests in it.
    Path(PathBuf),
    /// A text that came from elsewhere.
    Text {
        /// What to call it.
        name: String,
        /// The text.
        text: String,
        /// What its paths are relative to.
        folder: PathBuf,
    },
}

/// A text that was read, whatever it turns out to be.
#[derive(Clone, Debug)]
pub struct Text {
    /// What to call it.
    pub name: String,
    /// The text.
    pub text: String,
    /// What its paths are relative to.
    pub folder: PathBuf,
}

impl From<Text> for Input {
    fn from(text: Text) -> Self {
        Self::Text {
            name: text.name,
            text: text.text,
            folder: text.folder,
        }
    }
}

/// How manifests are read: what the environment is, as values.
pub struct Loader<'a> {
    /// A look-up in the environment. It wins over files of variables.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// Files of variables, instead of the `.env` beside each manifest; the last wins.
    pub env_files: Vec<PathBuf>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The functions, in the order in which they stand.
    pub functions: Vec<Wanted>,
    /// The triggers, in the order in which they stand.
    pub triggers: Vec<WantedTrigger>,
    /// The projects whose manifests were read.
    pub projects: BTreeSet<String>,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Reads the texts that an input means, and tells of those that cannot be read.
#[must_use]
pub fn open(input: &Input, mistakes: &mut Mistakes) -> Vec<Text> {
    let path = match input {
        Input::Path(path) => path,
        Input::Text { name, text, folder } => {
            return vec![Text {
                name: name.clone(),
                text: text.clone(),
                folder: folder.clone(),
            }];
        }
    };
    let files = match files(path) {
        Ok(files) => files,
        Err(mistake) => {
            mistakes.push(mistake);
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for file in files {
        match read(&file) {
            Ok(text) => texts.push(Text {
                name: file.display().to_string(),
                text,
                folder: file.parent().map(Path::to_owned).unwrap_or_default(),
            }),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    texts
}

/// Whether a file is a manifest, by its name's ending.
#[must_use]
pub fn is_manifest(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str());
    matches!(ending, Some("toml" | "yaml" | "yml" | "json")) && path.is_file()
}

/// The manifest of a folder, if it has one.
///
/// # Errors
/// It has two.
pub fn manifest_in(folder: &Path) -> Result<Option<PathBuf>, Mistake> {
    let mut there = NAMES
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_file());
    let first = there.next();
    match there.next() {
        Some(second) => Err(Mistake::whole(
            &folder.display().to_string(),
            format!(
                "the folder has both {} and {}; keep one",
                first.as_deref().map(file_name).unwrap_or_default(),
                file_name(&second)
            ),
        )),
        None => Ok(first),
    }
}

impl Loader<'_> {
    /// Reads everything, and tells every mistake that was found.
    ///
    /// # Errors
    /// At least one mistake.
    pub fn load(&self, inputs: &[Input]) -> Result<Loaded, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut loaded = Loaded::default();
        let mut seen = Seen::default();
        for input in inputs {
            for text in open(input, &mut mistakes) {
                let Text { name, text, folder } = text;
                self.one(&name, &text, &folder, &mut loaded, &mut seen, &mut mistakes);
            }
        }
        if loaded.functions.len() > MAX_FUNCTIONS {
            mistakes.push(Mistake::whole(
                &loaded.functions[MAX_FUNCTIONS].origin.file,
                format!(
                    "{} functions are more than {MAX_FUNCTIONS}; apply them in parts",
                    loaded.functions.len()
                ),
            ));
        }
        if loaded.triggers.len() > MAX_TRIGGERS {
            mistakes.push(Mistake::whole(
                &loaded.triggers[MAX_TRIGGERS].origin.file,
                format!(
                    "{} triggers are more than {MAX_TRIGGERS}; apply them in parts",
                    loaded.triggers.len()
                ),
            ));
        }
        if mistakes.is_empty() {
            Ok(loaded)
        } else {
            Err(mistakes)
        }
    }

    fn one(
        &self,
        name: &str,
        text: &str,
        folder: &Path,
        loaded: &mut Loaded,
        seen: &mut Seen,
        mistakes: &mut Mistakes,
    ) {
        let before = mistakes.0.len();
        self.read_one(name, text, folder, loaded, seen, mistakes);
        mistakes.0[before..].sort_by_key(|m| (m.line, m.column));
    }

    fn read_one(
        &self,
        name: &str,
        text: &str,
        folder: &Path,
        loaded: &mut Loaded,
        seen: &mut Seen,
        mistakes: &mut Mistakes,
    ) {
        let variables = match self.variables(folder) {
            Ok(variables) => variables,
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|c| format!(": {c}"))
                    .unwrap_or_default();
                mistakes.push(Mistake::whole(name, format!("{error}{cause}")));
                return;
            }
        };
        let lookup = |n: &str| self.env(n).or_else(|| variables.get(n).cloned());
        let documents = if is_toml(name, text) {
            node::toml(name, text, mistakes)
        } else {
            node::yaml(name, text, mistakes)
        };
        let mut file = FileReader {
            reader: Reader {
                file: name,
                text,
                lookup: &lookup,
                unset: Vec::new(),
                mistakes,
            },
            folder,
            found: Vec::new(),
            triggers: Vec::new(),
            projects: BTreeSet::new(),
        };
        for document in &documents {
            file.document(document);
        }
        let FileReader {
            mut reader,
            found,
            triggers,
            projects,
            ..
        } = file;
        loaded.projects.extend(projects);
        let mut unset = std::mem::take(&mut reader.unset);
        unset.sort();
        unset.dedup();
        for variable in unset {
            let warning = format!("variable {variable} is not set; an empty text stands for it");
            if !loaded.warnings.contains(&warning) {
                loaded.warnings.push(warning);
            }
        }
        for (wanted, at) in found {
            let earlier = seen.note("function", &wanted.namespace, &wanted.name, &wanted.origin);
            match earlier {
                Some(why) => reader.mistake(&at, why),
                None => loaded.functions.push(wanted),
            }
        }
        for (wanted, at) in triggers {
            let earlier = seen.note("trigger", &wanted.namespace, &wanted.name, &wanted.origin);
            match earlier {
                Some(why) => reader.mistake(&at, why),
                None => loaded.triggers.push(wanted),
            }
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)?.into_string().ok()
    }

    fn variables(&self, folder: &Path) -> Result<BTreeMap<String, String>, dotenv::DotenvError> {
        let mut variables = BTreeMap::new();
        let known = |name: &str| self.env(name);
        if self.env_files.is_empty() {
            let beside = folder.join(".env");
            if beside.is_file() {
                dotenv::read(&beside, &known, &mut variables)?;
            }
        }
        for file in &self.env_files {
            dotenv::read(file, &known, &mut variables)?;
        }
        Ok(variables)
    }
}

/// What was read so far, by its kind, namespace and name.
#[derive(Default)]
struct Seen(BTreeMap<(&'static str, Option<Name>, Name), Origin>);

impl Seen {
    /// Notes one, or says where it stands already.
    fn note(
        &mut self,
        kind: &'static str,
        namespace: &Option<Name>,
        name: &Name,
        origin: &Origin,
    ) -> Option<String> {
        let key = (kind, namespace.clone(), name.clone());
        if let Some(earlier) = self.0.get(&key) {
            return Some(format!("{kind} {name} stands already at {earlier}"));
        }
        self.0.insert(key, origin.clone());
        None
    }
}

/// Reads the documents of one file.
struct FileReader<'a> {
    reader: Reader<'a>,
    folder: &'a Path,
    found: Vec<(Wanted, Range<usize>)>,
    triggers: Vec<(WantedTrigger, Range<usize>)>,
    projects: BTreeSet<String>,
}

impl FileReader<'_> {
    fn document(&mut self, node: &Node) {
        if node.get("kind").is_none() && node.get("apiVersion").is_none() {
            self.manifest(node);
            return;
        }
        let kind = match node.get("kind").map(|k| &k.value) {
            Some(Value::Text(kind)) => kind.as_str(),
            _ => "",
        };
        match kind {
            "FunctionList" | "TriggerList" | "List" => {
                let _ = self.reader.map(node, schema::LIST, "");
                if let Some(Value::List(items)) = node.get("items").map(|i| &i.value) {
                    for item in items {
                        self.api_document(item);
                    }
                }
            }
            "Secret" => {
                let at = node.get("kind").map_or(node.at.clone(), |k| k.at.clone());
                self.reader.mistake(
                    &at,
                    "a secret does not belong in a manifest; set it with 'tidegate secret set NAME', and name it under \
                     secrets"
                        .to_owned(),
                );
            }
            "Namespace" => {
                let at = node.get("kind").map_or(node.at.clone(), |k| k.at.clone());
                self.reader.mistake(
                    &at,
                    "namespaces are made with 'tidegate namespace create NAME' or --create-namespaces"
                        .to_owned(),
                );
            }
            _ => self.api_document(node),
        }
    }

    fn project(&self) -> String {
        // That of a file beside which one stands has no name of its own.
        let here = Path::new(".");
        let folder = match self.folder.as_os_str().is_empty() {
            true => here,
            false => self.folder,
        };
        let folder = std::path::absolute(folder)
            .ok()
            .and_then(|f| f.canonicalize().ok());
        folder
            .as_deref()
            .map(file_name)
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "manifest".to_owned())
    }

    /// `project`, `namespace`, `defaults` and `functions`.
    fn manifest(&mut self, node: &Node) {
        if let Some(provider) = node.get("provider") {
            self.reader.mistake(
                &provider.at,
                "this is an OpenFaaS stack file, which 'tidegate apply -f' takes".to_owned(),
            );
            return;
        }
        let top = self.reader.map(node, schema::FILE, "");
        let project = match top.get("project") {
            Some(Json::String(name)) => name.clone(),
            _ => self.project(),
        };
        self.projects.insert(project.clone());
        let defaults = match top.get("defaults") {
            Some(Json::Object(map)) => map.clone(),
            _ => Map::new(),
        };
        let (functions, triggers) = (node.get("functions"), node.get("triggers"));
        if functions.is_none() && triggers.is_none() {
            self.reader.mistake(
                &(node.at.start..node.at.start),
                "no functions; write [functions.NAME], or functions: and NAME: below it".to_owned(),
            );
            return;
        }
        let of_map = |this: &mut Self| match functions {
            Some(functions) => this.reader.entries(functions, "functions"),
            None => &[],
        };
        for entry in of_map(self) {
            let path = format!("functions.{}", entry.key);
            let mut own = self.reader.map(&entry.value, schema::FUNCTION, &path);
            if own.contains_key("path") && own.contains_key("code") {
                self.reader.mistake(
                    &entry.key_at,
                    format!("{path} has both path and code; give one"),
                );
            }
            if own.contains_key("image") && (own.contains_key("path") || own.contains_key("code")) {
                self.reader.mistake(
                    &entry.key_at,
                    format!("{path} has both an image and code; give one"),
                );
            }
            // What is said of everybody's code says nothing of an image.
            let of_code = ["runtime", "handler", "build"];
            let unsaid: Vec<&str> = of_code
                .into_iter()
                .filter(|key| own.contains_key("image") && !own.contains_key(*key))
                .collect();
            let named = own
                .remove("name")
                .unwrap_or_else(|| entry.key.clone().into());
            let mut settings = defaults.clone();
            settings.retain(|key, _| !unsaid.contains(&key.as_str()));
            merge(&mut settings, own);
            if let Some(space) = top.get("namespace") {
                settings.entry("namespace").or_insert_with(|| space.clone());
            }
            let code = settings
                .remove("path")
                .or_else(|| settings.remove("code"))
                .unwrap_or_else(|| entry.key.clone().into());
            let entry_file = settings.remove("entry").and_then(text);
            let mut metadata = Map::new();
            for key in ["namespace", "labels", "annotations"] {
                metadata.extend(settings.remove(key).map(|v| (key.to_owned(), v)));
            }
            metadata.insert("name".to_owned(), named);
            self.wanted(
                entry, &path, metadata, &code, entry_file, settings, &project,
            );
        }
        if let Some(triggers) = triggers {
            self.triggers(triggers, top.get("namespace"), &project);
        }
    }

    /// A document as the API has it.
    fn api_document(&mut self, node: &Node) {
        let kind = node.get("kind").map(|k| &k.value);
        if matches!(kind, Some(Value::Text(kind)) if kind == tidegate_document::TRIGGER) {
            return self.trigger_document(node);
        }
        let mut document = self.reader.map(node, schema::DOCUMENT, "");
        let project = self.project();
        self.projects.insert(project.clone());
        let Some(Json::Object(metadata)) = document.remove("metadata") else {
            self.reader.mistake(
                &(node.at.start..node.at.start),
                "the document has no metadata with a name".to_owned(),
            );
            return;
        };
        let mut spec = match document.remove("spec") {
            Some(Json::Object(spec)) => spec,
            _ => Map::new(),
        };
        let code = spec.remove("code");
        let has_image = spec.contains_key("image");
        if code.is_some() && has_image {
            self.reader.mistake(
                &(node.at.start..node.at.start),
                "the document has both spec.image and spec.code; give one".to_owned(),
            );
        }
        let Some(code) = code.or_else(|| has_image.then_some(Json::Null)) else {
            // Wrong code has been told.
            if node.get("spec").and_then(|s| s.get("code")).is_none() {
                self.reader.mistake(
                    &(node.at.start..node.at.start),
                    "the document has no spec.code, and no spec.image".to_owned(),
                );
            }
            return;
        };
        let place = Entry {
            key: String::new(),
            key_at: node.at.start..node.at.start,
            value: node.clone(),
        };
        self.wanted(&place, "metadata", metadata, &code, None, spec, &project);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one function, taken apart just before"
    )]
    fn wanted(
        &mut self,
        entry: &Entry,
        path: &str,
        mut metadata: Map<String, Json>,
        code: &Json,
        entry_file: Option<String>,
        mut spec: Map<String, Json>,
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
            None => return self.reader.mistake(at, format!("{path} has no name")),
        };
        let namespace = metadata
            .remove("namespace")
            .and_then(text)
            .and_then(|n| Name::new(&n).ok());
        let source = match spec.remove("image").and_then(text) {
            Some(name) => Ok(Source::Image { name }),
            None => self.source(code, entry_file, &spec, path),
        };
        let source = match source {
            Ok(source) => source,
            Err(why) => return self.reader.mistake(at, why),
        };
        if let Err(why) = sums(&spec) {
            return self.reader.mistake(at, format!("{path}: {why}"));
        }
        let mut annotations = notes(metadata.remove("annotations"));
        // A document that says whose it is stays theirs.
        annotations
            .entry(MANIFEST.to_owned())
            .or_insert_with(|| project.to_owned());
        let line = self.reader.text[..at.start].matches('\n').count() + 1;
        let wanted = Wanted {
            name,
            namespace,
            labels: notes(metadata.remove("labels")),
            annotations,
            source,
            spec: tidy(spec),
            origin: Origin {
                file: self.reader.file.to_owned(),
                line,
            },
        };
        self.found.push((wanted, at.clone()));
    }

    fn source(
        &self,
        code: &Json,
        entry: Option<String>,
        spec: &Map<String, Json>,
        path: &str,
    ) -> Result<Source, String> {
        let place = |written: &str, entry: Option<String>| Source::Path {
            written: written.to_owned(),
            path: self.folder.join(written),
            entry,
        };
        let Json::Object(code) = code else {
            return Ok(place(code.as_str().unwrap_or_default(), entry));
        };
        let member = |key: &str| code.get(key).cloned().and_then(text);
        let entry = member("entry").or(entry);
        match (member("digest"), member("path")) {
            (Some(_), Some(_)) => Err(format!("{path} has both a digest and a path; give one")),
            (None, Some(path)) => Ok(place(&path, entry)),
            (None, None) => Err(format!("{path}: code has neither a path nor a digest")),
            (Some(digest), None) => {
                let digits = digest.strip_prefix("sha256:").unwrap_or("");
                if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(format!(
                        "{path}: digest {digest:?} is not sha256: and 64 hexadecimal digits"
                    ));
                }
                let missing = |what: &str| format!("{path}: code by its digest needs {what} too");
                if !spec.contains_key("runtime") {
                    return Err(missing("a runtime"));
                }
                let entry = entry.ok_or_else(|| missing("an entry"))?;
                Ok(Source::Blob { digest, entry })
            }
        }
    }
}

/// What only holds for several keys together.
fn sums(spec: &Map<String, Json>) -> Result<(), String> {
    let number = |group: &str, key: &str| spec.get(group)?.get(key)?.as_u64();
    if let (Some(min), Some(max)) = (number("scale", "min"), number("scale", "max"))
        && min > max
    {
        return Err(format!("scale.min {min} is more than scale.max {max}"));
    }
    if let Some(Json::Array(shares)) = spec.get("traffic") {
        let sum: u64 = shares
            .iter()
            .filter_map(|s| s.get("percent")?.as_u64())
            .sum();
        if sum != 100 {
            return Err(format!(
                "the percents of traffic are {sum} together, not 100"
            ));
        }
    }
    Ok(())
}

/// Puts one map over another: maps are merged, everything else is replaced.
fn merge(below: &mut Map<String, Json>, above: Map<String, Json>) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Json::Object(below)), Json::Object(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// The list of what a function may reach.
const EGRESS: &str = "egress";

/// Without empty maps and lists, which say nothing, but for the list of what may be reached: an empty one is the strictest.
fn tidy(spec: Map<String, Json>) -> Map<String, Json> {
    spec.into_iter()
        .filter(|(key, value)| {
            key != "triggers"
                && match value {
                    Json::Object(map) => !map.is_empty(),
                    Json::Array(list) => !list.is_empty() || key == EGRESS,
                    _ => true,
                }
        })
        .collect()
}

fn notes(value: Option<Json>) -> BTreeMap<String, String> {
    match value {
        Some(Json::Object(map)) => map
            .into_iter()
            .filter_map(|(key, value)| Some((key, text(value)?)))
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn text(value: Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text),
        _ => None,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// TOML by its name or, where that says nothing, by its first line that is no comment.
fn is_toml(name: &str, text: &str) -> bool {
    match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("toml") => true,
        Some("yaml" | "yml" | "json") => false,
        _ => {
            let first = text
                .lines()
                .map(str::trim)
                .find(|l| !l.is_empty() && !l.starts_with('#'))
                .unwrap_or("");
            let before_equals = first.split_once('=').map_or("", |(key, _)| key);
            first.starts_with('[') && first.ends_with(']')
                || !before_equals.is_empty() && !before_equals.contains([':', '{'])
        }
    }
}

/// The manifests that a path means.
fn files(path: &Path) -> Result<Vec<PathBuf>, Mistake> {
    let name = path.display().to_string();
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if let Some(manifest) = manifest_in(path)? {
        return Ok(vec![manifest]);
    }
    let stack = STACKS.iter().map(|name| path.join(name));
    if let Some(stack) = stack.into_iter().find(|path| path.is_file()) {
        return Ok(vec![stack]);
    }
    let failed = |e: std::io::Error| Mistake::whole(&name, format!("cannot read the folder: {e}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let ending = file.extension().and_then(|e| e.to_str());
        if matches!(ending, Some("yaml" | "yml")) && file.is_file() {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(Mistake::whole(
                &name,
                format!("the folder has more than {MAX_FILES} manifests; give them by name"),
            ));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Mistake::whole(
            &name,
            format!(
                "the folder has no manifest; it would be {}, or files that end in .yaml or .yml",
                NAMES.join(", ")
            ),
        ));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, Mistake> {
    let name = path.display().to_string();
    let failed =
        |e: std::io::Error| Mistake::whole(&name, format!("cannot read the manifest: {e}"));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_MANIFEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Mistake::whole(
            &name,
            format!("the manifest is larger than {} MiB", MAX_MANIFEST >> 20),
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Mistake::whole(&name, "the manifest is not UTF-8 text"))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests;
