//! Whom a registry may be, when it is not signed by somebody whom the system trusts.
//!
//! A registry of one's own has a certificate of one's own: of an authority that one keeps, or, as the guides of registries
//! have it, a single one that has signed itself. The latter says of itself that it is an authority, for which the checks of
//! chains refuse it at a server. So a server's certificate that the operator has named is trusted as it stands, for the names
//! in it and as long as it is valid.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::Error;

/// Largest file of certificates in bytes: those of a whole system are a quarter of that.
const MAX_FILE: u64 = 1 << 20;

/// What would do.
const HINT: &str =
    "name the file of its certificate, or its signer's, in the setting 'images.ca-file'";

/// TLS that trusts the certificates of a file beside those of the system.
pub(super) fn beside_the_systems(file: &Path) -> Result<ClientConfig, Error> {
    let wrong = |why: String| Error::invalid(format!("images.ca-file {}", file.display()), why);
    let mut text = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut text))
        .map_err(|e| wrong(e.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(wrong(format!("it is larger than {MAX_FILE} bytes")));
    }
    let named = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(format!("it is no PEM: {e}")))?;
    if named.is_empty() {
        return Err(wrong("it has no certificate in PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chains = Verifier::new_with_extra_roots(named.clone(), Arc::clone(&provider))
        .map_err(|e| wrong(e.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusted { named, chains }))
        .with_no_client_auth();
    Ok(config)
}

/// What there is against the other side, where that is why nothing came of a request.
pub(super) fn refused(error: &reqwest::Error) -> Option<Error> {
    let whom = || {
        let url = error.url();
        let host = url.and_then(|url| url.host_str()).unwrap_or("?");
        match url.and_then(|url| url.port()) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    };
    match tls(error)? {
        rustls::Error::InvalidCertificate(why) => Some(Error::Untrusted {
            registry: whom(),
            reason: match why {
                CertificateError::UnknownIssuer | CertificateError::Other(_) => {
                    format!("nobody whom this machine trusts has signed its certificate; {HINT}")
                }
                why => format!("its certificate does not hold: {why}"),
            },
        }),
        // What comes is not of TLS at all.
        rustls::Error::InvalidMessage(_) => Some(Error::Unreachable {
            registry: whom(),
            reason:
                "it does not speak TLS; if that is meant, name it in the setting 'images.insecure'"
                    .to_owned(),
        }),
        _ => None,
    }
}

fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(found) = this.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is that of what it holds, which would be passed over.
        let held = this
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match held {
            Some(held) => Some(held),
            None => this.source(),
        };
    }
    None
}

/// Chains to an authority, and certificates that the operator has named themselves.
#[derive(Debug)]
struct Trusted {
    named: Vec<CertificateDer<'static>>,
    chains: Verifier,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self
            .chains
            .verify_server_cert(server, others, name, ocsp, now)
        {
            // No chain ends with it, or it is an authority, which has no kind of its own. Its time is looked at before either,
            // and its names after both.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if self.named.contains(server) => {
                verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_certificate_that_is_named_does_not_outlive_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it.crt");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
            .args(["/CN=it", "-addext", "subjectAltName=DNS:it.example"])
            .args(["-keyout", "/dev/null", "-out"])
            .arg(&file)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from_pem_file(&file).unwrap();
        let trusted = Trusted {
            named: vec![certificate.clone()],
            chains: Verifier::new_with_extra_roots([certificate.clone()], provider).unwrap(),
        };
        let name = ServerName::try_from("it.example").unwrap();
        let after = |days: u64| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            UnixTime::since_unix_epoch(since.unwrap() + Duration::from_secs(days * 24 * 60 * 60))
        };
        let judged = |now| trusted.verify_server_cert(&certificate, &[], &name, &[], now);
        judged(after(1)).unwrap();
        assert!(matches!(
            judged(after(3)),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        ));
    }
}
