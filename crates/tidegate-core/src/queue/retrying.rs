//! What people write of retrying, and the policy that follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Answers, Policy, Retried, Spread};
use crate::parse_duration;

/// Most tries after the first: with the longest delays that is days.
const MAX_RETRIES: u32 = 1000;

/// Longest delay, and longest age.
const MAX_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Least age at which a call may be given up, in milliseconds: one that cannot run in time at all should not be accepted.
const LEAST_AGE_MS: u64 = 1000;

/// What is said of retrying, as it is written. What is absent is as it would be without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retrying {
    /// How often after a failure of the function; at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Which answers are failures: `never`, `unavailable`, `server` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// The delay after the first failure, `1s`; at most 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The longest delay, `5m`; at most 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// How much chance is in delays: `full`, `equal` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// The age at which it is given up, `6h`; from a second to 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// A member that says something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct RetryingError {
    /// Which, as it is written.
    pub field: &'static str,
    /// What it says, and what would be accepted.
    pub why: String,
}

impl Retrying {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The policy that holds where this is said over another.
    ///
    /// # Errors
    /// The first member that cannot be.
    pub fn over(&self, base: Policy) -> Result<Policy, RetryingError> {
        let mut policy = base;
        if let Some(retries) = self.retries {
            if retries > MAX_RETRIES {
                let why = format!("{retries} is more than {MAX_RETRIES}");
                return Err(refuse("retries", why));
            }
            policy.retries = retries;
        }
        // Whoever asks for retries means failures, also where the base takes every end as it comes.
        if (self.retries.is_some() || self.retry_on.is_some()) && !base.retried.failures {
            policy.retried = Retried::default();
        }
        match self.retry_on.as_deref() {
            None => {}
            Some("never") => policy.retried.answers = Answers::Never,
            Some("unavailable") => policy.retried.answers = Answers::Unavailable,
            Some("server") => policy.retried.answers = Answers::Server,
            Some("all") => policy.retried.answers = Answers::All,
            Some(other) => {
                let why = format!(
                    "{other:?} is none of \"never\", \"unavailable\", \"server\" and \"all\""
                );
                return Err(refuse("retryOn", why));
            }
        }
        match self.jitter.as_deref() {
            None => {}
            Some("full") => policy.spread = Spread::Full,
            Some("equal") => policy.spread = Spread::Equal,
            Some("none") => policy.spread = Spread::Exponential,
            Some(other) => {
                let why = format!("{other:?} is none of \"full\", \"equal\" and \"none\"");
                return Err(refuse("jitter", why));
            }
        }
        if let Some(backoff) = time("backoff", self.backoff.as_deref())? {
            policy.min_delay_ms = backoff.max(1);
            policy.max_delay_ms = policy.max_delay_ms.max(policy.min_delay_ms);
        }
        if let Some(backoff) = time("maxBackoff", self.max_backoff.as_deref())? {
            policy.max_delay_ms = backoff.max(policy.min_delay_ms);
        }
        if let Some(age) = time("maxAge", self.max_age.as_deref())? {
            if age < LEAST_AGE_MS {
                let why = "a call would be given up before it is made; write at least 1s";
                return Err(refuse("maxAge", why.to_owned()));
            }
            policy.max_age_ms = age;
        }
        Ok(policy)
    }
}

/// In milliseconds.
fn time(field: &'static str, text: Option<&str>) -> Result<Option<u64>, RetryingError> {
    let Some(text) = text else {
        return Ok(None);
    };
    match parse_duration(text) {
        Ok(time) if time <= MAX_TIME => {
            Ok(Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
        }
        Ok(_) => Err(refuse(field, format!("{text:?} is longer than 30d"))),
        Err(error) => Err(refuse(field, error.to_string())),
    }
}

fn refuse(field: &'static str, why: String) -> RetryingError {
    RetryingError { field, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_over_what_holds_otherwise() {
        let base = Policy {
            retries: 7,
            max_age_ms: 5,
            ..Policy::default()
        };
        assert_eq!(Retrying::default().over(base), Ok(base));
        let said = Retrying {
            retry_on: Some("all".to_owned()),
            backoff: Some("10m".to_owned()),
            jitter: Some("none".to_owned()),
            ..Retrying::default()
        };
        let policy = said.over(base).unwrap();
        assert_eq!((policy.retries, policy.max_age_ms), (7, 5));
        assert_eq!(policy.retried.answers, Answers::All);
        assert_eq!(policy.spread, Spread::Exponential);
        // The longest delay is never less than the first.
        assert_eq!(
            (policy.min_delay_ms, policy.max_delay_ms),
            (600_000, 600_000)
        );
    }

    #[test]
    fn retries_are_of_failures_also_where_none_were_counted() {
        let base = Policy {
            retries: 0,
            retried: Retried {
                answers: Answers::Never,
                failures: false,
                limits: false,
            },
            ..Policy::default()
        };
        let age = Retrying {
            max_age: Some("1h".to_owned()),
            ..Retrying::default()
        };
        assert_eq!(age.over(base).unwrap().retried, base.retried);
        let often = Retrying {
            retries: Some(3),
            ..Retrying::default()
        };
        assert_eq!(often.over(base).unwrap().retried, Retried::default());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let said = |field: &str, text: &str| {
            let text = Some(text.to_owned());
            let mut said = Retrying::default();
            match field {
                "retryOn" => said.retry_on = text,
                "jitter" => said.jitter = text,
                "backoff" => said.backoff = text,
                "maxBackoff" => said.max_backoff = text,
                _ => said.max_age = text,
            }
            said.over(Policy::default()).unwrap_err().to_string()
        };
        for (field, text, expected) in [
            ("retryOn", "some", "retryOn: \"some\" is none of \"never\""),
            ("jitter", "some", "jitter: \"some\" is none of \"full\""),
            ("backoff", "soon", "backoff: \"soon\" is not a duration"),
            (
                "maxBackoff",
                "31d",
                "maxBackoff: \"31d\" is longer than 30d",
            ),
            ("maxAge", "90d", "maxAge: \"90d\" is longer than 30d"),
            (
                "maxAge",
                "0s",
                "maxAge: a call would be given up before it is made; write at least 1s",
            ),
        ] {
            let told = said(field, text);
            assert!(told.starts_with(expected), "{told}");
        }
        let often = Retrying {
            retries: Some(1001),
            ..Retrying::default()
        };
        let told = often.over(Policy::default()).unwrap_err().to_string();
        assert_eq!(told, "retries: 1001 is more than 1000");
    }
}
