//! JSON that is opened only where it is looked at.
//!
//! An object becomes the list of its members with their values' text, an array the list of its elements' text: what
//! nobody asks for is checked to be JSON and not built. So deep nesting costs no stack, many small values cost no
//! memory, and data is passed on as it came, long numbers included.

use crate::error::{At, EventError, quote};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// No object that an event is read from has so many members.
const MEMBERS: usize = 256;

/// An object.
pub(crate) struct Members<'a> {
    list: Vec<(String, &'a RawValue)>,
    /// A name that came more than once.
    twice: Option<String>,
    /// Whether there were more than `MEMBERS`; the rest is not in the list.
    more: bool,
}

impl<'a> Members<'a> {
    /// A member's text; None also where it is `null`, which events use for what is not set.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|text| *text != "null")
    }

    /// A member's text, `null` too. Of several of one name the last, as Python takes it.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let mut found = self.list.iter().rev().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.get())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.list
            .iter()
            .map(|(name, value)| (name.as_str(), value.get()))
    }

    /// An object in which a name stands twice means one thing to one reader and another to the next: nothing is read from it.
    pub fn unambiguous(self, at: &At<'_>) -> Result<Self, EventError> {
        if let Some(name) = &self.twice {
            return Err(at.malformed(format!(
                "has {} more than once; give every name once",
                quote(name)
            )));
        }
        if self.more {
            return Err(at.too_large(format!("has more than {MEMBERS} members")));
        }
        Ok(self)
    }

    /// Whether nothing was left out of the list.
    pub fn complete(&self) -> bool {
        !self.more
    }

    /// A member that must be there.
    pub fn need(&self, at: &At<'_>, name: &str) -> Result<&'a str, EventError> {
        self.get(name)
            .ok_or_else(|| at.field(name).malformed("is missing"))
    }

    /// A string of at most `limit` bytes, if it is there.
    pub fn text(
        &self,
        at: &At<'_>,
        name: &str,
        limit: usize,
    ) -> Result<Option<String>, EventError> {
        match self.get(name) {
            None => Ok(None),
            Some(raw) => string(&at.field(name), raw, limit).map(Some),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members {
                    list: Vec::new(),
                    twice: None,
                    more: false,
                };
                while members.list.len() < MEMBERS {
                    let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? else {
                        return Ok(members);
                    };
                    if members.twice.is_none() && members.raw(&name).is_some() {
                        members.twice = Some(name.clone());
                    }
                    members.list.push((name, value));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    members.more = true;
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Whether this is one JSON value; the error says where it stops being one.
pub(crate) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(drop)
}

/// The object that `text`, which is JSON, must be.
pub(crate) fn object<'a>(at: &At<'_>, text: &'a str) -> Result<Members<'a>, EventError> {
    expect(at, text, b'{')?;
    serde_json::from_str(text).map_err(|error| at.malformed(format!("is no JSON: {error}")))
}

/// The elements of the array that `text` must be, at most `limit`.
pub(crate) fn array<'a>(
    at: &At<'_>,
    text: &'a str,
    limit: usize,
) -> Result<Vec<&'a str>, EventError> {
    struct Read(usize);
    impl<'de> Visitor<'de> for Read {
        /// None: too many.
        type Value = Option<Vec<&'de RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while elements.len() < self.0 {
                match seq.next_element()? {
                    Some(element) => elements.push(element),
                    None => return Ok(Some(elements)),
                }
            }
            let mut more = false;
            while seq.next_element::<IgnoredAny>()?.is_some() {
                more = true;
            }
            Ok((!more).then_some(elements))
        }
    }

    expect(at, text, b'[')?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = deserializer
        .deserialize_seq(Read(limit))
        .and_then(|elements| deserializer.end().map(|()| elements))
        .map_err(|error| at.malformed(format!("is no JSON: {error}")))?
        .ok_or_else(|| at.too_large(format!("has more than {limit} elements")))?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The first element of an array; None if it is no array, or an empty one.
