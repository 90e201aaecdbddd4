//! Log in and out, who one is, and functions' tokens: `/access/…`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};

use crate::access::{Access, Current, Inner};
use crate::authority::Known;
use crate::browser;
use crate::credential::{self, Shown};
use crate::functions;
use crate::lock;
use crate::policy::Principal;
use crate::refusal::Refusal;
use crate::secret::{self, Token};

impl Access {
    /// `/access/…`, to be merged with what this guards, below the layer.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route("/access/login", post(login))
            .route("/access/logout", post(logout))
            .route("/access/me", get(me))
            .route("/access/tokens/{function}", post(renew).delete(revoke))
            .with_state(self.0.clone())
    }
}

fn describe(principal: &Principal) -> Value {
    json!({
        "user": principal.name(),
        "role": principal.role().map(|role| role.name()),
    })
}

fn with(mut value: Value, fields: Value) -> Value {
    if let (Value::Object(value), Value::Object(fields)) = (&mut value, fields) {
        value.extend(fields);
    }
    value
}

/// Begins a session for who shows a password or a token.
async fn login(State(access): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match try_login(&access, &parts).await {
        Ok(response) => response,
        Err(refusal) => access.refuse(&parts, refusal),
    }
}

async fn try_login(access: &Inner, parts: &Parts) -> Result<Response, Refusal> {
    if !access.authority.has_credentials() {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "no credentials are configured, so there is nobody to log in as; start the server with --token or --access",
        ));
    }
    // Else another site's page could log a browser in as somebody whose files it can read.
    browser::from_own_page(&parts.headers, access.public_url.as_ref())?;
    let name = browser::cookie_name(access.public_url.as_ref());
    let shown = match credential::read(&parts.headers, name)? {
        Shown::Cookie(_) => Shown::Nothing,
        shown => shown,
    };
    let Known {
        principal,
        by,
        lasts,
    } = access
        .known(shown, &parts.headers, &parts.extensions)
        .await?;
    if matches!(principal, Principal::Function(_)) {
        return Err(Refusal::forbidden(
            "a function's token invokes that function and is nobody to log in as",
        ));
    }
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "no session can be begun");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the system has no random numbers",
        )
    };
    let (secret, csrf) = (
        Token::random().map_err(failed)?,
        secret::hexadecimal(&secret::random().map_err(failed)?),
    );
    let now = access.clock.elapsed();
    let left = {
        let mut sessions = lock(&access.sessions);
        // Whatever session the browser had, or was given by somebody, is over; the new one has a secret that nobody has seen.
        if let Some(before) = credential::session_cookie(&parts.headers, name)? {
            sessions.end(&before);
        }
        sessions.begin(
            secret.reveal(),
            csrf.clone(),
            (principal.clone(), by),
            lasts,
            now,
        );
        let session = sessions.find(secret.reveal(), now);
        session.map(|session| session.left(sessions.limits(), now))
    };
    access.counters.logins.fetch_add(1, Ordering::Relaxed);
    tracing::info!(%principal, "logged in");
    let answer = with(
        describe(&principal),
        json!({ "csrf": csrf, "seconds_left": left.unwrap_or_default().as_secs() }),
    );
    Ok(with_cookie(access, Some(secret.reveal()), Json(answer)))
}

fn with_cookie(access: &Inner, secret: Option<&str>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Some(cookie) = browser::set_cookie(secret, access.public_url.as_ref()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    // A proxy or a history that kept it would hand it to the next person.
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

async fn logout(State(access): State<Arc<Inner>>, current: Option<Extension<Current>>) -> Response {
    if let Some(Extension(current)) = current {
        lock(&access.sessions).end(&current.secret);
    }
    with_cookie(&access, None, StatusCode::NO_CONTENT)
}

async fn me(
    State(access): State<Arc<Inner>>,
    Extension(principal): Extension<Principal>,
    current: Option<Extension<Current>>,
    headers: HeaderMap,
) -> Json<Value> {
    let credentials = access.authority.has_credentials();
    let mut answer = with(describe(&principal), json!({ "credentials": credentials }));
    if !credentials {
        // So that a page knows whether it can change anything.
        let has_key = browser::has_key(&headers, &access.page_key);
        answer = with(answer, json!({ "key": has_key }));
    }
    if let Some(Extension(Current { session, .. })) = current {
        let now = access.clock.elapsed();
        let left = session.left(lock(&access.sessions).limits(), now);
        let fields = json!({ "csrf": session.csrf, "seconds_left": left.as_secs() });
        answer = with(answer, fields);
    }
    Json(answer)
}

fn tokens<'a>(access: &'a Inner, function: &str) -> Result<&'a functions::Functions, Refusal> {
    let functions = access.functions.as_deref().ok_or_else(|| {
        Refusal::new(
            StatusCode::CONFLICT,
            "no credentials are configured, so functions have no tokens; start the server with --token or --access",
        )
    })?;
    if !access.host.is_function(function) {
        let message = format!("there is no function {function}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    Ok(functions)
}

fn not_kept(error: functions::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn renew(
    State(access): State<Arc<Inner>>,
    Path(function): Path<String>,
) -> Result<Response, Refusal> {
    let token = tokens(&access, &function)?
        .renew_token(&function)
        .map_err(not_kept)?;
    let answer = json!({ "function": function, "token": token.reveal() });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn revoke(
    State(access): State<Arc<Inner>>,
    Path(function): Path<String>,
) -> Result<StatusCode, Refusal> {
    tokens(&access, &function)?
        .revoke_token(&function)
        .map_err(not_kept)?;
    Ok(StatusCode::NO_CONTENT)
}
