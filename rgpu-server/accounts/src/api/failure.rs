//! What a caller is told that does not get what it asked for.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// A reason in words, and of what kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Invalid(String),
    Unauthenticated,
    Forbidden(String),
    Unavailable(String),
}

/// A failure as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageError)]
pub struct Body {
    /// In words: what was wrong, and what to do.
    pub error: String,
    /// For programs: `invalid`, `unauthenticated`, `forbidden` or `unavailable`.
    pub code: &'static str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, code, error) = match self {
            Failure::Invalid(text) => (StatusCode::BAD_REQUEST, "invalid", text),
            Failure::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "a token is needed: send `Authorization: Bearer TOKEN` with one of the server's tokens".into(),
            ),
            Failure::Forbidden(text) => (StatusCode::FORBIDDEN, "forbidden", text),
            Failure::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
        };
        let body = Json(Body { error, code });
        match status {
            StatusCode::UNAUTHORIZED => {
                (status, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
