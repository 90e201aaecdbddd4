//! Where an issuer's keys are: a file, or an address that is asked with bounds on everything.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

use super::keys::{KeySet, MAX_SET};

/// How long one fetch may take, with everything; less in tests, which wait for its end.
pub const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 5 });
/// Where systems keep the authorities that they believe.
const SYSTEM_CA: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Url {
        url: String,
        /// Who may vouch for the server; else the system's authorities.
        ca_file: Option<PathBuf>,
    },
}

impl Source {
    /// An address, or a file (which `folder` is for).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ca_file: Option<PathBuf>, folder: &Path) -> Result<Source, String> {
        if !text.contains("://") {
            return Ok(Source::File(folder.join(text)));
        }
        let uri: axum::http::Uri = text
            .parse()
            .map_err(|error| format!("{text:?} is no address: {error}"))?;
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => {
                return Err(format!(
                    "{text:?}: whoever is on the way could exchange the keys; write https://"
                ));
            }
            _ => return Err(format!("{text:?}: write https://HOST/PATH, or a file")),
        }
        Ok(Source::Url {
            url: text.to_owned(),
            ca_file: ca_file.map(|file| folder.join(file)),
        })
    }

    /// For logs.
    pub fn show(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Url { url, .. } => url.clone(),
        }
    }

    /// Asks for the keys; for a thread that may block.
    ///
    /// # Errors
    /// Why there are none.
    pub fn fetch(&self) -> Result<KeySet, String> {
        let mut bytes = Vec::new();
        // One byte more than may be, so that too much is seen.
        let most = MAX_SET as u64 + 1;
        match self {
            Source::File(path) => {
                let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
                if !file.metadata().is_ok_and(|meta| meta.is_file()) {
                    return Err("it is no file".into());
                }
                file.take(most)
                    .read_to_end(&mut bytes)
                    .map_err(|error| error.to_string())?;
            }
            Source::Url { url, ca_file } => {
                let answer = ask(url, ca_file.as_deref())?;
                answer
                    .into_body()
                    .into_reader()
                    .take(most)
                    .read_to_end(&mut bytes)
                    .map_err(|error| format!("its answer broke off: {error}"))?;
            }
        }
        KeySet::parse(&bytes)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn ask(url: &str, ca_file: Option<&Path>) -> Result<ureq::http::Response<ureq::Body>, String> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // Keys are believed because of where they are.
        .max_redirects(0)
        .max_redirects_will_error(true)
        .max_response_header_size(16 << 10)
        .user_agent(concat!("rgpu-faas/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https://") {
        config = config.tls_config(tls(ca_file)?);
    } else {
        // This machine needs no one in between.
        config = config.proxy(None);
    }
    let agent = ureq::Agent::new_with_config(config.build());
    match agent.get(url).header("accept", "application/json").call() {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("it answered {code}")),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer within {PATIENCE:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, String> {
    let text = match ca_file {
        Some(file) => {
            std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => SYSTEM_CA
            .iter()
            .find_map(|file| std::fs::read(file).ok())
            .ok_or("this system has no list of certificate authorities; name one by `ca_file`")?,
    };
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err("no certificate in the file of certificate authorities".into());
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&certificates))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_must_be_safe_and_files_are_beside_the_configuration() {
        let parse = |text| Source::parse(text, None, Path::new("/etc/rgpu"));
        assert_eq!(
            parse("keys.json"),
            Ok(Source::File("/etc/rgpu/keys.json".into()))
        );
        assert_eq!(
            parse("/x/keys.json"),
            Ok(Source::File("/x/keys.json".into()))
        );
        for good in [
            "https://idp.example/keys",
            "http://127.0.0.1:9/k",
            "http://localhost/k",
            "http://[::1]:1/k",
        ] {
            assert!(matches!(parse(good), Ok(Source::Url { .. })), "{good}");
        }
        for bad in [
            "http://idp.example/keys",
            "file:///etc/passwd",
            "ftp://x/y",
            "https://",
            "http://localhost.evil.example/k",
            "https://a b/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_none_or_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fetch = |path: &Path| Source::File(path.to_owned()).fetch().err().unwrap();
        assert!(fetch(folder.path()).contains("no file"));
        assert!(fetch(Path::new("/dev/zero")).contains("no file"));
        let path = folder.path().join("keys");
        std::fs::write(&path, vec![b' '; MAX_SET + 1]).unwrap();
        assert!(fetch(&path).contains("larger"));
    }

    #[test]
    fn an_answer_without_end_is_read_no_further_than_it_may_be_long() {
        use crate::testing::{KeyServer, Reply};
        let server = KeyServer::start(Reply::Endless);
        let error = server.source().fetch().err().unwrap();
        assert!(error.contains("larger"), "{error}");
        server.now(Reply::Silence);
        let error = server.source().fetch().err().unwrap();
        assert!(error.contains("no answer"), "{error}");
        server.now(Reply::Head("302 Found\r\nLocation: /keys"));
        assert!(server.source().fetch().is_err());
        assert_eq!(server.asked(), 3, "no redirection is followed");
    }
}
