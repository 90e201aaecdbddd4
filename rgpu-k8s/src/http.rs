//! Leases by a server's administration: HTTP with JSON, one connection a request. Everything that comes back is bounded and checked.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::check_address;
use crate::pool::{Lease, Pool, PoolError, Wish};

type Result<T> = std::result::Result<T, PoolError>;

/// How long one request may take, with its connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whether it is ready, a server knows at once.
const READY_PATIENCE: Duration = Duration::from_secs(2);
/// Longer answers are not read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Most leases that one holder can be said to have.
const MAX_HELD: usize = 64;
/// What is shown of a server's own words, in characters.
const MAX_WORDS: usize = 300;

/// Where an administration listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`, with brackets around an IPv6 host.
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Address, String> {
        let wrong = || format!("{text:?}: write http://HOST:PORT or unix:///PATH");
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.len() > 1 && path.starts_with('/') {
                true => Ok(Address::Unix(path.into())),
                false => Err(wrong()),
            };
        }
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("tcp://"));
        let authority = rest.ok_or_else(wrong)?.trim_end_matches('/');
        let parsed: hyper::http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        match parsed.port_u16().is_some() && !parsed.host().is_empty() && !authority.contains('@') {
            true => Ok(Address::Tcp(authority.to_owned())),
            false => Err(wrong()),
        }
    }
}

/// A server's administration.
#[derive(Clone, Debug)]
pub struct HttpPool {
    address: Address,
    token_file: PathBuf,
}

#[derive(Deserialize)]
struct Granted {
    id: String,
    token: String,
    #[serde(default)]
    server: Option<String>,
}

#[derive(Deserialize)]
struct Held {
    id: String,
    #[serde(default)]
    holder: String,
}

