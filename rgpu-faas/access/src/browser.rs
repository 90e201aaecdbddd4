//! What keeps other web pages out: where a request comes from, by what browsers say of it, and the session's cookie. Pure.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use cookie::time::Duration as CookieTime;
use cookie::{Cookie, SameSite};

use crate::config::PublicUrl;
use crate::refusal::Refusal;
use crate::secret;

/// The header in which requests that change something repeat the session's second secret. Other sites' pages neither know it nor may
/// send such a header.
pub const CSRF: &str = "x-csrf-token";

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Refuses what another site's page has made a browser send.
pub fn from_own_page(headers: &HeaderMap, public: Option<&PublicUrl>) -> Result<(), Refusal> {
    let foreign = || {
        Err(Refusal::forbidden(
            "the request comes from another site's page; open this server's own page, and if a proxy is between, set public_url",
        ))
    };
    // Sent by every present browser, and by no page's will. `none`: the person itself, by the address bar.
    match text(headers, "sec-fetch-site") {
        None | Some("same-origin" | "none") => {}
        Some(_) => return foreign(),
    }
    let Some(origin) = text(headers, header::ORIGIN) else {
        return Ok(());
    };
    let is_ours = match public {
        Some(public) => origin.eq_ignore_ascii_case(&public.origin),
        None => origin.parse::<Uri>().is_ok_and(|origin| {
            let authority = origin.authority().map(|authority| authority.as_str());
            let is_web = matches!(origin.scheme_str(), Some("http" | "https"));
            is_web
                && authority
                    .zip(text(headers, header::HOST))
                    .is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours))
        }),
    };
    if is_ours { Ok(()) } else { foreign() }
}

/// Without credentials: no web page but the server's own, and that only with the server's key, and only names of this machine (else a
/// page could be served under a name that then becomes this machine's address).
///
/// The key is told to who starts the server, and to no web page: somebody else's program that has had this server's port before, and whose
/// page is still open, is of the same origin, and would else change things in the name of whoever looks at it.
pub fn without_credentials(headers: &HeaderMap, key: &str) -> Result<(), Refusal> {
    let is_from_page = headers.contains_key(header::ORIGIN)
        || matches!(
            text(headers, "sec-fetch-site"),
            Some("cross-site" | "same-site")
        );
    if is_from_page && !(has_key(headers, key) && from_own_page(headers, None).is_ok()) {
        return Err(Refusal::forbidden(
            "web pages may not use the API without a token; open the page at the address that the server printed when it started, which has a key in it, or start it with --token",
        ));
    }
    match text(headers, header::HOST) {
        Some(host) if !is_local(host) => Err(Refusal::forbidden(
            "without a token only this machine is served, by the name localhost or its loopback address",
        )),
        _ => Ok(()),
    }
}

/// Whether the request has the key of a server without credentials.
pub fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let shown = headers.get(CSRF).map(|value| value.as_bytes());
    shown.is_some_and(|shown| secret::same(shown, key.as_bytes()))
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The cookie's name. Browsers take one of the first name only over TLS, and from no other host of the domain.
pub fn cookie_name(public: Option<&PublicUrl>) -> &'static str {
    if public.is_some_and(|public| public.is_secure) {
        "__Host-rgpu-faas"
    } else {
        "rgpu-faas"
    }
}

