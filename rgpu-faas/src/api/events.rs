//! Events that come as messages: stores' notifications and CloudEvents. A message may hold several; each that asks for something makes
//! one job, however often it is delivered.

mod objects;

use super::{Answer, ApiError, App, body, functions, name_of, reply};
use crate::event::{Event, Input, MAX_TEXT, Trigger};
use crate::function::Function;
use crate::journal::Submitted;
use crate::payloads::{Incoming, PayloadError};
use crate::service::{Service, ServiceError};
use crate::time::Timestamp;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use rgpu_faas_access::Principal;
use rgpu_faas_events::{
    self as events, EventError, Kind, Message, Occurrence, Options, Outcome, Reason, Request,
};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/events/{name}", post(receive))
        // Bodies are bounded as they arrive.
        .layer(DefaultBodyLimit::disable())
}

/// Where a message came in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Anything is taken here; what is no event is a call.
    Calls,
    /// Nothing but events.
    Events,
}

pub(super) enum Taken {
    Events(Response),
    /// It is no event.
    Call(Incoming),
}

async fn receive(
    State(app): State<App>,
    Path(name): Path<String>,
    Extension(caller): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let function = functions::find(&app, &name)?.function;
    let incoming = body::receive(&app.service.payloads, body).await?;
    match take(&app, function, &caller, (&headers, incoming), Door::Events).await? {
        Taken::Events(answer) => Ok(answer),
        Taken::Call(_) => Err(ApiError(
            StatusCode::BAD_REQUEST,
            format!("this is no event; POST /job/{name} takes anything"),
        )),
    }
}

/// Makes the jobs that a message asks for.
pub(super) async fn take(
    app: &App,
    function: Arc<Function>,
    caller: &Principal,
    (headers, incoming): (&HeaderMap, Incoming),
    door: Door,
) -> Answer<Taken> {
    let is_cloud_event = is_cloud_event(headers);
    let limit = Options::default().body as u64;
    if incoming.size() > limit {
        if door == Door::Calls && !is_cloud_event {
            return Ok(Taken::Call(incoming));
        }
        let message = format!(
            "the message has {} bytes; with events at most {limit} are taken",
            incoming.size()
        );
        return Err(ApiError(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let sent = Sent {
        headers: headers.collect(),
        is_cloud_event,
        door,
    };
    let (service, owner) = (app.service.clone(), name_of(caller).to_owned());
    // Messages are read into memory. The semaphore is never closed.
    let place = Arc::clone(&app.messages).acquire_owned().await.ok();
    let done = tokio::task::spawn_blocking(move || -> Answer<Taken> {
        let _place = place;
        let body = std::fs::read(incoming.path()).map_err(PayloadError::from)?;
        let Some(outcomes) = sent.read(&body)? else {
            return Ok(Taken::Call(incoming));
        };
        let mut done = Done::default();
        for outcome in outcomes {
            done.add(&service, &function, &owner, outcome)?;
        }
        let figures = &service.journal.figures;
        figures.events("message", "ignored", done.ignored.len() as u64);
        figures.events("message", "refused", done.refused.len() as u64);
        Ok(Taken::Events(done.answer(&function.name)))
    });
    done.await
        .unwrap_or_else(|error| Err(PayloadError::Io(io::Error::other(error)).into()))
}

/// Whether a sender says so, rightly or not.
fn is_cloud_event(headers: &HeaderMap) -> bool {
    const REQUIRED: [&str; 4] = ["ce-id", "ce-source", "ce-type", "ce-specversion"];
    let kind = headers.get("content-type").map(|kind| kind.as_bytes());
    let kind = kind.unwrap_or_default().trim_ascii_start();
    let prefix = b"application/cloudevents";
    REQUIRED.iter().any(|name| headers.contains_key(*name))
        || kind
            .get(..prefix.len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(prefix))
}

struct Sent {
    headers: Vec<(String, Vec<u8>)>,
    is_cloud_event: bool,
    door: Door,
}

impl Sent {
    /// The events; None if there are none, and none were meant.
    fn read(&self, body: &[u8]) -> Result<Option<Vec<Outcome>>, EventError> {
        let (now, options) = (events::Timestamp::now(), Options::default());
        if self.door == Door::Events && !self.is_cloud_event {
            return events::notification(body, now, &options).map(Some);
        }
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let request = Request {
            headers: &headers,
            body,
        };
        match events::receive(&request, now, &options) {
            received if self.is_cloud_event => received.map(Some),
            Ok(outcomes) if is_gateways(body) || !outcomes.iter().any(is_plain) => {
                Ok(Some(outcomes))
            }
            // A notification that is wrong is not taken for some function's own JSON.
            Err(error) if error.path.starts_with("Records") => Err(error),
            _ => Ok(None),
        }
    }
}

/// A request that came by way of an API gateway: the call is inside.
fn is_gateways(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Probe {
        #[serde(rename = "httpMethod")]
        method: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(body).is_ok_and(|probe| probe.method.is_some())
}

/// A message that is the input itself.
fn is_plain(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Occurrence(occurrence) if matches!(occurrence.kind, Kind::Message(_)))
}

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        ApiError(status_of(error.reason), error.to_string())
    }
}

fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::Malformed => StatusCode::BAD_REQUEST,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    }
}

