//! CloudEvents 1.0 over HTTP: binary, structured and batched.
//!
//! Written out here, since what the crate `cloudevents-sdk` 0.9 leaves to its users is what matters with strangers' events:
//! it decodes no percent signs, knows no batches, takes empty ids and attributes of any name, number and length, lets a
//! repeated name win, and writes numbers in data anew.

mod attributes;
mod http;
mod media_type;
mod structured;

use crate::error::{At, EventError};
use crate::s3::Source;
use crate::{Identity, Kind, Message, Occurrence, Options, Outcome, Request};
use crate::{VARIABLE_LIMIT, json, variable};
use attributes::Attributes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use media_type::MediaType;

/// Events that S3's adapter makes (`adapters/aws-s3.md` of the specification).
const S3_TYPE: &str = "com.amazonaws.s3.";

/// The events in a request; None if it holds none of this kind.
pub(crate) fn receive(
    request: &Request<'_>,
    now: Timestamp,
    options: &Options,
) -> Result<Option<Vec<Outcome>>, EventError> {
    let reader = Reader { now, options };
    Ok(Some(match http::mode(request)? {
        http::Mode::None => return Ok(None),
        http::Mode::Binary => reader.outcomes(&At::Root, http::binary(request)?)?,
        http::Mode::Structured => {
            let text = crate::text(&At::Root, request.body)?;
            reader.outcomes(&At::Root, structured::event(&At::Root, text)?)?
        }
        http::Mode::Batched => {
            let text = crate::text(&At::Root, request.body)?;
            json::check(text)
                .map_err(|error| At::Root.malformed(format!("is no JSON: {error}")))?;
            let events = json::array(&At::Root, text, options.events)?;
            let mut outcomes = Vec::new();
            for (index, text) in events.into_iter().enumerate() {
                let at = At::Root.index(index);
                match structured::event(&at, text).and_then(|event| reader.outcomes(&at, event)) {
                    Ok(of_one) => outcomes.extend(of_one),
                    Err(error) => outcomes.push(Outcome::Refused(error)),
                }
            }
            outcomes
        }
    }))
}

/// An event whose attributes have been checked.
struct CloudEvent {
    attributes: Attributes,
    data: Vec<u8>,
    /// Its JSON, if it came as that.
    text: Option<String>,
}

struct Reader<'a> {
    now: Timestamp,
    options: &'a Options,
}

impl Reader<'_> {
    /// One, but for events of a store with several records.
    fn outcomes(&self, at: &At<'_>, event: CloudEvent) -> Result<Vec<Outcome>, EventError> {
        if event.attributes.kind().starts_with(S3_TYPE) {
            return self.records(at, &event);
        }
        let text = event.text.unwrap_or_default();
        let event_text = match text.is_empty() {
            true => to_json(&event.attributes, &event.data),
            false => text,
        };
        Ok(vec![Outcome::Occurrence(Box::new(Occurrence {
            identity: Some(event.attributes.identity()),
            time: event.attributes.time().unwrap_or(self.now),
            // What is too long as a whole is still told without its data, which is in the input file.
            event: variable(event_text).or_else(|| variable(to_json(&event.attributes, b""))),
            kind: Kind::Message(Message {
                content_type: event.attributes.content_type().map(str::to_owned),
                body: event.data,
                attributes: event.attributes.into_map(),
            }),
            variables: Vec::new(),
        }))])
    }

    /// A record of S3's as data, or a whole notification. It is the same event as if it had come without the envelope.
    fn records(&self, at: &At<'_>, event: &CloudEvent) -> Result<Vec<Outcome>, EventError> {
        let at = at.field("data");
        if event.data.is_empty() {
            return Err(at.malformed("is missing; an event of S3 has its record there"));
        }
        let text = crate::text(&at, &event.data)?;
        json::check(text).map_err(|error| at.malformed(format!("is no JSON: {error}")))?;
        let members = json::object(&at, text)?;
        let source = Source {
            at: &at,
            provider: None,
            now: event.attributes.time().unwrap_or(self.now),
            options: self.options,
        };
        let mut outcomes = if members.get("Records").is_some() {
            source.records(&members.unambiguous(&at)?, text)?
        } else {
            vec![source.record(&at, text.trim(), None)?]
        };
        if let [Outcome::Occurrence(occurrence)] = &mut outcomes[..] {
            let identity = || Some(event.attributes.identity());
            occurrence.identity = occurrence.identity.take().or_else(identity);
        }
        Ok(outcomes)
    }
}

impl Attributes {
    /// Producers see to it that source and id together are one event's alone.
    fn identity(&self) -> Identity {
        Identity::of(&[
            b"cloudevent",
            self.source().as_bytes(),
            self.id().as_bytes(),
        ])
    }
}

/// The event in the JSON format. Data that could not be put into a variable is not looked at.
fn to_json(attributes: &Attributes, data: &[u8]) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in attributes.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        text += &format!("{comma}{}:{}", json::quoted(name), json::quoted(value));
    }
    let media_type = attributes.content_type().and_then(MediaType::parse);
    if !data.is_empty() && data.len() <= VARIABLE_LIMIT {
        let utf8 = std::str::from_utf8(data).ok();
        text += &match (utf8, media_type) {
            (Some(data), Some(of)) if of.is_json() && json::check(data).is_ok() => {
                format!(r#","data":{}"#, data.trim())
            }
            (Some(data), Some(of)) if !of.is_json() => {
                format!(r#","data":{}"#, json::quoted(data))
            }
            _ => format!(r#","data_base64":"{}""#, STANDARD.encode(data)),
        };
    }
    text + "}"
}
