//! The way to stores that speak HTTP. Every answer passes here: bounded, timed, and without redirects.

use crate::error::{Problem, printable};
use crate::limits::Limits;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How much of an error's body is read.
const ERROR_BODY: usize = 16 << 10;
/// Bytes that go out at a time, so that a slow line is told from one that stands still.
const SLICE: usize = 64 << 10;

/// Why there is no answer to work with.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{status} {code} {message}")]
    Status {
        status: StatusCode,
        /// S3's word for it, such as `NoSuchBucket`.
        code: String,
        message: String,
    },
    #[error("a redirect to {0}")]
    Redirect(String),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Nonsense(String),
    #[error("{0}")]
    Broken(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Problem {
        match fault {
            Fault::Status {
                status,
                code,
                message,
            } => {
                let detail = format!("{code} {message}").trim().to_owned();
                match status.as_u16() {
                    404 if code == "NoSuchBucket" => Problem::NoBucket,
                    404 | 410 => Problem::NotFound,
                    401 | 403 | 407 => Problem::Denied {
                        detail: format!("{} {detail}", status.as_u16()).trim().to_owned(),
                    },
                    // A condition that was evaluated while somebody else wrote.
                    409 if code == "ConditionalRequestConflict" => Problem::Unavailable(detail),
                    // S3 says so of a body that was cut off on its way.
                    400 if code == "RequestTimeout" || code == "IncompleteBody" => {
                        Problem::Unavailable(detail)
                    }
                    408 | 423 | 425 | 429 | 500 | 502 | 503 | 504 | 509 => Problem::Unavailable(
                        format!("{} {detail}", status.as_u16()).trim().to_owned(),
                    ),
                    501 => Problem::Unsupported("it says 501 Not Implemented"),
                    507 => Problem::Refused {
                        status: 507,
                        detail: "the store is full".into(),
                    },
                    status => Problem::Refused { status, detail },
                }
            }
            Fault::Redirect(to) => Problem::Redirected { to },
            Fault::TooLong(limit) => Problem::Nonsense(format!(
                "an answer that is no object has more than {limit} bytes"
            )),
            Fault::Nonsense(what) => Problem::Nonsense(what),
            Fault::Broken(what) => Problem::Unavailable(what),
        }
    }
}

/// The fault that object_store was given and wraps, if there is one; else what it says itself of the answer.
pub(crate) fn unwrapped(error: object_store::Error) -> Problem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return fault.clone().into();
        }
        cause = inner.source();
    }
    Problem::Nonsense(printable(&error.to_string()))
}

/// A client for one store.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    limits: Arc<Limits>,
}

/// A body that goes out, and its length.
pub(crate) struct Outgoing {
    length: u64,
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>,
}

impl Outgoing {
    pub fn new(
        length: u64,
        stream: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static,
    ) -> Self {
        Outgoing {
            length,
            stream: Box::pin(stream),
        }
    }

    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Outgoing::new(bytes.len() as u64, futures_util::stream::iter([Ok(bytes)]))
    }
}

impl Http {
    /// `verify`: whether the server's certificate must be right.
    pub fn new(limits: Arc<Limits>, verify: bool) -> Result<Http, Problem> {
        // Without one that was chosen for the process reqwest would panic. Another choice made earlier is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("rgpu-faas/", env!("CARGO_PKG_VERSION")))
            // Credentials go with every request, so nothing but the address that was configured gets one.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(limits.connect)
            .pool_idle_timeout(Duration::from_secs(60))
            .tls_danger_accept_invalid_certs(!verify)
            .build()
            .map_err(|error| Problem::Unavailable(format!("no HTTP client: {}", chain(&error))))?;
        Ok(Http { client, limits })
    }

    /// Sends, and returns an answer whose status is a success, with its body bounded if `bound` is given.
    pub async fn send(
        &self,
        request: Request<Outgoing>,
        bound: Option<usize>,
    ) -> Result<Response<Watched>, Fault> {
        let (parts, outgoing) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| Fault::Nonsense(format!("the address: {error}")))?;
        let writes = parts.method == Method::PUT || parts.method == Method::POST;
        let mut wire = reqwest::Request::new(parts.method, url);
        *wire.headers_mut() = parts.headers;
        let progress = Progress::default();
        if outgoing.length > 0 || writes {
            let length = outgoing.length;
            wire.headers_mut().insert(CONTENT_LENGTH, length.into());
            let seen = progress.clone();
            let slices = outgoing.stream.map_ok(slices).try_flatten();
            let watched = slices.inspect(move |_| seen.made());
            *wire.body_mut() = Some(reqwest::Body::wrap_stream(watched));
        }
        let answer = tokio::select! {
            answer = self.client.execute(wire) => answer.map_err(|error| broken(&error))?,
            () = progress.stalls(self.limits.request) => return Err(Fault::Broken(format!(
                "no answer within {} s", self.limits.request.as_secs_f64()
            ))),
        };
        let (parts, body) = Response::<reqwest::Body>::from(answer).into_parts();
        check_headers(&parts.headers)?;
        let watched = |bound| Watched::new(body, self.limits.idle, bound);
        if parts.status.is_redirection() && parts.status != StatusCode::NOT_MODIFIED {
            return Err(Fault::Redirect(target(&parts.headers)));
        }
        if !parts.status.is_success() {
            let (code, message) = explained(watched(None)).await;
            return Err(Fault::Status {
                status: parts.status,
                code,
                message,
            });
        }
        Ok(Response::from_parts(parts, watched(bound)))
    }

    /// The same for an answer that is small as a whole.
    pub async fn whole(&self, request: Request<Outgoing>) -> Result<(HeaderMap, Bytes), Fault> {
        let all = async {
            let answer = self.send(request, Some(self.limits.answer)).await?;
            let (parts, body) = answer.into_parts();
            Ok((parts.headers, body.collect().await?.to_bytes()))
        };
        match tokio::time::timeout(self.limits.request, all).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Broken(format!(
                "the answer is not complete within {} s",
                self.limits.request.as_secs_f64()
            ))),
        }
    }
}

