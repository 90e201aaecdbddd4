//! Points in time as events write them.

use crate::error::{At, EventError, quote};
use jiff::Timestamp;

/// RFC 3339, and nothing else of what a date library takes: date, `T`, time, offset.
pub(crate) fn rfc3339(at: &At<'_>, text: &str) -> Result<Timestamp, EventError> {
    let wrong = || {
        at.malformed(format!(
            "{} is no RFC 3339 time; write it as 2026-03-01T12:00:00.000Z",
            quote(text)
        ))
    };
    if !has_shape(text.as_bytes()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

fn has_shape(text: &[u8]) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let clock = |part: &[u8]| digits(&part[..2]) && part[2] == b':' && digits(&part[3..5]);
    let Some((head, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let offset = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let end = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            // More than nanoseconds nobody measures.
            if !(1..=9).contains(&end) {
                return false;
            }
            &fraction[end..]
        }
    };
    digits(&head[..4])
        && head[4] == b'-'
        && digits(&head[5..7])
        && head[7] == b'-'
        && digits(&head[8..10])
        && matches!(head[10], b'T' | b't')
        && clock(&head[11..16])
        && head[16] == b':'
        && digits(&head[17..])
        && match offset {
            b"Z" | b"z" => true,
            [b'+' | b'-', time @ ..] => time.len() == 5 && clock(time),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_alone() {
        let parse = |text| rfc3339(&At::Root, text);
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000Z", 0),
            ("1970-01-01t01:00:00.5+01:00", 500_000),
            ("2018-04-05T17:31:00Z", 1_522_949_460_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
        ] {
            assert_eq!(parse(text).unwrap().as_microsecond(), micros, "{text}");
        }
        for bad in [
            "",
            "2018-04-05",
            "2018-04-05T17:31:00",
            "2018-04-05 17:31:00Z",
            "20180405T173100Z",
            "2018-04-05T17:31Z",
            "2018-13-05T17:31:00Z",
            "2018-02-30T17:31:00Z",
            "2018-04-05T25:31:00Z",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31:00.0000000000Z",
            "2018-04-05T17:31:00+1:00",
            "2018-04-05T17:31:00+01",
            "2018-04-05T17:31:00Z[UTC]",
            "+02018-04-05T17:31:00Z",
            "2018-04-05T17:31:0\u{661}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
