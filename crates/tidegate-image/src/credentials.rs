//! What is shown to a registry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Error;

/// What is shown to a registry that asks. Never sent to where it redirects to.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// A name and a password, or a token in its place.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that the registry itself takes.
    Token(String),
}

/// The values stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => write!(f, "Basic({user:?}, …)"),
            Self::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// The user under which an identity token stands for a password: it is exchanged at the registry's token service.
pub(crate) const IDENTITY_USER: &str = "<token>";

/// Largest configuration in bytes: a login is a few hundred.
const MAX_CONFIG: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Login>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl Credentials {
    /// Those for a registry (as [`crate::Reference::registry`] has it) out of what `docker login` writes; nothing where
    /// there are none for it.
    ///
    /// # Errors
    /// It is not such a document, or the login is kept by a helper program, which a server does not run.
    pub fn from_docker_config(json: &str, registry: &str) -> Result<Self, Error> {
        const WHAT: &str = "docker's configuration";
        if json.len() > MAX_CONFIG {
            return Err(Error::TooLarge {
                what: WHAT.to_owned(),
                limit: MAX_CONFIG as u64,
                unit: "bytes",
            });
        }
        // The parser's message may quote a value; its place is enough.
        let config: DockerConfig = serde_json::from_str(json).map_err(|e| {
            Error::invalid(WHAT, format!("line {}, column {}", e.line(), e.column()))
        })?;
        let helper = |name: &str| {
            Error::Unsupported {
            what: format!("the credential helper {name:?} for registry {registry}"),
            why: "only logins that stand in the configuration itself are read; give the user and password as a pull secret"
                .to_owned(),
        }
        };
        if let Some((_, name)) = config
            .cred_helpers
            .iter()
            .find(|(key, _)| host_of(key) == host_of(registry))
        {
            return Err(helper(name));
        }
        let Some((_, login)) = config
            .auths
            .into_iter()
            .find(|(key, _)| host_of(key) == host_of(registry))
        else {
            return Ok(Self::Anonymous);
        };
        if !login.registrytoken.is_empty() {
            return Ok(Self::Token(login.registrytoken));
        }
        if !login.identitytoken.is_empty() {
            return Ok(Self::Basic {
                user: IDENTITY_USER.to_owned(),
                password: login.identitytoken,
            });
        }
        if !login.auth.is_empty() {
            let plain = STANDARD
                .decode(login.auth.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = plain.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) = pair.ok_or_else(|| {
                Error::invalid(
                    format!("the login for {registry} in {WHAT}"),
                    "auth is not user:password in base64",
                )
            })?;
            return Ok(Self::Basic {
                user: user.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            });
        }
        if !login.username.is_empty() {
            return Ok(Self::Basic {
                user: login.username,
                password: login.password,
            });
        }
        match config.creds_store {
            Some(name) if !name.is_empty() => Err(helper(&name)),
            _ => Ok(Self::Anonymous),
        }
    }
}

/// The host of a key, which may be a whole address; the several names of Docker's own registry are one.
fn host_of(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn logins_are_found_by_registry() {
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"bWU6YTpi"},
            "r.example:5000":{"username":"u","password":"p"},
            "t.example":{"registrytoken":"abc"},
            "https://i.example":{"auth":"eDp5","identitytoken":"refresh"}},
            "credHelpers":{"h.example":"pass"},"credsStore":"desktop","HttpHeaders":{}}"#;
        let of = |registry| Credentials::from_docker_config(json, registry).unwrap();
        assert_eq!(of("docker.io"), basic("me", "a:b"));
        assert_eq!(of("r.example:5000"), basic("u", "p"));
        assert_eq!(of("r.example"), Credentials::Anonymous);
        assert_eq!(of("t.example"), Credentials::Token("abc".to_owned()));
        assert_eq!(of("i.example"), basic(IDENTITY_USER, "refresh"));
        let error = Credentials::from_docker_config(json, "h.example").unwrap_err();
        assert!(
            error.to_string().contains("credential helper \"pass\""),
            "{error}"
        );
    }

    #[test]
    fn a_login_that_a_helper_keeps_is_said_to_be() {
        let json = r#"{"auths":{"r.example":{}},"credsStore":"desktop"}"#;
        assert!(matches!(
            Credentials::from_docker_config(json, "r.example"),
            Err(Error::Unsupported { .. })
        ));
        assert_eq!(
            Credentials::from_docker_config(json, "other.example").unwrap(),
            Credentials::Anonymous
        );
    }

    #[test]
    fn secrets_are_in_no_message() {
        for json in [
            r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r":"c2VjcmV0"}}"#,
        ] {
            let error = Credentials::from_docker_config(json, "r").unwrap_err();
            assert!(!format!("{error}{error:?}").contains("c2Vj"), "{error:?}");
        }
        assert!(!format!("{:?}", basic("u", "hidden")).contains("hidden"));
    }
}
