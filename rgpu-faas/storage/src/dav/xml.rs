//! A multistatus answer (RFC 4918). Its length is bounded before it comes here.

use crate::backend::{Meta, bare_etag};
use crate::error::Problem;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

/// Something at or in a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// None: what was asked about itself.
    pub name: Option<String>,
    pub collection: bool,
    pub meta: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Multistatus {
    response: Vec<Answer>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    href: String,
    propstat: Vec<Propstat>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Propstat {
    status: String,
    prop: Prop,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Prop {
    resourcetype: ResourceType,
    getcontentlength: String,
    getetag: String,
    getlastmodified: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceType {
    collection: Option<serde::de::IgnoredAny>,
}

/// Reads what a server answered when it was asked about `url`.
pub(super) fn resources(answer: &[u8], url: &Url) -> Result<Vec<Resource>, Problem> {
    // What the server wrote is not repeated: it knows a password.
    let wrong = |what: &str| Problem::Nonsense(format!("an answer to PROPFIND {what}"));
    let text = std::str::from_utf8(answer).map_err(|_| wrong("that is not UTF-8"))?;
    if !outermost(text) {
        return Err(wrong("that is no multistatus"));
    }
    let said: Multistatus =
        quick_xml::de::from_str(text).map_err(|_| wrong("that cannot be read"))?;
    let mut resources = Vec::with_capacity(said.response.len());
    for response in said.response {
        let name = name(&response.href, url)
            .ok_or_else(|| wrong("that has something from another place"))?;
        // Properties that the server does not have come with another status.
        let found = response
            .propstat
            .into_iter()
            .find(|stat| stat.status.contains(" 200"));
        let Some(Propstat { prop, .. }) = found else {
            continue;
        };
        let collection = prop.resourcetype.collection.is_some();
        let size = match prop.getcontentlength.trim() {
            _ if collection => 0,
            size => size
                .parse()
                .map_err(|_| wrong("with a file without a size"))?,
        };
        let etag = bare_etag(prop.getetag.trim());
        resources.push(Resource {
            name,
            collection,
            meta: Meta {
                size,
                etag: Some(etag).filter(|etag| !etag.is_empty()),
                modified: time(&prop.getlastmodified).unwrap_or(0),
            },
        });
    }
    Ok(resources)
}

fn outermost(text: &str) -> bool {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start) | Event::Empty(start)) => {
                return start.local_name().into_inner() == b"multistatus";
            }
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// The name of `href` in the collection at `url`: Some(None) for itself, None when it is neither it nor directly inside. Servers write
/// addresses or paths, and escape as they like.
fn name(href: &str, url: &Url) -> Option<Option<String>> {
    let resource = url.join(href.trim()).ok()?;
    let path = |url: &Url| {
        let decoded = percent_decode_str(url.path())
            .decode_utf8()
            .ok()?
            .into_owned();
        Some(
            decoded
                .strip_suffix('/')
                .map(str::to_owned)
                .unwrap_or(decoded),
        )
    };
    let (asked, here) = (path(url)?, path(&resource)?);
    let rest = here.strip_prefix(&asked)?;
    if rest.is_empty() {
        return Some(None);
    }
    let name = rest.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then(|| Some(name.to_owned()))
}

/// Milliseconds since 1970 of a date as HTTP writes it.
pub(super) fn time(text: &str) -> Option<i64> {
    let zoned = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url() -> Url {
        Url::parse("https://h/dav/my%20files/in/").unwrap()
    }

    const NEXTCLOUD: &str = r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">
<d:response><d:href>/dav/my%20files/in/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><d:getlastmodified>Mon, 05 Jan 2026 10:00:00 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat><d:prop><d:getcontentlength/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>
<d:response><d:href>https://h/dav/my%20files/in/a%2b%20b.txt</d:href><d:propstat><d:prop><d:resourcetype/><d:getcontentlength>12</d:getcontentlength><d:getetag>&quot;e1&quot;</d:getetag><d:getlastmodified>Mon, 05 Jan 2026 10:00:01 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>
<d:response><d:href>/dav/my files/in/sub/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>
</d:multistatus>"#;

    #[test]
    fn a_collection_is_read() {
        let found = resources(NEXTCLOUD.as_bytes(), &url()).unwrap();
        let [own, file, sub] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(own.name.is_none() && own.collection);
        assert_eq!(file.name.as_deref(), Some("a+ b.txt"));
        assert_eq!(
            (file.meta.size, file.meta.etag.as_deref()),
            (12, Some("e1"))
        );
        assert_eq!(file.meta.modified, 1_767_607_201_000);
        assert_eq!((sub.name.as_deref(), sub.collection), (Some("sub"), true));
    }

    #[test]
    fn what_is_from_elsewhere_or_nonsense_is_refused_and_not_repeated() {
        for href in ["/dav/other", "/dav/my%20files/in/a/b", "/", "..", "%ff"] {
            let text =
                format!("<multistatus><response><href>{href}</href></response></multistatus>");
            assert!(resources(text.as_bytes(), &url()).is_err(), "{href}");
        }
        let file = "<multistatus><response><href>/dav/my files/in/SECRET</href><propstat><status>HTTP/1.1 200 OK</status><prop><getcontentlength>SECRET</getcontentlength></prop></propstat></response></multistatus>";
        for bad in [
            "",
            "SECRET",
            "<html>SECRET</html>",
            "<multistatus><SECRET>",
            file,
        ] {
            let error = resources(bad.as_bytes(), &url()).unwrap_err();
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
        assert_eq!(resources(b"<multistatus/>", &url()).unwrap(), []);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "(<(/)?(D:)?(multistatus|response|href|prop|propstat|status|!--|\\?)>?|&[a-z]+;|[ -~]){0,40}") {
            let _ = resources(text.as_bytes(), &url());
            let _ = resources(format!("<multistatus>{text}").as_bytes(), &url());
        }
    }
}
