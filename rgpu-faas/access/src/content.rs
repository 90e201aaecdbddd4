//! How a stored file is handed to a browser: what cannot run a script may be shown, everything else is saved. Pure.

use axum::http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What may be shown, by the ending of its name. Neither HTML nor SVG nor PDF: they can have scripts.
const SHOWN: [(&str, &str); 16] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("csv", TEXT),
    ("gif", "image/gif"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("jsonl", TEXT),
    ("log", TEXT),
    ("md", TEXT),
    ("png", "image/png"),
    ("txt", TEXT),
    ("webp", "image/webp"),
    ("yaml", TEXT),
    ("yml", TEXT),
    ("mp4", "video/mp4"),
];
pub const TEXT: &str = "text/plain; charset=utf-8";
const SAVED: &str = "application/octet-stream";

/// What a name in a header may not have as it is (RFC 8187 section 3.2.1).
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');
/// Bytes of a name; longer ones are cut.
const MAX_NAME: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// To be looked at in the page, if it is of a kind that is safe.
    Preview,
    Download,
}

/// The headers of an answer with this file. What is in it is not looked at, and `nosniff` keeps browsers from it too; a policy of its
/// own keeps it from doing anything even if it were opened as a page.
pub fn headers(name: &str, purpose: For) -> HeaderMap {
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    let shown = SHOWN
        .iter()
        .find(|(known, _)| ending.as_deref() == Some(*known))
        .filter(|_| purpose == For::Preview);
    let (kind, disposition) = match shown {
        Some((_, kind)) => (*kind, "inline"),
        None => (SAVED, "attachment"),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let with_name = HeaderValue::from_str(&disposition_of(disposition, name));
    headers.insert(
        header::CONTENT_DISPOSITION,
        with_name.unwrap_or(HeaderValue::from_static("attachment")),
    );
    headers
}

/// The last part of a name alone, for old readers in plain letters, for others whole.
fn disposition_of(disposition: &str, name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut end = base.len().min(MAX_NAME);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    // Those that turn the direction of writing make `gpj.exe` of `exe.jpg`.
    let clean: String = base[..end]
        .chars()
        .filter(|c| !c.is_control() && !matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect();
    let clean = if clean.trim_matches('.').is_empty() {
        "file"
    } else {
        &clean
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || " .-_+".contains(c);
    let plain: String = clean
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    format!(
        "{disposition}; filename=\"{plain}\"; filename*=UTF-8''{}",
        utf8_percent_encode(clean, ENCODED)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, purpose: For) -> (String, String) {
        let headers = headers(name, purpose);
        let get = |name| headers[name].to_str().unwrap().to_owned();
        (get(header::CONTENT_TYPE), get(header::CONTENT_DISPOSITION))
    }

    #[test]
    fn only_what_cannot_run_is_shown() {
        for (name, kind) in [
            ("a.png", "image/png"),
            ("a.JPG", "image/jpeg"),
            ("a.json", "application/json"),
            ("x.html.txt", TEXT),
        ] {
            let (is, disposition) = of(name, For::Preview);
            assert_eq!(is, kind);
            assert!(disposition.starts_with("inline; "), "{disposition}");
        }
        for name in [
            "a.html",
            "a.HTM",
            "a.svg",
            "a.xhtml",
            "a.xml",
            "a.pdf",
            "a.js",
            "a.mjs",
            "a.css",
            "a.wasm",
            "a.swf",
            "a.mht",
            "a",
            "",
            ".",
            "png",
            "a.png.html",
            "a.png ",
            "a.png\0",
            "a.pn\u{202e}g",
            "a.txt;b.html",
        ] {
            let (kind, disposition) = of(name, For::Preview);
            assert_eq!(kind, SAVED, "{name:?}");
            assert!(
                disposition.starts_with("attachment; "),
                "{name:?}: {disposition}"
            );
        }
        assert_eq!(of("a.png", For::Download).0, SAVED);
        for purpose in [For::Preview, For::Download] {
            let headers = headers("a.html", purpose);
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[test]
    fn no_name_breaks_out_of_its_header() {
        let name = |name: &str| of(name, For::Download).1;
        assert_eq!(
            name("a b.dcm"),
            "attachment; filename=\"a b.dcm\"; filename*=UTF-8''a%20b.dcm"
        );
        assert_eq!(
            name("é.txt"),
            "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"
        );
        assert_eq!(
            name("x\"; filename=\"evil.html"),
            "attachment; filename=\"x__ filename__evil.html\"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.html"
        );
        let injected = name("a\r\nSet-Cookie: x=y.txt");
        assert!(!injected.contains(['\r', '\n']), "{injected}");
        assert_eq!(name("../../etc/passwd"), name("passwd"));
        assert_eq!(name("C:\\x\\passwd"), name("passwd"));
        for empty in ["", "..", "a/", "\n"] {
            assert_eq!(name(empty), name("file"), "{empty:?}");
        }
        assert!(name("photo_\u{202e}gpj.exe").contains("photo_gpj.exe"));
        assert!(name(&"ü".repeat(600)).len() < 1200);
    }

    proptest::proptest! {
        #[test]
        fn any_name_makes_a_header(name in ".*") {
            let headers = headers(&name, For::Preview);
            let text = headers[header::CONTENT_DISPOSITION].to_str().unwrap();
            proptest::prop_assert!(text.contains("filename*=UTF-8''"));
            proptest::prop_assert_eq!(text.matches('"').count(), 2);
        }
    }
}
