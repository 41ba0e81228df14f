//! The platform shown at work: started with its defaults, given the examples, called with real input.

mod curl;
mod examples;
mod openfaas;
mod picture;
mod projects;
mod schedule;
mod versions;

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::Args;
use crate::report::{self, Tally};
use crate::scratch::Scratch;
use crate::server::{self, Server};
use crate::target::Target;
use crate::{setup, signals};

/// Where the demo listens unless told otherwise: the platform's own default, so that pasted lines look like the manual's.
const LISTEN: &str = "127.0.0.1:8080";
/// Any free port.
const ANY: &str = "127.0.0.1:0";

pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let once = args.flag("--once");
    let keep = args.flag("--keep-data");
    let listen = args.value("--listen")?;
    args.finish()?;

    signals::watch();
    setup::for_tests()?;
    let target = Target::claim()?;
    let binary = server::binary(&target)?;
    let listen = listen.unwrap_or_else(|| if once { ANY.into() } else { free(LISTEN) });
    let root = target.root().to_path_buf();
    let mut demo = Demo::start(&binary, &listen, &root)?;
    if keep {
        demo.home.keep();
    }
    let tally = demo.show()?;
    // From here on no command of the binary is run, so other clones may build over its file; the server keeps the old one.
    drop(target);
    if !once && !signals::interrupted() {
        println!("\nrunning at {} until Ctrl-C", demo.server.url());
        demo.server.wait()?;
        println!("\nending");
    }
    let home = demo.home.path().to_path_buf();
    demo.server.stop()?;
    if keep {
        println!("data is left in {}", home.display());
    }
    Ok(if tally.failed == 0 && !signals::interrupted() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The whole of it once, for the tests: what was right and what was not, the server's leave included.
pub(crate) fn once(binary: &Path, root: &Path) -> Result<Tally> {
    let demo = Demo::start(binary, ANY, root)?;
    let mut tally = demo.show()?;
    demo.server.stop()?;
    tally.add(Tally::PASSED);
    Ok(tally)
}

/// `wanted` where nobody listens there, any free port otherwise.
fn free(wanted: &str) -> String {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted.to_owned(),
        Err(error) => {
            println!("{wanted} cannot be used ({error}); taking a free port");
            ANY.to_owned()
        }
    }
}

struct Demo<'a> {
    // Before the folder it writes to, because fields are dropped in this order.
    server: Server,
    home: Scratch,
    root: &'a Path,
}

/// One line of the account.
struct Row {
    function: String,
    what: String,
    time: Duration,
    result: Result<String>,
    /// The line to paste, for a call.
    line: Option<String>,
}

impl<'a> Demo<'a> {
    fn start(binary: &Path, listen: &str, root: &'a Path) -> Result<Self> {
        let home = Scratch::new("demo")?;
        let began = Instant::now();
        let server = Server::start(binary, listen, home.path())?;
        println!(
            "started {} in {} ms, with nothing but its defaults",
            server.url(),
            began.elapsed().as_millis()
        );
        Ok(Self { server, home, root })
    }

    /// Deploys and calls every example, prints the account, and counts what was right.
    fn show(&self) -> Result<Tally> {
        let mut rows = Vec::new();
        for example in examples::all(self.root, self.home.path())? {
            if signals::interrupted() {
                bail!("interrupted");
            }
            println!("{} …", example.name);
            self.example(example, &mut rows);
        }
        println!("{} …", openfaas::NAME);
        self.openfaas(&mut rows);
        self.versions(&mut rows);
        println!("{} …", schedule::NAME);
        self.schedule(&mut rows);
        rows.push(timed("", "tidegate list", || self.listed()));
        rows.push(timed("", "no such function", || self.unknown()));
        Ok(account(&rows))
    }

