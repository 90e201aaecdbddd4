//! The web page: files in the program, for everybody, since there is nothing of anybody's in them. What it shows it asks of the routes.

use super::{App, not_found};
use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        [$(($name, $kind, include_str!(concat!("../../web/", $name)))),*]
    };
}

/// Name, type and content.
const FILES: [(&str, &str, &str); 17] = files! {
    "page.html": HTML,
    "page.css": STYLE,
    "ask.js": SCRIPT,
    "chart.js": SCRIPT,
    "dead.js": SCRIPT,
    "definition.js": SCRIPT,
    "dom.js": SCRIPT,
    "editor.js": SCRIPT,
    "files.js": SCRIPT,
    "format.js": SCRIPT,
    "function.js": SCRIPT,
    "functions.js": SCRIPT,
    "icon.svg": ICON,
    "job.js": SCRIPT,
    "jobs.js": SCRIPT,
    "main.js": SCRIPT,
    "usage.js": SCRIPT,
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { file("page.html") }))
        .route("/ui", get(|| async { file("page.html") }))
        .route(
            "/ui/{file}",
            get(|Path(name): Path<String>| async move { file(&name) }),
        )
}

fn file(name: &str) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return not_found("the page has no such file".into()).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        // Another release's page and scripts do not mix.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, *text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_put_no_text_into_the_page_as_markup() {
        for (name, kind, text) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
                "javascript:",
            ] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            // The policy would refuse them, silently.
            let inline = [" style=\"", " onclick=", "<style"];
            let is_page = kind == HTML;
            assert!(
                !is_page || inline.iter().all(|word| !text.contains(word)),
                "{name}"
            );
        }
    }

    #[test]
    fn every_file_that_is_asked_for_is_there() {
        let known: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        for (name, _, text) in FILES {
            let imports = text.split("from \"./").skip(1);
            let links = text.split("=\"ui/").skip(1);
            for rest in imports.chain(links) {
                let wanted = rest.split('"').next().unwrap();
                assert!(known.contains(&wanted), "{name} asks for {wanted}");
            }
        }
    }
}
