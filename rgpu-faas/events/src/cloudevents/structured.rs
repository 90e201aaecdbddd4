//! The JSON event format.

use super::CloudEvent;
use super::attributes::{Attributes, VALUE_LIMIT, check_name};
use super::media_type::MediaType;
use crate::error::{At, EventError, quote};
use crate::json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Attributes that are no strings in no event.
const STRINGS: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
];

/// The event that `text` is.
pub(super) fn event(at: &At<'_>, text: &str) -> Result<CloudEvent, EventError> {
    json::check(text).map_err(|error| at.malformed(format!("is no JSON: {error}")))?;
    let members = json::object(at, text)?.unambiguous(at)?;
    let mut values = BTreeMap::new();
    for (name, value) in members.iter() {
        if matches!(name, "data" | "data_base64") || value == "null" {
            continue;
        }
        check_name(at, name)?;
        let value = scalar(&at.field(name), value, STRINGS.contains(&name))?;
        values.insert(name.to_owned(), value);
    }
    let mut attributes = Attributes::check(at, values, str::to_owned)?;
    let (data, implied) = data(at, &members, attributes.content_type())?;
    if let Some(implied) = implied {
        attributes.imply_content_type(implied);
    }
    Ok(CloudEvent {
        attributes,
        data,
        text: Some(text.trim().to_owned()),
    })
}

/// An attribute's canonical string.
fn scalar(at: &At<'_>, text: &str, string: bool) -> Result<String, EventError> {
    match text.as_bytes().first() {
        Some(b'"') => json::string(at, text, VALUE_LIMIT),
        Some(b't' | b'f') if !string => Ok(text.to_owned()),
        Some(b'-' | b'0'..=b'9') if !string => match text.parse::<i32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(at.malformed(format!(
                "{} is no integer of 32 bits; write other numbers as strings",
                quote(text)
            ))),
        },
        _ if string => Err(json::wrong_kind(at, "a string", text)),
        _ => Err(json::wrong_kind(
            at,
            "a string, an integer or a boolean",
            text,
        )),
    }
}

/// The data's bytes, and the content type that follows where none is given.
fn data(
    at: &At<'_>,
    members: &json::Members<'_>,
    content_type: Option<&str>,
) -> Result<(Vec<u8>, Option<&'static str>), EventError> {
    let base64_at = at.field("data_base64");
    let at = at.field("data");
    match (members.raw("data"), members.get("data_base64")) {
        (None, None) => Ok((Vec::new(), None)),
        (Some(_), Some(_)) => Err(at.malformed("is there beside data_base64; give one of them")),
        (None, Some(text)) => {
            let text = json::string(&base64_at, text, usize::MAX)?;
            let decoded = STANDARD.decode(text);
            let decoded =
                decoded.map_err(|error| base64_at.malformed(format!("is no base64: {error}")))?;
            Ok((decoded, None))
        }
        (Some(text), None) => {
            let Some(content_type) = content_type else {
                return Ok((text.as_bytes().to_vec(), Some("application/json")));
            };
            match MediaType::parse(content_type) {
                Some(of) if of.is_json() => Ok((text.as_bytes().to_vec(), None)),
                Some(of) if !of.is_utf8() => Err(at.unsupported(format!(
                    "cannot be written as {}; send it in data_base64",
                    quote(content_type)
                ))),
                _ => Ok((json::string(&at, text, usize::MAX)?.into_bytes(), None)),
            }
        }
    }
}
