//! What the page needs of definitions: what is wrong with one before it is registered, how one is written, and an input to try it with.

use super::stream::{self, Purpose};
use super::{Answer, ApiError, App, blocking, files, functions, not_found};
use crate::apply;
use crate::beneath;
use crate::function::{self, Function};
use crate::registry::Source;
use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rgpu_faas_access::Principal;
use serde_json::{Value, json};
use std::io::{self, Read};

/// Where an input to try the function with is: `data:…` (RFC 2397), `./PATH` beside the definition's file, or `BUCKET/KEY` in the runner's
/// own storage.
pub const SAMPLE: &str = "rgpu.io/sample";
/// What its file is called, where that does not tell itself.
pub const SAMPLE_NAME: &str = "rgpu.io/sample-name";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/system/check", post(check))
        .route("/system/services/{name}/definition", get(show_definition))
        .route("/system/services/{name}/sample", get(show_sample))
}

/// Nothing is registered, and 200 whatever is wrong: `problems` says it.
async fn check(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    body: String,
) -> Json<Value> {
    let (functions, problem) = match function::parse(&body, "request", None) {
        Err(error) => (
            Vec::new(),
            Some(json!({ "line": error.line, "column": error.column, "message": error.message })),
        ),
        Ok(functions) => {
            let allowed = functions::check_request(&app, &caller, &functions);
            let problem = allowed
                .err()
                .map(|ApiError(_, message)| json!({ "line": 0, "column": 0, "message": message }));
            (functions, problem)
        }
    };
    let warnings = functions.iter().flat_map(|function| {
        let warn = |text: &String| json!({ "function": function.name, "message": text });
        function.warnings.iter().map(warn).collect::<Vec<_>>()
    });
    let warnings: Vec<Value> = warnings.collect();
    let names: Vec<&str> = functions.iter().map(|function| &*function.name).collect();
    let problems: Vec<Value> = problem.into_iter().collect();
    Json(json!({ "functions": names, "problems": problems, "warnings": warnings }))
}

/// As it could be registered again, in JSON, which is YAML too.
async fn show_definition(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let entry = functions::find(&app, &name)?;
    let mut function = Function::clone(&entry.function);
    // A script that is a file of the server's is shown with its content: it is what an editor wants to see.
    let function = blocking(move || {
        apply::inline_script(&mut function)?;
        Ok(function)
    })
    .await?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, apply::definition(&function)).into_response())
}

/// The function's sample input, if its definition names one.
async fn show_sample(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path(name): Path<String>,
) -> Answer<Response> {
    let entry = functions::find(&app, &name)?;
    let annotations = &entry.function.annotations;
    let Some(place) = annotations.get(SAMPLE) else {
        let message = format!("{name} has no sample input; its annotation {SAMPLE} would name one");
        return Err(not_found(message));
    };
    let called = annotations.get(SAMPLE_NAME).map(String::as_str);
    if let Some(url) = place.strip_prefix("data:") {
        let name = called.unwrap_or("sample");
        return Ok(stream::bytes(inline(url)?, name, &Purpose::default()));
    }
    let own_name = place.rsplit('/').next().unwrap_or("sample");
    let name = called.unwrap_or(own_name);
    if let Some(beside) = place.strip_prefix("./") {
        // Who defines functions over the network does not choose files of this machine.
        let Source::File(definition) = entry.source else {
            let message = "a sample beside its definition is for functions that are defined by a file of the server's";
            return Err(ApiError(StatusCode::CONFLICT, message.into()));
        };
        let beside = std::path::PathBuf::from(beside);
        let limit = app.service.config.max_body;
        let bytes = blocking(move || {
            let folder = definition.parent().unwrap_or(std::path::Path::new("/"));
            let file = beneath::open(beneath::root(folder)?, &beside)?;
            read(file, limit)
        })
        .await?;
        return Ok(stream::bytes(bytes, name, &Purpose::default()));
    }
    if !files::may_read(&app, &caller, place) {
        let message = format!("{place} is not yours, or does not exist");
        return Err(ApiError(StatusCode::FORBIDDEN, message));
    }
    let file = files::open(&app, place.clone().into()).await?;
    stream::file(file, name, &Purpose::default()).await
}

fn read(file: std::fs::File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(
            "the sample is larger than a call's body may be (--max-body)",
        )),
        false => Ok(bytes),
    }
}

/// What a `data:` URL holds, after that word.
fn inline(url: &str) -> Answer<Vec<u8>> {
    let wrong = || {
        let message =
            format!("the annotation {SAMPLE} is no data: URL, as in data:;base64,aGVsbG8=");
        ApiError(StatusCode::UNPROCESSABLE_ENTITY, message)
    };
    let (kind, data) = url.split_once(',').ok_or_else(wrong)?;
    match kind.ends_with(";base64") {
        true => STANDARD.decode(data).map_err(|_| wrong()),
        false => Ok(unescape(data)),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = others.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        rest = if escaped.is_some() {
            &others[2..]
        } else {
            others
        };
        bytes.push(escaped.unwrap_or(*first));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_may_stand_in_the_definition() {
        let of = |url| inline(url).ok();
        assert_eq!(of(";base64,aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(of("text/plain;base64,aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(of(",a%20b%0a%zz%"), Some(b"a b\n%zz%".to_vec()));
        assert_eq!(of("text/plain,{\"a\":1}"), Some(b"{\"a\":1}".to_vec()));
        assert_eq!(of("text/plain"), None);
        assert_eq!(of(";base64,***"), None);
    }
}
