//! Headers that keep a browser from running or showing what is not the page's, on every answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use tower_layer::Layer;
use tower_service::Service;

/// Scripts and styles from this server's own files alone, none within a page; no frames around it or in it.
const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'";

/// What no answer may have otherwise.
const ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// What an answer may say itself: a stored file's is stricter, and the page's own files may be kept.
const USUALLY: [(HeaderName, &str); 2] = [
    (header::CONTENT_SECURITY_POLICY, PAGE),
    (header::CACHE_CONTROL, "no-store"),
];

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecurityHeaders {
    /// Browsers are told to come by TLS only; for a server that is reached so.
    pub strict_transport: bool,
}

impl<S> Layer<S> for SecurityHeaders {
    type Service = WithHeaders<S>;

    fn layer(&self, inner: S) -> WithHeaders<S> {
        WithHeaders {
            inner,
            strict_transport: self.strict_transport,
        }
    }
}

#[derive(Clone, Debug)]
pub struct WithHeaders<S> {
    inner: S,
    strict_transport: bool,
}

impl<S> Service<Request> for WithHeaders<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let strict_transport = self.strict_transport;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let headers = response.headers_mut();
            for (name, value) in ALWAYS {
                headers.insert(name, HeaderValue::from_static(value));
            }
            for (name, value) in USUALLY {
                headers
                    .entry(name)
                    .or_insert(HeaderValue::from_static(value));
            }
            if strict_transport {
                headers.insert(
                    header::STRICT_TRANSPORT_SECURITY,
                    HeaderValue::from_static("max-age=31536000"),
                );
            }
            Ok(response)
        })
    }
}
