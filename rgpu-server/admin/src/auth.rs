//! Who may ask: the tenants' own tokens. A tenant sees what is its own, an administrator everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ask::{Asker, Question};
use crate::failure::Failure;

/// What a caller may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What is the tenant's own.
    #[default]
    Tenant,
    /// Everything, and reload.
    Admin,
}

/// Whose token a request shows. Handlers behind the token take it as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: String,
    pub role: Role,
}

impl Identity {
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Whose things it may see: one tenant's, or all.
    pub fn scope(&self) -> Option<String> {
        (!self.is_admin()).then(|| self.tenant.clone())
    }

    /// The same, where the caller has asked for one tenant's.
    pub fn scope_of(&self, wanted: Option<String>) -> Result<Option<String>, Failure> {
        match wanted {
            Some(wanted) if !self.is_admin() && wanted != self.tenant => {
                Err(Failure::Forbidden(format!(
                    "this token is of tenant {}, which sees only its own",
                    self.tenant
                )))
            }
            Some(wanted) => Ok(Some(wanted)),
            None => Ok(self.scope()),
        }
    }

    pub fn must_be_admin(&self) -> Result<(), Failure> {
        match self.is_admin() {
            true => Ok(()),
            false => Err(Failure::Forbidden(
                "only an administrator may do this: a tenant with `role = \"admin\"`".into(),
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Identity, Failure> {
        let identity = parts.extensions.get::<Identity>().cloned();
        identity.ok_or_else(|| Failure::Internal("this route stands before the token".into()))
    }
}

/// One connection, as far as it matters who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// By a unix socket, or from this machine.
    pub is_local: bool,
    /// A request of somebody known is under way: it is not dropped for a newcomer.
    pub is_trusted: Arc<AtomicBool>,
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Web pages in this machine's browser are on this machine too, but what they ask names another host, or an origin.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    headers.contains_key(header::ORIGIN) || host.is_some_and(|host| !is_local_name(host))
}

fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn identify(asker: &Asker, headers: &HeaderMap) -> Result<Identity, Failure> {
    let Some(token) = token(headers) else {
        return Err(Failure::Unauthenticated(
            "a token is needed: send `Authorization: Bearer TOKEN` with one of the server's tokens"
                .into(),
        ));
    };
    let who = |answer| Question::Who {
        token: token.to_owned(),
        answer,
    };
    asker.ask(who).await?
}

/// Lets whoever shows a token go on, and tells what follows whose it is.
pub(crate) async fn known(
    State(asker): State<Asker>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = match identify(&asker, request.headers()).await {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    let trusted = request
        .extensions()
        .get::<Peer>()
        .map(|peer| peer.is_trusted.clone());
    if let Some(trusted) = &trusted {
        trusted.store(true, Ordering::Relaxed);
    }
    request.extensions_mut().insert(identity);
    let response = next.run(request).await;
    if let Some(trusted) = &trusted {
        trusted.store(false, Ordering::Relaxed);
    }
    response
}

/// The same, but from this machine nobody needs a token.
pub(crate) async fn local_or_known(asker: State<Asker>, request: Request, next: Next) -> Response {
    let is_local = request
        .extensions()
        .get::<Peer>()
        .is_some_and(|peer| peer.is_local);
    let headers = request.headers();
    if !is_local || headers.contains_key(header::AUTHORIZATION) {
        return known(asker, request, next).await;
    }
    match is_of_a_page(headers) {
        false => next.run(request).await,
        true => Failure::Unauthenticated(
            "a token is needed: from this machine without one only with localhost or a loopback address, as 127.0.0.1, as `Host`, \
             and without `Origin`, since web pages in a browser here ask too; or send `Authorization: Bearer TOKEN`"
                .into(),
        )
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn a_token_is_a_bearers() {
        let with = |value| token(&headers(&[(header::AUTHORIZATION, value)])).map(str::to_owned);
        assert_eq!(with("Bearer abc"), Some("abc".into()));
        assert_eq!(with("bearer  abc "), Some("abc".into()));
        for wrong in ["abc", "Bearer", "Bearer ", "Basic abc"] {
            assert_eq!(with(wrong), None, "{wrong}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn pages_are_told_from_programs() {
        let host = |value| is_of_a_page(&headers(&[(header::HOST, value)]));
        for local in ["localhost", "LOCALHOST:1", "127.0.0.1:9400", "[::1]:1"] {
            assert!(!host(local), "{local}");
        }
        for other in [
            "evil.example",
            "evil.example:80",
            "10.0.0.1:80",
            "localhost.evil:1",
        ] {
            assert!(host(other), "{other}");
        }
        assert!(is_of_a_page(&headers(&[(header::ORIGIN, "http://x")])));
    }

    #[test]
    fn a_tenant_sees_only_its_own() {
        let tenant = Identity {
            tenant: "a".into(),
            role: Role::Tenant,
        };
        let admin = Identity {
            tenant: "b".into(),
            role: Role::Admin,
        };
        assert_eq!(tenant.scope_of(None), Ok(Some("a".into())));
        assert_eq!(tenant.scope_of(Some("a".into())), Ok(Some("a".into())));
        assert!(tenant.scope_of(Some("b".into())).is_err() && tenant.must_be_admin().is_err());
        assert_eq!(admin.scope_of(None), Ok(None));
        assert_eq!(admin.scope_of(Some("a".into())), Ok(Some("a".into())));
        assert!(admin.must_be_admin().is_ok());
    }
}