/// When something last went out.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    fn last(&self) -> Instant {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn made(&self) {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
    }

    /// Returns when nothing has gone out for so long.
    async fn stalls(&self, limit: Duration) {
        loop {
            let until = self.last() + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

fn slices(mut bytes: Bytes) -> impl Stream<Item = Result<Bytes, Problem>> + Send {
    let slices = std::iter::from_fn(move || {
        (!bytes.is_empty()).then(|| Ok(bytes.split_to(SLICE.min(bytes.len()))))
    });
    futures_util::stream::iter(slices)
}

/// object_store takes the end of a range plus one, whatever the store says it is.
fn check_headers(headers: &HeaderMap) -> Result<(), Fault> {
    for range in headers.get_all(CONTENT_RANGE) {
        let right = range.to_str().ok().and_then(|text| {
            let (range, _size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last && last < u64::MAX / 2).then_some(())
        });
        if right.is_none() {
            return Err(Fault::Nonsense(
                "the header Content-Range has no range".into(),
            ));
        }
    }
    Ok(())
}

/// Where a redirect leads, without what may be secret in it.
fn target(headers: &HeaderMap) -> String {
    let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
    match to.map(reqwest::Url::parse) {
        Some(Ok(url)) => printable(&url.origin().ascii_serialization()),
        Some(Err(_)) => "another path".into(),
        None => "nowhere (S3 does so when the region is not the bucket's)".into(),
    }
}

/// `Code` and `Message` of S3's errors, else nothing: an error page's text helps nobody.
async fn explained(mut body: Watched) -> (String, String) {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data() {
            let room = ERROR_BODY - text.len();
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if text.len() == ERROR_BODY {
            break;
        }
    }
    let said = Explained::read(&text).unwrap_or_default();
    (printable(&said.code), printable(&said.message))
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Explained {
    code: String,
    message: String,
}

impl Explained {
    fn read(text: &[u8]) -> Option<Explained> {
        quick_xml::de::from_str(&String::from_utf8_lossy(text)).ok()
    }
}

/// S3 begins its answer to the completion of an upload before it has done it, so its status is good, whatever comes.
async fn completed(body: Watched) -> Result<Bytes, Fault> {
    let bytes = body.collect().await?.to_bytes();
    match Explained::read(&bytes) {
        Some(said) if !said.code.is_empty() => Err(Fault::Status {
            status: match said.code.as_str() {
                "InternalError" | "ServiceUnavailable" | "SlowDown" => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                "NoSuchUpload" => StatusCode::NOT_FOUND,
                "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
                "AccessDenied" => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            },
            code: printable(&said.code),
            message: printable(&said.message),
        }),
        _ => Ok(bytes),
    }
}

fn broken(error: &reqwest::Error) -> Fault {
    let what = chain(error);
    // What is not HTTP at all does not become so by waiting.
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(problem) = inner.downcast_ref::<Problem>() {
            return Fault::Nonsense(problem.to_string());
        }
        cause = inner.source();
    }
    Fault::Broken(what)
}

/// The error and its causes, without the address, which may have been given with a password.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() {
        "no connection".to_owned()
    } else if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    printable(&text)
}

/// A body that must go on arriving, and may be no longer than its bound.
pub(crate) struct Watched {
    inner: reqwest::Body,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    bound: Option<usize>,
    left: usize,
}

impl Watched {
    fn new(inner: reqwest::Body, idle: Duration, bound: Option<usize>) -> Watched {
        Watched {
            inner,
            idle,
            alarm: Box::pin(tokio::time::sleep(idle)),
            bound,
            left: bound.unwrap_or(0),
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            ready!(this.alarm.as_mut().poll(context));
            let said = format!("nothing arrived for {} s", this.idle.as_secs_f64());
            return Poll::Ready(Some(Err(Fault::Broken(said))));
        };
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| broken(&error))?;
        this.alarm.as_mut().reset(Instant::now() + this.idle);
        if let (Some(bound), Some(data)) = (this.bound, frame.data_ref()) {
            match this.left.checked_sub(data.len()) {
                Some(left) => this.left = left,
                None => return Poll::Ready(Some(Err(Fault::TooLong(bound)))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    // The store's word on the length is not passed on: readers make room for it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The client as object_store uses it.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub http: Http,
    /// Multipart uploads are completed only if nothing has their name, for which object_store has no option.
    pub complete_if_absent: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or("").to_owned();
        let completes = parts.method == Method::POST && query.starts_with("uploadId=");
        if completes && self.complete_if_absent {
            let any = http::HeaderValue::from_static("*");
            parts.headers.insert(http::header::IF_NONE_MATCH, any);
        }
        // Of all answers only objects may be long.
        let object = parts.method == Method::GET && query.is_empty();
        let bound = (!object).then_some(self.http.limits.answer);
        let length = body.content_length() as u64;
        let stream = body.into_data_stream();
        let outgoing = Outgoing::new(
            length,
            stream.map_err(|error| Problem::Nonsense(error.to_string())),
        );
        let answer = self
            .http
            .send(Request::from_parts(parts, outgoing), bound)
            .await
            .map_err(carried)?;
        if completes {
            let (parts, body) = answer.into_parts();
            let bytes = completed(body).await.map_err(carried)?;
            return Ok(HttpResponse::from_parts(parts, bytes.into()));
        }
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(carried))))
    }
}

/// object_store makes no further tries: it is told nothing that it could do so on.
fn carried(fault: Fault) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, fault)
}
