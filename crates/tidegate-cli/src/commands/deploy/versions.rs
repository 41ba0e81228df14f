//! What a deploy does with the traffic, and with another deploy that it meets.
//!
//! A new version takes all calls unless told otherwise, whatever was pinned before: somebody who deploys wants it to be
//! called. Tags stay where they are.

use clap::Args;
use tidegate_core::traffic::is_tag;
use tidegate_core::{Name, parse_duration};
use tidegate_document::{
    Function, FunctionSpec, FunctionStatus, Rate, Rollout, RolloutPhase, Traffic, TrafficStatus,
};

use crate::commands::functions::short;
use crate::error::{Error, Result};

/// See the module.
#[derive(Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Traffic")]
pub(crate) struct Versions {
    /// Give the new version no calls but those that name it
    #[arg(long, conflicts_with_all = ["traffic", "over"])]
    no_traffic: bool,
    /// Give the new version this share of the calls, in percent, and leave the rest where it is
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "over")]
    traffic: Option<u8>,
    /// A name for the new version, which is then called at TAG---NAME as well
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Option<String>,
    #[command(flatten)]
    rollout: Gradual,
}

/// A change of traffic little by little.
#[derive(Args, Clone, Default, PartialEq)]
pub(crate) struct Gradual {
    /// Bring the calls to the new version little by little, over this time: 10m
    #[arg(long, value_name = "TIME", value_parser = time)]
    over: Option<String>,
    /// With --over, go back when more than this share of its calls fails, in percent [default: 5%]
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "over")]
    max_errors: Option<Rate>,
}

/// What becomes of a write that met another.
pub(super) enum Meeting {
    /// The other changed nothing that this one is about.
    Again,
    /// The other was a deploy.
    Lost(Error),
}

impl Gradual {
    /// The same as a document has it.
    pub(crate) fn rollout(&self) -> Option<Rollout> {
        Some(Rollout {
            over: self.over.clone()?,
            max_error_rate: self.max_errors,
            ..Rollout::default()
        })
    }
}

impl Versions {
    /// Sets traffic and rollout of the document; what is worth saying of it.
    pub(super) fn apply(
        &self,
        spec: &mut FunctionSpec,
        status: Option<&FunctionStatus>,
        name: &Name,
        kept: &mut Vec<String>,
    ) -> Result<Option<String>> {
        let now = status.map(|s| s.traffic.as_slice()).unwrap_or_default();
        let newest = status.map(|s| s.revision.as_str()).unwrap_or_default();
        let share = match (self.no_traffic, self.traffic) {
            (true, _) => 0,
            (_, Some(percent)) => percent,
            _ => 100,
        };
        if share < 100 && now.is_empty() {
            return Err(Error::usage(format!(
                "{name} has no other version that could take the rest of the calls"
            ))
            .hint("deploy it without --no-traffic and --traffic first"));
        }
        let before = std::mem::take(&mut spec.traffic);
        let pinned = before.iter().find(|p| p.percent > 0 && !p.latest);
        let mut parts = tags(&before, newest, self.tag.as_deref());
        if share < 100 {
            divide(&mut parts, now, 100 - share);
        }
        if share < 100 || self.tag.is_some() || !parts.is_empty() {
            parts.insert(
                0,
                Traffic {
                    latest: true,
                    percent: share,
                    tag: self.tag.clone(),
                    ..Traffic::default()
                },
            );
        }
        spec.traffic = parts;
        match (self.rollout.rollout(), &spec.rollout) {
            (Some(rollout), _) => spec.rollout = Some(rollout),
            // Was for one revision, not for this.
            (None, Some(rollout)) if rollout.revision.is_some() => spec.rollout = None,
            (None, Some(rollout)) => kept.push(format!("rollout over {}", rollout.over)),
            (None, None) => {}
        }
        let unpinned = pinned.filter(|_| share == 100);
        Ok(unpinned.map(|part| {
            format!(
                "the traffic of {name} is no longer pinned to revision {}: the new one takes all of it",
                short(part.revision.as_deref().unwrap_or(""))
            )
        }))
    }
}

