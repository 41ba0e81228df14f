//! What a function's environment says to its watchdog.
//!
//! A real watchdog reads its environment when it starts, and ends where that makes no sense. Here it is read when the
//! function is deployed, so whoever deploys is told at once, and in a sentence. Names, defaults and which words count as
//! true differ between the two watchdogs and between settings; they are kept as clients know them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use tidegate_core::{FunctionSpec, parse_go_duration};
use tidegate_instance::Program;

use crate::ContractError;

/// What `read_timeout`, `write_timeout` and of-watchdog's `exec_timeout` are where they are not set.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

/// Bytes of a variable's value that an error repeats.
const QUOTED: usize = 60;

/// Where the code of a function lies, as its author knows it and as it is here.
const FOLDERS: [&str; 2] = ["/home/app", "/function"];

/// Where the newer watchdog finds what it runs; the older one knows the last alone.
const NEWER_PROCESS: &[&str] = &["function_process", "fprocess"];

/// Calls an instance takes at once where nothing says how many: a real watchdog takes as many as come, and this is as
/// many as an instance's limits of memory and processes are likely to bear.
const CONCURRENCY: u32 = 100;

/// The most calls that an instance may be told to take at once.
pub(crate) const MAX_CONCURRENCY: u32 = 1000;

/// A watchdog, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    pub(crate) mode: Mode,
    /// Program and arguments; empty where a language host stands for it, and where nothing is run.
    pub(crate) command: Vec<String>,
    /// Longest time of one run, from when the watchdog gets the call.
    pub(crate) exec_timeout: Option<Duration>,
    write_timeout: Duration,
    /// Calls at once beyond which one is refused.
    pub(crate) max_inflight: Option<u32>,
    /// Of what forked processes answer.
    pub(crate) content_type: Option<HeaderValue>,
    /// Whether each line of the function's is given the time and the stream's name.
    pub(crate) prefix_logs: bool,
    /// Whether lines about calls name the call.
    pub(crate) log_callid: bool,
    /// Whether a request's body is read whole before the function sees any of it.
    pub(crate) buffer_http: bool,
    /// What the function is asked to learn whether it is ready.
    pub(crate) ready_path: Option<String>,
    /// Whether the function says itself that it is healthy, by a file.
    pub(crate) suppress_lock: bool,
}

/// What a watchdog does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes it on to a process that is kept.
    Http(Upstream),
    /// Forks, and pipes through.
    Streaming,
    /// Forks, and looks at the exit code before it answers.
    Serializing,
    /// Serves the files below this folder of the bundle.
    Static(String),
    /// Forks, in the older watchdog's manner.
    Classic(Classic),
}

/// Who answers in `http` mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// A language host of ours stands for the process.
    pub(crate) hosted: bool,
    pub(crate) port: u16,
    /// What precedes every path.
    pub(crate) base: String,
}

/// What only the older watchdog can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classic {
    /// Standard error goes into the answer.
    pub(crate) combine_output: bool,
    /// The process learns of the request by `Http_*` variables.
    pub(crate) cgi_headers: bool,
    /// The process is given the request's header and body as JSON.
    pub(crate) marshal_request: bool,
    /// What is answered is logged.
    pub(crate) write_debug: bool,
}

/// Which words a setting takes for true.
#[derive(Clone, Copy)]
enum Truth {
    /// `true`.
    Word,
    /// `true` and `1`.
    WordOrOne,
    /// What Go's standard library takes.
    Go,
}

/// An environment, read.
struct Env<'a>(&'a BTreeMap<String, String>);

