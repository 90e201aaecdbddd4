//! Connections.

use crate::Error;
use crate::address::{Address, Place};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub(crate) trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// Whom a server's certificate must be vouched for by: the authorities in `ca_file`, or the system's.
pub(crate) fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let wrong = |what: String| Error::Input(format!("{}: {what}", file.display()));
            let found = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            if found.is_empty() {
                return Err(wrong("there is no certificate (PEM) in it".into()));
            }
            for certificate in found {
                roots
                    .add(certificate)
                    .map_err(|error| wrong(error.to_string()))?;
            }
        }
        None => {
            // A system has odd ones among them, which vouch for nobody then.
            let found = rustls_native_certs::load_native_certs();
            let _ = roots.add_parsable_certificates(found.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Input(error.to_string()))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

pub(crate) async fn connect(
    address: &Address,
    trust: Option<&Arc<ClientConfig>>,
) -> io::Result<Box<dyn Channel>> {
    match (&address.place, trust) {
        (Place::Unix(path), _) => Ok(Box::new(UnixStream::connect(path).await?)),
        (Place::Tcp { host, port, .. }, None) => {
            Ok(Box::new(TcpStream::connect((host.as_str(), *port)).await?))
        }
        (Place::Tcp { host, port, .. }, Some(trust)) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(trust));
            Ok(Box::new(connector.connect(name, stream).await?))
        }
    }
}