/// The tags there are, each on the revision that it is on now, without traffic.
fn tags(before: &[Traffic], newest: &str, taken: Option<&str>) -> Vec<Traffic> {
    before
        .iter()
        .filter(|part| part.tag.is_some() && part.tag.as_deref() != taken)
        .map(|part| Traffic {
            // The newest of then is not the newest after this.
            revision: part.revision.clone().or_else(|| Some(newest.to_owned())),
            latest: false,
            percent: 0,
            tag: part.tag.clone(),
        })
        .filter(|part| part.revision.as_deref() != Some(""))
        .collect()
}

/// Leaves so many percent with those that have the traffic now, as they share it now.
fn divide(parts: &mut Vec<Traffic>, now: &[TrafficStatus], rest: u8) {
    let mut left = rest;
    let mut shares: Vec<(&str, u8)> = now
        .iter()
        .filter(|part| part.percent > 0)
        .map(|part| {
            let share = (u32::from(part.percent) * u32::from(rest) / 100) as u8;
            left -= share;
            (part.revision.as_str(), share)
        })
        .collect();
    if let Some((_, share)) = shares.first_mut() {
        *share += left;
    }
    parts.extend(
        shares
            .into_iter()
            .filter(|(_, share)| *share > 0)
            .map(|(revision, percent)| Traffic {
                revision: Some(revision.to_owned()),
                percent,
                ..Traffic::default()
            }),
    );
}

/// What is to be said of the traffic after a deploy, if the new version does not have all of it.
pub(super) fn told(name: &Name, function: &Function) -> Option<String> {
    let status = function.status.as_ref()?;
    let revision = &status.revision;
    let percent = status
        .traffic
        .iter()
        .find(|part| part.revision == *revision)
        .map_or(0, |part| part.percent);
    let running = status
        .rollout
        .as_ref()
        .filter(|r| r.phase == RolloutPhase::Running && r.revision == *revision);
    if running.is_some() {
        let over = function.spec.rollout.as_ref().map_or("", |r| &r.over);
        return Some(format!(
            "it takes {percent} % of the calls now, and all of them in {over}; 'tidegate revisions {name}' tells how it goes"
        ));
    }
    match percent {
        100 => None,
        _ if status.traffic.is_empty() => None,
        0 => Some(format!(
            "it takes no calls but those that name it; 'tidegate promote {name}' gives it all"
        )),
        percent => Some(format!(
            "it takes {percent} % of the calls; 'tidegate promote {name}' gives it all"
        )),
    }
}

/// What to do after a write was refused because of another.
pub(super) fn met(
    name: &Name,
    earlier: Option<&Function>,
    now: Option<&Function>,
    wanted: &Function,
) -> Meeting {
    let Some(now) = now else {
        return Meeting::Again;
    };
    let same = |other: &Function| is_same_code(&other.spec, &now.spec);
    if earlier.is_some_and(same) || same(wanted) {
        return Meeting::Again;
    }
    Meeting::Lost(
        Error::failed(format!(
            "another deploy of {name} was made meanwhile (generation {})",
            now.metadata.generation
        ))
        .hint("run it again to deploy over that one"),
    )
}

/// Whether two documents make the same revision.
pub(super) fn is_same_code(one: &FunctionSpec, other: &FunctionSpec) -> bool {
    let code = |spec: &FunctionSpec| FunctionSpec {
        scale: tidegate_document::Scale {
            concurrency: spec.scale.concurrency,
            ..tidegate_document::Scale::default()
        },
        traffic: Vec::new(),
        rollout: None,
        // The server's own note.
        image_digest: None,
        ..spec.clone()
    };
    code(one) == code(other)
}

pub(crate) fn tag(text: &str) -> Result<String, String> {
    if is_tag(text) {
        return Ok(text.to_owned());
    }
    Err(
        "a tag is 1 to 40 of a-z, 0-9 and '-', begins with a letter, has no '---' and is not 'latest'"
            .to_owned(),
    )
}

fn time(text: &str) -> Result<String, String> {
    parse_duration(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned())
}

