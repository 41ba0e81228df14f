//! Makes the attempts.

use std::io;
use std::time::Duration;

use tidegate_instance::{Exec, Exit, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempts::{Attempt, all};
use crate::ground::{Ground, Place, limits};
use crate::inside;

/// How long one attempt may take: all that it waits for inside are a few seconds.
const ATTEMPT: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were made.
    pub made: usize,
    /// Those that answered with something else than is written down, and what was harmed.
    pub holes: Vec<String>,
}

/// Makes all attempts whose names contain `filter`, one after another in one instance, and looks at the ground again.
/// `each` is told of every one: its name, its answer, and whether that was expected.
///
/// # Errors
/// The ground cannot be laid out, or no attacker started: nothing has been shown then.
pub async fn attempts(
    place: &Place<'_>,
    filter: &str,
    mut each: impl FnMut(&str, &str, bool),
) -> io::Result<Tally> {
    let ground = Ground::new(place).await?;
    let (mut attacker, _) = ground.attacker(place, limits()).await?;
    let mut tally = Tally::default();
    for attempt in all().iter().filter(|a| a.name.contains(filter)) {
        let answer = match make(&*attacker, attempt.script).await {
            Ok((text, _)) => text,
            Err(error) => format!("no answer: {error}"),
        };
        let expected = attempt.expect.contains(&&*answer)
            || place.own_kernel && attempt.own_kernel.contains(&&*answer);
        each(attempt.name, &answer, expected);
        tally.made += 1;
        if !expected {
            tally.holes.push(describe(place, attempt, &answer));
        }
        if attacker.is_gone() {
            tally
                .holes
                .push(format!("{}: the instance ended", attempt.name));
            attacker = ground.attacker(place, limits()).await?.0;
        }
    }
    tally.holes.extend(ground.look().await);
    Ok(tally)
}

fn describe(place: &Place<'_>, attempt: &Attempt, answer: &str) -> String {
    let own: &[&str] = if place.own_kernel {
        attempt.own_kernel
    } else {
        &[]
    };
    let expected = [attempt.expect, own].concat();
    format!("{}: {answer:?}, expected one of {expected:?}", attempt.name)
}

/// Runs a script once: what it said, and how it ended.
pub(crate) async fn make(instance: &dyn Instance, script: &str) -> io::Result<(String, Exit)> {
    let source = format!(
        "{}\nSOURCE = r'''{script} '''\n{}",
        inside::PRELUDE,
        inside::EPILOGUE
    );
    let run = async {
        let process = instance.exec(Exec::default()).await?;
        let (mut stdin, mut stdout) = (process.stdin, process.stdout);
        let mut out = Vec::new();
        let write = async {
            let _ = stdin.write_all(source.as_bytes()).await;
            drop(stdin);
        };
        let (_, read) = tokio::join!(write, stdout.read_to_end(&mut out));
        read?;
        let exit = process.exit.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok((String::from_utf8_lossy(&out).trim().to_owned(), exit))
    };
    tokio::time::timeout(ATTEMPT, run).await?
}
