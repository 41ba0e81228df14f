//! The built binary: a server of it, and its command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Group};
use crate::http::Connection;
use crate::target::Target;
use crate::{report, signals};

/// Longest time from the start to the line that says it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for one command against a running server.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for a deploy, which may install packages and compile them.
const DEPLOY_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Longest time for a build of the workspace from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);
/// Lines of the server's log shown when it does not come up.
const LOG_LINES: usize = 20;
/// What a program gets of our environment, where it is ours to choose: nothing but where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The binary to use: the one that `TIDEGATE_BIN` names, else a release build made now.
pub(crate) fn binary(target: &Target) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TIDEGATE_BIN") {
        let path = PathBuf::from(given);
        if !path.is_file() {
            bail!("TIDEGATE_BIN is {}, which is no file", path.display());
        }
        return Ok(std::path::absolute(path)?);
    }
    build(target, &["-p", "tidegate"])?;
    Ok(target.release("tidegate"))
}

/// Makes a release build of the packages that `words` name.
pub(crate) fn build(target: &Target, words: &[&str]) -> Result<()> {
    let mut cargo = target.cargo(&["build", "--release", "--locked"]);
    let began = Instant::now();
    let status = child::show(cargo.args(words), BUILD_LIMIT)?;
    if !status.success() {
        bail!("the release build failed ({status})");
    }
    println!("built in {}", report::seconds(began.elapsed()));
    Ok(())
}

/// A command that gets nothing of our environment but the way to programs.
pub(crate) fn clean(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
    command
}

/// Where rustup and cargo keep what builds of Rust functions need; their own way to tell it where `HOME` is another.
fn toolchains() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")]
        .into_iter()
        .filter_map(move |(name, folder)| {
            let set = std::env::var_os(name).map(PathBuf::from);
            Some((name, set.or_else(|| Some(home.as_ref()?.join(folder)))?))
        })
        .filter(|(_, folder)| folder.is_dir())
}

/// A running server, ended when this is dropped.
pub(crate) struct Server {
    binary: PathBuf,
    url: String,
    key: String,
    key_file: PathBuf,
    group: Group,
}

impl Server {
    /// Starts `tidegate up` with its data in `home`, and waits until it is ready.
    pub(crate) fn start(binary: &Path, listen: &str, home: &Path) -> Result<Self> {
        Self::start_with(binary, listen, home, &[])
    }

