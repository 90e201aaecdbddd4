//! Who the server is: its certificate and key, and how a client believes it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rgpu_transport::Pin;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};

/// The protocol's name within TLS.
const ALPN: &[u8] = b"rgpu";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub fn pin_of(certificate: &[u8]) -> Pin {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    Pin::new(hash)
}

/// A server's certificate, with those that lead to an authority behind it, and its private key; all DER.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    certificates: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Identity {
    /// One that only its pin can vouch for.
    pub fn generate() -> Result<Identity> {
        let made = rcgen::generate_simple_self_signed(["rgpud".to_owned()])
            .context("no certificate could be made")?;
        Ok(Identity {
            certificates: vec![made.cert.der().to_vec()],
            key: made.signing_key.serialize_der(),
        })
    }

    /// From PEM files, as certificate authorities give them.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity> {
        let name = || format!("certificate {}", certificate.display());
        let certificates = CertificateDer::pem_file_iter(certificate)
            .with_context(name)?
            .map(|certificate| Ok(certificate?.to_vec()))
            .collect::<Result<Vec<_>, rustls::pki_types::pem::Error>>()
            .with_context(name)?;
        ensure!(
            !certificates.is_empty(),
            "{}: no certificate (PEM) in it",
            certificate.display()
        );
        let secret = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("private key {}", key.display()))?;
        let identity = Identity {
            certificates,
            key: secret.secret_der().to_vec(),
        };
        identity
            .server_config()
            .with_context(|| format!("{} and {}", certificate.display(), key.display()))?;
        Ok(identity)
    }

    /// What a client may expect.
    pub fn pin(&self) -> Pin {
        pin_of(self.certificates.first().map_or(&[], Vec::as_slice))
    }

    pub(crate) fn server_config(&self) -> Result<QuicServerConfig> {
        let chain = self.certificates.iter().cloned().map(CertificateDer::from);
        let Ok(key) = PrivateKeyDer::try_from(self.key.clone()) else {
            bail!("the private key is of no known form");
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(QuicServerConfig::try_from(config)?)
    }
}

/// Why a client may believe a server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// It shows this certificate.
    Pin(Pin),
    /// An authority of this file (PEM) vouches for it.
    Authorities(PathBuf),
}

impl Trust {
    pub fn choose(pin: Option<Pin>, authorities: Option<PathBuf>) -> Result<Trust> {
        match (pin, authorities) {
            (Some(pin), _) => Ok(Trust::Pin(pin)),
            (None, Some(file)) => Ok(Trust::Authorities(file)),
            (None, None) => bail!(
                "nothing says which server to believe: use the address with ?pin=sha256:… that rgpud prints when it starts, or name a file of \
                 certificate authorities (PEM) in RGPU_CA_FILE"
            ),
        }
    }
}

/// What the server has shown, when it was not what was expected.
pub type Shown = Arc<OnceLock<Pin>>;

/// The client's side of TLS.
pub(crate) fn client_config(trust: &Trust) -> Result<(QuicClientConfig, Shown)> {
    let shown = Shown::default();
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Pin(pin) => Arc::new(Pinned {
            pin: *pin,
            shown: shown.clone(),
            algorithms: provider.signature_verification_algorithms,
        }),
        Trust::Authorities(file) => {
            let name = || format!("RGPU_CA_FILE {}", file.display());
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).with_context(name)? {
                roots
                    .add(certificate.with_context(name)?)
                    .with_context(name)?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .with_context(name)?
        }
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((QuicClientConfig::try_from(config)?, shown))
}

/// Believes one certificate, whatever is written in it; the handshake's signature proves that the server has its key.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    shown: Shown,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = pin_of(certificate);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let _ = self.shown.set(shown);
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
