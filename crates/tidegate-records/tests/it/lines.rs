//! What functions print.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate_core::record::Level;
use tidegate_core::{FunctionKey, InstanceId, InvocationId};
use tidegate_records::{Line, LineQuery, MAX_LINE, Stream};

use crate::{function, new_id, now_us, open, small};

fn line(function: &Arc<FunctionKey>, invocation: Option<InvocationId>, text: &str) -> Line {
    Line {
        function: function.clone(),
        invocation,
        instance: InstanceId(7),
        stream: Stream::Stderr,
        time_us: now_us(),
        text: text.into(),
    }
}

#[tokio::test]
async fn lines_are_found_by_invocation_and_by_function_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let functions = [function("a", "one"), function("b", "two")];
    let accounts = functions.each_ref().map(|f| recorder.account(f));
    let mut printed = Vec::new();
    for n in 0..600 {
        let id = (n % 3 != 0).then(new_id);
        for part in 0..3 {
            let line = line(&functions[n % 2], id, &format!("{n}.{part} ünï"));
            accounts[n % 2].line(&line);
            printed.push(line);
        }
    }
    let last = printed.last().unwrap().clone();
    let found = recorder
        .lines(last.invocation.unwrap(), None)
        .await
        .unwrap();
    assert_eq!(found.last(), Some(&last));
    recorder.close().await.unwrap();
    drop((recorder, accounts));

    let recorder = open(dir.path(), small());
    for line in printed.iter().step_by(50) {
        let Some(id) = line.invocation else { continue };
        let wanted: Vec<_> = printed
            .iter()
            .filter(|l| l.invocation == Some(id))
            .cloned()
            .collect();
        assert_eq!(recorder.lines(id, None).await.unwrap(), wanted);
    }
    let middle = printed[900].time_us;
    let mut query = LineQuery {
        function: Some((*functions[1]).clone()),
        since_us: Some(middle),
        limit: 100,
        ..LineQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = recorder.lines_of(query.clone()).await.unwrap();
        found.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let matches = |l: &&Line| l.function == functions[1] && l.time_us >= middle;
    let wanted: Vec<_> = printed.iter().rev().filter(matches).cloned().collect();
    assert!(found == wanted, "{} and {}", found.len(), wanted.len());
    assert_eq!(recorder.lines(new_id(), None).await.unwrap(), []);

    // Lines that another function puts under somebody's id are not the invocation's.
    let theirs = line(&functions[0], last.invocation, "forged");
    let account = recorder.account(&functions[0]);
    account.line(&theirs);
    let id = last.invocation.unwrap();
    let found = recorder.lines(id, Some((*functions[1]).clone())).await;
    let found = found.unwrap();
    assert!(found.iter().all(|line| line.function == functions[1]) && found.len() == 3);
    assert_eq!(recorder.lines(id, None).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_level_says_whether_lines_are_kept_and_long_ones_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), small());
    let f = function("a", "one");
    let account = recorder.account(&f);
    let half = Level::Sampled(NonZeroU32::new(2).unwrap());
    let (even, odd) = (InvocationId::from_u128(2), InvocationId::from_u128(3));
    for (level, kept) in [
        (Level::All, [true; 3]),
        (Level::Errors, [true; 3]),
        (half, [true, true, false]),
        (Level::None, [false; 3]),
    ] {
        account.set_level(level);
        for (id, kept) in [None, Some(even), Some(odd)].into_iter().zip(kept) {
            let text = format!("{level:?} {id:?}");
            account.line(&line(&f, id, &text));
            let page = recorder.lines_of(LineQuery {
                limit: 1,
                ..LineQuery::default()
            });
            let newest = page.await.unwrap().items;
            let found = newest.first().is_some_and(|line| *line.text == *text);
            assert_eq!(found, kept, "{text}");
        }
    }
    account.set_level(Level::All);
    account.line(&line(&f, Some(even), &"é".repeat(MAX_LINE)));
    let lines = recorder.lines(even, None).await.unwrap();
    assert_eq!(lines.last().unwrap().text.len(), MAX_LINE);
}
