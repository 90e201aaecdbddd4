//! Requests to the runner, again and again until one is answered or time is up.

use super::full;
use crate::protocol::{AGENT, MAX_SMALL, Progress};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const CONNECT: Duration = Duration::from_secs(10);
/// How long a request without a long body may take.
const SMALL: Duration = Duration::from_secs(60);
/// How long the other side may not acknowledge what was sent.
const SILENCE: Duration = Duration::from_secs(30);
/// Between tries: from the first, doubled to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Where the runner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    /// With its slash in front and none behind.
    path: String,
}

impl Address {
    /// Reads `http://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str) -> Result<Address, String> {
        let wrong = || format!("{url:?}: write http://HOST[:PORT], as pods reach the runner");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|host| !host.is_empty());
        let (Some("http"), Some(host), None) = (uri.scheme_str(), host, uri.query()) else {
            return Err(wrong());
        };
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(wrong());
        }
        Ok(Address {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Why a request was not answered as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// The attempt is no longer wanted.
    Gone(String),
    /// It is refused for good.
    Refused(String),
    /// The script is to end.
    Stop,
    /// It may be tried again, or time is up.
    Late(String),
}

/// Speaks for one attempt.
pub struct Client {
    address: Address,
    attempt: String,
    token: String,
    agent: String,
    deadline: Instant,
}

/// Pauses between tries, up to the deadline.
pub struct Pauses {
    next: Duration,
    deadline: Instant,
}

impl Pauses {
    /// Waits; an error when there is no more time.
    pub async fn pause(&mut self, why: &str) -> Result<(), CallError> {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(PAUSES.1);
        if Instant::now() + pause >= self.deadline {
            return Err(CallError::Late(why.to_owned()));
        }
        sleep(pause).await;
        Ok(())
    }
}

impl Client {
    pub fn new(url: &str, attempt: &str, token: &str, deadline: Instant) -> Result<Client, String> {
        Ok(Client {
            address: Address::parse(url)?,
            attempt: attempt.to_owned(),
            token: token.to_owned(),
            agent: format!("{:032x}", fastrand::u128(..)),
            deadline,
        })
    }

    pub fn pauses(&self) -> Pauses {
        Pauses {
            next: PAUSES.0,
            deadline: self.deadline,
        }
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> io::Result<Response<Incoming>> {
        let to = (self.address.host.as_str(), self.address.port);
        let stream = timeout(CONNECT, TcpStream::connect(to)).await??;
        watch_over(&stream)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!(
                "{}/agent/{}/{path}",
                self.address.path, self.attempt
            ))
            .header("host", self.address.authority())
            .header("authorization", format!("Bearer {}", self.token))
            .header(AGENT, &self.agent)
            .header("content-type", "application/octet-stream")
            .body(body)
            .map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// One request; the answer's body, if it is a success.
    pub async fn once(
        &self,
        method: Method,
        path: &str,
        body: Body,
        limit: Option<Duration>,
    ) -> Result<Bytes, CallError> {
        let answered = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            let body = Limited::new(body, MAX_SMALL).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok::<_, io::Error>((head.status, body))
        };
        let answered = match limit {
            Some(limit) => timeout(limit, answered)
                .await
                .unwrap_or_else(|late| Err(late.into())),
            None => answered.await,
        };
        let (status, body) = answered.map_err(|error| CallError::Late(error.to_string()))?;
        match status.is_success() {
            true => Ok(body),
            false => Err(failure(status, &body)),
        }
    }

    /// Asks for a body that comes as a stream.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, CallError> {
        let mut pauses = self.pauses();
        loop {
            let sent = timeout(SMALL, self.send(Method::GET, path, full(Vec::new()))).await;
            let why = match sent.unwrap_or_else(|late| Err(late.into())) {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => match failure(response.status(), b"") {
                    CallError::Late(why) => why,
                    error => return Err(error),
                },
                Err(error) => error.to_string(),
            };
            pauses.pause(&why).await?;
        }
    }

    /// Tells something until it is taken.
    pub async fn post_json<T: serde::Serialize>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<(), CallError> {
        let mut pauses = self.pauses();
        loop {
            match self.post(path, value).await {
                Ok(_) => return Ok(()),
                Err(CallError::Late(why)) => pauses.pause(&why).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The same, once: whether it was taken.
    pub async fn try_json<T: serde::Serialize>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<bool, CallError> {
        match self.post(path, value).await {
            Ok(_) => Ok(true),
            Err(CallError::Late(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn post<T: serde::Serialize>(&self, path: &str, value: &T) -> Result<Bytes, CallError> {
        let text =
            serde_json::to_vec(value).map_err(|error| CallError::Refused(error.to_string()))?;
        self.once(Method::POST, path, full(text), Some(SMALL)).await
    }

    /// Sends a piece of the log, once; how much the runner has then.
    pub async fn post_log(&self, offset: u64, piece: Vec<u8>) -> Result<Progress, CallError> {
        let path = format!("log?offset={offset}");
        let answer = self
            .once(Method::POST, &path, full(piece), Some(SMALL))
            .await;
        let body = match answer {
            Ok(body) => body,
            // Where it should begin is in the answer.
            Err(CallError::Late(text)) => match serde_json::from_str(&text) {
                Ok(progress) => return Ok(progress),
                Err(_) => return Err(CallError::Late(text)),
            },
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&body).map_err(|error| CallError::Late(error.to_string()))
    }
}

fn failure(status: StatusCode, body: &[u8]) -> CallError {
    let text = String::from_utf8_lossy(body);
    let said = || format!("{status}: {text}");
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAUTHORIZED => {
            CallError::Gone(said())
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => CallError::Refused(said()),
        StatusCode::CONFLICT => CallError::Late(text.into_owned()),
        _ => CallError::Late(said()),
    }
}

/// A runner that vanishes without a word is noticed by the kernel, however long the body is.
fn watch_over(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE / 2)?;
    sockopt::set_tcp_keepintvl(stream, SILENCE / 6)?;
    let milliseconds = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}