/// Why one event of a message makes no job.
enum Problem {
    /// It is the event's: the others may be right.
    Refused(String),
    /// It is ours: the message may come again.
    Failed(ServiceError),
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Problem {
        Problem::Failed(error)
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Problem {
        Problem::Failed(error.into())
    }
}

/// What became of a message's events.
#[derive(Default)]
struct Done {
    jobs: Vec<Value>,
    any_new: bool,
    ignored: Vec<Value>,
    refused: Vec<(StatusCode, String)>,
}

impl Done {
    fn add(
        &mut self,
        service: &Service,
        function: &Function,
        owner: &str,
        outcome: Outcome,
    ) -> Result<(), ServiceError> {
        let occurrence = match outcome {
            Outcome::Occurrence(occurrence) => *occurrence,
            Outcome::Ignored(ignored) => {
                self.ignored
                    .push(json!({ "path": ignored.path, "why": ignored.why }));
                return Ok(());
            }
            Outcome::Refused(error) => {
                let status = status_of(error.reason);
                self.refused.push((status, error.to_string()));
                return Ok(());
            }
        };
        let submitted = event_of(service, function, owner, occurrence)
            .and_then(|event| Ok(service.submit(&function.name, event)?));
        let (id, is_new) = match submitted {
            Ok(Submitted::New(id)) => (Some(id), true),
            Ok(Submitted::Known(id)) => (id, false),
            Err(Problem::Refused(why) | Problem::Failed(ServiceError::Refused(why))) => {
                self.refused.push((StatusCode::UNPROCESSABLE_ENTITY, why));
                return Ok(());
            }
            Err(Problem::Failed(error)) => return Err(error),
        };
        self.any_new |= is_new;
        self.jobs.push(json!({ "id": id, "new": is_new }));
        Ok(())
    }

    /// 201 if there are new jobs; else 200, unless nothing was right.
    fn answer(self, function: &str) -> Response {
        let refused: Vec<&str> = self.refused.iter().map(|(_, why)| &**why).collect();
        let mut answer = json!({
            "function": function,
            "jobs": self.jobs,
            "ignored": self.ignored,
            "refused": refused,
        });
        let status = match self.refused.first() {
            Some((status, why)) if self.jobs.is_empty() => {
                answer["error"] = json!(why);
                *status
            }
            _ if self.any_new => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        let mut response = (status, Json(answer)).into_response();
        if let [only] = &self.jobs[..]
            && let Some(id) = only["id"].as_str()
        {
            reply::name_job(&mut response, id);
        }
        response
    }
}

fn event_of(
    service: &Service,
    function: &Function,
    owner: &str,
    occurrence: Occurrence,
) -> Result<Event, Problem> {
    let time = Timestamp(occurrence.time.as_microsecond());
    let text = occurrence
        .event
        .filter(|text| text.len() <= MAX_TEXT && !text.contains('\0'));
    let unique = crate::id::new().map_err(PayloadError::from)?;
    let identity = occurrence.identity.map(|it| it.as_str().to_owned());
    let event = match occurrence.kind {
        Kind::Object(object) => {
            objects::event(service, function, &object, identity.unwrap_or(unique), time)?
        }
        Kind::Message(message) => {
            let input = keep(service, &message, &unique)?;
            let trigger = match message.attributes.is_empty() {
                true => Trigger::Http,
                false => Trigger::CloudEvent,
            };
            Event {
                input,
                ..Event::new(trigger, identity.unwrap_or(unique))
            }
        }
        Kind::Tick(_) => {
            return Err(Problem::Refused(
                "a schedule's event comes from nobody".into(),
            ));
        }
    };
    Ok(Event {
        text,
        time,
        variables: occurrence.variables,
        owner: owner.to_owned(),
        ..event
    })
}

/// Keeps what came along as the input.
fn keep(service: &Service, message: &Message, unique: &str) -> Result<Input, Problem> {
    if message.body.is_empty() {
        return Ok(Input::None);
    }
    let mut incoming = service.payloads.begin()?;
    incoming.push(&message.body)?;
    let size = incoming.size();
    Ok(Input::Kept {
        payload: incoming.keep()?,
        name: format!("event-file-{unique}").into(),
        size,
    })
}
