//! What annotations say.
//!
//! Most are for others: connectors read `topic`, a scraper `prometheus.io.scrape`. Those whose values can be
//! impossible are looked at when a function is deployed, since whoever acts on them later has nobody to tell.
//!
//! Health and readiness are told by the watchdog and the instance itself here: an instance takes calls once its process
//! takes connections, and one whose process ends is replaced. Probes by path are checked for sense; the path itself has an
//! effect for images that bring their own watchdog, which are asked by it before their first call.

use std::collections::BTreeMap;

use tidegate_core::egress::{Rule, RuleError};
use tidegate_core::queue::{Answers, Policy, Retried, Spread};
use tidegate_core::record::{Level, LevelError};
use tidegate_core::schedule::{Schedule, UTC};
use tidegate_core::{Network, parse_go_duration};
use tidegate_platform::{LowerError, QueueRules, Scheduled, TriggerRequest};

/// What of the network an instance sees: `outbound`, which is the default, `none`, or `host`.
pub(crate) const NETWORK: &str = "tidegate.dev/network";

/// Secrets with credentials of registries, separated by commas.
pub(crate) const PULL_SECRETS: &str = "tidegate.dev/pull-secrets";
/// All that is reached with `outbound`, divided by commas.
pub(crate) const EGRESS: &str = "tidegate.dev/egress";

/// Which invocations leave a record.
pub(crate) const RECORDS: &str = "tidegate.dev/records";

/// What a value has to be.
#[derive(Clone, Copy)]
enum Kind {
    Path,
    Count,
    Duration,
    Codes,
}

const PROBES: [&str; 2] = ["com.openfaas.health.http.", "com.openfaas.ready.http."];

const PROBE_MEMBERS: [(&str, Kind); 7] = [
    ("path", Kind::Path),
    ("initialDelaySeconds", Kind::Count),
    ("initialDelay", Kind::Duration),
    ("periodSeconds", Kind::Count),
    ("timeoutSeconds", Kind::Count),
    ("failureThreshold", Kind::Count),
    ("successThreshold", Kind::Count),
];

const OTHERS: [(&str, Kind); 4] = [
    (ATTEMPTS, Kind::Count),
    (CODES, Kind::Codes),
    (MIN_WAIT, Kind::Duration),
    (MAX_WAIT, Kind::Duration),
];

const ATTEMPTS: &str = "com.openfaas.retry.attempts";
const CODES: &str = "com.openfaas.retry.codes";
const MIN_WAIT: &str = "com.openfaas.retry.min_wait";
const MAX_WAIT: &str = "com.openfaas.retry.max_wait";

/// What is tried again where a function asks for retries and does not say of which answers: what OpenFaaS does then.
const USUAL_CODES: [u16; 5] = [429, 502, 500, 504, 408];
/// Its attempts, and its delays in milliseconds.
const USUAL_ATTEMPTS: u32 = 10;
const USUAL_WAITS: [u64; 2] = [10_000, 120_000];

/// The topic whose functions are called by their schedule.
const CRON_TOPIC: &str = "cron-function";

/// Who calls them.
const CRON_CONNECTOR: &str = "cron-connector";

/// When they are called; several are divided by semicolons.
const SCHEDULE: &str = "schedule";

/// Most schedules of one function: each is an object of its own.
const MAX_SCHEDULES: usize = 16;

/// Refuses annotations that have a meaning and a value which can have none.
pub(crate) fn check(annotations: &BTreeMap<String, String>) -> Result<(), LowerError> {
    schedules(annotations)?;
    for (name, value) in annotations {
        let kind = match kind(name) {
            Some(kind) => kind,
            None => continue,
        };
        if !kind.fits(value.trim()) {
            return Err(LowerError::new(
                format!("annotations.{name}"),
                format!("{value:?} is not {}", kind.accepted()),
            ));
        }
    }
    network(annotations)?;
    records(annotations)?;
    egress(annotations).map(drop)
}

/// Which invocations leave a record, where an annotation says so.
pub(crate) fn records(annotations: &BTreeMap<String, String>) -> Result<Option<Level>, LowerError> {
    let level = annotations.get(RECORDS).map(|level| level.trim().parse());
    level
        .transpose()
        .map_err(|e: LevelError| LowerError::new(format!("annotations.{RECORDS}"), e.to_string()))
}

