//! How a deploy says what the build does, and what it is told of it.

use clap::Args;
use tidegate_document::{Build, BuildLine, BuildSecret, FunctionSpec};

use crate::context::Context;

/// See the module.
#[derive(Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Build")]
pub(super) struct BuildSettings {
    /// Run the code as it is: install nothing, compile nothing
    #[arg(long, conflicts_with = "build_command")]
    no_build: bool,
    /// A shell command that builds the code, in place of what is told from it
    #[arg(long, value_name = "COMMAND")]
    build_command: Option<String>,
    /// An environment variable of the build; can be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::settings::variable)]
    build_env: Vec<(String, String)>,
    /// A secret for the build: npmrc, pip-conf, netrc, … go where the tools look for them; others into a file of the home
    /// folder or a variable
    #[arg(long = "build-secret", value_name = "NAME[=FILE|=env:VARIABLE]", value_parser = secret)]
    build_secrets: Vec<BuildSecret>,
}

impl BuildSettings {
    /// Whether a command of the user's makes what is run.
    pub(super) fn has_command(&self) -> bool {
        self.build_command.is_some()
    }

    /// Sets what was given, and notes what stays from before.
    pub(super) fn apply(&self, spec: &mut FunctionSpec, kept: &mut Vec<String>) {
        let mut build = spec.build.take().unwrap_or_default();
        if self.no_build {
            build.skip = true;
            build.command = None;
        } else if let Some(command) = &self.build_command {
            build.command = Some(command.clone());
            build.skip = false;
        } else if build.skip {
            kept.push("no build".to_owned());
        } else if let Some(command) = &build.command {
            kept.push(format!("build command {command:?}"));
        }
        build.env.extend(self.build_env.iter().cloned());
        for secret in &self.build_secrets {
            build.secrets.retain(|s| s.name != secret.name);
            build.secrets.push(secret.clone());
        }
        spec.build = (build != Build::default()).then_some(build);
    }
}

fn secret(text: &str) -> Result<BuildSecret, String> {
    let (name, place) = match text.split_once('=') {
        Some((name, place)) => (name, Some(place)),
        None => (text, None),
    };
    if name.is_empty() || place == Some("") {
        return Err("write NAME, NAME=FILE or NAME=env:VARIABLE".to_owned());
    }
    let variable = place.and_then(|p| p.strip_prefix("env:"));
    Ok(BuildSecret {
        name: name.to_owned(),
        file: place.filter(|_| variable.is_none()).map(str::to_owned),
        env: variable.map(str::to_owned),
    })
}

/// A line of a build, for people; `aloud` where nothing else is said of the deploy.
pub(super) fn say(context: &mut Context, line: &BuildLine, aloud: bool) {
    let text = match line.stream.as_str() {
        "step" => format!("> {}", line.text),
        "note" => format!("  {}", line.text),
        _ => format!("  | {}", line.text),
    };
    if aloud {
        context.aside(text);
    } else {
        context.note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_build() {
        let read = |text: &str| secret(text).map(|s| (s.name, s.file, s.env));
        let owned = |t: &str| Some(t.to_owned());
        assert_eq!(read("npmrc"), Ok(("npmrc".into(), None, None)));
        assert_eq!(read("a=.netrc"), Ok(("a".into(), owned(".netrc"), None)));
        assert_eq!(read("a=env:TOKEN"), Ok(("a".into(), None, owned("TOKEN"))));
        assert!(read("a=").is_err() && read("=b").is_err());
    }

    #[test]
    fn what_is_not_given_stays() {
        let mut spec = FunctionSpec::default();
        let first = BuildSettings {
            build_command: Some("make".to_owned()),
            ..BuildSettings::default()
        };
        first.apply(&mut spec, &mut Vec::new());
        let mut kept = Vec::new();
        BuildSettings::default().apply(&mut spec, &mut kept);
        assert_eq!(kept, ["build command \"make\""]);
        let none = BuildSettings {
            no_build: true,
            ..BuildSettings::default()
        };
        none.apply(&mut spec, &mut kept);
        let build = spec.build.unwrap();
        assert!(build.skip && build.command.is_none());
    }
}
