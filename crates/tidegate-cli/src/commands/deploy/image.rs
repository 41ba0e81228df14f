//! The settings of an image on the command line.

use clap::{Args, ValueEnum};
use tidegate_document::{Code, FunctionSpec, PullRequest};

use crate::client::Client;
use crate::commands::image::{is_here, pull};
use crate::context::Context;
use crate::error::{Error, Result};

/// See the module.
#[derive(Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Image")]
pub(super) struct ImageSettings {
    /// Run a container image in place of code; PATH is then the function's name
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["runtime", "entry", "no_build", "build_command", "build_env", "build_secrets", "handler"])]
    pub(super) image: Option<String>,
    /// When to ask the image's registry: where the image is not here, or always
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires = "image",
        value_name = "WHEN"
    )]
    pull: Pull,
    /// A secret with credentials for the registry, as 'docker login' writes them into config.json; can be given many times
    #[arg(long = "pull-secret", requires = "image", value_name = "NAME")]
    pull_secrets: Vec<String>,
    /// The program to run in place of the image's: a word each time it is given, such as --command sh --command -c
    #[arg(
        long,
        requires = "image",
        value_name = "WORD",
        allow_hyphen_values = true
    )]
    command: Vec<String>,
    /// An argument in place of the image's; can be given many times
    #[arg(
        long = "arg",
        requires = "image",
        value_name = "WORD",
        allow_hyphen_values = true
    )]
    args: Vec<String>,
    /// Where it listens, if that is not the port that the image exposes, or 8080
    #[arg(long, requires = "image", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A path that it answers well once it is ready
    #[arg(long, requires = "image", value_name = "PATH")]
    ready_path: Option<String>,
    /// The folder that it begins in
    #[arg(long, requires = "image", value_name = "FOLDER")]
    workdir: Option<String>,
    /// Whom it is run as inside: a name or number, with ':' and a group if need be
    #[arg(long, requires = "image")]
    user: Option<String>,
    /// Let it write below its root, not only to /tmp; what it writes is gone with the instance
    #[arg(long, requires = "image")]
    writable_root: bool,
}

/// When a registry is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Pull {
    #[default]
    Missing,
    Always,
}

impl ImageSettings {
    /// A text that a function's name can be made of: the last part of the image's.
    pub(super) fn called(image: &str) -> &str {
        let image = image.split('@').next().unwrap_or(image);
        let last = image.rsplit('/').next().unwrap_or(image);
        last.split(':').next().unwrap_or(last)
    }

    /// Whether an image can be called so.
    pub(super) fn check(contract: Option<&str>) -> Result {
        match contract {
            Some("host") => Err(Error::usage(
                "--contract host is for code; an image is called by 'http' or 'stdio'",
            )),
            _ => Ok(()),
        }
    }

    /// Has the server get the image, if it has to.
    pub(super) async fn fetch(&self, context: &Context, client: &Client, image: &str) -> Result {
        if self.pull == Pull::Missing && is_here(client, image).await? {
            return Ok(());
        }
        let wanted = PullRequest {
            image: image.to_owned(),
            namespace: Some(context.namespace.clone()),
            pull_secrets: self.pull_secrets.clone(),
        };
        pull(context.draws(), client, &wanted).await.map(drop)
    }

    /// Sets what was given, and notes what stays from before.
    pub(super) fn apply(
        &self,
        image: &str,
        contract: Option<&String>,
        spec: &mut FunctionSpec,
        kept: &mut Vec<String>,
    ) {
        if spec.image.is_none() {
            // What was said of code says nothing of an image.
            spec.code = Code::default();
            spec.runtime = String::new();
            spec.contract = None;
            spec.handler = None;
            spec.build = None;
        }
        spec.image = Some(image.to_owned());
        spec.image_digest = None;
        let mut keep = |word: &str, value: Option<String>| {
            kept.extend(value.map(|value| format!("{word} {value}")));
        };
        match contract {
            Some(given) => spec.contract = Some(given.clone()),
            None => keep("contract", spec.contract.clone()),
        }
        for (word, slot, given) in [
            ("command", &mut spec.command, &self.command),
            ("args", &mut spec.args, &self.args),
            ("pull secrets", &mut spec.pull_secrets, &self.pull_secrets),
        ] {
            if !given.is_empty() {
                slot.clone_from(given);
            } else if !slot.is_empty() {
                keep(word, Some(slot.join(" ")));
            }
        }
        for (word, slot, given) in [
            ("ready path", &mut spec.ready_path, &self.ready_path),
            ("workdir", &mut spec.workdir, &self.workdir),
            ("user", &mut spec.user, &self.user),
        ] {
            match given {
                Some(given) => *slot = Some(given.clone()),
                None => keep(word, slot.clone()),
            }
        }
        match self.port {
            Some(port) => spec.port = Some(port),
            None => keep("port", spec.port.map(|port| port.to_string())),
        }
        if self.writable_root {
            spec.read_only_root = Some(false);
        } else if spec.read_only_root == Some(false) {
            keep("root", Some("writable".to_owned()));
        }
    }
}

/// Takes out of a specification what an earlier deploy said of an image, for code.
pub(super) fn forget(spec: &mut FunctionSpec) {
    if spec.image.take().is_some() {
        *spec = FunctionSpec {
            image_digest: None,
            contract: None,
            command: Vec::new(),
            args: Vec::new(),
            workdir: None,
            user: None,
            read_only_root: None,
            port: None,
            ready_path: None,
            pull_secrets: Vec::new(),
            ..std::mem::take(spec)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_called_as_its_image() {
        for (image, name) in [
            ("alpine", "alpine"),
            ("alpine:3", "alpine"),
            ("r.example:5000/team/api:1.2@sha256:abc", "api"),
        ] {
            assert_eq!(ImageSettings::called(image), name);
        }
    }

    #[test]
    fn what_is_not_given_stays_and_code_forgets_it() {
        let mut spec = FunctionSpec {
            runtime: "python".to_owned(),
            contract: Some("host".to_owned()),
            ..FunctionSpec::default()
        };
        let first = ImageSettings {
            port: Some(80),
            command: vec!["serve".to_owned()],
            ..ImageSettings::default()
        };
        let mut kept = Vec::new();
        first.apply("a:1", None, &mut spec, &mut kept);
        assert_eq!(
            (&*spec.runtime, &spec.contract, &*kept),
            ("", &None, &[][..])
        );
        ImageSettings::default().apply("a:2", None, &mut spec, &mut kept);
        assert_eq!(kept, ["command serve", "port 80"]);
        assert_eq!(spec.image.as_deref(), Some("a:2"));
        forget(&mut spec);
        assert_eq!(spec, FunctionSpec::default());
    }
}
