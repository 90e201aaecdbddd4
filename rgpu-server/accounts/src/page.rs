//! The web page: three files in the program. It knows nothing by itself; what it shows it asks of the routes, with the token that is typed
//! into it.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing but its own files and the routes of the same server; no script or style in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another release's page and script do not mix.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (
        headers.map(|(name, value)| (name, HeaderValue::from_static(value))),
        text,
    )
}

/// The page's routes, for everybody: there is nothing of anybody's in it.
pub fn page() -> Router {
    let html = || async { file("text/html; charset=utf-8", include_str!("page/usage.html")) };
    let script = || async {
        file(
            "text/javascript; charset=utf-8",
            include_str!("page/usage.js"),
        )
    };
    let style = || async { file("text/css; charset=utf-8", include_str!("page/usage.css")) };
    Router::new()
        .route("/usage", get(html))
        .route("/usage/usage.js", get(script))
        .route("/usage/usage.css", get(style))
}
