//! Who may speak to the API.
//!
//! With a token: whoever shows it, as a bearer token or as the password of basic authentication (any user name), which
//! OSCAR's clients send. Without one the API listens on this machine only (`serve` sees to that), and what remains are
//! web pages in this machine's browser and other users. A function definition is a program that will run: a request that
//! names another origin, or a host that is not this machine, is refused, and so is another user's request to change
//! something.

use super::peer::{self, Peer};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use std::sync::Arc;
use subtle::ConstantTimeEq;

pub(super) struct Guard {
    token: Option<String>,
}

impl Guard {
    pub(super) fn new(token: Option<String>) -> Guard {
        Guard { token }
    }

    fn refuse(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            if headers.contains_key(header::ORIGIN) {
                return Some((
                    StatusCode::FORBIDDEN,
                    "web pages may not use the API without a token; start the runner with --token",
                ));
            }
            return match text(header::HOST) {
                Some(host) if !is_local(host) => Some((
                    StatusCode::FORBIDDEN,
                    "without a token only this machine is served, by the name localhost or its loopback address",
                )),
                _ => None,
            };
        };
        let shown = text(header::AUTHORIZATION).and_then(credentials);
        let is_right = shown.is_some_and(|shown| shown.as_slice().ct_eq(token.as_bytes()).into());
        (!is_right).then_some((
            StatusCode::UNAUTHORIZED,
            "a valid token is needed: `Authorization: Bearer TOKEN`, or basic authentication with it as the password",
        ))
    }

    /// Whether it matters which user sends this.
    fn asks_for_user(&self, method: &Method) -> bool {
        self.token.is_none() && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// Whether the peer may change things without a token: this process's user, or root.
async fn may_change(peer: Option<Peer>) -> bool {
    let (theirs, ours) = match peer {
        // The socket's mode keeps others out.
        Some(Peer::Unix) => return true,
        Some(Peer::Tcp(Some(ends))) => ends,
        Some(Peer::Tcp(None)) | None => return false,
    };
    match tokio::task::spawn_blocking(move || peer::user(theirs, ours)).await {
        Ok(Ok(user)) => user.is_some_and(|user| is_trusted(user, own_user())),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot ask which user sends a request");
            false
        }
        Err(_) => false,
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_trusted(user: u32, own: u32) -> bool {
    user == own || user == 0
}

pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut refusal = guard.refuse(request.headers());
    if refusal.is_none() && guard.asks_for_user(request.method()) {
        let peer = request.extensions().get::<ConnectInfo<Peer>>();
        if !may_change(peer.map(|info| info.0)).await {
            refusal = Some((
                StatusCode::FORBIDDEN,
                "without a token only the user who runs the server may change things; start it with --token",
            ));
        }
    }
    match refusal {
        None => next.run(request).await,
        Some((status, message)) => (
            status,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            Json(json!({ "error": message })),
        )
            .into_response(),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The secret in an Authorization header.
fn credentials(value: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = base64(rest.trim())?;
        let colon = pair.iter().position(|b| *b == b':')?;
        return Some(pair[colon + 1..].to_vec());
    }
    None
}

/// Standard base64 with padding; None if it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|a| a == digit)? as u32;
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(token: Option<&str>, headers: &[(header::HeaderName, &str)]) -> Option<u16> {
        let guard = Guard::new(token.map(Into::into));
        let map = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        guard.refuse(&map).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn tokens_are_taken_both_ways() {
        let with = |value| refused(Some("s3cret"), &[(header::AUTHORIZATION, value)]);
        assert_eq!(with("Bearer s3cret"), None);
        assert_eq!(with("bearer  s3cret"), None);
        // "me:s3cret" and ":s3cret"
        assert_eq!(with("Basic bWU6czNjcmV0"), None);
        assert_eq!(with("Basic OnMzY3JldA=="), None);
        for wrong in [
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3cret2",
            "s3cret",
            "Basic !!!!",
            "Basic a",
            "Basic bWU6",
            "Digest s3cret",
        ] {
            assert_eq!(with(wrong), Some(401), "{wrong}");
        }
        assert_eq!(refused(Some("s3cret"), &[]), Some(401));
    }

    #[test]
    fn the_user_matters_for_changes_without_a_token() {
        let asks =
            |token: Option<&str>, method| Guard::new(token.map(Into::into)).asks_for_user(&method);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert!(asks(None, method.clone()) && !asks(Some("s3cret"), method));
        }
        assert!(!asks(None, Method::GET));
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    #[test]
    fn without_a_token_browsers_and_other_hosts_are_refused() {
        let host = |value| refused(None, &[(header::HOST, value)]);
        for local in [
            "localhost:80",
            "127.0.0.1:9",
            "127.0.0.1",
            "[::1]:1",
            "LOCALHOST",
        ] {
            assert_eq!(host(local), None, "{local}");
        }
        for other in [
            "evil.example",
            "evil.example:80",
            "10.0.0.1:80",
            "localhost.evil:1",
        ] {
            assert_eq!(host(other), Some(403), "{other}");
        }
        assert_eq!(refused(None, &[(header::ORIGIN, "http://x")]), Some(403));
    }
}
