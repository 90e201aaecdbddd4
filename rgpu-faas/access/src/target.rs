//! What a request is about: OSCAR's paths, the journal's jobs, and this crate's own. Pure. What is not known here is for
//! administrators alone, so that a route that was forgotten is closed.

use std::borrow::Cow;

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::policy::Action;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// All of a kind, or what is yet to be made.
    Several,
    Function(Cow<'a, str>),
    /// A job by its id; it belongs to its function.
    Job(Cow<'a, str>),
    /// A stored file, or a folder of them, of this person; nobody's: the operator's.
    FileOf(Option<Cow<'a, str>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Anybody may, without credentials.
    Public,
    Asks {
        action: Action,
        subject: Subject<'a>,
    },
}

impl Target<'_> {
    /// For administrators alone.
    pub const CLOSED: Target<'static> = Target::Asks {
        action: Action::SystemWrite,
        subject: Subject::Several,
    };
}

/// More parts than any path has that is served.
const MAX_PARTS: usize = 8;

/// What `method path` asks for. The path is as it came, without its query.
pub fn of<'a>(method: &Method, path: &'a str) -> Target<'a> {
    // As OSCAR's Python client writes it.
    let path = match path {
        "/system/config/" => "/system/config",
        path => path,
    };
    try_of(method, path).unwrap_or(Target::CLOSED)
}

