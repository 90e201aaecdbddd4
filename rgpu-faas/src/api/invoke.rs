//! Calls as events: OSCAR's `/job`, which is not waited for, and `/run`, which is.

use super::events::{self, Door, Taken};
use super::logs::Follower;
use super::{Answer, ApiError, App, body, find, functions, name_of, reply, until};
use crate::event::{Event, Input, Trigger};
use crate::journal::{Job, Submitted};
use crate::payloads::Incoming;
use crate::service::Waiter;
use crate::state::JobState;
use crate::units;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use bytes::Bytes;
use rgpu_faas_access::Principal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// The longest name that a caller gives a call, in bytes.
const MAX_KEY: usize = 255;
/// A stream in which nothing happens says so, for those in between.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/job/{name}", post(submit))
        .route("/run/{name}", post(run))
        // Bodies are bounded as they arrive.
        .layer(DefaultBodyLimit::disable())
}

#[derive(Deserialize)]
struct Call {
    /// The input's name for the script.
    filename: Option<String>,
    /// Calls with one key run one after another.
    order_key: Option<String>,
    /// How long `/run` waits.
    timeout: Option<String>,
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, message.into())
}

/// Takes a call in; its job, and whether it is new.
async fn take(
    app: &App,
    name: &str,
    call: Call,
    caller: &Principal,
    (headers, incoming): (&HeaderMap, Incoming),
    keeps_result: bool,
) -> Answer<(Job, bool)> {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key
                .to_str()
                .ok()
                .filter(|key| (1..=MAX_KEY).contains(&key.len()));
            Some(key.ok_or_else(|| {
                bad(format!(
                    "an Idempotency-Key has 1 to {MAX_KEY} visible characters of ASCII"
                ))
            })?)
        }
    };
    let received = body::understand(incoming).await?;
    let unique = crate::id::new()
        .map_err(|error| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let identity = match key {
        // Callers do not know each other's keys.
        Some(key) => {
            let sender = match caller {
                // No person has such a name.
                Principal::Function(_) => "the function's token",
                other => name_of(other),
            };
            format!("key {} {sender} {key}", sender.len())
        }
        None => unique.clone(),
    };
    let mut event = Event {
        owner: name_of(caller).to_owned(),
        order_key: call.order_key,
        keeps_result,
        text: received.text,
        ..Event::new(Trigger::Http, identity)
    };
    let mut body = None;
    if let Some(incoming) = received.incoming {
        let name = call
            .filename
            .unwrap_or_else(|| format!("event-file-{unique}"));
        let size = incoming.size();
        if event.text.is_none() {
            event.text = Some(json!({ "event": "http", "file": name, "size": size }).to_string());
        }
        let (payload, file) = incoming.keep_unsynced()?;
        body = Some(file);
        event.input = Input::Kept {
            payload,
            name: name.into(),
            size,
        };
    }
    match app.service.submit(name, event)? {
        Submitted::New(id) => {
            // The job may begin meanwhile; only its caller has to wait.
            if let Some(body) = body
                && let Err(error) = sync(body).await
            {
                app.service.cancel(&id)?;
                return Err(ApiError(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the body cannot be kept: {error}; job {id} is cancelled"),
                ));
            }
            Ok((find(app, &id)?, true))
        }
        Submitted::Known(Some(id)) => Ok((find(app, &id)?, false)),
        Submitted::Known(None) => Err(ApiError(
            StatusCode::GONE,
            "the job of this Idempotency-Key has been removed".into(),
        )),
    }
}

async fn sync(body: File) -> io::Result<()> {
    let synced = tokio::task::spawn_blocking(move || body.sync_data()).await;
    synced.map_err(io::Error::other).flatten()
}

/// 201 with the job's name; 200 if the call has had one. What a store or a broker sends here is not a call, but events.
async fn submit(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(call): Query<Call>,
    Extension(caller): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let function = functions::find(&app, &name)?.function;
    let incoming = body::receive(&app.service.payloads, body).await?;
    let sent = (&headers, incoming);
    let incoming = match events::take(&app, function, &caller, sent, Door::Calls).await? {
        Taken::Events(answer) => return Ok(answer),
        Taken::Call(incoming) => incoming,
    };
    let (job, is_new) = take(&app, &name, call, &caller, (&headers, incoming), false).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = json!({ "id": job.id, "function": job.function, "state": job.state });
    let mut response = (status, Json(answer)).into_response();
    reply::name_job(&mut response, &job.id);
    Ok(response)
}