#[derive(Deserialize)]
struct List {
    leases: Vec<Held>,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl HttpPool {
    pub fn new(address: Address, token_file: PathBuf) -> HttpPool {
        HttpPool {
            address,
            token_file,
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Answer> {
        self.ask_within(PATIENCE, method, path, body).await
    }

    async fn ask_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Answer> {
        // Read each time: secrets are exchanged under a running plugin.
        let token = read_token(&self.token_file)?;
        let host = match &self.address {
            Address::Tcp(authority) => authority,
            Address::Unix(_) => "localhost",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("authorization", format!("Bearer {token}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or(Bytes::new(), |body| body.to_string().into());
        let request = request
            .body(Full::new(body))
            .map_err(|error| PoolError::Refused(format!("the request cannot be made: {error}")))?;
        let exchange = async {
            match &self.address {
                Address::Tcp(authority) => {
                    let stream = TcpStream::connect(authority.as_str());
                    exchange(stream.await.map_err(unreachable)?, request).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path);
                    exchange(stream.await.map_err(unreachable)?, request).await
                }
            }
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(PoolError::Unreachable(format!(
                "not within {} s",
                patience.as_secs()
            ))),
        }
    }
}

fn unreachable(error: impl std::fmt::Display) -> PoolError {
    PoolError::Unreachable(error.to_string())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let made = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = made.await.map_err(unreachable)?;
    let driven = async move {
        let response = sender.send_request(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let body =
            body.await.map_err(
                |error| match error.is::<http_body_util::LengthLimitError>() {
                    true => PoolError::Strange(format!("it is longer than {MAX_ANSWER} bytes")),
                    false => unreachable(error),
                },
            )?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    // The connection ends with the exchange, whichever ends first.
    tokio::pin!(driven);
    tokio::select! {
        answer = &mut driven => answer,
        ended = connection => match ended {
            Ok(()) => driven.await,
            Err(error) => Err(unreachable(error)),
        },
    }
}

/// A secret of one line.
fn read_token(path: &Path) -> Result<String> {
    let wrong = |what: String| PoolError::Refused(format!("token_file {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    match is_token(token) {
        true => Ok(token.to_owned()),
        false => Err(wrong("a token has 16 to 1024 printable characters".into())),
    }
}

fn is_token(text: &str) -> bool {
    (16..=1024).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// It becomes part of a path.
fn is_id(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('.')
}

/// A path segment or a query's value.
fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|b| match b {
        b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    });
    escaped.collect()
}

/// The server's own words, cut and without what a terminal would take for commands.
fn words(answer: &Answer) -> String {
    let text = match serde_json::from_slice::<Failure>(&answer.body) {
        Ok(failure) => failure.error,
        Err(_) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
    };
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORDS)
        .collect();
    match shown.is_empty() {
        true => answer.status.to_string(),
        false => format!("{shown} ({})", answer.status.as_u16()),
    }
}

/// An answer that is no success, as an error.
fn refusal(answer: &Answer) -> PoolError {
    let words = words(answer);
    match answer.status {
        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => PoolError::Full(words),
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            PoolError::Unreachable(words)
        }
        _ => PoolError::Refused(words),
    }
}

fn parsed<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T> {
    // The error of serde may show a value, and that may be a token.
    serde_json::from_slice(&answer.body).map_err(|error| {
        PoolError::Strange(format!(
            "not the JSON that was expected (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

impl Pool for HttpPool {
    async fn claim(&self, wish: &Wish) -> Result<Lease> {
        let body = json!({
            "profile": wish.profile,
            "holder": wish.holder,
            "ttl_seconds": wish.ttl.as_secs(),
        });
        let answer = self.ask(Method::POST, "/v1/leases", Some(body)).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer));
        }
        let granted: Granted = parsed(&answer)?;
        if !is_id(&granted.id) {
            return Err(PoolError::Strange("a lease with an id that is none".into()));
        }
        if !is_token(&granted.token) {
            return Err(PoolError::Strange(
                "a lease with a token that is none".into(),
            ));
        }
        let address = granted
            .server
            .filter(|server| check_address(server).is_ok());
        Ok(Lease {
            id: granted.id,
            token: granted.token,
            address,
        })
    }

    async fn renew(&self, id: &str, ttl: Duration) -> Result<()> {
        let path = format!("/v1/leases/{}", escape(id));
        let body = json!({ "ttl_seconds": ttl.as_secs() });
        let answer = self.ask(Method::PUT, &path, Some(body)).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(PoolError::Gone),
            _ => Err(refusal(&answer)),
        }
    }

    async fn release(&self, id: &str) -> Result<()> {
        let path = format!("/v1/leases/{}", escape(id));
        let answer = self.ask(Method::DELETE, &path, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(refusal(&answer)),
        }
    }

    async fn held(&self, holder: &str) -> Result<Vec<String>> {
        let path = format!("/v1/leases?holder={}", escape(holder));
        let answer = self.ask(Method::GET, &path, None).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer));
        }
        let list: List = parsed(&answer)?;
        // Whatever it has taken the parameter for: what others hold must not be released.
        let own = list
            .leases
            .into_iter()
            .filter(|lease| lease.holder == holder);
        let ids: Vec<String> = own.map(|lease| lease.id).collect();
        match ids.len() <= MAX_HELD && ids.iter().all(|id| is_id(id)) {
            true => Ok(ids),
            false => Err(PoolError::Strange("a list of leases that is none".into())),
        }
    }

    async fn ready(&self) -> Result<()> {
        let asked = self.ask_within(READY_PATIENCE, Method::GET, "/readyz", None);
        let answer = asked.await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refusal(&answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let tcp = |text: &str| text.parse::<Address>();
        assert_eq!(
            tcp("http://gpu1:7071/"),
            Ok(Address::Tcp("gpu1:7071".into()))
        );
        assert_eq!(tcp("tcp://[::1]:9"), Ok(Address::Tcp("[::1]:9".into())));
        assert_eq!(tcp("unix:///run/a"), Ok(Address::Unix("/run/a".into())));
        for text in [
            "",
            "gpu1:1",
            "http://gpu1",
            "http://u@gpu1:1",
            "http://:1",
            "unix://a",
            "https://a:1",
        ] {
            assert!(tcp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_cannot_leave_their_place_in_a_path() {
        assert!(is_id("l-1_2.3"));
        for id in ["", "..", "a/b", "a?b", "a b", &"x".repeat(129)] {
            assert!(!is_id(id), "{id}");
        }
        assert_eq!(escape("n/rgpu.io/a b"), "n%2Frgpu.io%2Fa%20b");
    }

    #[test]
    fn a_servers_words_are_cut() {
        let answer = |body: &str| Answer {
            status: StatusCode::CONFLICT,
            body: body.to_owned().into(),
        };
        assert_eq!(
            words(&answer("{\"error\":\"full\",\"code\":\"x\"}")),
            "full (409)"
        );
        assert_eq!(words(&answer("a\u{1b}[2J")), "a [2J (409)");
        assert_eq!(words(&answer("")), "409 Conflict");
        assert!(words(&answer(&"x".repeat(10_000))).len() < 400);
    }

    #[test]
    fn tokens_are_not_in_what_is_shown() {
        let lease = Lease {
            id: "1".into(),
            token: "secret".into(),
            address: None,
        };
        assert!(!format!("{lease:?}").contains("secret"));
    }
}
