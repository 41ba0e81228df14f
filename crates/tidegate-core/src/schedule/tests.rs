use std::collections::HashSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

fn schedule(text: &str, zone: &str) -> Schedule {
    let zones = TimeZoneDatabase::bundled();
    Schedule::parse(text, zone, &zones).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str, zone: &str) -> String {
    let zones = TimeZoneDatabase::bundled();
    Schedule::parse(text, zone, &zones).unwrap_err().to_string()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The ticks after a moment, as the clocks of the schedule's zone show them.
fn check(text: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = schedule(text, zone);
    let found: Vec<String> = schedule
        .upcoming(time(after), expected.len())
        .into_iter()
        .map(|tick| tick.to_zoned(schedule.zone().clone()))
        .map(|tick| tick.strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
        .collect();
    assert_eq!(found, expected, "{text} in {zone} after {after}");
}

/// What robfig/cron's own documentation and the rules of its parser say.
#[test]
fn fields_are_read_as_robfig_cron_reads_them() {
    let sunday = "2026-11-22T00:00:00Z";
    for (text, expected) in [
        (
            "*/15 * * * *",
            ["2026-11-22 00:15:00+00:00", "2026-11-22 00:30:00+00:00"],
        ),
        (
            "5/20 * * * *",
            ["2026-11-22 00:05:00+00:00", "2026-11-22 00:25:00+00:00"],
        ),
        (
            "*/60 * * * *",
            ["2026-11-22 01:00:00+00:00", "2026-11-22 02:00:00+00:00"],
        ),
        (
            "30 3-6,20-23 * * *",
            ["2026-11-22 03:30:00+00:00", "2026-11-22 04:30:00+00:00"],
        ),
        (
            "0 0 1 JAN-mar/2 ?",
            ["2027-01-01 00:00:00+00:00", "2027-03-01 00:00:00+00:00"],
        ),
        (
            "0 9 * * mon-FRI",
            ["2026-11-23 09:00:00+00:00", "2026-11-24 09:00:00+00:00"],
        ),
        (
            "0 9 * * 5-7",
            ["2026-11-22 09:00:00+00:00", "2026-11-27 09:00:00+00:00"],
        ),
        // Either day where both are named, both where one is a star.
        (
            "0 0 13 * fri",
            ["2026-11-27 00:00:00+00:00", "2026-12-04 00:00:00+00:00"],
        ),
        (
            "0 0 13 * *",
            ["2026-12-13 00:00:00+00:00", "2027-01-13 00:00:00+00:00"],
        ),
        (
            "0 0 * * fri",
            ["2026-11-27 00:00:00+00:00", "2026-12-04 00:00:00+00:00"],
        ),
        // A step is a list and no star: any odd day, and any Sunday.
        (
            "0 12 */2 * sun",
            ["2026-11-22 12:00:00+00:00", "2026-11-23 12:00:00+00:00"],
        ),
        (
            "0 12 */1 * sun",
            ["2026-11-22 12:00:00+00:00", "2026-11-29 12:00:00+00:00"],
        ),
        (
            "0 0 29 2 *",
            ["2028-02-29 00:00:00+00:00", "2032-02-29 00:00:00+00:00"],
        ),
        (
            "0 0 31 * *",
            ["2026-12-31 00:00:00+00:00", "2027-01-31 00:00:00+00:00"],
        ),
        // No such day, but Mondays in that month.
        (
            "0 0 31 2 mon",
            ["2027-02-01 00:00:00+00:00", "2027-02-08 00:00:00+00:00"],
        ),
        (
            "@hourly",
            ["2026-11-22 01:00:00+00:00", "2026-11-22 02:00:00+00:00"],
        ),
        (
            "@midnight",
            ["2026-11-23 00:00:00+00:00", "2026-11-24 00:00:00+00:00"],
        ),
        (
            "@weekly",
            ["2026-11-29 00:00:00+00:00", "2026-12-06 00:00:00+00:00"],
        ),
        (
            "@monthly",
            ["2026-12-01 00:00:00+00:00", "2027-01-01 00:00:00+00:00"],
        ),
        (
            "@annually",
            ["2027-01-01 00:00:00+00:00", "2028-01-01 00:00:00+00:00"],
        ),
        (
            "@every 1h30m",
            ["2026-11-22 01:30:00+00:00", "2026-11-22 03:00:00+00:00"],
        ),
    ] {
        check(text, UTC, sunday, &expected);
    }
    check(
        "0 0 29 2 *",
        UTC,
        "2096-03-01T00:00:00Z",
        &["2104-02-29 00:00:00+00:00"],
    );
    check(
        "@at 2026-11-23T18:00:00.25+01:00",
        UTC,
        sunday,
        &["2026-11-23 17:00:00+00:00"],
    );
    assert_eq!(
        schedule("@at 2026-11-21T18:00:00Z", UTC).next(time(sunday)),
        None
    );
    // Ticks come after the moment, and are whole minutes.
    check(
        "* * * * *",
        UTC,
        "2026-11-22T00:00:00.5Z",
        &["2026-11-22 00:01:00+00:00"],
    );
    check(
        "0 1 * * *",
        UTC,
        "2026-11-22T00:59:59.9Z",
        &["2026-11-22 01:00:00+00:00"],
    );
}

#[test]
fn intervals_count_from_their_trigger() {
    let made = time("2026-11-22T10:00:07Z");
    let every = schedule("@every 90s", UTC).counted_from(made);
    let seconds = |after: &str| every.next(time(after)).unwrap().as_second() - made.as_second();
    assert_eq!(seconds("2026-11-22T10:00:07Z"), 90);
    assert_eq!(seconds("2026-11-22T10:01:36Z"), 90);
    assert_eq!(seconds("2026-11-22T10:01:37Z"), 180);
    // Whatever a clock says that was before.
    assert_eq!(seconds("1999-01-01T00:00:00Z"), 90);
}

#[test]
fn times_of_day_that_clocks_leave_out_or_show_twice() {
    let berlin = "Europe/Berlin";
    // On 29 March 2026, 02:00 is followed by 03:00.
    for text in [
        "30 2 * * *",
        "CRON_TZ=Europe/Berlin 30 2 * * *",
        "TZ=Europe/Berlin  30 2 * * *",
    ] {
        check(
            text,
            if text.contains('=') { UTC } else { berlin },
            "2026-03-28T12:00:00Z",
            &["2026-03-29 03:00:00+02:00", "2026-03-30 02:30:00+02:00"],
        );
    }
    // Several that are left out are one instant.
    check(
        "*/20 2,3 * * *",
        berlin,
        "2026-03-29T00:50:00Z",
        &["2026-03-29 03:00:00+02:00", "2026-03-29 03:20:00+02:00"],
    );
    // On 25 October 2026, 03:00 is followed by 02:00.
    check(
        "30 2 * * *",
        berlin,
        "2026-10-24T12:00:00Z",
        &["2026-10-25 02:30:00+02:00", "2026-10-26 02:30:00+01:00"],
    );
    check(
        "*/30 1-3 * * *",
        berlin,
        "2026-10-25T00:10:00Z",
        &["2026-10-25 02:30:00+02:00", "2026-10-25 03:00:00+01:00"],
    );
    // From within the second hour, too.
    check(
        "50 2 * * *",
        berlin,
        "2026-10-25T01:40:00Z",
        &["2026-10-26 02:50:00+01:00"],
    );
    // Minutes of every hour go on through both.
    check(
        "*/30 * * * *",
        berlin,
        "2026-10-25T00:10:00Z",
        &[
            "2026-10-25 02:30:00+02:00",
            "2026-10-25 02:00:00+01:00",
            "2026-10-25 02:30:00+01:00",
            "2026-10-25 03:00:00+01:00",
        ],
    );
    check(
        "30 * * * *",
        berlin,
        "2026-03-29T00:00:00Z",
        &["2026-03-29 01:30:00+01:00", "2026-03-29 03:30:00+02:00"],
    );
    // A day that a whole country left out.
    check(
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-30T00:00:00Z",
        &["2011-12-31 00:00:00+14:00", "2011-12-31 12:00:00+14:00"],
    );
    // Clocks that go by half an hour.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-04 02:30:00+11:00", "2026-10-05 02:15:00+11:00"],
    );
    // Midnight that is left out.
    check(
        "@daily",
        "America/Santiago",
        "2026-09-05T12:00:00Z",
        &["2026-09-06 01:00:00-03:00", "2026-09-07 00:00:00-03:00"],
    );
    check(
        "@every 1h",
        berlin,
        "2026-10-25T00:00:00Z",
        &["2026-10-25 02:00:00+01:00", "2026-10-25 03:00:00+01:00"],
    );
}

#[test]
fn what_cannot_be_a_schedule_is_told_by_its_field() {
    for (text, expected) in [
        (
            "61 * * * *",
            "minute \"61\": 61 is out of range; write 0 to 59",
        ),
        (
            "* 24 * * *",
            "hour \"24\": 24 is out of range; write 0 to 23",
        ),
        (
            "* * 0 * *",
            "day-of-month \"0\": 0 is out of range; write 1 to 31",
        ),
        (
            "* * * 1,13 *",
            "month \"1,13\": 13 is out of range; write 1 to 12 or jan to dec",
        ),
        (
            "* * * * 8",
            "day-of-week \"8\": 8 is out of range; write 0 to 7 or sun to sat",
        ),
        ("* * * * mo", "day-of-week \"mo\": \"mo\" is not understood"),
        (
            "1-5-9 * * * *",
            "minute \"1-5-9\": \"5-9\" is not understood",
        ),
        (
            "30-10 * * * *",
            "minute \"30-10\": \"30-10\" ends before it begins",
        ),
        (
            "*/0 * * * *",
            "minute \"*/0\": step \"0\" is not a number above zero",
        ),
        ("*/-1 * * * *", "minute \"*/-1\": step \"-1\" is not"),
        ("1, * * * *", "minute \"1,\": an empty entry"),
        ("300 * * * *", "minute \"300\": 300 is out of range"),
        ("* * * *", "has 4 fields; write five"),
        ("", "has 0 fields"),
        (
            "0 */5 * * * *",
            "has 6 fields; write five (minute hour day-of-month month day-of-week), @hourly, @daily, @weekly, @monthly, @yearly, '@every 90s' or '@at 2026-11-23T18:00:00Z'; there is none for seconds",
        ),
        (
            "0 0 31 2,4 *",
            "day-of-month \"31\": no such day is in month \"2,4\"",
        ),
        ("@reboot", "schedule \"@reboot\" is unknown; write @hourly"),
        ("@hourly 5", "schedule \"@hourly 5\" is unknown"),
        (
            "@every",
            "@every \"\" is no interval; write whole seconds from 1s to 366d",
        ),
        ("@every 500ms", "@every \"500ms\" is no interval"),
        ("@every 1.5s", "@every \"1.5s\" is no interval"),
        ("@every 0s", "@every \"0s\" is no interval"),
        ("@every 367d", "@every \"367d\" is no interval"),
        (
            "@at tomorrow",
            "@at \"tomorrow\" is no moment; write RFC 3339",
        ),
        (
            "@at 2026-11-23T18:00:00",
            "@at \"2026-11-23T18:00:00\" is no moment",
        ),
        (
            "CRON_TZ=Mars/Base 0 0 * * *",
            "time zone \"Mars/Base\" is unknown; write an IANA name",
        ),
        ("TZ=Europe/Berlin", "has 0 fields"),
    ] {
        let message = refused(text, UTC);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(refused("* * * * *", "Middle/Earth").contains("\"Middle/Earth\" is unknown"));
    assert!(refused(&"*".repeat(2000), UTC).contains("2000 bytes; at most 1024"));
    assert!(
        "never"
            .parse::<Missed>()
            .unwrap_err()
            .to_string()
            .contains("'skip', 'once' or 'all'")
    );
    assert!(
        Plan::parse_jitter("2h")
            .unwrap_err()
            .to_string()
            .contains("up to 1h")
    );
}

#[test]
fn the_latest_tick_is_found_without_counting() {
    let every = schedule("@every 1s", UTC);
    let (from, until) = (time("1970-01-01T00:00:00Z"), time("2926-01-01T00:00:00.7Z"));
    assert_eq!(
        every.latest(from, until),
        Some(time("2926-01-01T00:00:00Z"))
    );
    let leap = schedule("0 0 29 2 *", UTC);
    assert_eq!(
        leap.latest(from, time("2027-12-31T00:00:00Z")),
        Some(time("2024-02-29T00:00:00Z"))
    );
    assert_eq!(
        leap.latest(time("2024-02-29T00:00:00Z"), time("2027-12-31T00:00:00Z")),
        None
    );
    assert_eq!(leap.latest(until, from), None);
}

// === decisions ===

fn plan(text: &str, missed: Missed, jitter: u64) -> Plan {
    Plan {
        schedule: schedule(text, UTC),
        missed,
        jitter: Duration::from_secs(jitter),
        uid: "c0ffee".into(),
    }
}

fn at(text: &str) -> Cursor {
    Cursor {
        at: time(text),
        rewinds: 0,
    }
}

#[test]
fn a_tick_on_time_is_acted_on_once() {
    let plan = plan("0 * * * *", Missed::Once, 0);
    let early = decide(
        &plan,
        at("2026-11-22T09:30:00Z"),
        time("2026-11-22T09:59:59.9Z"),
    );
    assert_eq!(
        (early.fire.len(), early.wake),
        (0, Some(time("2026-11-22T10:00:00Z")))
    );
    let due = decide(&plan, early.cursor, time("2026-11-22T10:00:00.01Z"));
    assert_eq!(due.fire, [time("2026-11-22T10:00:00Z")]);
    assert_eq!(due.next, Some(time("2026-11-22T11:00:00Z")));
    assert!(!due.missed);
    let again = decide(&plan, due.cursor, time("2026-11-22T10:00:00.02Z"));
    assert_eq!(again.fire, []);
}

#[test]
fn missed_ticks_by_what_is_wanted() {
    let (before, after) = ("2026-11-22T00:00:00Z", "2026-11-22T10:00:30Z");
    let fired = |missed, text, now| {
        let decision = decide(&plan(text, missed, 0), at(before), time(now));
        (decision.fire, decision.missed)
    };
    let newest = vec![time("2026-11-22T10:00:00Z")];
    assert_eq!(fired(Missed::Skip, "0 * * * *", after), (vec![], true));
    assert_eq!(
        fired(Missed::Once, "0 * * * *", after),
        (newest.clone(), true)
    );
    assert_eq!(fired(Missed::All, "0 * * * *", after).0.len(), 10);
    // One on time does for all that were missed before it.
    let timely = "2026-11-22T10:00:05Z";
    for missed in [Missed::Skip, Missed::Once] {
        assert_eq!(fired(missed, "0 * * * *", timely), (newest.clone(), true));
    }
    let (all, missed) = fired(Missed::All, "* * * * *", after);
    assert_eq!((all.len(), missed), (MAX_MISSED, true));
    assert_eq!(all.last(), newest.first());
    assert!(all.is_sorted());
    // One that was for one moment only is made up for as well.
    let once = fired(Missed::Once, "@at 2026-11-22T03:00:00Z", after);
    assert_eq!(once, (vec![time("2026-11-22T03:00:00Z")], false));
}

#[test]
fn a_clock_that_goes_back_far_is_believed_and_one_that_goes_back_a_little_waited_for() {
    let plan = plan("* * * * *", Missed::Once, 0);
    let cursor = at("2026-11-22T10:00:00Z");
    let little = decide(&plan, cursor, time("2026-11-22T09:55:00Z"));
    assert_eq!((little.fire.len(), little.cursor), (0, cursor));
    assert_eq!(little.wake, Some(time("2026-11-22T10:01:00Z")));
    let far = decide(&plan, cursor, time("2025-11-22T09:55:30Z"));
    assert_eq!((far.fire.len(), far.cursor.rewinds), (0, 1));
    assert_eq!(far.wake, Some(time("2025-11-22T09:56:00Z")));
}

#[test]
fn jitter_is_a_ticks_own_and_keeps_the_order() {
    let plan = plan("* * * * *", Missed::Once, 30);
    let ticks = plan.schedule.upcoming(time("2026-11-22T10:00:00Z"), 500);
    let late: Vec<_> = ticks
        .iter()
        .map(|tick| plan.moment(*tick).as_millisecond() - tick.as_millisecond())
        .collect();
    assert!(late.iter().all(|late| (0..=30_000).contains(late)));
    assert!(late.iter().any(|late| *late < 5_000) && late.iter().any(|late| *late > 25_000));
    let other = Plan {
        uid: "decaf".into(),
        ..plan.clone()
    };
    assert_ne!(plan.moment(ticks[0]), other.moment(ticks[0]));
}

/// What a clock does between two looks, and whether the server was killed meanwhile.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in seconds, a look every second tick at the latest.
    Pass(i64),
    /// The clock jumps, or nobody was there: all of it at once.
    Jump(i64),
    /// Killed after it acted and before the cursor was written.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_i64..400).prop_map(Step::Pass),
        2 => (-100_000_i64..100_000).prop_map(Step::Jump),
        1 => (-5_000_000_i64..50_000_000).prop_map(Step::Jump),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..20)
}

