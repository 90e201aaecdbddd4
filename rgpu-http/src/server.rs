//! Requests and answers.

use crate::address::{Address, Place};
use crate::body::{Body, Sending};
use crate::connect::{connect, trust};
use crate::{Credential, Error};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long each part of an answer may take, unless it is said.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer answers in one piece are not read, unless it is said; in bytes.
const MOST: u64 = 64 << 20;

/// A server, and what it is shown of who asks.
#[derive(Clone, Debug)]
pub struct Server {
    address: Address,
    authorization: Option<HeaderValue>,
    trust: Option<Arc<ClientConfig>>,
    patience: Duration,
    most: u64,
}

/// What is asked.
pub struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

impl Request {
    /// `path` begins with a slash; what comes from elsewhere in it is `encoded`.
    pub fn new(method: Method, path: impl Into<String>) -> Request {
        Request {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Body::default(),
        }
    }

    pub fn get(path: impl Into<String>) -> Request {
        Request::new(Method::GET, path)
    }

    pub fn accept(mut self, kind: &'static str) -> Request {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kind));
        self
    }

    pub fn kind(mut self, kind: &'static str) -> Request {
        let kind = HeaderValue::from_static(kind);
        self.headers.insert(CONTENT_TYPE, kind);
        self
    }

    /// # Errors
    /// A control character in the value.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Request, Error> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Input(format!("{name}: it has a control character")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    pub fn body(mut self, body: impl Into<Body>) -> Request {
        self.body = body.into();
        self
    }
}

/// An answer in one piece.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the server says of a failure, if it has said anything, without control characters.
    pub fn reason(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match value["error"].as_str() {
            Some(words) => words
                .chars()
                .map(|c| {
                    if c.is_control() && c != '\n' {
                        '\u{fffd}'
                    } else {
                        c
                    }
                })
                .collect(),
            None => format!("HTTP status {}", self.status.as_u16()),
        }
    }
}

/// An answer that comes piece by piece.
pub struct Stream {
    pub status: StatusCode,
    pub headers: HeaderMap,
    incoming: Incoming,
    /// What `Read` has not given yet.
    left: Bytes,
    address: String,
    patience: Duration,
    // The connection is driven there.
    runtime: Runtime,
}

impl Server {
    /// `ca_file`: authorities (PEM) that may vouch for an https server, instead of the system's.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(
        address: &str,
        credential: &Credential,
        ca_file: Option<&Path>,
    ) -> Result<Server, Error> {
        let address = Address::parse(address)?;
        let trust = match &address.place {
            Place::Tcp { is_tls: true, .. } => Some(trust(ca_file)?),
            _ => None,
        };
        Ok(Server {
            address,
            authorization: credential.header()?,
            trust,
            patience: PATIENCE,
            most: MOST,
        })
    }

    /// How long each part of an answer may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Server {
        self.patience = patience;
        self
    }

    /// The longest answer in one piece, in bytes.
    #[must_use]
    pub fn most(mut self, most: u64) -> Server {
        self.most = most;
        self
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// # Errors
    /// No answer, or one that is too long. An answer that says no is none.
    pub fn ask(&self, request: Request) -> Result<Answer, Error> {
        self.open(request)?.rest(self.most)
    }

    /// The answer's head; its body is for `Stream::piece`.
    ///
    /// # Errors
    /// No answer.
    pub fn open(&self, request: Request) -> Result<Stream, Error> {
        let shown = self.address.to_string();
        let message = self.message(request)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Unreachable(shown.clone(), error.to_string()))?;
        let unreachable = |why: String| Error::Unreachable(shown.clone(), why);
        let broken = |why: String| Error::Broken(shown.clone(), why);
        let answer = runtime.block_on(async {
            let channel = connect(&self.address, self.trust.as_ref());
            let channel = within(CONNECT, channel).await.map_err(unreachable)?;
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                // As every older server and test expects them.
                .title_case_headers(true)
                .handshake::<_, Sending>(TokioIo::new(channel))
                .await
                .map_err(|error| unreachable(explained(&error)))?;
            tokio::spawn(async move { drop(connection.await) });
            // A body may be long; that its pieces are taken is the server's to see to.
            match message.body().is_long() {
                true => sender
                    .send_request(message)
                    .await
                    .map_err(|error| explained(&error)),
                false => within(self.patience, sender.send_request(message)).await,
            }
            .map_err(broken)
        })?;
        let (head, incoming) = answer.into_parts();
        Ok(Stream {
            status: head.status,
            headers: head.headers,
            incoming,
            left: Bytes::new(),
            address: shown,
            patience: self.patience,
            runtime,
        })
    }

    fn message(&self, request: Request) -> Result<http::Request<Sending>, Error> {
        let path = format!("{}{}", self.address.prefix, request.path);
        let mut message = http::Request::new(Sending::from(request.body));
        *message.method_mut() = request.method;
        *message.uri_mut() = path
            .parse()
            .map_err(|error| Error::Input(format!("{path:?} is no path: {error}")))?;
        *message.headers_mut() = request.headers;
        let host = HeaderValue::from_str(&self.address.host());
        let host = host.map_err(|error| Error::Input(format!("{}: {error}", self.address)))?;
        message.headers_mut().insert(HOST, host);
        let close = HeaderValue::from_static("close");
        message.headers_mut().insert(CONNECTION, close);
        if let Some(value) = &self.authorization {
            message.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Ok(message)
    }
}

impl Stream {
    /// The next piece; None at the end.
    ///
    /// # Errors
    /// The answer broke off, or nothing came in time.
    pub fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let broken = |why: String| Error::Broken(self.address.clone(), why);
        loop {
            let frame = async {
                match self.incoming.frame().await {
                    Some(frame) => frame.map(Some),
                    None => Ok(None),
                }
            };
            let frame = self.runtime.block_on(within(self.patience, frame));
            match frame.map_err(broken)? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The rest in one piece, of up to `most` bytes.
    ///
    /// # Errors
    /// As `piece`; too long.
    pub fn rest(mut self, most: u64) -> Result<Answer, Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece()? {
            body.extend(piece);
            if body.len() as u64 > most {
                return Err(Error::TooLong(self.address, most));
            }
        }
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body: body.into(),
        })
    }
}

/// As it comes.
impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() && !buffer.is_empty() {
            match self.piece().map_err(io::Error::other)? {
                Some(piece) => self.left = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.left.len());
        buffer[..count].copy_from_slice(&self.left.split_to(count));
        Ok(count)
    }
}

async fn within<T, E: std::error::Error>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| explained(&error)),
        Err(_) => Err(format!("nothing within {} s", limit.as_secs())),
    }
}

/// An error with what caused it.
fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