pub(crate) fn first(text: &str) -> Option<&str> {
    struct Read;
    impl<'de> Visitor<'de> for Read {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let first = seq.next_element()?;
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let first = deserializer.deserialize_seq(Read).ok()?;
    first.map(RawValue::get)
}

/// The string of at most `limit` bytes that `text` must be.
pub(crate) fn string(at: &At<'_>, text: &str, limit: usize) -> Result<String, EventError> {
    expect(at, text, b'"')?;
    let value: String = serde_json::from_str(text)
        .map_err(|error| at.malformed(format!("is no string: {error}")))?;
    if value.len() > limit {
        return Err(at.too_large(format!(
            "has {} bytes; at most {limit} are taken",
            value.len()
        )));
    }
    Ok(value)
}

/// The whole number of bytes that `text` must be.
pub(crate) fn size(at: &At<'_>, text: &str) -> Result<u64, EventError> {
    if !matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
        return Err(wrong_kind(at, "a number", text));
    }
    match text.parse::<u64>() {
        Ok(value) if value <= i64::MAX as u64 => Ok(value),
        _ => Err(at.malformed(format!(
            "{} is no size; write a whole number from 0 to {}",
            quote(text),
            i64::MAX
        ))),
    }
}

/// What kind of JSON value this is, for messages.
pub(crate) fn kind(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "no JSON",
    }
}

/// `text` as JSON writes it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn expect(at: &At<'_>, text: &str, first: u8) -> Result<(), EventError> {
    if text.trim_start().as_bytes().first() == Some(&first) {
        return Ok(());
    }
    let wanted = match first {
        b'{' => "an object",
        b'[' => "an array",
        _ => "a string",
    };
    Err(wrong_kind(at, wanted, text))
}

pub(crate) fn wrong_kind(at: &At<'_>, wanted: &str, text: &str) -> EventError {
    at.malformed(format!("is {}, where {wanted} is expected", kind(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At<'_> = At::Root;

    #[test]
    fn members_keep_their_text() {
        let text = r#" {"a": 123456789012345678901234567890.10, "b": null, "c": [1, {"d": 2}]} "#;
        let members = object(&AT, text).unwrap().unambiguous(&AT).unwrap();
        assert_eq!(members.get("a"), Some("123456789012345678901234567890.10"));
        assert_eq!((members.get("b"), members.raw("b")), (None, Some("null")));
        assert_eq!(members.get("c"), Some(r#"[1, {"d": 2}]"#));
        assert_eq!(members.get("d"), None);
    }

    #[test]
    fn a_name_that_comes_twice_is_seen() {
        let members = object(&AT, r#"{"a":1,"b":2,"\u0061":3}"#).unwrap();
        assert_eq!(members.get("a"), Some("3"));
        let error = members.unambiguous(&AT).err().unwrap();
        assert!(error.what.contains(r#""a" more than once"#), "{error}");
    }

    #[test]
    fn depth_and_number_of_values_cost_nothing() {
        let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(check(&deep).is_ok());
        assert!(check(&deep[1..]).is_err());
        let deep = format!(r#"{{"a":{deep}}}"#);
        let members = object(&AT, &deep).unwrap();
        assert_eq!(members.get("a").map(str::len), Some(2 << 20));

        let wide: String = (0..300).map(|n| format!(r#""k{n}":{n},"#)).collect();
        let wide = format!(r#"{{{wide}"last":1}}"#);
        let members = object(&AT, &wide).unwrap();
        assert!(!members.complete());
        assert!(members.unambiguous(&AT).is_err());

        let long = format!("[{}0]", "0,".repeat(100_000));
        let error = array(&AT, &long, 1000).unwrap_err();
        assert_eq!(error.reason, crate::Reason::TooLarge);
        assert_eq!(array(&AT, "[0 ,1]", 2).unwrap(), ["0", "1"]);
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        assert_eq!(size(&AT, "0"), Ok(0));
        assert_eq!(size(&AT, "9223372036854775807"), Ok(i64::MAX as u64));
        for bad in ["-1", "1.5", "1e3", "9223372036854775808", "\"1\"", "true"] {
            assert!(size(&AT, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_a_surrogate_is_no_string() {
        assert!(check(r#""\ud800""#).is_ok());
        assert!(string(&AT, r#""\ud800""#, 10).is_err());
        assert_eq!(string(&AT, r#""\ud83d\ude00""#, 10).unwrap(), "😀");
        assert!(string(&AT, r#""abc""#, 2).is_err());
    }
}
