//! Where a build finds the secrets that came with it.
//!
//! A template's Dockerfile reads them in `/run/secrets`, and so may a command here. The official templates install with
//! tools that have files and variables of their own for the purpose, so a secret whose name says which of those it is meant
//! for is there as well.

use std::collections::BTreeMap;

use tidegate_core::{Build, BuildSecret, BuildSecretPlace};
use tidegate_platform::{BuildOutput, BuildSource, CONFIG_FILES};

/// Longest name in bytes.
const MAX_NAME: usize = 64;

/// Names that people give to what [`CONFIG_FILES`] has under another.
const ALIASES: &[(&str, &str)] = &[
    ("auth-json", "composer-auth"),
    ("git-config", "gitconfig"),
    ("npm-rc", "npmrc"),
    ("pip-config", "pip-conf"),
    ("pipconf", "pip-conf"),
    ("settings-xml", "maven-settings"),
    ("yarnrc-yml", "yarnrc"),
];

/// Names that mean a variable which a tool reads.
const VARIABLES: &[(&str, &str)] = &[
    ("goproxy", "GOPROXY"),
    ("node-auth-token", "NODE_AUTH_TOKEN"),
    ("npm-token", "NPM_TOKEN"),
    ("pip-extra-index-url", "PIP_EXTRA_INDEX_URL"),
    ("pip-index-url", "PIP_INDEX_URL"),
];

/// Gives the secrets to a build, and says where each is.
///
/// # Errors
/// A name is none that a file may have.
pub(super) fn give(
    secrets: BTreeMap<String, Vec<u8>>,
    source: &mut BuildSource,
    output: &BuildOutput,
) -> Result<(), String> {
    for (name, value) in secrets {
        check(&name)?;
        let (mut places, more) = places(&name);
        let mut said = format!("build secret {name}: /run/secrets/{name}");
        match more {
            Some(BuildSecretPlace::Env(variable)) => {
                said += &format!(" and ${variable}");
                // Files end with a newline, which is part of no address and no token.
                let key = format!("{name} as {variable}");
                let trimmed = value.trim_ascii().to_vec();
                source.secrets.insert(key.clone(), trimmed);
                places.push(BuildSecret {
                    name: key,
                    place: BuildSecretPlace::Env(variable),
                });
            }
            Some(BuildSecretPlace::File(path)) => {
                said += &format!(" and ~/{path}");
                places.push(BuildSecret {
                    name: name.clone(),
                    place: BuildSecretPlace::File(path),
                });
            }
            Some(BuildSecretPlace::Mount) | None => {}
        }
        output.note(said);
        let Build { secrets, .. } = &mut source.build;
        secrets.append(&mut places);
        source.secrets.insert(name, value);
    }
    Ok(())
}

fn places(name: &str) -> (Vec<BuildSecret>, Option<BuildSecretPlace>) {
    let word = name.trim_start_matches('.').to_ascii_lowercase();
    let word = word.replace(['.', '_'], "-");
    let of = |table: &[(&'static str, &'static str)], word: &str| {
        let row = table.iter().find(|(known, _)| *known == word);
        row.map(|(_, meant)| *meant)
    };
    let file = of(CONFIG_FILES, of(ALIASES, &word).unwrap_or(&word));
    let variable = of(VARIABLES, &word);
    let more = file
        .map(|path| BuildSecretPlace::File(path.to_owned()))
        .or_else(|| variable.map(|name| BuildSecretPlace::Env(name.to_owned())));
    let mounted = BuildSecret {
        name: name.to_owned(),
        place: BuildSecretPlace::Mount,
    };
    (vec![mounted], more)
}

fn check(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
    if fits && !matches!(name, "." | "..") {
        return Ok(());
    }
    Err(format!(
        "build secret {name:?} has no name for a file: letters, digits, '.', '_' and '-', at most {MAX_NAME} of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_reads_it() {
        let more = |name: &str| match places(name).1 {
            Some(BuildSecretPlace::File(path)) => format!("~/{path}"),
            Some(BuildSecretPlace::Env(variable)) => format!("${variable}"),
            Some(BuildSecretPlace::Mount) | None => String::new(),
        };
        for (name, told) in [
            (".npmrc", "~/.npmrc"),
            ("pip.conf", "~/.config/pip/pip.conf"),
            ("pipconf", "~/.config/pip/pip.conf"),
            ("PIP_INDEX_URL", "$PIP_INDEX_URL"),
            ("settings.xml", "~/.m2/settings.xml"),
            ("api_key", ""),
        ] {
            assert_eq!(more(name), told, "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\nb", &"x".repeat(65)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert_eq!(check("ca.crt"), Ok(()));
    }
}
