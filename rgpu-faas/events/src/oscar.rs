//! Bodies as OSCAR's supervisor (grycap/faas-supervisor, `events/__init__.py`) tells them apart, so that a function gets the
//! same `EVENT`, variables and input file. In its order: an API gateway's request, dCache, Rucio, a delegated event,
//! records of a store, and anything else, which is the input itself.
//!
//! Where the supervisor would end with an exception, this either says what is wrong or does what was meant: a JSON value
//! that is no object is the input as it stands. Of a notification all records count, not the first alone.

use crate::error::{At, EventError, quote};
use crate::json::{self, Members};
use crate::s3::{self, Source};
use crate::{Change, Kind, Message, Object, ObjectKey, Occurrence, Options, Outcome, Store};
use crate::{ignored, variable};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;

/// Events in events: a gateway's request with a delegated event in it has two.
const DEPTH: usize = 4;
/// Parameters of an API gateway's request.
const PARAMETERS: usize = 64;
const SHORT: usize = 256;

/// As Python decodes: bits that the last digit has too many do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

pub(crate) fn receive(
    body: &str,
    now: Timestamp,
    options: &Options,
) -> Result<Vec<Outcome>, EventError> {
    let mut reader = Reader {
        whole: body,
        now,
        options,
        provider: None,
        variables: Vec::new(),
    };
    reader.text(&At::Root, body, DEPTH)
}

struct Reader<'a> {
    /// The body as it came: `EVENT`, but for events of stores.
    whole: &'a str,
    now: Timestamp,
    options: &'a Options,
    provider: Option<String>,
    variables: Vec<(String, String)>,
}

