//! `doctor`.

use anstyle::{AnsiColor, Style};
use clap::Args;
use tidegate_document::{NamespaceList, RuntimeInfo, ServerInfo};

use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::credentials::{self, Source};
use crate::doctor::{Diagnosis, State};
use crate::error::{Error, Result};
use crate::exit;
use crate::paths;

/// What the names of findings begin with that a server made of its own machine.
const OF_SERVER: &str = "server's ";

/// Look for what keeps Tidegate from working, here and at the server
#[derive(Args)]
pub(crate) struct Doctor {
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let mut findings = configuration(context);
        let told = server(context).await;
        // A server of this machine has looked already, and with the rights that count.
        let looked = Client::parse_url(&context.url)
            .is_ok_and(|url| credentials::is_loopback(&url))
            && told.iter().any(|f| f.name.starts_with(OF_SERVER));
        findings.extend(told);
        if !looked {
            for check in &context.process.checks {
                findings.extend(check());
            }
        }
        if self.json {
            context.json(&findings)?;
        } else {
            for finding in &findings {
                show(context, finding)?;
            }
        }
        let failed = findings.iter().filter(|f| f.state == State::Fail).count();
        let warned = findings.iter().filter(|f| f.state == State::Warn).count();
        if failed > 0 {
            context.note(format!("{failed} failed, {warned} could be better"));
            return Err(Error::silent(exit::FAILED));
        }
        context.note(match warned {
            0 => "all is well".to_owned(),
            n => format!("all works, {n} could be better"),
        });
        Ok(())
    }
}

fn show(context: &mut Context, finding: &Diagnosis) -> Result {
    let style: Style = match finding.state {
        State::Ok => AnsiColor::Green.on_default(),
        State::Warn => AnsiColor::Yellow.on_default(),
        State::Fail => AnsiColor::Red.on_default(),
    };
    let state = context.styled_out(style, &format!("{:<4}", finding.state.as_str()));
    context.line(format!("{state}  {}: {}", finding.name, finding.detail))?;
    if let Some(fix) = &finding.fix {
        context.line(format!("      fix: {fix}"))?;
    }
    Ok(())
}

/// What of the client's own files can be told without a server.
fn configuration(context: &Context) -> Vec<Diagnosis> {
    const NAME: &str = "configuration";
    let Some(path) = paths::credentials_file(context.env()) else {
        return vec![
            Diagnosis::warn(NAME, "there is no home folder to keep keys in")
                .fix("set HOME, or use TIDEGATE_TOKEN"),
        ];
    };
    if !path.exists() {
        return vec![Diagnosis::ok(
            NAME,
            format!("{} is not there, and need not be", path.display()),
        )];
    }
    if let Err(error) = credentials::File::read(&path) {
        return vec![
            Diagnosis::fail(NAME, error.to_string()).fix(format!("rm {}", path.display())),
        ];
    }
    vec![permissions(NAME, &path)]
}

#[cfg(unix)]
fn permissions(name: &str, path: &std::path::Path) -> Diagnosis {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::metadata(path).map_or(0, |m| m.permissions().mode() & 0o077);
    if open == 0 {
        Diagnosis::ok(name, format!("only you can read {}", path.display()))
    } else {
        Diagnosis::fail(
            name,
            format!("others can read the keys in {}", path.display()),
        )
        .fix(format!("chmod 600 {}", path.display()))
    }
}

#[cfg(not(unix))]
fn permissions(name: &str, path: &std::path::Path) -> Diagnosis {
    Diagnosis::ok(name, format!("keys are in {}", path.display()))
}

