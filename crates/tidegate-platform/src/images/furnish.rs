//! What a function becomes when its image is known: the image's configuration, and what the document says over it.

use tidegate_core::{FunctionSpec, Network, Probe, Root};
use tidegate_image::{Config, Image};

use crate::{Contract, LowerError};

/// Where a server listens that nothing is said of.
const PORT: u16 = 8080;

/// SIGTERM: what asks a program to end where its image says nothing.
const STOP_SIGNAL: i32 = 15;

/// The contract that an image is made for, as a label of its own.
const CONTRACT_LABEL: &str = "dev.tidegate.contract";

/// Where an image listens, as a label of its own.
const PORT_LABEL: &str = "dev.tidegate.port";

/// Signals by name, as images give them; the numbers are those of the processors that run Tidegate.
const SIGNALS: [(&str, i32); 15] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("IO", 29),
    ("WINCH", 28),
];

/// Highest number of a signal.
const MAX_SIGNAL: i32 = 64;

/// The image that a document names, and what the document says over the image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUse {
    /// As the client wrote it.
    pub name: String,
    /// What the name was when it was deployed, where that was known then.
    pub digest: Option<String>,
    /// In place of the image's entry point, and of its arguments.
    pub command: Vec<String>,
    /// In place of the image's arguments.
    pub args: Vec<String>,
    /// In place of the image's; an absolute path inside.
    pub workdir: Option<String>,
    /// In place of the image's: a name or a number, with `:` and a group if need be.
    pub user: Option<String>,
    /// Whether only `/tmp` can be written to.
    pub read_only: bool,
    /// How it is called: `http` or `stdio`; as the image's label says where absent, else `http`.
    pub contract: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
    /// What is asked until it answers well, before the first call.
    pub ready: Option<Probe>,
    /// Secrets of the namespace with credentials of registries, each a Docker configuration.
    pub pull_secrets: Vec<String>,
}

/// The function that runs an image. `user` tells the numbers of a user of the image's.
///
/// # Errors
/// The image has no command, or names a user or a port that cannot be.
pub(super) fn furnish(
    spec: &FunctionSpec,
    wanted: &ImageUse,
    image: &Image,
    user: impl FnOnce(&str) -> Result<(u32, u32), String>,
) -> Result<FunctionSpec, LowerError> {
    let config = &image.config;
    let wrong = |message: String| LowerError::new("spec.image", message);
    let contract = contract(wanted, config)?;
    let command = command(wanted, config);
    if command.is_empty() {
        return Err(wrong(format!(
            "image {:?} has no command of its own: say in 'command' what to run",
            wanted.name
        )));
    }
    let (user, group) = user(wanted.user.as_deref().unwrap_or(&config.user)).map_err(wrong)?;
    let workdir = wanted.workdir.clone().unwrap_or_else(|| {
        if config.workdir.starts_with('/') {
            config.workdir.clone()
        } else {
            // Images that say `app` mean `/app`.
            format!("/{}", config.workdir)
        }
    });
    let mut env: std::collections::BTreeMap<_, _> = config.env.iter().cloned().collect();
    env.extend(spec.env.clone());
    let words = command.iter().chain([&workdir]);
    if words
        .chain(env.iter().flat_map(|(name, value)| [name, value]))
        .any(|word| word.contains('\0'))
    {
        return Err(wrong(format!(
            "image {:?} has a command, variable or working folder with a NUL character, which no program can be given",
            wanted.name
        )));
    }
    let mut furnished = FunctionSpec {
        contract,
        command,
        env,
        ..spec.clone()
    };
    let port = match &*furnished.contract {
        "http" => Some(port(spec, wanted, config)?),
        _ => None,
    };
    // On the machine's own network a port is chosen for each instance, unless the function insists on one.
    let port = match spec.network {
        Network::Host => wanted.port,
        _ => port,
    };
    if let Some(port) = port {
        furnished.env.insert("PORT".to_owned(), port.to_string());
    }
    furnished.root = Some(Root {
        image: image.digest.to_string(),
        user,
        group,
        workdir,
        read_only: wanted.read_only,
        stop_signal: stop_signal(config).map_err(wrong)?,
        port,
        ready: wanted
            .ready
            .clone()
            .filter(|_| furnished.contract == "http"),
    });
    let contract = Contract::of(&furnished)
        .map_err(|error| LowerError::new(error.field(), error.to_string()))?;
    // What a document says of concurrency is meant for the contract that it says, too; a label may want less.
    let most = contract.max_concurrency();
    if furnished.scale.concurrency > most {
        furnished.scale.concurrency = most;
        furnished.scale.target_milli = 1000;
    }
    Ok(furnished)
}

