//! The HTTP protocol binding: which mode a request is in, and events in headers.

use super::CloudEvent;
use super::attributes::{Attributes, REQUIRED, VALUE_LIMIT, check_name};
use super::media_type::MediaType;
use crate::Request;
use crate::error::{At, EventError, quote};
use crate::percent;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// No CloudEvent.
    None,
    Binary,
    Structured,
    Batched,
}

pub(super) fn mode(request: &Request<'_>) -> Result<Mode, EventError> {
    let content_type = content_type(request)?.unwrap_or_default();
    let at = At::Root.field("Content-Type");
    let lower = content_type.trim_start().to_ascii_lowercase();
    if lower.starts_with("application/cloudevents") {
        let media_type = MediaType::parse(&lower);
        let mode = match media_type.as_ref().map(MediaType::essence) {
            Some("application/cloudevents+json") => Mode::Structured,
            Some("application/cloudevents-batch+json") => Mode::Batched,
            _ => {
                return Err(at.unsupported(format!(
                    "{} is not understood; application/cloudevents+json and application/cloudevents-batch+json are",
                    quote(&content_type)
                )));
            }
        };
        if !media_type.is_some_and(|of| of.is_utf8()) {
            return Err(at.unsupported(format!(
                "{}: JSON is taken in UTF-8 alone",
                quote(&content_type)
            )));
        }
        return Ok(mode);
    }
    // Nobody sends one of these by chance: if others are missing, the sender wants to hear of it.
    let meant = |name: &str| {
        attribute(name).is_some_and(|name| REQUIRED.contains(&name.to_ascii_lowercase().as_str()))
    };
    match request.headers.iter().any(|(name, _)| meant(name)) {
        true => Ok(Mode::Binary),
        false => Ok(Mode::None),
    }
}

/// An event whose attributes are headers, and whose data is the body.
pub(super) fn binary(request: &Request<'_>) -> Result<CloudEvent, EventError> {
    let at = At::Root;
    let mut values = BTreeMap::new();
    for (header, value) in request.headers {
        let Some(name) = attribute(header) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        let header = format!("ce-{name}");
        let at = at.field(&header);
        check_name(&at, &name)?;
        if name == "datacontenttype" {
            return Err(at.malformed("must not be there; Content-Type says it"));
        }
        if values.insert(name, value_of(&at, value)?).is_some() {
            return Err(at.malformed("comes more than once"));
        }
    }
    if let Some(content_type) = content_type(request)? {
        values.insert("datacontenttype".to_owned(), content_type);
    }
    let place = |name: &str| match name {
        "datacontenttype" => "Content-Type".to_owned(),
        name => format!("ce-{name}"),
    };
    Ok(CloudEvent {
        attributes: Attributes::check(&at, values, place)?,
        data: request.body.to_vec(),
        text: None,
    })
}

/// `name` of the header `ce-name`.
fn attribute(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(3)?;
    prefix.eq_ignore_ascii_case("ce-").then_some(name)
}

fn content_type(request: &Request<'_>) -> Result<Option<String>, EventError> {
    let at = At::Root.field("Content-Type");
    let mut found = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let Some((_, value)) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(at.malformed("comes more than once"));
    }
    let value = crate::text(&at, value)?.trim();
    if value.len() > VALUE_LIMIT {
        return Err(at.too_large(format!("has more than {VALUE_LIMIT} bytes")));
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// A header's value as section 3.1.3.2 reads it: quotes off first, then one round of percent-decoding, then UTF-8.
fn value_of(at: &At<'_>, value: &[u8]) -> Result<String, EventError> {
    // Each byte takes three at most, and quotes little.
    if value.len() > 4 * VALUE_LIMIT {
        return Err(at.too_large(format!(
            "has more than {} bytes; an attribute has at most {VALUE_LIMIT}",
            4 * VALUE_LIMIT
        )));
    }
    let bytes = percent::decode(&unquote(at, value.trim_ascii())?, false).map_err(|wrong| {
        at.malformed(format!(
            "has {:?}, which is no escape; write %25 for a percent sign",
            wrong.text
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| at.malformed("is no UTF-8 when decoded"))
}

/// Without the double quotes of quoted strings (RFC 7230, section 3.2.6), which older senders put around values.
fn unquote(at: &At<'_>, value: &[u8]) -> Result<Vec<u8>, EventError> {
    let mut bare = Vec::with_capacity(value.len());
    let mut quoted = false;
    let mut rest = value.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => match rest.next() {
                Some(&escaped) => bare.push(escaped),
                None => break,
            },
            other => bare.push(other),
        }
    }
    match quoted {
        true => Err(at.malformed("begins a quoted string that does not end")),
        false => Ok(bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &[u8]) -> Result<String, EventError> {
        value_of(&At::Root.field("ce-x"), value)
    }

    #[test]
    fn values() {
        for (header, value) in [
            (&b"plain"[..], "plain"),
            (b"  padded\t", "padded"),
            // The specification's own example, and its lower-case form.
            (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            (b"Euro%20%e2%82%ac%20%f0%9f%98%80", "Euro € 😀"),
            ("\"Euro € 😀\"".as_bytes(), "Euro € 😀"),
            (b"\"a \\\"b\\\" \\\\\"", "a \"b\" \\"),
            (b"%41%62", "Ab"),
            (b"a%2520b", "a%20b"),
            (b"a+b", "a+b"),
            (b"", ""),
        ] {
            assert_eq!(decoded(header).unwrap(), value);
        }
        for bad in [
            &b"%C0%A0"[..],
            b"\xff",
            b"%",
            b"%2",
            b"%zz",
            b"\"a",
            b"\"a\\",
        ] {
            assert!(
                decoded(bad).is_err(),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn modes() {
        let of = |headers: &[(&str, &[u8])]| mode(&Request { headers, body: b"" });
        let typed = |value: &str| of(&[("CONTENT-type", value.as_bytes())]);
        assert_eq!(of(&[]), Ok(Mode::None));
        assert_eq!(typed("application/json"), Ok(Mode::None));
        assert_eq!(
            typed("Application/CloudEvents+JSON; charset=UTF-8"),
            Ok(Mode::Structured)
        );
        assert_eq!(
            typed("application/cloudevents-batch+json"),
            Ok(Mode::Batched)
        );
        for other in [
            "application/cloudevents",
            "application/cloudevents+avro",
            "application/cloudevents-batch+protobuf",
            "application/cloudevents+json; charset=utf-16",
        ] {
            let error = typed(other).unwrap_err();
            assert_eq!(error.reason, crate::Reason::Unsupported, "{other}");
        }
        assert_eq!(of(&[("Ce-Id", b"1")]), Ok(Mode::Binary));
        assert_eq!(of(&[("ce-myextension", b"1")]), Ok(Mode::None));
        let twice: [(&str, &[u8]); 2] = [("content-type", b"a/b"), ("Content-Type", b"a/b")];
        assert!(of(&twice).is_err());
    }
}