/// What the server says of itself and of us.
async fn server(context: &mut Context) -> Vec<Diagnosis> {
    const NAME: &str = "server";
    let mut findings = Vec::new();
    let url = match Client::parse_url(&context.url) {
        Ok(url) => url,
        Err(e) => return vec![Diagnosis::fail(NAME, e.to_string())],
    };
    let found = credentials::find(context.env(), &url, context.token.as_deref())
        .ok()
        .flatten();
    let client = match Client::new(url, found.as_ref().map(|(token, _)| token.as_str())) {
        Ok(client) => client,
        Err(e) => return vec![Diagnosis::fail(NAME, e.to_string())],
    };
    let info: ServerInfo = match client.get("/", &[], ANSWER).await {
        Ok(info) => info,
        Err(e) => {
            let error = Error::from(e);
            // Nothing is wrong with a machine on which no server runs yet.
            let mut finding = if error.code == exit::UNREACHABLE {
                Diagnosis::warn(NAME, error.message)
            } else {
                Diagnosis::fail(NAME, error.message)
            };
            if let Some(hint) = error.hints.into_iter().next() {
                finding = finding.fix(hint);
            }
            return vec![finding];
        }
    };
    let ours = env!("CARGO_PKG_VERSION");
    findings.push(if info.version == ours {
        Diagnosis::ok(NAME, format!("version {ours} at {}", client.shown()))
    } else {
        Diagnosis::warn(
            NAME,
            format!(
                "version {} at {}, while this is {ours}",
                info.version,
                client.shown()
            ),
        )
        .fix("use the same version on both sides")
    });
    findings.push(key(&client, found.map(|(_, source)| source)).await);
    findings.extend(info.runtimes.into_iter().map(|runtime| {
        let name = format!("runtime {}", runtime.name);
        let version = runtime
            .version
            .map_or_else(String::new, |v| format!("{v}, "));
        if runtime.available {
            Diagnosis::ok(name, format!("{version}{}", runtime.detail))
        } else {
            Diagnosis::warn(name, "not there").fix(runtime.detail)
        }
    }));
    findings.extend(tools(&info.tools));
    findings.extend(info.capabilities.into_iter().map(|capability| {
        let name = format!("{OF_SERVER}{}", capability.name);
        match capability.state.as_str() {
            "ok" => Diagnosis::ok(name, capability.detail),
            _ => Diagnosis::warn(name, capability.detail),
        }
    }));
    findings
}

async fn key(client: &Client, source: Option<Source>) -> Diagnosis {
    const NAME: &str = "key";
    let from = match &source {
        None => "none was found".to_owned(),
        Some(Source::Given) => "given by --token or TIDEGATE_TOKEN".to_owned(),
        Some(Source::Login(path)) => format!("kept by login in {}", path.display()),
        Some(Source::Server(path)) => format!("the server's own, {}", path.display()),
    };
    let tried: Result<NamespaceList, _> = client.get("/namespaces", &[], ANSWER).await;
    match tried {
        Ok(_) => Diagnosis::ok(NAME, format!("{from}; accepted")),
        Err(e) if matches!(e.status(), Some(401 | 403)) => {
            let verdict = match source {
                Some(_) => "not accepted",
                None => "the server asks for one",
            };
            Diagnosis::fail(NAME, format!("{from}; {verdict}")).fix("tidegate login")
        }
        Err(e) => Diagnosis::fail(NAME, format!("{from}; {e}")),
    }
}

/// What builds may use, in two lines: nobody needs every language's tools, so what is missing is no warning.
fn tools(all: &[RuntimeInfo]) -> Vec<Diagnosis> {
    let (there, missing): (Vec<_>, Vec<_>) = all.iter().partition(|tool| tool.available);
    let named = |tool: &&RuntimeInfo| match &tool.version {
        Some(version) => format!("{} {version}", tool.name),
        None => tool.name.clone(),
    };
    let there: Vec<_> = there.iter().map(named).collect();
    let missing: Vec<_> = missing.iter().map(|tool| tool.detail.as_str()).collect();
    let lines = [
        ("build tools", there.join(", ")),
        ("build tools not there", missing.join("; ")),
    ];
    lines
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| Diagnosis::ok(name, text))
        .collect()
}