impl Watchdog {
    /// The newer one, whose `mode` says what it does.
    pub(crate) fn newer(spec: &FunctionSpec) -> Result<Self, ContractError> {
        let env = Env(&spec.env);
        let truth = Truth::WordOrOne;
        env.refuse_tokens(truth)?;
        let write_timeout = env.time("write_timeout").unwrap_or(DEFAULT_TIME);
        if write_timeout.is_zero() {
            return Err(env.wrong("write_timeout", "it has to be above zero, such as 30s"));
        }
        if let Some(text) = env.get("log_buffer_size")
            && text.parse::<i64>().is_err()
        {
            let wanted = "it has to be a number of bytes, or -1 for no limit";
            return Err(env.wrong("log_buffer_size", wanted));
        }
        let mode = match env.get("mode").unwrap_or("streaming") {
            "http" => Mode::Http(env.upstream(spec)?),
            "streaming" => Mode::Streaming,
            "serializing" => Mode::Serializing,
            "static" => Mode::Static(env.folder()?),
            "inproc" => {
                return Err(env.wrong(
                    "mode",
                    "that is for programs with a watchdog inside, which are called with mode 'http' here",
                ));
            }
            _ => {
                let wanted = "choose 'http', 'streaming', 'serializing' or 'static'";
                return Err(env.wrong("mode", wanted));
            }
        };
        let command = match &mode {
            Mode::Static(_) => Vec::new(),
            Mode::Http(upstream) if upstream.hosted => {
                env.process(spec, NEWER_PROCESS)?;
                Vec::new()
            }
            _ => env.process(spec, NEWER_PROCESS)?,
        };
        Ok(Self {
            mode,
            command,
            exec_timeout: some(env.time("exec_timeout").unwrap_or(DEFAULT_TIME)),
            write_timeout,
            max_inflight: env.max_inflight(),
            content_type: Some(
                env.content_type()?
                    .unwrap_or(HeaderValue::from_static("application/octet-stream")),
            ),
            prefix_logs: env.truth("prefix_logs", Truth::Go, true),
            log_callid: env.truth("log_callid", Truth::Go, false),
            buffer_http: env.truth("buffer_http", truth, false)
                || env.truth("http_buffer_req_body", truth, false),
            ready_path: env.get("ready_path").map(str::to_owned),
            suppress_lock: env.truth("suppress_lock", truth, false),
        })
    }

    /// The older one, which forks.
    pub(crate) fn older(spec: &FunctionSpec) -> Result<Self, ContractError> {
        let env = Env(&spec.env);
        let truth = Truth::Word;
        env.refuse_tokens(truth)?;
        Ok(Self {
            mode: Mode::Classic(Classic {
                combine_output: env.truth("combine_output", truth, true),
                cgi_headers: env.truth("cgi_headers", truth, true),
                marshal_request: env.truth("marshal_request", truth, false),
                write_debug: env.truth("write_debug", truth, false),
            }),
            command: env.process(spec, &["fprocess"])?,
            exec_timeout: env.time("exec_timeout").and_then(some),
            write_timeout: env.time("write_timeout").unwrap_or(DEFAULT_TIME),
            max_inflight: env.max_inflight(),
            content_type: env.content_type()?,
            prefix_logs: false,
            log_callid: false,
            buffer_http: false,
            ready_path: None,
            suppress_lock: env.truth("suppress_lock", truth, false),
        })
    }

    /// What an instance runs; `None` where files are all there is to a call.
    pub(crate) fn program(&self, spec: &FunctionSpec) -> Option<Program> {
        let (runtime, entry) = (spec.runtime.clone(), spec.code.entry.clone());
        let command = self.command.clone();
        match &self.mode {
            Mode::Http(upstream) if upstream.hosted => Some(Program::Host {
                runtime,
                entry,
                handler: spec.handler.clone(),
            }),
            Mode::Http(upstream) => Some(Program::Server {
                runtime,
                entry,
                command,
                port: Some(upstream.port),
            }),
            Mode::Streaming | Mode::Serializing | Mode::Classic(_) => Some(Program::PerCall {
                runtime,
                entry,
                command,
            }),
            Mode::Static(_) => None,
        }
    }

    /// Calls an instance takes at once, where the function does not say.
    pub(crate) fn concurrency(&self) -> u32 {
        self.max_inflight.unwrap_or(CONCURRENCY)
    }

    /// Longest time of one run, if there is one. What a call may take in all has to be longer for the watchdog's own
    /// answer to be seen.
    #[must_use]
    pub const fn exec_timeout(&self) -> Option<Duration> {
        self.exec_timeout
    }

    /// Longest time that a real watchdog would spend on writing an answer.
    #[must_use]
    pub const fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// Calls at once beyond which one is refused, if there is a limit.
    #[must_use]
    pub const fn max_inflight(&self) -> Option<u32> {
        self.max_inflight
    }

    pub(crate) const fn is_hosted(&self) -> bool {
        matches!(&self.mode, Mode::Http(upstream) if upstream.hosted)
    }
}