/// The job's result, or, when it takes longer than the caller waits, 202 with its name.
async fn run(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(call): Query<Call>,
    Extension(caller): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let wait = match &call.timeout {
        Some(text) => units::duration(text).map_err(|error| bad(format!("timeout: {error}")))?,
        None => app.service.config.run_timeout,
    };
    let wait = wait.min(super::MAX_WAIT);
    let waiter = app.service.wait_for(&name)?;
    let incoming = body::receive(&app.service.payloads, body).await?;
    let (job, _) = take(&app, &name, call, &caller, (&headers, incoming), true).await?;
    let raw = reply::wants_raw(&headers);
    if reply::wants_events(&headers) {
        return stream(&app, job, wait, waiter, raw);
    }
    let look = || {
        let job = find(&app, &job.id)?;
        let done = job.state.is_final();
        Ok((job, done))
    };
    let job = until(&app, wait.as_secs_f64(), look).await?;
    reply::of(&app, &job, raw).await
}

/// The log as it comes, then the result, as server-sent events: `job`, any number of `log`, and `result`, `failed` or
/// `accepted`. Who takes bytes too gets no result here, but where it is.
fn stream(app: &App, job: Job, wait: Duration, waiter: Waiter, raw: bool) -> Answer<Response> {
    let mut follower = Follower::new(app, &job.id, None)?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(4);
    let (app, id) = (app.clone(), job.id.clone());
    tokio::spawn(async move {
        let _waiter = waiter;
        let deadline = Instant::now() + wait;
        let first = json!({ "id": job.id, "function": job.function, "state": job.state });
        if sender.send(Ok(event("job", &first))).await.is_err() {
            return;
        }
        // A character may be cut in two by the end of a piece.
        let mut rest = Vec::new();
        loop {
            let piece = tokio::select! {
                piece = follower.next() => piece,
                () = tokio::time::sleep_until(deadline) => break,
                () = sender.closed() => return,
                () = tokio::time::sleep(ALIVE) => {
                    if sender.send(Ok(Bytes::from_static(b":\n\n"))).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Ok(Some(piece)) = piece else { break };
            rest.extend(piece);
            let text = take_text(&mut rest);
            if sender
                .send(Ok(event("log", &Value::String(text))))
                .await
                .is_err()
            {
                return;
            }
        }
        if !rest.is_empty() {
            let text = String::from_utf8_lossy(&rest).into_owned();
            let _ = sender.send(Ok(event("log", &Value::String(text)))).await;
        }
        if let Some(last) = last_event(&app, &job.id, raw).await {
            let _ = sender.send(Ok(last)).await;
        }
    });
    let kind = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let body = Body::from_stream(ReceiverStream::new(receiver));
    let mut response = (kind, body).into_response();
    reply::name_job(&mut response, &id);
    Ok(response)
}

fn event(name: &str, data: &Value) -> Bytes {
    // JSON has no line breaks of its own.
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// All but the beginning of a character at the end.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let complete = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    // Other damage further on hides this; then nothing is held back.
    let rest = bytes.split_off(complete);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

async fn last_event(app: &App, id: &str, raw: bool) -> Option<Bytes> {
    let job = find(app, id).ok()?;
    if raw && job.state == JobState::Succeeded {
        let place = format!("/jobs/{id}/result");
        return Some(event(
            "result",
            &json!({ "id": id, "state": job.state, "result": place }),
        ));
    }
    let response = match reply::of(app, &job, false).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    let body = body.ok()?;
    let data = match is_json {
        true => serde_json::from_slice(&body).ok()?,
        false => Value::String(String::from_utf8_lossy(&body).into_owned()),
    };
    let name = match status {
        StatusCode::OK => "result",
        StatusCode::ACCEPTED => "accepted",
        _ => "failed",
    };
    Some(event(name, &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut_in_two() {
        let mut bytes = "aé".as_bytes().to_vec();
        bytes.extend(&"心".as_bytes()[..2]);
        assert_eq!(take_text(&mut bytes), "aé");
        bytes.extend(&"心".as_bytes()[2..]);
        assert_eq!(take_text(&mut bytes), "心");
        let mut broken = b"a\xffb".to_vec();
        assert_eq!(take_text(&mut broken), "a\u{fffd}b");
        assert!(broken.is_empty());
    }

    #[test]
    fn what_a_script_prints_makes_no_event_of_its_own() {
        let data = Value::String("x\n\nevent: result\ndata: {}\n\n".into());
        let text = String::from_utf8(event("log", &data).to_vec()).unwrap();
        assert_eq!(text.matches('\n').count(), 3, "{text}");
    }
}