/// A function whose code runs on an image's interpreter. Nothing of the image's is run but that: its command and its user
/// are for something else.
pub(super) fn on_runtime(spec: &FunctionSpec, image: &Image) -> FunctionSpec {
    let mut env: std::collections::BTreeMap<_, _> = image.config.env.iter().cloned().collect();
    env.extend(spec.env.clone());
    FunctionSpec {
        env,
        root: Some(Root {
            image: image.digest.to_string(),
            user: RUNTIME_USER,
            group: RUNTIME_USER,
            workdir: "/function".to_owned(),
            read_only: true,
            stop_signal: STOP_SIGNAL,
            port: None,
            ready: None,
        }),
        ..spec.clone()
    }
}

/// Whom the code of a function is run as on an image that is a runtime: nobody, as where there is no image.
const RUNTIME_USER: u32 = 65_534;

fn contract(wanted: &ImageUse, config: &Config) -> Result<String, LowerError> {
    if let Some(word) = &wanted.contract {
        return Ok(word.clone());
    }
    match config.labels.get(CONTRACT_LABEL).map(String::as_str) {
        None => Ok("http".to_owned()),
        Some(word @ ("http" | "stdio")) => Ok(word.to_owned()),
        Some(other) => Err(LowerError::new(
            "spec.image",
            format!(
                "the image's label {CONTRACT_LABEL} is {other:?}: say in 'contract' whether it is 'http' or 'stdio'"
            ),
        )),
    }
}

/// As other tools do: a command of one's own is not given the image's arguments, which were for another.
fn command(wanted: &ImageUse, config: &Config) -> Vec<String> {
    let (entry, args) = match (wanted.command.is_empty(), wanted.args.is_empty()) {
        (true, true) => (&config.entrypoint, &config.cmd),
        (true, false) => (&config.entrypoint, &wanted.args),
        (false, _) => (&wanted.command, &wanted.args),
    };
    entry.iter().chain(args).cloned().collect()
}

fn port(spec: &FunctionSpec, wanted: &ImageUse, config: &Config) -> Result<u16, LowerError> {
    if let Some(port) = wanted.port {
        return Ok(port);
    }
    let said = |what: &str, text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| {
                LowerError::new(
                    "spec.image",
                    format!("{what} is {text:?}, which is no port: say in 'port' where it listens"),
                )
            })
    };
    if let Some(text) = spec.env.get("PORT") {
        return said("variable PORT", text);
    }
    if let Some(text) = config.labels.get(PORT_LABEL) {
        return said(&format!("the image's label {PORT_LABEL}"), text);
    }
    if let Some((_, text)) = config.env.iter().find(|(name, _)| name == "PORT") {
        return said("the image's variable PORT", text);
    }
    Ok(match config.ports[..] {
        [only] => only,
        _ => PORT,
    })
}

fn stop_signal(config: &Config) -> Result<i32, String> {
    let Some(text) = config.stop_signal.as_deref().filter(|t| !t.is_empty()) else {
        return Ok(STOP_SIGNAL);
    };
    if let Ok(number) = text.parse::<i32>() {
        return Some(number)
            .filter(|n| (1..=MAX_SIGNAL).contains(n))
            .ok_or_else(|| format!("the image's stop signal {number} is none"));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals are counted from 34, as in the C library.
    if let Some(more) = name.strip_prefix("RTMIN") {
        let more = more.strip_prefix('+').unwrap_or("0").parse::<i32>();
        return more
            .ok()
            .and_then(|more| more.checked_add(34))
            .filter(|n| (34..=MAX_SIGNAL).contains(n))
            .ok_or_else(|| format!("the image's stop signal {text:?} is none"));
    }
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .ok_or_else(|| format!("the image's stop signal {text:?} is none"))
}

#[cfg(test)]
mod tests;