fn plans() -> impl Strategy<Value = Plan> {
    let text = prop_oneof![
        Just("* * * * *"),
        Just("*/7 1-20 * * *"),
        Just("@every 1s"),
        Just("@every 90s"),
        Just("@hourly"),
        Just("CRON_TZ=Europe/Berlin */20 2 * * *"),
        Just("0 0 29 2 *"),
    ];
    let missed = prop_oneof![Just(Missed::Skip), Just(Missed::Once), Just(Missed::All)];
    (text, missed, prop_oneof![Just(0_u64), 1..120_u64])
        .prop_map(|(text, missed, jitter)| plan(text, missed, jitter))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Neither a storm nor a lost timer, whatever the clock does.
    #[test]
    fn whatever_the_clock_does(plan in plans(), steps in steps()) {
        let mut now = time("2026-10-20T00:00:00Z");
        let mut cursor = Cursor { at: now, rewinds: 0 };
        let mut written = cursor;
        let mut keys = HashSet::new();
        let mut crashed = false;
        for step in steps {
            let (by, every) = match step {
                Step::Pass(by) => (by, 1),
                Step::Jump(by) => (by, by.abs().max(1)),
                Step::Crash => {
                    cursor = written;
                    crashed = true;
                    continue;
                }
            };
            let mut left = by.abs();
            while left > 0 {
                let moved = every.min(left);
                left -= moved;
                now = now.checked_add(SignedDuration::from_secs(moved * by.signum())).unwrap();
                let decision = decide(&plan, cursor, now);
                prop_assert!(decision.fire.len() <= MAX_MISSED + 12, "{} at once", decision.fire.len());
                if plan.missed != Missed::All {
                    // Those of the grace, one a second at most.
                    prop_assert!(decision.fire.len() <= 12, "{} at once", decision.fire.len());
                }
                prop_assert!(decision.fire.is_sorted());
                for tick in &decision.fire {
                    prop_assert!(plan.moment(*tick) <= now);
                    let before = tick.checked_sub(SignedDuration::from_secs(1)).unwrap();
                    prop_assert_eq!(plan.schedule.next(before), Some(*tick));
                    let is_new = keys.insert((decision.cursor.rewinds, *tick));
                    // After a crash the same keys come once more, which is what they are for.
                    prop_assert!(is_new || crashed, "{tick} twice");
                }
                // No timer is lost: it looks again no later than the first tick from now on, and a little clock error.
                let next = plan.schedule.next(now).unwrap();
                let limit = later(plan.moment(next), REWIND + plan.jitter);
                prop_assert!(decision.wake.unwrap() <= limit.max(
                    plan.moment(plan.schedule.next(later(now, REWIND)).unwrap())));
                written = cursor;
                cursor = decision.cursor;
            }
        }
    }

    /// With somebody there all the time, every tick is acted on, exactly once and on time.
    #[test]
    fn all_are_acted_on_while_somebody_is_there(plan in plans(), looks in proptest::collection::vec(1_i64..9_000, 1..100)) {
        let from = time("2026-10-25T00:00:00Z");
        let mut cursor = Cursor { at: from, rewinds: 0 };
        let (mut now, mut fired) = (from, Vec::new());
        for look in looks {
            now = now.checked_add(SignedDuration::from_millis(look)).unwrap();
            let decision = decide(&plan, cursor, now);
            fired.extend(decision.fire);
            cursor = decision.cursor;
        }
        let mut expected: Vec<_> = plan.schedule.upcoming(from, fired.len() + 1);
        let pending = expected.pop().unwrap();
        prop_assert!(fired == expected, "{} ticks in place of {}", fired.len(), expected.len());
        prop_assert!(plan.moment(pending) > now);
    }
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap()
}
