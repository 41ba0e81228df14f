//! From the context to a client.

use reqwest::Url;

use crate::client::{Client, Gateway};
use crate::context::Context;
use crate::credentials;
use crate::error::{Error, Result};

impl Context {
    /// A client for the server of this command line, with the key that is found for it.
    pub(crate) fn client(&mut self) -> Result<Client> {
        let (url, key) = self.server()?;
        Ok(Client::new(url, key.as_deref())?)
    }

    /// The same server, as OpenFaaS's clients see it.
    pub(crate) fn gateway(&mut self) -> Result<Gateway> {
        let (url, key) = self.server()?;
        Ok(Gateway::new(url, key.as_deref())?)
    }

    fn server(&mut self) -> Result<(Url, Option<String>)> {
        let url = Client::parse_url(&self.url)?;
        let token = match credentials::find(self.env(), &url, self.token.as_deref()) {
            Ok(found) => found.map(|(token, _)| token),
            // Many things work without a key, and what does not will say so.
            Err(error) => {
                self.warn(&error);
                None
            }
        };
        if token.is_some() && url.scheme() == "http" && !credentials::is_loopback(&url) {
            self.warn(format!(
                "the key for {} is sent without TLS, where others on the way can read it",
                url.host_str().unwrap_or("the server")
            ));
        }
        Ok((url, token))
    }
}

impl From<credentials::FileError> for Error {
    fn from(error: credentials::FileError) -> Self {
        let told = Self::failed(&error);
        match std::error::Error::source(&error) {
            Some(source) => told.because(source),
            None => told,
        }
    }
}
