//! What a registry wants to know of us.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::{ATTEMPTS, Failure, Registry, is_here, read, retry_after, said, sensitive};
use crate::credentials::IDENTITY_USER;
use crate::{Credentials, Error};

/// Largest answer of a token service in bytes: tokens that name every right of a user take kilobytes.
const MAX_TOKEN_ANSWER: usize = 256 << 10;
/// Longest token in bytes that is put into a header.
const MAX_TOKEN: usize = 64 << 10;

/// What a registry answers to a request without, or with the wrong, credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    Basic,
}

impl Challenge {
    /// A token is preferred, since it can be less than a password.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let all: Vec<Self> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .collect();
        let bearer = all.iter().find(|it| matches!(it, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let slot = match key.trim().to_ascii_lowercase().as_str() {
                "realm" => Some(&mut realm),
                "service" => Some(&mut service),
                "scope" => Some(&mut scope),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = Some(value.to_owned());
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
            scope,
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Registry {
    /// Sees to it that the next request has what the challenge asks for.
    pub(super) async fn authorize(
        &self,
        challenge: Option<Challenge>,
        said: &str,
    ) -> Result<(), Failure> {
        let value = match (challenge, &self.credentials) {
            (_, Credentials::Token(token)) => {
                let mut known = self.authorization.lock();
                if known.is_some() {
                    return Err(self.unauthorized(said).into());
                }
                *known = Some(sensitive(&format!("Bearer {token}"))?);
                return Ok(());
            }
            (Some(Challenge::Basic), Credentials::Basic { user, password }) => {
                sensitive(&basic(user, password))?
            }
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                }),
                _,
            ) => {
                let token = self.token(&realm, service, scope).await?;
                if token.len() > MAX_TOKEN {
                    return Err(Error::invalid("a token", "it is longer than 64 KiB").into());
                }
                sensitive(&format!("Bearer {token}"))?
            }
            (Some(Challenge::Basic) | None, _) => return Err(self.unauthorized(said).into()),
        };
        *self.authorization.lock() = Some(value);
        Ok(())
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<String, Failure> {
        let invalid =
            |why: &str| Error::invalid(format!("token service of registry {}", self.registry), why);
        let url = Url::parse(realm).map_err(|_| invalid("its address is none"))?;
        let own = self.url("")?;
        let plain = url.scheme() == "http" && own.scheme() == "http";
        if url.scheme() != "https" && !plain {
            return Err(invalid("its address is not https").into());
        }
        if !is_here(&own) && is_here(&url) {
            return Err(invalid("its address is on this machine").into());
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut fields = vec![("scope", scope)];
        if let Some(service) = service {
            fields.push(("service", service));
        }
        let http = self.client(&url).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let request = match &self.credentials {
                // An identity token is exchanged, by the other of the two ways that there are.
                Credentials::Basic { user, password } if user == IDENTITY_USER => {
                    let mut fields = fields.clone();
                    fields.push(("grant_type", "refresh_token".to_owned()));
                    fields.push(("client_id", "tidegate".to_owned()));
                    fields.push(("refresh_token", password.clone()));
                    http.post(url.clone())
                        .header("content-type", "application/x-www-form-urlencoded")
                        .body(form(&fields))
                }
                credentials => {
                    let mut url = url.clone();
                    url.query_pairs_mut()
                        .extend_pairs(fields.iter().map(|(key, value)| (*key, value.as_str())));
                    let request = http.get(url);
                    match credentials {
                        Credentials::Basic { user, password } => {
                            request.header("authorization", sensitive(&basic(user, password))?)
                        }
                        _ => request,
                    }
                }
            };
            let failure = match self.send(request).await {
                Ok(answer) if answer.status().is_success() => {
                    match read(answer, MAX_TOKEN_ANSWER, self.settings.idle).await {
                        Ok((content, true)) => {
                            let answer: Answer = serde_json::from_slice(&content)
                                .map_err(|_| invalid("its answer has no token"))?;
                            let found = [answer.token, answer.access_token]
                                .into_iter()
                                .find(|token| !token.is_empty());
                            return found.ok_or_else(|| invalid("its answer has no token").into());
                        }
                        Ok((_, false)) => return Err(invalid("its answer is too large").into()),
                        Err(reason) => Failure::Passing(reason, None),
                    }
                }
                Ok(answer) if answer.status().is_redirection() => {
                    return Err(invalid("it redirects").into());
                }
                Ok(answer) => {
                    let (status, wait) = (answer.status(), retry_after(&answer));
                    let said = said(&self.told(answer).await);
                    self.refused(status, wait, &said, "token", true)
                }
                Err(failure) => failure,
            };
            match failure {
                // What fails here is counted here: the request around it begins anew otherwise.
                Failure::Passing(reason, _) if attempt >= ATTEMPTS => {
                    return Err(Error::Unreachable {
                        registry: self.registry.clone(),
                        reason: format!("its token service: {reason}"),
                    }
                    .into());
                }
                failure => self.after(failure, attempt, None).await?,
            }
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn form(fields: &[(&str, String)]) -> String {
    // The same writing as a query's, without its question mark.
    let mut url = Url::parse("http://form/").expect("it is an address");
    url.query_pairs_mut()
        .extend_pairs(fields.iter().map(|(key, value)| (*key, value.as_str())));
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in value.split('\n') {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let full = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(full),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r.example".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert!(matches!(
            parse("Basic realm=\"r\"\nbearer realm=https://x/t, error=invalid"),
            Some(Challenge::Bearer { realm, .. }) if realm == "https://x/t"
        ));
        assert_eq!(parse("basic realm=\"r\""), Some(Challenge::Basic));
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse("Bearer service=\"x\""), None);
        assert_eq!(parse("Bearer realm=\"cut"), None);
    }

    #[test]
    fn forms_are_written_as_browsers_do() {
        assert_eq!(
            form(&[("a", "b c&d".to_owned()), ("e", "/".to_owned())]),
            "a=b+c%26d&e=%2F"
        );
    }
}
