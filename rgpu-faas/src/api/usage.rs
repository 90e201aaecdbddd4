//! GPU use and cost per function: the accounts that the GPU server keeps, as far as the caller sees its functions.

use super::{Answer, ApiError, App};
use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use rgpu_faas_access::{Action, Principal};
use rgpu_http::{Credential, Request, Server};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Answers of the server that are put together.
const MAX_PAGES: usize = 10;
/// Rows of one.
const PAGE: u32 = 10_000;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/usage", get(show))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Seconds since 1970, as to the server; the last day, unless told otherwise.
    from: Option<i64>,
    to: Option<i64>,
    /// Sums for each of these spans, beside those of the whole time.
    step: Option<Step>,
}

#[derive(Clone, Copy, Deserialize)]
enum Step {
    #[serde(rename = "5min")]
    FiveMinutes,
    #[serde(rename = "hour")]
    Hour,
    #[serde(rename = "day")]
    Day,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Step::FiveMinutes => "5min",
            Step::Hour => "hour",
            Step::Day => "day",
        }
    }
}

async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Query(asked): Query<Asked>,
) -> Answer {
    let config = app.service.config.clone();
    let Some(url) = config.usage_url.clone() else {
        return Ok(Json(
            json!({ "configured": false, "functions": [], "series": [] }),
        ));
    };
    let place = app.usages.try_acquire().map_err(|_| {
        let message = "too many ask for the use of GPUs at once; try again";
        ApiError(StatusCode::SERVICE_UNAVAILABLE, message.into())
    })?;
    let asking = tokio::task::spawn_blocking(move || {
        let token = config.usage_token_file.as_deref().map(read_token);
        let token = token.transpose()?;
        let get = |group: &str| rows(&url, token.as_deref(), &asked, group);
        let functions = get("function")?;
        let series = match asked.step {
            Some(step) => get(&format!("{},function", step.as_str()))?,
            None => Vec::new(),
        };
        anyhow::Ok((functions, series))
    });
    let told = match asking.await {
        Ok(told) => told,
        Err(error) => Err(error.into()),
    };
    drop(place);
    let (mut functions, mut series) = told.map_err(|error| {
        // Its address and its words are the operator's to know.
        tracing::warn!(
            error = format!("{error:#}"),
            "the GPU server's accounts cannot be had"
        );
        let message = "the GPU server's accounts cannot be had now; the runner's log says why";
        ApiError(StatusCode::BAD_GATEWAY, message.into())
    })?;
    let sees = |row: &Value| {
        let name = row["function"].as_str().unwrap_or_default();
        app.access.sees(&caller, Action::JobList, name)
    };
    if !app.access.sees_all(&caller, Action::JobList) {
        functions.retain(sees);
        series.retain(sees);
    }
    Ok(Json(
        json!({ "configured": true, "functions": functions, "series": series }),
    ))
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

/// All rows of an answer that may come in parts.
fn rows(url: &str, token: Option<&str>, asked: &Asked, group: &str) -> anyhow::Result<Vec<Value>> {
    let credential = token.map_or(Credential::None, |it| Credential::Token(it.to_owned()));
    let server = Server::new(url, &credential, None)?;
    let mut rows = Vec::new();
    let mut offset = 0;
    for _ in 0..MAX_PAGES {
        let mut path = format!("/v1/usage?group_by={group}&limit={PAGE}&offset={offset}");
        for (name, value) in [("from", asked.from), ("to", asked.to)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let answer = server.ask(Request::get(path))?;
        if answer.status != StatusCode::OK {
            let text: String = answer.reason().chars().take(300).collect();
            anyhow::bail!("{url} answers {}: {text}", answer.status);
        }
        let mut page: Value = serde_json::from_slice(&answer.body)?;
        if let Some(more) = page["rows"].as_array_mut() {
            rows.append(more);
        }
        match page["next"].as_u64() {
            Some(next) => offset = next,
            None => break,
        }
    }
    Ok(rows)
}