/// The cookie of a session, or, without a secret, what removes it.
pub fn set_cookie(secret: Option<&str>, public: Option<&PublicUrl>) -> Option<HeaderValue> {
    let mut cookie = Cookie::build((cookie_name(public), secret.unwrap_or("")))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(public.is_some_and(|public| public.is_secure));
    if secret.is_none() {
        cookie = cookie.max_age(CookieTime::ZERO);
    }
    let mut value = HeaderValue::from_str(&cookie.build().to_string()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn public() -> PublicUrl {
        PublicUrl {
            origin: "https://faas.example".into(),
            is_secure: true,
        }
    }

    #[test]
    fn only_the_own_page_may_send() {
        let from = |origin: &str| from_own_page(&headers(&[("origin", origin)]), Some(&public()));
        assert!(from("https://faas.example").is_ok() && from("https://FAAS.example").is_ok());
        for other in [
            "http://faas.example",
            "https://faas.example:444",
            "https://faas.example.evil",
            "https://evil",
            "null",
            "",
            "https://faas.example/",
            "https://user@faas.example",
        ] {
            assert_eq!(from(other).unwrap_err().status, 403, "{other}");
        }
        // Without a configured address the page has the host that it was asked by.
        let at = |origin: &str, host: &str| {
            from_own_page(&headers(&[("origin", origin), ("host", host)]), None).is_ok()
        };
        assert!(at("http://10.0.0.1:8080", "10.0.0.1:8080") && at("https://a.b", "A.b"));
        for (origin, host) in [
            ("http://10.0.0.1", "10.0.0.1:8080"),
            ("http://evil", "a.b"),
            ("null", "null"),
            ("file://a.b", "a.b"),
        ] {
            assert!(!at(origin, host), "{origin}");
        }
        assert!(from_own_page(&headers(&[("origin", "http://a")]), None).is_err());
        assert!(from_own_page(&headers(&[]), None).is_ok());
    }

    #[test]
    fn what_browsers_say_of_a_requests_origin_counts() {
        let site = |site: &str| {
            let map = headers(&[("sec-fetch-site", site), ("origin", "https://faas.example")]);
            from_own_page(&map, Some(&public())).is_ok()
        };
        assert!(site("same-origin") && site("none"));
        for other in ["cross-site", "same-site", "something-new", ""] {
            assert!(!site(other), "{other}");
        }
    }

    #[test]
    fn without_credentials_browsers_and_other_hosts_are_refused() {
        let may = |map: &[(&'static str, &str)]| without_credentials(&headers(map), "key").is_ok();
        let host = |value: &str| may(&[("host", value)]);
        for local in [
            "localhost:80",
            "127.0.0.1:9",
            "127.0.0.1",
            "[::1]:1",
            "LOCALHOST",
        ] {
            assert!(host(local), "{local}");
        }
        for other in [
            "evil.example",
            "evil.example:80",
            "10.0.0.1:80",
            "localhost.evil:1",
            "",
        ] {
            assert!(!host(other), "{other}");
        }
        assert!(may(&[]));
        for page in [
            ("origin", "http://x"),
            ("origin", "http://localhost"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert!(!may(&[page]), "{page:?}");
            // The key is worth nothing to other pages.
            assert!(!may(&[page, ("x-csrf-token", "key")]), "{page:?}");
        }
        let own = [("origin", "http://localhost:81"), ("host", "localhost:81")];
        let with = |more: &[(&'static str, &'static str)]| may(&[&own[..], more].concat());
        assert!(with(&[("x-csrf-token", "key")]));
        assert!(!with(&[]) && !with(&[("x-csrf-token", "")]) && !with(&[("x-csrf-token", "kez")]));
        assert!(!with(&[
            ("x-csrf-token", "key"),
            ("sec-fetch-site", "same-site")
        ]));
        let rebound = [
            ("origin", "http://evil"),
            ("host", "evil"),
            ("x-csrf-token", "key"),
        ];
        assert!(!may(&rebound));
    }

    #[test]
    fn the_cookie_is_for_no_script_and_no_other_site() {
        let plain = set_cookie(Some("s"), None).unwrap();
        assert_eq!(plain, "rgpu-faas=s; HttpOnly; SameSite=Strict; Path=/");
        assert!(plain.is_sensitive());
        let secure = set_cookie(Some("s"), Some(&public())).unwrap();
        assert_eq!(
            secure,
            "__Host-rgpu-faas=s; HttpOnly; SameSite=Strict; Secure; Path=/"
        );
        let gone = set_cookie(None, None).unwrap();
        assert!(gone.to_str().unwrap().contains("Max-Age=0"));
    }
}
