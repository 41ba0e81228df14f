//! `Function` objects of `openfaas.com/v1`, as `faas-cli generate` writes them and operators take them.

use tidegate_manifest::node::{Node, Value};

use super::reader::{Reader, join, some};
use super::{Stack, StackFunction, tagged};
use crate::FunctionDeployment;

/// The one kind that is a function.
const FUNCTION: &str = "Function";

/// Keys of its specification.
const SPEC: [&str; 11] = [
    "name",
    "image",
    "handler",
    "annotations",
    "labels",
    "environment",
    "constraints",
    "secrets",
    "limits",
    "requests",
    "readOnlyRootFilesystem",
];

/// What Kubernetes and its tools write beside the specification.
const BESIDE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

impl Reader<'_> {
    /// One object.
    pub(super) fn object(&mut self, node: &Node, stack: &mut Stack) {
        let start = node.at.start..node.at.start;
        let kind = node.get("kind");
        match kind.map(|k| &k.value) {
            Some(Value::Text(kind)) if kind == FUNCTION => {}
            Some(Value::Text(other)) => {
                let at = kind.map_or(start, |k| k.at.clone());
                self.mistake(&at, format!("kind {other} is not taken; {FUNCTION} is"));
                return;
            }
            _ => {
                self.mistake(
                    &start,
                    format!("the object has no kind; write kind: {FUNCTION}"),
                );
                return;
            }
        }
        let mut deployment = FunctionDeployment::default();
        let mut named = None;
        if let Some(metadata) = node.get("metadata") {
            // Labels and annotations of the object are Kubernetes' own; the function's are in its specification.
            for entry in self.entries(metadata, "metadata") {
                let inner = join("metadata", &entry.key);
                match entry.key.as_str() {
                    "name" => named = self.text(&entry.value, &inner),
                    "namespace" => deployment.namespace = self.text(&entry.value, &inner),
                    _ => {}
                }
            }
        }
        let mut place = node.get("metadata").map_or(start.clone(), |m| m.at.clone());
        for entry in self.entries(node, "the object") {
            let key = entry.key.as_str();
            if key != "spec" && !BESIDE.contains(&key) {
                self.ignored(entry, &["spec"], "");
            }
        }
        let Some(spec) = node.get("spec") else {
            self.mistake(&start, "the object has no spec".to_owned());
            return;
        };
        for entry in self.entries(spec, "spec") {
            let value = &entry.value;
            let inner = join("spec", &entry.key);
            let inner = inner.as_str();
            match entry.key.as_str() {
                "name" => {
                    named = self.text(value, inner).or(named);
                    place = value.at.clone();
                }
                "image" => deployment.image = tagged(&self.text(value, inner).unwrap_or_default()),
                "handler" => {
                    deployment.env_process = self.text(value, inner).filter(|p| !p.is_empty());
                }
                "annotations" => deployment.annotations = Some(self.table(value, inner)),
                "labels" => deployment.labels = Some(self.table(value, inner)),
                "environment" => {
                    deployment.env_vars = Some(self.table(value, inner)).filter(|e| !e.is_empty());
                }
                "constraints" => deployment.constraints = some(self.texts(value, inner)),
                "secrets" => deployment.secrets = some(self.texts(value, inner)),
                "limits" => deployment.limits = self.resources(value, inner),
                "requests" => deployment.requests = self.resources(value, inner),
                "readOnlyRootFilesystem" => {
                    deployment.read_only_root_filesystem = self.flag(value, inner);
                }
                _ => self.ignored(entry, &SPEC, "spec"),
            }
        }
        match named {
            Some(name) => {
                self.name(&place, &name);
                deployment.service = name;
            }
            None => self.mistake(&spec.at, "spec has no name".to_owned()),
        }
        if deployment.image.is_empty() {
            self.mistake(&spec.at, "spec has no image".to_owned());
        }
        stack.functions.push(StackFunction {
            deployment,
            recipe: None,
            origin: self.origin(&node.at),
        });
    }
}