    /// The same with settings, each `KEY=VALUE`.
    pub(crate) fn start_with(
        binary: &Path,
        listen: &str,
        home: &Path,
        settings: &[&str],
    ) -> Result<Self> {
        let data = home.join("data");
        let log_name = home.join("server.log");
        let log = File::create(&log_name)
            .with_context(|| format!("cannot make {}", log_name.display()))?;
        let mut up = clean(binary);
        up.args(["up", "--json", "--listen", listen, "--data"])
            .arg(&data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .env("HOME", home)
            .envs(toolchains())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut group = Group::spawn(&mut up)?;
        // One line is waited for; the others are taken and let go, so that the server never waits for a full pipe.
        let (sender, lines) = sync_channel(1);
        let (first_sender, first) = sync_channel(1);
        child::follow(
            group
                .child()
                .stdout
                .take()
                .expect("the pipe was asked for above"),
            sender,
        );
        std::thread::spawn(move || {
            for line in lines {
                let _ = first_sender.try_send(line);
            }
        });
        let url = ready(&mut group, &first).with_context(|| {
            format!(
                "the server did not come up; its log ends:\n{}",
                tail(&log_name)
            )
        })?;
        let key_file = data.join("admin.key");
        let key = fs::read_to_string(&key_file)
            .with_context(|| format!("cannot read {}", key_file.display()))?
            .trim()
            .to_owned();
        Ok(Self {
            binary: binary.to_path_buf(),
            url,
            key,
            key_file,
            group,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// The admin key, as a header wants it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Asks for JSON under the control routes.
    pub(crate) fn control(&self, path: &str) -> Result<Value> {
        self.at_control("GET", path, b"")
    }

    /// Puts a document under the control routes.
    pub(crate) fn put(&self, path: &str, document: &Value) -> Result<Value> {
        self.at_control("PUT", path, document.to_string().as_bytes())
    }

    fn at_control(&self, method: &str, path: &str, body: &[u8]) -> Result<Value> {
        let bearer = self.bearer();
        let path = format!("/tidegate/v1{path}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let answer = Connection::open(&self.url)?.call(method, &path, &headers, body)?;
        answer.success(&format!("{method} {path}"))?.json()
    }

    /// Changes what the document of a function in the default namespace says of later calls.
    pub(crate) fn later(&self, function: &str, rules: Value) -> Result<()> {
        let path = format!("/namespaces/default/functions/{function}");
        let mut document = self.control(&path)?;
        document["spec"]["async"] = rules;
        self.put(&format!("{path}?wait=30"), &document).map(drop)
    }

    /// The sum of a metric over its labels, of those lines that have `label` in them.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str())];
        let answer = Connection::open(&self.url)?.call("GET", "/metrics", &headers, b"")?;
        let answer = answer.success("GET /metrics")?;
        metric(&String::from_utf8_lossy(&answer.body), name, label)
            .with_context(|| format!("/metrics has no {name} with {label:?}"))
    }

    /// The file with the admin key.
    pub(crate) fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// The command line, pointed at this server.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = clean(&self.binary);
        command
            .args(words)
            .env("TIDEGATE_URL", &self.url)
            .env("TIDEGATE_TOKEN", &self.key);
        command
    }

    /// Runs a command against this server and returns what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        self.run_within(words, COMMAND_LIMIT)
    }

    fn run_within(&self, words: &[&str], limit: Duration) -> Result<String> {
        child::capture(&mut self.command(words), limit)?
            .success(&format!("tidegate {}", words.join(" ")))
    }

    /// Deploys `file`, or a folder, as `name` and returns its URL, without a slash at the end.
    pub(crate) fn deploy(&self, file: &Path, name: &str, flags: &[&str]) -> Result<String> {
        let file = file.to_str().context("the path is not UTF-8")?;
        let mut words = vec!["deploy", file, "--name", name];
        words.extend(flags);
        let printed = self.run_within(&words, DEPLOY_LIMIT)?;
        let url = printed.trim().trim_end_matches('/');
        if !url.starts_with("http") || url.contains(char::is_whitespace) {
            bail!("tidegate deploy printed {printed:?}; expected one URL");
        }
        Ok(url.to_owned())
    }

    /// Makes functions what a manifest or a stack file says.
    pub(crate) fn apply(&self, file: &Path) -> Result<()> {
        let file = file.to_str().context("the path is not UTF-8")?;
        self.run_within(&["apply", "-f", file], DEPLOY_LIMIT)
            .map(drop)
    }

    /// Waits as long as the server runs, or until Ctrl-C.
    pub(crate) fn wait(&mut self) -> Result<()> {
        while !signals::interrupted() {
            if let Some(status) = self.group.try_wait()? {
                bail!("the server ended by itself ({status})");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Ends the server's process, and it alone, the way the kernel does when memory runs out.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.group.kill()
    }

    /// Ends the server as an operator would, and checks that it takes leave properly.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.group.stop()?;
        if !status.success() {
            bail!("the server ended with {status} after SIGTERM; expected exit code 0");
        }
        Ok(())
    }
}

/// The sum of the lines of a metric that have `label` in them; nothing where there is none.
fn metric(text: &str, name: &str, label: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' ']) && rest.contains(label))
            .then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn ready(group: &mut Group, lines: &Receiver<String>) -> Result<String> {
    let until = Instant::now() + READY_LIMIT;
    loop {
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line)
                    .with_context(|| format!("its first line is {line:?}, not JSON"))?;
                return match (event["event"].as_str(), event["url"].as_str()) {
                    (Some("ready"), Some(url)) => Ok(url.trim_end_matches('/').to_owned()),
                    _ => {
                        bail!("its first line is {line:?}; expected the event \"ready\" with a url")
                    }
                };
            }
            Err(RecvTimeoutError::Disconnected) => bail!("it closed its output"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = group.try_wait()? {
            bail!("it ended with {status}");
        }
        if signals::interrupted() {
            bail!("interrupted");
        }
        if Instant::now() > until {
            bail!("it was not ready within {} s", READY_LIMIT.as_secs());
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn metrics_are_summed_over_the_lines_that_are_meant() {
        let text = "\
# TYPE tidegate_calls counter
tidegate_calls_total{function=\"a\"} 3
tidegate_calls_total{function=\"b\"} 4
tidegate_calls_total_more 9
tidegate_depth 12.0
";
        let is = |name, label, value: Option<f64>| {
            let found = metric(text, name, label);
            assert_eq!(found.map(f64::to_bits), value.map(f64::to_bits), "{name}");
        };
        is("tidegate_calls_total", "", Some(7.0));
        is("tidegate_calls_total", "\"b\"", Some(4.0));
        is("tidegate_depth", "", Some(12.0));
        is("tidegate_calls", "", None);
    }
}