/// When the annotations want the function to be called, and with what: as OpenFaaS's connector would, which sends a POST
/// with an empty body, no content type, and two headers that say who calls.
pub(crate) fn schedules(
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Scheduled>, LowerError> {
    let is_cron = annotations
        .get("topic")
        .is_some_and(|topic| topic.split(',').any(|one| one.trim() == CRON_TOPIC));
    // Anybody may call an annotation of theirs so.
    let Some(all) = annotations.get(SCHEDULE).filter(|_| is_cron) else {
        return Ok(Vec::new());
    };
    let refuse = |why: String| LowerError::new(format!("annotations.{SCHEDULE}"), why);
    let each: Vec<&str> = all
        .split(';')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    if each.is_empty() {
        return Err(refuse(
            "is empty; write five fields such as \"*/5 * * * *\", or a word such as @hourly"
                .to_owned(),
        ));
    }
    if each.len() > MAX_SCHEDULES {
        return Err(refuse(format!(
            "has {} schedules; at most {MAX_SCHEDULES} are followed",
            each.len()
        )));
    }
    let headers = [("X-Topic", CRON_TOPIC), ("X-Connector", CRON_CONNECTOR)];
    let request = TriggerRequest {
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..TriggerRequest::default()
    };
    let scheduled = |schedule: &str| {
        Schedule::parse(schedule, UTC, jiff::tz::db()).map_err(|e| refuse(e.to_string()))?;
        Ok(Scheduled {
            schedule: schedule.to_owned(),
            request: request.clone(),
        })
    };
    each.into_iter().map(scheduled).collect()
}

/// What annotations say of queued calls. Without any, there is one attempt, whose answer stands whatever its status is: so
/// it is with OpenFaaS's own worker. Our own faults are tried again in any case, since nothing was attempted then.
pub(crate) fn queue(annotations: &BTreeMap<String, String>) -> Result<QueueRules, LowerError> {
    let said = |name: &str| annotations.get(name).map(|value| value.trim());
    let names = [ATTEMPTS, CODES, MIN_WAIT, MAX_WAIT];
    let usual = Policy {
        retries: 0,
        retried: Retried {
            answers: Answers::Never,
            failures: false,
            limits: false,
        },
        ..Policy::default()
    };
    if names.iter().all(|name| said(name).is_none()) {
        return Ok(QueueRules {
            policy: usual,
            ..QueueRules::default()
        });
    }
    let refuse = |name: &str, why: String| LowerError::new(format!("annotations.{name}"), why);
    let attempts = match said(ATTEMPTS) {
        None => USUAL_ATTEMPTS,
        Some(text) => text.parse().map_err(|_| {
            refuse(
                ATTEMPTS,
                format!("{text:?} is not {}", Kind::Count.accepted()),
            )
        })?,
    };
    let wait = |name: &str, usual: u64| match said(name) {
        None => Ok(usual),
        Some(text) => parse_go_duration(text)
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
            .map_err(|e| refuse(name, e.to_string())),
    };
    let min_delay_ms = wait(MIN_WAIT, USUAL_WAITS[0])?.max(1);
    let codes = match said(CODES) {
        None => USUAL_CODES.to_vec(),
        Some(text) => text
            .split(',')
            .map(|code| code.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| refuse(CODES, format!("{text:?} is not {}", Kind::Codes.accepted())))?,
    };
    Ok(QueueRules {
        policy: Policy {
            retries: attempts.saturating_sub(1),
            min_delay_ms,
            max_delay_ms: wait(MAX_WAIT, USUAL_WAITS[1])?.max(min_delay_ms),
            spread: Spread::Exponential,
            retried: Retried {
                answers: Answers::Never,
                failures: true,
                limits: true,
            },
            ..usual
        },
        codes: Some(codes),
        ..QueueRules::default()
    })
}

/// The network that an annotation asks for.
pub(crate) fn network(annotations: &BTreeMap<String, String>) -> Result<Network, LowerError> {
    match annotations.get(NETWORK).map(String::as_str) {
        None | Some("outbound") => Ok(Network::Outbound),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => Err(LowerError::new(
            format!("annotations.{NETWORK}"),
            format!(
                "{other:?} is no network: choose \"outbound\", \"none\", or \"host\" to share the machine's own"
            ),
        )),
    }
}

/// The path that says whether a function is ready, of those that bring their own server: the one for that, else that of
/// its health.
pub(crate) fn ready_path(annotations: &BTreeMap<String, String>) -> Option<String> {
    [
        "com.openfaas.ready.http.path",
        "com.openfaas.health.http.path",
    ]
    .iter()
    .find_map(|name| annotations.get(*name))
    .map(|path| path.trim().to_owned())
}

/// The list of what is reached that an annotation gives.
pub(crate) fn egress(
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Vec<Rule>>, LowerError> {
    let Some(list) = annotations.get(EGRESS) else {
        return Ok(None);
    };
    let refuse = |why: String| LowerError::new(format!("annotations.{EGRESS}"), why);
    if network(annotations)? != Network::Outbound {
        return Err(refuse(format!(
            "is for network \"outbound\" alone: leave it or {NETWORK} out"
        )));
    }
    let entries = list.split(',').map(str::trim).filter(|e| !e.is_empty());
    let rules: Result<_, _> = entries.map(str::parse).collect();
    rules
        .map(Some)
        .map_err(|e: RuleError| refuse(e.to_string()))
}

fn kind(name: &str) -> Option<Kind> {
    let probe = PROBES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let (table, name) = match probe {
        Some(member) => (&PROBE_MEMBERS[..], member),
        None => (&OTHERS[..], name),
    };
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
}

impl Kind {
    fn fits(self, value: &str) -> bool {
        match self {
            Self::Path => value.starts_with('/') && !value.contains(char::is_whitespace),
            Self::Count => value.parse::<u32>().is_ok(),
            Self::Duration => parse_go_duration(value).is_ok(),
            Self::Codes => value.split(',').all(|code| {
                code.trim()
                    .parse::<u16>()
                    .is_ok_and(|code| (100..600).contains(&code))
            }),
        }
    }

    const fn accepted(self) -> &'static str {
        match self {
            Self::Path => "a path such as /healthz",
            Self::Count => "a whole number such as 3",
            Self::Duration => "a duration such as 30s or 1m30s",
            Self::Codes => "a list of statuses such as 429,502,503",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(name: &str, value: &str) -> Result<(), String> {
        let mut annotations: BTreeMap<_, _> =
            [("topic".to_owned(), "cron-function".to_owned())].into();
        annotations.insert(name.to_owned(), value.to_owned());
        check(&annotations).map_err(|e| e.to_string())
    }

    #[test]
    fn what_makes_sense_is_taken_and_what_has_no_meaning_is_not_looked_at() {
        for (name, value) in [
            ("com.openfaas.health.http.path", "/_/health"),
            ("com.openfaas.ready.http.successThreshold", "2"),
            ("com.openfaas.ready.http.initialDelay", "2s"),
            ("com.openfaas.retry.codes", "429, 502"),
            ("schedule", "*/5 * * * *"),
            ("schedule", "@every 1m;0 3 * * 1"),
            ("com.openfaas.health.http.unknown", "anything"),
            ("mine", "anything"),
            (NETWORK, "host"),
            (RECORDS, "sampled:100"),
        ] {
            assert_eq!(check_one(name, value), Ok(()), "{name}: {value}");
        }
        // Without the topic, it is somebody's own word.
        let own = [("schedule".to_owned(), "daily".to_owned())].into();
        assert_eq!(check(&own), Ok(()));
    }

    #[test]
    fn what_is_impossible_is_refused_by_name_and_value() {
        for (name, value) in [
            ("com.openfaas.health.http.path", "healthz"),
            ("com.openfaas.ready.http.periodSeconds", "-1"),
            ("com.openfaas.retry.attempts", "many"),
            ("com.openfaas.retry.codes", "429,9000"),
            ("com.openfaas.retry.min_wait", "soon"),
            (NETWORK, "inbound"),
            (RECORDS, "some"),
        ] {
            let error = check_one(name, value).unwrap_err();
            assert!(
                error.starts_with(&format!("annotations.{name}: {value:?} is")),
                "{error}"
            );
        }
        for (value, expected) in [
            ("daily", "schedule \"daily\" has 1 fields; write five"),
            ("@hourly; 0 25 * * *", "hour \"25\": 25 is out of range"),
            (" ; ", "is empty; write five fields"),
        ] {
            let error = check_one("schedule", value).unwrap_err();
            let expected = format!("annotations.schedule: {expected}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn retries_are_asked_for_by_annotations() {
        let read = |all: &[(&str, &str)]| {
            let all = all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            queue(&all.collect()).unwrap()
        };
        let none = read(&[]);
        assert_eq!((none.policy.retries, none.codes), (0, None));
        let some = read(&[(ATTEMPTS, "3"), (MIN_WAIT, "500ms")]);
        assert_eq!(some.policy.retries, 2);
        assert_eq!(some.policy.min_delay_ms, 500);
        assert_eq!(some.policy.max_delay_ms, 120_000);
        assert_eq!(some.codes.as_deref(), Some(&USUAL_CODES[..]));
        let codes = read(&[(CODES, "429, 503")]).codes;
        assert_eq!(codes, Some(vec![429, 503]));
    }

    #[test]
    fn schedules_become_what_the_connector_sends() {
        let notes = |topic: &str| {
            let all = [("topic", topic), ("schedule", "@every 1m; 0 3 * * 1;")];
            all.map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        let all = schedules(&notes("payments, cron-function")).unwrap();
        let texts: Vec<_> = all.iter().map(|s| s.schedule.as_str()).collect();
        assert_eq!(texts, ["@every 1m", "0 3 * * 1"]);
        assert_eq!(all[0].request.method(), "POST");
        let sent = [
            ("x-connector", "cron-connector"),
            ("x-topic", "cron-function"),
        ];
        let headers = all[0].request.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.to_lowercase(), value.as_str()))
            .collect();
        assert_eq!(headers, sent.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(schedules(&notes("payments")).unwrap(), []);
    }
}
