//! What probes and scrapers ask.

use std::fmt::Write;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::ask::{Asker, Question};
use crate::data::Check;
use crate::failure::{ErrorBody, Failure};
use crate::metrics::{self, Format};

/// Nobody on this machine needs a token for these.
pub(crate) fn router() -> Router<Asker> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(livez))
        .route("/metrics", get(scrape))
}

/// As Kubernetes' own components write it: `ok`, or each check on a line where one is wrong or `?verbose` asks for it.
fn told(name: &str, checks: &[Check], verbose: bool) -> Response {
    let good = checks.iter().all(|check| check.ok);
    if good && !verbose {
        return (StatusCode::OK, "ok").into_response();
    }
    let mut text = String::new();
    for Check { name, ok, detail } in checks {
        let mark = if *ok { '+' } else { '-' };
        let state = if *ok { "ok" } else { "failed" };
        let _ = match detail.as_str() {
            "" => writeln!(text, "[{mark}]{name} {state}"),
            detail => writeln!(text, "[{mark}]{name} {state}: {detail}"),
        };
    }
    let (status, end) = match good {
        true => (StatusCode::OK, "passed"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let _ = writeln!(text, "{name} check {end}");
    (status, text).into_response()
}

fn is_verbose(query: &RawQuery) -> bool {
    let query = query.0.as_deref().unwrap_or_default();
    query
        .split('&')
        .any(|word| word == "verbose" || word.starts_with("verbose="))
}

async fn checks(asker: &Asker) -> Vec<Check> {
    match asker.ask(Question::Ready).await {
        Ok(checks) => checks,
        Err(_) => vec![Check {
            name: "daemon".into(),
            ok: false,
            detail: "it does not answer".into(),
        }],
    }
}

/// Whether the daemon answers at all
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = String), (status = 503, body = String)))]
pub(crate) async fn livez(State(asker): State<Asker>, query: RawQuery) -> Response {
    let answers = asker.ask(Question::Ready).await.is_ok();
    let check = Check {
        name: "daemon".into(),
        ok: answers,
        detail: if answers { "" } else { "it does not answer" }.into(),
    };
    told("livez", &[check], is_verbose(&query))
}

/// Whether a session would be let in, and else why not
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = String), (status = 503, body = String)))]
pub(crate) async fn readyz(State(asker): State<Asker>, query: RawQuery) -> Response {
    told("readyz", &checks(&asker).await, is_verbose(&query))
}

/// Metrics in Prometheus' text format, or OpenMetrics where `Accept` asks for it
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn scrape(
    State(asker): State<Asker>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let facts = asker.ask(Question::Facts).await?;
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let format = Format::of(accept.unwrap_or_default());
    let text = metrics::text(&facts, format)
        .map_err(|error| Failure::Internal(format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_is_a_word_of_the_query() {
        for (query, verbose) in [
            (None, false),
            (Some(""), false),
            (Some("verbose"), true),
            (Some("a=b&verbose=1"), true),
            (Some("verbosely"), false),
        ] {
            assert_eq!(
                is_verbose(&RawQuery(query.map(str::to_owned))),
                verbose,
                "{query:?}"
            );
        }
    }
}