fn try_of<'a>(method: &Method, path: &'a str) -> Option<Target<'a>> {
    let parts = path.strip_prefix('/')?.split('/');
    if parts.clone().count() > MAX_PARTS {
        return None;
    }
    // Decoded as the router decodes what it hands to a handler, so that both mean the same.
    let mut parts = parts
        .map(|part| percent_decode_str(part).decode_utf8().ok())
        .collect::<Option<Vec<_>>>()?;
    if parts.iter().any(|part| part.is_empty()) && path != "/" {
        return None;
    }
    let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let puts = matches!(*method, Method::POST | Method::PUT);
    let posts = *method == Method::POST;
    let deletes = *method == Method::DELETE;
    let last = parts.last_mut().map(std::mem::take)?;
    let folder: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let folder = &folder[..folder.len() - 1];
    let several = |action| Target::Asks {
        action,
        subject: Subject::Several,
    };
    let of_function = |action, name: &str| Target::Asks {
        action,
        subject: Subject::Function(Cow::Owned(name.to_owned())),
    };
    let of_job = |action, id: &str| Target::Asks {
        action,
        subject: Subject::Job(Cow::Owned(id.to_owned())),
    };
    Some(match (folder, &*last) {
        ([], "" | "health") if looks => Target::Public,
        (["access"], "login") if posts => Target::Public,
        (["access"], "me") if looks => several(Action::SelfRead),
        (["access"], "logout") if posts => several(Action::SelfRead),
        (["access", "tokens"], name) if posts || deletes => of_function(Action::TokenWrite, name),
        (["system"], "services") if looks => several(Action::FunctionList),
        (["system"], "services") if puts => several(Action::FunctionWrite),
        (["system", "services"], name) if looks => of_function(Action::FunctionRead, name),
        (["system", "services"], name) if deletes => of_function(Action::FunctionDelete, name),
        (["system", "logs"], name) if looks => of_function(Action::JobList, name),
        (["system", "logs"], name) if deletes => of_function(Action::JobDelete, name),
        (["system", "logs", name], _) if looks => of_function(Action::LogRead, name),
        (["system", "logs", name], _) if deletes => of_function(Action::JobDelete, name),
        (["system", "services", name], "versions") if looks => {
            of_function(Action::FunctionRead, name)
        }
        (["system", "services", name, "versions", _], "restore") if posts => {
            of_function(Action::FunctionWrite, name)
        }
        (["system"], "dead-letter") if looks => several(Action::JobList),
        (["system"], "dead-letter") if deletes => several(Action::JobReplay),
        (["system", "dead-letter"], "replay") if posts => several(Action::JobReplay),
        (["system", "dead-letter"], id) if deletes => of_job(Action::JobReplay, id),
        (["system", "dead-letter", id], "replay") if posts => of_job(Action::JobReplay, id),
        // OSCAR's client asks them before anything else, whoever uses it; they have nothing of anybody's in them.
        (["system"], "info" | "config") if looks => several(Action::SelfRead),
        (["system", "services", name], "deployment") if looks => {
            of_function(Action::FunctionRead, name)
        }
        (["system", "services", name, "deployment"], "logs") if looks => {
            of_function(Action::FunctionRead, name)
        }
        (["system"], "status" | "metrics") if looks => several(Action::SystemRead),
        ([], "metrics") if looks => several(Action::SystemRead),
        (["job" | "run" | "events"], name) if posts => of_function(Action::FunctionInvoke, name),
        ([], "jobs") if looks => several(Action::JobList),
        (["jobs"], id) if looks => of_job(Action::JobRead, id),
        (["jobs"], id) if deletes => of_job(Action::JobDelete, id),
        (["jobs", id], "result") if looks => of_job(Action::JobResult, id),
        (["jobs", id], "wait") if looks => of_job(Action::JobRead, id),
        (["jobs", id], "log" | "logs") if looks => of_job(Action::LogRead, id),
        (["jobs", id], "cancel") if posts => of_job(Action::JobCancel, id),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: &str, path: &str) -> Option<(Action, Subject<'static>)> {
        match of(&method.parse().unwrap(), path) {
            Target::Public => None,
            Target::Asks { action, subject } => Some((
                action,
                match subject {
                    Subject::Several => Subject::Several,
                    Subject::Function(name) => Subject::Function(name.into_owned().into()),
                    Subject::Job(id) => Subject::Job(id.into_owned().into()),
                    Subject::FileOf(owner) => {
                        Subject::FileOf(owner.map(|owner| owner.into_owned().into()))
                    }
                },
            )),
        }
    }

    #[test]
    fn paths_say_what_is_asked_for() {
        let function = |action, name: &'static str| Some((action, Subject::Function(name.into())));
        let job = |action, id: &'static str| Some((action, Subject::Job(id.into())));
        let several = |action| Some((action, Subject::Several));
        for (method, path, expected) in [
            ("GET", "/", None),
            ("GET", "/health", None),
            ("POST", "/access/login", None),
            ("POST", "/access/logout", several(Action::SelfRead)),
            ("GET", "/system/services", several(Action::FunctionList)),
            ("PUT", "/system/services", several(Action::FunctionWrite)),
            ("POST", "/system/services", several(Action::FunctionWrite)),
            (
                "HEAD",
                "/system/services/f",
                function(Action::FunctionRead, "f"),
            ),
            (
                "DELETE",
                "/system/services/f",
                function(Action::FunctionDelete, "f"),
            ),
            ("GET", "/system/logs/f", function(Action::JobList, "f")),
            ("GET", "/system/logs/f/1", function(Action::LogRead, "f")),
            ("POST", "/job/f", function(Action::FunctionInvoke, "f")),
            ("POST", "/run/f", function(Action::FunctionInvoke, "f")),
            ("POST", "/events/f", function(Action::FunctionInvoke, "f")),
            (
                "POST",
                "/access/tokens/f",
                function(Action::TokenWrite, "f"),
            ),
            ("GET", "/jobs", several(Action::JobList)),
            ("GET", "/jobs/7", job(Action::JobRead, "7")),
            ("GET", "/jobs/7/wait", job(Action::JobRead, "7")),
            ("GET", "/jobs/7/result", job(Action::JobResult, "7")),
            ("POST", "/jobs/7/cancel", job(Action::JobCancel, "7")),
            (
                "GET",
                "/system/services/f/versions",
                function(Action::FunctionRead, "f"),
            ),
            (
                "POST",
                "/system/services/f/versions/3/restore",
                function(Action::FunctionWrite, "f"),
            ),
            ("DELETE", "/system/logs/f", function(Action::JobDelete, "f")),
            (
                "DELETE",
                "/system/logs/f/1",
                function(Action::JobDelete, "f"),
            ),
            ("GET", "/system/dead-letter", several(Action::JobList)),
            ("DELETE", "/system/dead-letter", several(Action::JobReplay)),
            (
                "POST",
                "/system/dead-letter/replay",
                several(Action::JobReplay),
            ),
            (
                "DELETE",
                "/system/dead-letter/7",
                job(Action::JobReplay, "7"),
            ),
            (
                "POST",
                "/system/dead-letter/7/replay",
                job(Action::JobReplay, "7"),
            ),
            ("GET", "/metrics", several(Action::SystemRead)),
            ("GET", "/system/status", several(Action::SystemRead)),
            ("GET", "/system/info", several(Action::SelfRead)),
            ("GET", "/system/config", several(Action::SelfRead)),
            ("GET", "/system/config/", several(Action::SelfRead)),
            (
                "GET",
                "/system/services/f/deployment",
                function(Action::FunctionRead, "f"),
            ),
            (
                "GET",
                "/system/services/f/deployment/logs",
                function(Action::FunctionRead, "f"),
            ),
        ] {
            assert_eq!(asks(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn names_are_decoded_as_the_router_does() {
        let name = |path| match asks("POST", path) {
            Some((Action::FunctionInvoke, Subject::Function(name))) => Some(name.into_owned()),
            _ => None,
        };
        assert_eq!(name("/job/%66%6F%6f").as_deref(), Some("foo"));
        // Once, not twice; and a slash that is written so stays within the name.
        assert_eq!(name("/job/%2566").as_deref(), Some("%66"));
        assert_eq!(name("/job/a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(name("/job/a%2").as_deref(), Some("a%2"));
        assert_eq!(name("/job/..").as_deref(), Some(".."));
    }

    #[test]
    fn what_is_not_known_is_closed() {
        let closed = Some((Action::SystemWrite, Subject::Several));
        for (method, path) in [
            ("GET", "/nowhere"),
            ("POST", "/"),
            ("POST", "/health"),
            ("DELETE", "/jobs"),
            ("PATCH", "/system/services/f"),
            ("GET", "/job/f"),
            ("GET", "/access/login"),
            ("GET", "/system/services/"),
            ("PUT", "/system/config"),
            ("PUT", "/system/config/"),
            ("GET", "/system/info/"),
            ("GET", "//system/services"),
            ("GET", "/system//services"),
            ("GET", "/health/"),
            ("GET", "/system/services/f/g"),
            ("GET", "/system/services/%ff"),
            ("GET", "/jobs/7/../../health"),
            ("GET", "/a/b/c/d/e/f/g/h/i/j"),
            ("GET", "*"),
            ("GET", ""),
            ("BREW", "/jobs"),
        ] {
            assert_eq!(asks(method, path), closed, "{method} {path}");
        }
    }

    proptest::proptest! {
        /// Whatever is asked for, nobody gets further without credentials than to what is meant for everybody.
        #[test]
        fn little_is_public(path in "(/|%2[fF]|%2e|\\.|[a-z]{1,6}|health|system|access|login|services){0,12}") {
            let is_public = of(&Method::GET, &path) == Target::Public;
            let decoded = percent_decode_str(&path).decode_utf8().unwrap();
            proptest::prop_assert!(!is_public || decoded == "/" || decoded == "/health", "{}", path);
        }
    }
}
