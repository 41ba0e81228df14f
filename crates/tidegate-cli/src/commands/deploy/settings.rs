//! The settings of a function on the command line, and how they meet those of an earlier deploy.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use tidegate_core::record::{Level, LevelError};
use tidegate_core::{Name, parse_bytes, parse_cpu, parse_duration};
use tidegate_document::{FunctionSpec, SecretUse};

use crate::error::{Error, Result};

/// Largest file of variables in bytes; documents are smaller than that anyway.
const MAX_ENV_FILE: u64 = 256 << 10;

/// See the module.
#[derive(Args, Clone, Default, PartialEq, Eq)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// The handler, where it is not 'handler' or 'app': a name in the file, or module:name
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// An environment variable; can be given many times
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A secret that the function may see, as /run/secrets/NAME or in a variable
    #[arg(long = "secret", value_name = "NAME[=VARIABLE]", value_parser = secret)]
    secrets: Vec<SecretUse>,
    /// Memory of an instance: 256Mi
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<String>,
    /// Cores of an instance: 0.5, 2
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpu: Option<String>,
    /// Longest time of a call: 60s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<String>,
    /// Calls that an instance takes at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
    /// Share of the concurrency, in percent, above which another instance is started
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    target: Option<u32>,
    /// Never fewer instances than this; 0 lets it go to zero
    #[arg(long, value_name = "N")]
    min: Option<u32>,
    /// Never more instances than this
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max: Option<u32>,
    /// Instances that must be ready before the new code is called
    #[arg(long, value_name = "N")]
    initial: Option<u32>,
    /// How long an instance stays without a call: 60s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle: Option<String>,
    /// What an instance sees of the network
    #[arg(long, value_parser = ["outbound", "none", "host"])]
    network: Option<String>,
    /// All that it reaches beside other functions: a host, *.host or network, with :port where only one is meant; can be given
    /// many times, or be '' for nothing
    #[arg(long, value_name = "HOST")]
    egress: Vec<String>,
    /// Who may call it: anyone, or holders of a key
    #[arg(long, value_parser = ["public", "private"])]
    access: Option<String>,
    /// Which calls leave a record: all, errors, sampled:100 for one in a hundred and those that fail, none
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    records: Option<String>,
    /// A label, for selecting; can be given many times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl Settings {
    /// Reads the files of variables; those given one by one win over them.
    pub(super) fn checked(mut self) -> Result<Self> {
        let mut env = Vec::new();
        for path in &self.env_file {
            env.extend(read_env_file(path)?);
        }
        env.append(&mut self.env);
        self.env = env;
        Ok(self)
    }

    /// Sets what was given, and notes what stays from before.
    pub(super) fn apply(
        &self,
        spec: &mut FunctionSpec,
        labels: &mut BTreeMap<String, String>,
        kept: &mut Vec<String>,
    ) -> Result {
        let mut one = Keeper(kept);
        one.set(&mut spec.handler, &self.handler, "handler");
        one.map("env", &mut spec.env, &self.env);
        one.secrets(&mut spec.secrets, &self.secrets);
        one.set(&mut spec.limits.memory, &self.memory, "memory");
        one.set(&mut spec.limits.cpu, &self.cpu, "cpu");
        one.set(&mut spec.limits.pids, &None, "pids");
        one.set(&mut spec.limits.tmp, &None, "tmp");
        one.set(&mut spec.limits.timeout, &self.timeout, "timeout");
        one.set(&mut spec.limits.body, &None, "body");
        let scale = &mut spec.scale;
        one.set(&mut scale.concurrency, &self.concurrency, "concurrency");
        one.set(&mut scale.target, &self.target, "target");
        one.set(&mut scale.min, &self.min, "min");
        one.set(&mut scale.max, &self.max, "max");
        one.set(&mut scale.initial, &self.initial, "initial");
        one.set(&mut scale.idle, &self.idle, "idle");
        one.set(&mut spec.network, &self.network, "network");
        match &spec.egress {
            _ if self.egress == [""] => spec.egress = Some(Vec::new()),
            _ if !self.egress.is_empty() => spec.egress = Some(self.egress.clone()),
            Some(before) if before.is_empty() => one.0.push("egress of functions alone".to_owned()),
            Some(before) => one.0.push(format!("egress {}", before.join(" "))),
            None => {}
        }
        one.set(&mut spec.access, &self.access, "access");
        one.set(&mut spec.records, &self.records, "records");
        one.map("labels", labels, &self.labels);
        match (spec.scale.min, spec.scale.max) {
            (Some(min), Some(max)) if min > max => Err(Error::usage(format!(
                "min {min} is more than max {max}; give both --min and --max"
            ))),
            _ => Ok(()),
        }
    }
}

/// Writes what is given over what is there, and remembers what stays.
struct Keeper<'a>(&'a mut Vec<String>);