impl Reader<'_> {
    /// A text that may be an event.
    fn text(&mut self, at: &At<'_>, text: &str, depth: usize) -> Result<Vec<Outcome>, EventError> {
        match json::check(text) {
            Err(not_json) => self.encoded(at, text, &not_json),
            Ok(()) => self.json(at, text.trim(), depth),
        }
    }

    fn json(&mut self, at: &At<'_>, text: &str, depth: usize) -> Result<Vec<Outcome>, EventError> {
        if text.starts_with('"') {
            // The supervisor takes the quotes off, and the rest for the input.
            let inner = json::string(at, text, self.options.body)?;
            return match json::check(&inner) {
                Ok(()) => Ok(self.message(inner.into_bytes(), true)),
                Err(not_json) => self.encoded(at, &inner, &not_json),
            };
        }
        if !text.starts_with('{') {
            return Ok(self.message(text.as_bytes().to_vec(), true));
        }
        let members = json::object(at, text)?;
        if !members.complete() {
            // No event has so many members.
            return Ok(self.message(text.as_bytes().to_vec(), true));
        }
        if members.raw("httpMethod").is_some() {
            return self.gateway(at, &members.unambiguous(at)?, depth);
        }
        if members.raw("event").is_some() && members.raw("subscription").is_some() {
            return Ok(vec![self.dcache(at, &members.unambiguous(at)?)?]);
        }
        if let Some(payload) = rucio_payload(&members) {
            members.unambiguous(at)?;
            return Ok(vec![self.rucio(&at.field("payload"), payload)?]);
        }
        if members.raw("event").is_some() {
            return self.delegated(at, &members.unambiguous(at)?, depth);
        }
        if let Some(test) = s3::test_event(&members) {
            return Ok(vec![test]);
        }
        match first_source(&members).as_deref() {
            Some("OneTrigger") => Ok(vec![self.onedata(at, &members.unambiguous(at)?, text)?]),
            Some(source) if s3::is_known(source) => {
                self.records(at, &members.unambiguous(at)?, text)
            }
            _ => Ok(self.message(text.as_bytes().to_vec(), true)),
        }
    }

    fn records(
        &self,
        at: &At<'_>,
        members: &Members<'_>,
        text: &str,
    ) -> Result<Vec<Outcome>, EventError> {
        let source = Source {
            at,
            provider: self.provider.as_deref(),
            now: self.now,
            options: self.options,
        };
        let mut outcomes = source.records(members, text)?;
        for outcome in &mut outcomes {
            if let Outcome::Occurrence(occurrence) = outcome {
                occurrence.variables = self.variables.clone();
            }
        }
        Ok(outcomes)
    }

    /// An AWS API gateway's request: its parameters become variables, and its body is an event again.
    fn gateway(
        &mut self,
        at: &At<'_>,
        members: &Members<'_>,
        depth: usize,
    ) -> Result<Vec<Outcome>, EventError> {
        if let Some(parameters) = members.get("queryStringParameters") {
            self.parameters(&at.field("queryStringParameters"), parameters)?;
        }
        self.inner(at, members, "body", depth)
    }

    fn parameters(&mut self, at: &At<'_>, text: &str) -> Result<(), EventError> {
        let members = json::object(at, text)?.unambiguous(at)?;
        for (name, value) in members.iter() {
            if self.variables.len() == PARAMETERS {
                return Err(at.too_large(format!("has more than {PARAMETERS} parameters")));
            }
            let fits = |character: char| character != '=' && !character.is_control();
            if name.is_empty() || name.len() > SHORT || !name.chars().all(fits) {
                return Err(at.malformed(format!(
                    "{} cannot be part of a variable's name; write 1 to {SHORT} characters other than = and control characters",
                    quote(name)
                )));
            }
            let at = at.field(name);
            let value = json::string(&at, value, crate::VARIABLE_LIMIT)?;
            if value.contains('\0') {
                return Err(at.malformed("has a NUL character, which no variable can carry"));
            }
            self.variables.push((format!("CONT_VAR_{name}"), value));
        }
        Ok(())
    }

    /// `{"event": …, "storage_provider": …}`, as one cluster hands a job to another.
    fn delegated(
        &mut self,
        at: &At<'_>,
        members: &Members<'_>,
        depth: usize,
    ) -> Result<Vec<Outcome>, EventError> {
        if let Some(name) = members.text(at, "storage_provider", SHORT)? {
            let right = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if name.is_empty() || !name.bytes().all(right) {
                return Err(at.field("storage_provider").malformed(format!(
                    "{} is no provider's name; write letters, digits, dots, dashes and underscores",
                    quote(&name)
                )));
            }
            self.provider = Some(name);
        }
        self.inner(at, members, "event", depth)
    }

    /// An event inside another, as an object or as text.
    fn inner(
        &mut self,
        at: &At<'_>,
        members: &Members<'_>,
        name: &str,
        depth: usize,
    ) -> Result<Vec<Outcome>, EventError> {
        let at = at.field(name);
        let Some(depth) = depth.checked_sub(1) else {
            return Err(at.too_large(format!("more than {DEPTH} events, each in the next")));
        };
        match members.get(name) {
            None => self.text(&at, "", depth),
            Some(text) if text.starts_with('"') => {
                let inner = json::string(&at, text, self.options.body)?;
                self.text(&at, &inner, depth)
            }
            Some(text) if text.starts_with('{') => self.json(&at, text, depth),
            Some(text) => Err(json::wrong_kind(&at, "an object or a string", text)),
        }
    }

    /// `{"event": {"name": …, "mask": […]}, "subscription": …}`: inotify's words for what happened to a file.
    fn dcache(&self, at: &At<'_>, members: &Members<'_>) -> Result<Outcome, EventError> {
        let event = members.need(at, "event")?;
        let at = at.field("event");
        let event = json::object(&at, event)?.unambiguous(&at)?;
        let key = raw_key(&at, &event, "name")?;
        let mask_at = at.field("mask");
        let mut change = Change::Created;
        if let Some(mask) = event.get("mask") {
            let mut words = Vec::new();
            for (index, word) in json::array(&mask_at, mask, 32)?.into_iter().enumerate() {
                words.push(json::string(&mask_at.index(index), word, SHORT)?);
            }
            let says = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
            if says(&["IN_ISDIR"]) {
                return Ok(ignored(&at, format!("{key:?} is a folder")));
            }
            if says(&[
                "IN_DELETE",
                "IN_MOVED_FROM",
                "IN_DELETE_SELF",
                "IN_MOVE_SELF",
            ]) {
                change = Change::Removed;
            } else if !says(&["IN_CREATE", "IN_CLOSE_WRITE", "IN_MOVED_TO", "IN_MODIFY"]) {
                return Ok(ignored(
                    &at,
                    format!("{key:?}: no file is made or removed by it"),
                ));
            }
        }
        if change == Change::Removed && !self.options.removed {
            return Ok(ignored(&at, format!("{key:?} was removed")));
        }
        Ok(self.object(Store::Dcache, change, None, key, self.whole))
    }

    fn rucio(&self, at: &At<'_>, payload: Members<'_>) -> Result<Outcome, EventError> {
        let payload = payload.unambiguous(at)?;
        let scope = json::string(&at.field("scope"), payload.need(at, "scope")?, SHORT)?;
        let key = raw_key(at, &payload, "name")?;
        Ok(self.object(Store::Rucio, Change::Created, Some(scope), key, self.whole))
    }

    /// `{"Key": "/space/folder/file", "Records": [{"objectKey": "file", "eventSource": "OneTrigger", …}]}`
    fn onedata(
        &self,
        at: &At<'_>,
        members: &Members<'_>,
        text: &str,
    ) -> Result<Outcome, EventError> {
        let key = raw_key(at, members, "Key")?;
        Ok(self.object(Store::Onedata, Change::Created, None, key, text))
    }

    /// An object of a store whose events have nothing that tells one from the next.
    fn object(
        &self,
        store: Store,
        change: Change,
        bucket: Option<String>,
        key: ObjectKey,
        event: &str,
    ) -> Outcome {
        self.occurrence(
            Kind::Object(Object {
                store,
                provider: self.provider.clone(),
                change,
                bucket,
                key,
                size: None,
                etag: None,
                version: None,
                sequencer: None,
            }),
            event,
        )
    }

    /// Text that is no JSON: base64, in lines perhaps, of the input.
    fn encoded(
        &mut self,
        at: &At<'_>,
        text: &str,
        not_json: &serde_json::Error,
    ) -> Result<Vec<Outcome>, EventError> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        match BASE64.decode(digits) {
            Ok(bytes) => Ok(self.message(bytes, false)),
            Err(error) => Err(at.malformed(format!(
                "is neither JSON ({not_json}) nor base64 ({error}); send one of them, or other bytes as they are in a CloudEvent (ce- headers)"
            ))),
        }
    }

    fn message(&mut self, body: Vec<u8>, json: bool) -> Vec<Outcome> {
        let kind = Kind::Message(Message {
            content_type: json.then(|| "application/json".to_owned()),
            body,
            attributes: Default::default(),
        });
        vec![self.occurrence(kind, self.whole)]
    }

    fn occurrence(&self, kind: Kind, event: &str) -> Outcome {
        Outcome::Occurrence(Box::new(Occurrence {
            identity: None,
            time: self.now,
            kind,
            event: variable(event),
            variables: self.variables.clone(),
        }))
    }
}

/// `payload` of `{"event_type": …, "payload": {"scope": …, "name": …}}`.
fn rucio_payload<'a>(members: &Members<'a>) -> Option<Members<'a>> {
    members.raw("event_type")?;
    let payload = json::object(&At::Root, members.raw("payload")?).ok()?;
    payload.raw("scope").is_some().then_some(payload)
}

/// `Records[0].eventSource`
fn first_source(members: &Members<'_>) -> Option<String> {
    let record = json::object(&At::Root, json::first(members.get("Records")?)?).ok()?;
    record.text(&At::Root, "eventSource", SHORT).ok()?
}

/// A key that is not escaped.
fn raw_key(at: &At<'_>, members: &Members<'_>, name: &str) -> Result<ObjectKey, EventError> {
    let key = json::string(&at.field(name), members.need(at, name)?, crate::KEY_LIMIT)?;
    ObjectKey::new(key).map_err(|error| at.field(name).malformed(error.to_string()))
}