/// `5%` or `5`, as the share that it is.
fn percent(text: &str) -> Result<Rate, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Rate(percent / 100.0)),
        _ => Err("write a percentage from 0% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(parts: &[(&str, u8)]) -> FunctionStatus {
        FunctionStatus {
            revision: "bbb".to_owned(),
            traffic: parts
                .iter()
                .map(|(revision, percent)| TrafficStatus {
                    revision: (*revision).to_owned(),
                    percent: *percent,
                    ..TrafficStatus::default()
                })
                .collect(),
            ..FunctionStatus::default()
        }
    }

    fn shown(spec: &FunctionSpec) -> String {
        let part = |p: &Traffic| {
            let to = p.revision.as_deref().unwrap_or("latest");
            let tag = p.tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
            format!("{to}={}{tag}", p.percent)
        };
        let parts: Vec<String> = spec.traffic.iter().map(part).collect();
        parts.join(" ")
    }

    #[test]
    fn traffic_of_a_deploy() {
        let name = Name::new("f").unwrap();
        let tagged = |latest: bool| Traffic {
            revision: (!latest).then(|| "aaa".to_owned()),
            latest,
            percent: 100,
            tag: Some("old".to_owned()),
        };
        let none = Versions::default();
        let aside = Versions {
            no_traffic: true,
            tag: Some("beta".to_owned()),
            ..Versions::default()
        };
        let some = Versions {
            traffic: Some(10),
            ..Versions::default()
        };
        for (versions, before, now, expected) in [
            (&none, vec![], &[("bbb", 100)][..], ""),
            (
                &none,
                vec![tagged(false)],
                &[("aaa", 100)],
                "latest=100 aaa=0:old",
            ),
            (
                &none,
                vec![tagged(true)],
                &[("bbb", 100)],
                "latest=100 bbb=0:old",
            ),
            (&aside, vec![], &[("bbb", 100)], "latest=0:beta bbb=100"),
            (
                &some,
                vec![],
                &[("bbb", 67), ("aaa", 33)],
                "latest=10 bbb=61 aaa=29",
            ),
        ] {
            let mut spec = FunctionSpec {
                traffic: before,
                ..FunctionSpec::default()
            };
            versions
                .apply(&mut spec, Some(&status(now)), &name, &mut Vec::new())
                .unwrap();
            assert_eq!(shown(&spec), expected);
            let sum: u32 = spec.traffic.iter().map(|p| u32::from(p.percent)).sum();
            assert!(sum == 100 || spec.traffic.is_empty());
        }
        let alone = some.apply(&mut FunctionSpec::default(), None, &name, &mut Vec::new());
        assert!(alone.unwrap_err().message.contains("no other version"));
    }

    #[test]
    fn a_pin_that_a_deploy_takes_away_is_told() {
        let mut spec = FunctionSpec {
            traffic: vec![Traffic {
                revision: Some("aaa".to_owned()),
                percent: 100,
                ..Traffic::default()
            }],
            ..FunctionSpec::default()
        };
        let name = Name::new("f").unwrap();
        let said = Versions::default()
            .apply(
                &mut spec,
                Some(&status(&[("aaa", 100)])),
                &name,
                &mut Vec::new(),
            )
            .unwrap();
        assert!(said.unwrap().contains("no longer pinned to revision aaa"));
        assert!(spec.traffic.is_empty());
    }

    #[test]
    fn only_another_code_is_another_deploy() {
        let name = Name::new("f").unwrap();
        let with = |entry: &str, max| {
            let mut spec = FunctionSpec::default();
            spec.code.entry = entry.to_owned();
            spec.scale.max = Some(max);
            Function {
                api_version: String::new(),
                kind: String::new(),
                metadata: tidegate_document::Metadata::default(),
                spec,
                status: None,
            }
        };
        let lost = |earlier: Option<&Function>, now: &Function, wanted: &Function| {
            matches!(met(&name, earlier, Some(now), wanted), Meeting::Lost(_))
        };
        let (a, b, c) = (with("a", 1), with("b", 1), with("c", 1));
        assert!(!lost(Some(&a), &with("a", 2), &b));
        assert!(!lost(Some(&a), &b, &b));
        assert!(lost(Some(&a), &c, &b));
        assert!(lost(None, &c, &b));
        assert_eq!(percent("2.5%"), Ok(Rate(0.025)));
        assert!(percent("120").is_err());
    }
}