impl Keeper<'_> {
    fn set<T: Clone + Display>(&mut self, slot: &mut Option<T>, given: &Option<T>, word: &str) {
        match (given, &slot) {
            (Some(given), _) => *slot = Some(given.clone()),
            (None, Some(before)) => self.0.push(format!("{word} {before}")),
            (None, None) => {}
        }
    }

    /// Names only: values of variables may be nobody's business.
    fn map(&mut self, word: &str, slot: &mut BTreeMap<String, String>, given: &[(String, String)]) {
        let given: BTreeMap<_, _> = given.iter().cloned().collect();
        let stays: Vec<&str> = slot
            .keys()
            .filter(|name| !given.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !stays.is_empty() {
            self.0.push(format!("{word} {}", stays.join(" ")));
        }
        slot.extend(given);
    }

    fn secrets(&mut self, slot: &mut Vec<SecretUse>, given: &[SecretUse]) {
        slot.retain(|before| !given.iter().any(|g| g.name == before.name));
        if !slot.is_empty() {
            let names: Vec<&str> = slot.iter().map(|s| s.name.as_str()).collect();
            self.0.push(format!("secrets {}", names.join(" ")));
        }
        slot.extend(given.iter().cloned());
    }
}

pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    check_variable(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn level(text: &str) -> Result<String, String> {
    let level: Level = text.parse().map_err(|e: LevelError| e.to_string())?;
    Ok(level.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "write it as NAME=VALUE".to_owned())
}

fn check_variable(name: &str) -> Result<(), String> {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if letters && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "variable {name:?} is not letters, digits and '_', beginning with no digit"
        ))
    }
}

fn secret(text: &str) -> Result<SecretUse, String> {
    let (name, env) = match text.split_once('=') {
        Some((name, env)) => (name, Some(env)),
        None => (text, None),
    };
    let name = Name::new(name).map_err(|e| e.to_string())?;
    if let Some(env) = env {
        check_variable(env)?;
    }
    Ok(SecretUse {
        name: name.into(),
        env: env.map(str::to_owned),
    })
}

fn size(text: &str) -> Result<String, String> {
    parse_bytes(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

fn cores(text: &str) -> Result<String, String> {
    parse_cpu(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

fn read_env_file(path: &Path) -> Result<Vec<(String, String)>> {
    let mut text = String::new();
    File::open(path)
        .and_then(|f| f.take(MAX_ENV_FILE + 1).read_to_string(&mut text))
        .map_err(|e| Error::usage(format!("cannot read {}", path.display())).because(&e))?;
    if text.len() as u64 > MAX_ENV_FILE {
        return Err(Error::usage(format!(
            "{} is larger than {} KiB",
            path.display(),
            MAX_ENV_FILE >> 10
        )));
    }
    parse_env(&text)
        .map_err(|(line, why)| Error::usage(format!("{} line {line}: {why}", path.display())))
}

/// Lines of `NAME=VALUE`, with comments, `export` and quotes around the whole value; nothing is expanded.
fn parse_env(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut variables = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (name, value) = variable(line).map_err(|why| (at + 1, why))?;
        let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
        let value = quoted('"')
            .or_else(|| quoted('\''))
            .unwrap_or(&value)
            .to_owned();
        variables.push((name, value));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables_are_read() {
        let text = "# comment\nA=1\nexport B=\"two words\"\n\nC='x=y'\nD=\n";
        let read = parse_env(text).unwrap();
        let shown: Vec<_> = read.iter().map(|(n, v)| format!("{n}:{v}")).collect();
        assert_eq!(shown, ["A:1", "B:two words", "C:x=y", "D:"]);
        assert_eq!(
            parse_env("A=1\nnothing").unwrap_err(),
            (2, "write it as NAME=VALUE".to_owned())
        );
        assert!(parse_env("1A=1").is_err());
    }

    #[test]
    fn what_is_given_wins_and_what_stays_is_told() {
        let mut spec = FunctionSpec::default();
        spec.env.insert("A".to_owned(), "old".to_owned());
        spec.env.insert("B".to_owned(), "old".to_owned());
        spec.limits.memory = Some("1Gi".to_owned());
        spec.scale.max = Some(3);
        spec.secrets.push(secret("db").unwrap());
        let settings = Settings {
            env: vec![("A".to_owned(), "new".to_owned())],
            memory: Some("2Gi".to_owned()),
            secrets: vec![secret("api=API_KEY").unwrap()],
            ..Settings::default()
        };
        let mut kept = Vec::new();
        settings
            .apply(&mut spec, &mut BTreeMap::new(), &mut kept)
            .unwrap();
        assert_eq!(kept, ["env B", "secrets db", "max 3"]);
        assert_eq!(spec.env["A"], "new");
        assert_eq!(spec.limits.memory.as_deref(), Some("2Gi"));
        assert_eq!(spec.secrets.len(), 2);
    }
}