/// A time of zero is none.
fn some(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

// === impl Env

impl<'a> Env<'a> {
    /// A variable that is set to something.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn truth(&self, name: &str, truth: Truth, default: bool) -> bool {
        let Some(value) = self.get(name) else {
            return default;
        };
        match truth {
            Truth::Word => value == "true",
            Truth::WordOrOne => matches!(value, "true" | "1"),
            Truth::Go => match value {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                _ => default,
            },
        }
    }

    /// `None` where it is not set, or reads as no time, in which case a real watchdog takes its default too.
    fn time(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|text| parse_go_duration(text).ok())
    }

    fn max_inflight(&self) -> Option<u32> {
        let most = self.get("max_inflight")?.parse::<u32>().ok()?;
        (most > 0).then_some(most)
    }

    fn content_type(&self) -> Result<Option<HeaderValue>, ContractError> {
        let Some(text) = self.get("content_type") else {
            return Ok(None);
        };
        let value = HeaderValue::from_str(text);
        let wanted = "it has to be a media type, such as text/plain";
        value
            .map(Some)
            .map_err(|_| self.wrong("content_type", wanted))
    }

    /// The first of these that is set, split on single spaces as the real ones do: there is no shell, and quotes mean
    /// nothing.
    fn process(&self, spec: &FunctionSpec, names: &[&str]) -> Result<Vec<String>, ContractError> {
        match names.iter().find_map(|name| self.get(name)) {
            Some(line) => Ok(line.split(' ').map(str::to_owned).collect()),
            None if !spec.command.is_empty() => Ok(spec.command.clone()),
            None => Err(ContractError::Missing {
                name: "fprocess",
                wanted: "set it to the program that answers and its arguments, such as 'python3 index.py'",
            }),
        }
    }

    fn upstream(&self, spec: &FunctionSpec) -> Result<Upstream, ContractError> {
        // What the kernel runs has no language host.
        let compiled = matches!(&*spec.runtime, "executable" | "go" | "rust");
        let hosted = spec.command.is_empty() && !compiled;
        let name = if self.get("http_upstream_url").is_some() {
            "http_upstream_url"
        } else {
            "upstream_url"
        };
        let Some(url) = self.get(name) else {
            return Err(ContractError::Missing {
                name: "upstream_url",
                wanted: "mode 'http' passes calls on to it: set it to where the program listens, such as http://127.0.0.1:5000",
            });
        };
        let parsed = url
            .parse::<http::Uri>()
            .ok()
            .filter(|uri| uri.scheme_str() == Some("http"));
        let place = parsed.as_ref().and_then(|uri| {
            let host = uri.host()?.trim_matches(['[', ']']);
            let here = host.eq_ignore_ascii_case("localhost")
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback());
            let port = uri.port_u16().unwrap_or(80);
            (here && port > 0).then(|| (port, uri.path().trim_end_matches('/').to_owned()))
        });
        let wanted = "calls go to a program of the function's own: use http://127.0.0.1:PORT";
        let (port, base) = place.ok_or_else(|| self.wrong(name, wanted))?;
        Ok(Upstream { hosted, port, base })
    }

    /// The folder that is served, relative to the bundle.
    fn folder(&self) -> Result<String, ContractError> {
        let path = self.get("static_path").unwrap_or("/home/app/public");
        let inside = if path.starts_with('/') {
            FOLDERS.iter().find_map(|folder| {
                let rest = path.strip_prefix(folder)?;
                (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
            })
        } else {
            Some(path)
        };
        inside
            .filter(|inside| inside.split('/').all(|part| part != ".."))
            .map(|inside| inside.trim_end_matches('/').to_owned())
            .ok_or_else(|| {
                self.wrong(
                    "static_path",
                    "it has to be a folder of the function's own, below /home/app",
                )
            })
    }

    /// A function that expects its callers' tokens to be looked at must not be open to everyone.
    fn refuse_tokens(&self, truth: Truth) -> Result<(), ContractError> {
        if self.truth("jwt_auth", truth, false) {
            let wanted = "calls are not authenticated by their tokens here, and without that the function would be open to everyone; leave the variable out if it may be";
            return Err(self.wrong("jwt_auth", wanted));
        }
        Ok(())
    }

    fn wrong(&self, name: &'static str, wanted: &'static str) -> ContractError {
        let value = self.get(name).unwrap_or_default();
        ContractError::Variable {
            name,
            value: value.chars().take(QUOTED).collect(),
            wanted,
        }
    }
}
