//! A CloudEvent's context attributes: names, types and bounds (`spec.md`, "Context Attributes").

use super::media_type::MediaType;
use crate::error::{At, EventError, quote};
use crate::time;
use iri_string::types::{UriReferenceStr, UriStr};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Attributes of one event. The specification has no number; a request has no more headers either.
const COUNT: usize = 64;
/// Bytes of a name. The specification advises 20.
const NAME_LIMIT: usize = 64;
/// Bytes of a value.
pub(super) const VALUE_LIMIT: usize = 4096;

pub(super) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// All attributes of an event in their canonical strings, checked.
pub(super) struct Attributes {
    values: BTreeMap<String, String>,
    time: Option<Timestamp>,
}

impl Attributes {
    /// `values` as they came; `place` names an attribute's place in the message.
    pub fn check(
        at: &At<'_>,
        values: BTreeMap<String, String>,
        place: impl Fn(&str) -> String,
    ) -> Result<Attributes, EventError> {
        for name in REQUIRED {
            if !values.contains_key(name) {
                return Err(at
                    .field(&place(name))
                    .malformed("is missing; a CloudEvent has it"));
            }
        }
        if values.len() > COUNT {
            return Err(at.too_large(format!("has more than {COUNT} attributes")));
        }
        let mut said = None;
        for (name, value) in &values {
            let place = place(name);
            let at = at.field(&place);
            check_value(&at, value)?;
            match name.as_str() {
                "specversion" if value != "1.0" => {
                    let value = quote(value);
                    return Err(at.unsupported(format!("{value} is not understood; 1.0 is")));
                }
                "id" | "type" | "subject" if value.is_empty() => {
                    return Err(at.malformed("is empty"));
                }
                "source" if value.is_empty() || UriReferenceStr::new(value).is_err() => {
                    return Err(at.malformed(format!(
                        "{} is no URI reference (RFC 3986); write one as /sensors/7, and other characters as %XX",
                        quote(value)
                    )));
                }
                "dataschema" if UriStr::new(value).is_err() => {
                    let value = quote(value);
                    return Err(at.malformed(format!("{value} is no URI with a scheme (RFC 3986)")));
                }
                "datacontenttype" if MediaType::parse(value).is_none() => {
                    return Err(at.malformed(format!(
                        "{} is no media type; write it as application/json",
                        quote(value)
                    )));
                }
                "time" => said = Some(time::rfc3339(&at, value)?),
                _ => {}
            }
        }
        Ok(Attributes { values, time: said })
    }

    pub fn id(&self) -> &str {
        self.get("id")
    }

    pub fn source(&self) -> &str {
        self.get("source")
    }

    /// The attribute `type`.
    pub fn kind(&self) -> &str {
        self.get("type")
    }

    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    pub fn content_type(&self) -> Option<&str> {
        self.values.get("datacontenttype").map(String::as_str)
    }

    /// For data that says by its form what it is.
    pub fn imply_content_type(&mut self, media_type: &str) {
        self.values
            .insert("datacontenttype".to_owned(), media_type.to_owned());
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn into_map(self) -> BTreeMap<String, String> {
        self.values
    }

    /// One of those that `check` has seen to be there.
    fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }
}

/// Small letters and digits; `data` is the JSON format's word for something else.
pub(super) fn check_name(at: &At<'_>, name: &str) -> Result<(), EventError> {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=NAME_LIMIT).contains(&name.len()) && name.bytes().all(right) && name != "data" {
        return Ok(());
    }
    Err(at.malformed(format!(
        "has {}, which is no attribute's name; write 1 to {NAME_LIMIT} of a-z 0-9",
        quote(name)
    )))
}

fn check_value(at: &At<'_>, value: &str) -> Result<(), EventError> {
    if value.len() > VALUE_LIMIT {
        return Err(at.too_large(format!(
            "has {} bytes; an attribute has at most {VALUE_LIMIT}",
            value.len()
        )));
    }
    let noncharacter = |c: u32| (0xFDD0..=0xFDEF).contains(&c) || c & 0xFFFE == 0xFFFE;
    match value
        .chars()
        .find(|c| c.is_control() || noncharacter(u32::from(*c)))
    {
        None => Ok(()),
        Some(c) => Err(at.malformed(format!(
            "has U+{:04X}, which no attribute may have",
            u32::from(c)
        ))),
    }
}
