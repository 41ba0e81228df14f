//! Makes the attempts.

use std::io;
use std::time::Duration;

use tidegate_instance::{Exec, Exit, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempts::{Attempt, all, past_the_list, through_the_door};
use crate::ground::{Ground, Place, limits};
use crate::inside;

/// How long one attempt may take: all that it waits for inside are a few seconds.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Lines in a function's log of all that it tries at the door.
const MOST_LINES: usize = 250;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were made.
    pub made: usize,
    /// Those that answered with something else than is written down, and what was harmed.
    pub holes: Vec<String>,
}

/// Makes all attempts whose names contain `filter`, one after another in one instance without a network, and looks at the
/// ground again. `each` is told of every one: its name, its answer, and whether that was expected.
///
/// # Errors
/// The ground cannot be laid out, or no attacker started: nothing has been shown then.
pub async fn attempts(
    place: &Place<'_>,
    filter: &str,
    mut each: impl FnMut(&str, &str, bool),
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let ground = Ground::new(place).await?;
    make_all(place, &ground, &all(), filter, &mut each, &mut tally).await?;
    Ok(tally)
}

/// The same with the attempts of an instance that has a way out, and those of one that is held to a list.
///
/// # Errors
/// The same, and a machine without an address but loopback.
pub async fn attempts_with_a_door(
    place: &Place<'_>,
    filter: &str,
    mut each: impl FnMut(&str, &str, bool),
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for (attempts, listed) in [(through_the_door(), false), (past_the_list(), true)] {
        let ground = Ground::with_a_door(place, listed).await?;
        make_all(place, &ground, &attempts, filter, &mut each, &mut tally).await?;
    }
    Ok(tally)
}

async fn make_all(
    place: &Place<'_>,
    ground: &Ground,
    attempts: &[Attempt],
    filter: &str,
    each: &mut impl FnMut(&str, &str, bool),
    tally: &mut Tally,
) -> io::Result<()> {
    let (mut attacker, mut sink) = ground.attacker(place, limits()).await?;
    for attempt in attempts.iter().filter(|a| a.name.contains(filter)) {
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
            tally.holes.extend(told_too_much(&sink.told()));
            (attacker, sink) = ground.attacker(place, limits()).await?;
        }
    }
    tally.holes.extend(told_too_much(&sink.told()));
    tally.holes.extend(ground.look().await);
    Ok(())
}

/// What the log of a function should not hold of its attempts: one that was dialled, if in vain, and a line of each of very
/// many.
fn told_too_much(lines: &[String]) -> Vec<String> {
    let dialled = lines.iter().filter(|line| line.contains("not connected"));
    let mut wrong: Vec<_> = dialled.map(|line| format!("dialled: {line}")).collect();
    if lines.len() > MOST_LINES {
        wrong.push(format!("its log got {} lines of the platform", lines.len()));
    }
    wrong
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
