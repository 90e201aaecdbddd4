//! What a request shows of its sender. Everything is bounded before it is looked at, and what is doubtful is refused: two credentials
//! of a kind may be meant to be read differently by those who stand in front of this server.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cookie::Cookie;

use crate::refusal::Refusal;

/// Bytes of an Authorization header; tokens of people in hundreds of groups are some KiB.
pub const MAX_AUTHORIZATION: usize = 16 << 10;
/// Bytes of all Cookie headers together.
pub const MAX_COOKIES: usize = 8 << 10;
/// Bytes of a password.
pub const MAX_PASSWORD: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Not Debug: it is all secret.
pub enum Shown<'a> {
    Nothing,
    Bearer(&'a str),
    Basic {
        user: String,
        password: String,
    },
    /// The value of the session's cookie.
    Cookie(String),
}

fn too_large(what: &str, most: usize) -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        format!("the {what} header is larger than {most} bytes; send one token and nothing else"),
    )
}

fn twice(what: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        format!("the request has more than one {what}; send one"),
    )
}

/// What the headers show; `cookie` is the name of the session's cookie. An Authorization header is meant, so it goes first.
pub fn read<'a>(headers: &'a HeaderMap, cookie: &str) -> Result<Shown<'a>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(twice("Authorization header"));
        }
        return authorization(value);
    }
    let found = session_cookie(headers, cookie)?;
    Ok(found.map_or(Shown::Nothing, Shown::Cookie))
}

/// The session's cookie, whatever else is shown.
pub fn session_cookie(headers: &HeaderMap, cookie: &str) -> Result<Option<String>, Refusal> {
    let all = headers.get_all(header::COOKIE);
    if all.iter().map(HeaderValue::len).sum::<usize>() > MAX_COOKIES {
        return Err(too_large("Cookie", MAX_COOKIES));
    }
    let mut found = None;
    for value in all.iter().filter_map(|value| value.to_str().ok()) {
        for ours in Cookie::split_parse(value)
            .flatten()
            .filter(|one| one.name() == cookie)
        {
            if found.replace(ours.value().to_owned()).is_some() {
                return Err(twice("session cookie"));
            }
        }
    }
    Ok(found)
}

fn authorization(value: &HeaderValue) -> Result<Shown<'_>, Refusal> {
    if value.len() > MAX_AUTHORIZATION {
        return Err(too_large("Authorization", MAX_AUTHORIZATION));
    }
    let malformed = || {
        Refusal::unauthorized(
            "the Authorization header is not understood; write `Bearer TOKEN`, or `Basic` with the Base64 of USER:PASSWORD",
        )
    };
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(malformed)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        if rest.is_empty() {
            return Err(malformed());
        }
        return Ok(Shown::Bearer(rest));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let pair = BASE64.decode(rest).map_err(|_| malformed())?;
    let pair = String::from_utf8(pair).map_err(|_| malformed())?;
    let (user, password) = pair.split_once(':').ok_or_else(malformed)?;
    if password.is_empty() || password.len() > MAX_PASSWORD {
        return Err(malformed());
    }
    Ok(Shown::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn shown(headers: &[(HeaderName, &str)]) -> Result<String, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match read(&map, "sid") {
            Ok(Shown::Nothing) => Ok("nothing".into()),
            Ok(Shown::Bearer(token)) => Ok(format!("bearer {token}")),
            Ok(Shown::Basic { user, password }) => Ok(format!("basic {user} {password}")),
            Ok(Shown::Cookie(value)) => Ok(format!("cookie {value}")),
            Err(refusal) => Err(refusal.status.as_u16()),
        }
    }

    #[test]
    fn credentials_are_read() {
        let with = |value| shown(&[(header::AUTHORIZATION, value)]);
        let is = |text: &str| Ok::<_, u16>(text.to_owned());
        assert_eq!(shown(&[]), is("nothing"));
        assert_eq!(with("Bearer t"), is("bearer t"));
        assert_eq!(with("bearer  t "), is("bearer t"));
        // A list of tokens is one that nobody has.
        assert_eq!(with("Bearer a, Bearer b"), is("bearer a, Bearer b"));
        assert_eq!(with("Basic bWU6czNjcmV0"), is("basic me s3cret"));
        assert_eq!(with("BASIC OnMzY3JldA=="), is("basic  s3cret"));
        assert_eq!(with("Basic OnMzY3JldA"), is("basic  s3cret"));
        // "me:a:b"
        assert_eq!(with("Basic bWU6YTpi"), is("basic me a:b"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "s3cret",
            "Digest x",
            "Basic !!!!",
            "Basic a",
            "Basic bWU6",
            "Basic bWU",
            "Basic /////w==",
            "Bearer é",
        ] {
            assert_eq!(with(wrong), Err(401), "{wrong}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_gives_way_to_a_header() {
        let with = |value| shown(&[(header::COOKIE, value)]);
        assert_eq!(with("a=b; sid=x; c=d"), Ok("cookie x".into()));
        assert_eq!(with("Sid=x; xsid=y; a=sid=z"), Ok("nothing".into()));
        assert_eq!(with(";;;=;sid"), Ok("nothing".into()));
        let both = [
            (header::COOKIE, "sid=x"),
            (header::AUTHORIZATION, "Bearer t"),
        ];
        assert_eq!(shown(&both), Ok("bearer t".into()));
        // One that another site on the domain has planted beside ours.
        assert_eq!(with("sid=x; sid=y"), Err(400));
        let two = [(header::COOKIE, "sid=x"), (header::COOKIE, "sid=y")];
        assert_eq!(shown(&two), Err(400));
    }

    #[test]
    fn what_is_huge_or_manifold_is_refused() {
        let huge = format!("Bearer {}", "a".repeat(MAX_AUTHORIZATION));
        assert_eq!(shown(&[(header::AUTHORIZATION, &huge)]), Err(431));
        let two = [
            (header::AUTHORIZATION, "Bearer a"),
            (header::AUTHORIZATION, "Bearer b"),
        ];
        assert_eq!(shown(&two), Err(400));
        let cookies = format!("a={}", "b".repeat(MAX_COOKIES));
        assert_eq!(shown(&[(header::COOKIE, &cookies)]), Err(431));
        let half = format!("a={}", "b".repeat(MAX_COOKIES / 2));
        let both = [(header::COOKIE, &*half), (header::COOKIE, &*half)];
        assert_eq!(shown(&both), Err(431));
        let long = BASE64.encode(format!("me:{}", "p".repeat(MAX_PASSWORD + 1)));
        let long = format!("Basic {long}");
        assert_eq!(shown(&[(header::AUTHORIZATION, &long)]), Err(401));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                for name in [header::AUTHORIZATION, header::COOKIE] {
                    let mut map = HeaderMap::new();
                    map.append(name, value.clone());
                    let _ = read(&map, "sid");
                }
            }
        }

        #[test]
        fn what_was_encoded_is_read(user in "[^:]{0,40}", password in ".{1,40}") {
            let value = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
            let shown = shown(&[(header::AUTHORIZATION, &*value)]);
            proptest::prop_assert_eq!(shown, Ok(format!("basic {user} {password}")));
        }
    }
}