    fn example(&self, example: examples::Example, rows: &mut Vec<Row>) {
        let name = example.name;
        let mut url = None;
        rows.push(timed(name, "deploy", || {
            for secret in &example.secrets {
                self.server
                    .run(&["secret", "set", secret.name, "--value", secret.value])?;
            }
            let file = self.root.join(example.file);
            url = Some(self.server.deploy(&file, name, example.flags)?);
            Ok(example.file.to_owned())
        }));
        let Some(url) = url else {
            return;
        };
        self.calls(name, &url, example.calls, rows);
        for (what, words, expected) in example.invokes {
            rows.push(timed(name, what, || {
                let printed = self
                    .server
                    .run(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
                if printed.trim() != expected {
                    bail!("it printed {printed:?}; expected {expected:?}");
                }
                Ok(expected.to_owned())
            }));
        }
    }

    /// Makes the calls of a function that is at `url`, one line each.
    fn calls(&self, name: &str, url: &str, calls: Vec<examples::Call>, rows: &mut Vec<Row>) {
        for call in calls {
            let request = call.request.at(url);
            let mut time = None;
            let mut row = timed(name, call.what, || {
                let reply = request.send(self.root, self.home.path())?;
                time = Some(reply.time);
                if reply.status != call.status {
                    bail!(
                        "status {}; expected {}: {}",
                        reply.status,
                        call.status,
                        reply.excerpt()
                    );
                }
                let summary = (call.check)(&reply).with_context(|| reply.excerpt())?;
                Ok(format!("{} {summary}", reply.status))
            });
            row.line = Some(request.line());
            row.time = time.unwrap_or(row.time);
            rows.push(row);
        }
    }

    /// A stack of OpenFaaS's: applied as it is, then called where its clients call.
    fn openfaas(&self, rows: &mut Vec<Row>) {
        let applied = timed(openfaas::NAME, "tidegate apply", || {
            let (name, value) = openfaas::SECRET;
            self.server
                .run(&["secret", "set", name, "--value", value])?;
            self.server.apply(&self.root.join(openfaas::STACK))?;
            Ok(openfaas::STACK.to_owned())
        });
        let good = applied.result.is_ok();
        rows.push(applied);
        if !good {
            return;
        }
        for (name, calls) in openfaas::all() {
            let url = format!("{}/function/{name}", self.server.url());
            self.calls(name, &url, calls, rows);
        }
    }

    /// What a second version does, up to the way back; later steps stand on the earlier ones.
    fn versions(&self, rows: &mut Vec<Row>) {
        let mut versions = versions::Versions::default();
        for (what, step) in versions::STEPS {
            let row = timed(versions::NAME, what, || step(&mut versions, self));
            let good = row.result.is_ok();
            rows.push(row);
            if !good {
                return;
            }
        }
    }

    /// What a schedule calls; later steps stand on the earlier ones.
    fn schedule(&self, rows: &mut Vec<Row>) {
        for (what, step) in schedule::STEPS {
            let row = timed(schedule::NAME, what, || step(self));
            let good = row.result.is_ok();
            rows.push(row);
            if !good {
                return;
            }
        }
    }

    fn listed(&self) -> Result<String> {
        let printed = self.server.run(&["list", "--json"])?;
        let list: Value = serde_json::from_str(&printed).context("it printed no JSON")?;
        let names = || examples::names().iter().chain(&openfaas::FUNCTIONS);
        for name in names() {
            if !mentions(&list, name) {
                bail!("{name} is not in the list");
            }
        }
        Ok(format!("{} functions", names().count()))
    }

    fn unknown(&self) -> Result<String> {
        let request = curl::Request::new("/fn/no-such-function").at(self.server.url());
        let reply = request.send(self.root, self.home.path())?;
        if reply.status != 404 {
            bail!("status {}; expected 404", reply.status);
        }
        Ok("404".into())
    }
}

fn timed(function: &str, what: &str, step: impl FnOnce() -> Result<String>) -> Row {
    let began = Instant::now();
    let result = step();
    Row {
        function: function.to_owned(),
        what: what.to_owned(),
        time: began.elapsed(),
        result,
        line: None,
    }
}

/// Whether some string in `value` is `name`.
fn mentions(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(items) => items.iter().any(|item| mentions(item, name)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, name)),
        _ => false,
    }
}

fn account(rows: &[Row]) -> Tally {
    let mut tally = Tally::default();
    let mut table = vec![["function", "what", "ms", "", "answer"].map(str::to_owned)];
    let mut last = "";
    for row in rows {
        let (mark, answer) = match &row.result {
            Ok(answer) => {
                tally.add(Tally::PASSED);
                ("ok", answer.clone())
            }
            Err(error) => {
                tally.add(Tally::FAILED);
                ("FAILED", format!("{error:#}"))
            }
        };
        // A name once, at its first line.
        let name = if row.function == last {
            ""
        } else {
            &row.function
        };
        last = &row.function;
        table.push([
            name.to_owned(),
            row.what.clone(),
            row.time.as_millis().to_string(),
            mark.to_owned(),
            answer,
        ]);
    }
    println!("\n{}", report::render(&table));
    println!("the calls, to paste:\n");
    for line in rows.iter().filter_map(|row| row.line.as_ref()) {
        println!("  {line}");
    }
    println!(
        "\n{} answers were right, {} were not",
        tally.passed, tally.failed
    );
    tally
}
