//! What a request is about: OSCAR's paths, the journal's jobs, stored files, and this crate's own. Pure. What is not known here is for
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
/// A key has at most 1,024 bytes.
const MAX_PARTS_OF_FILES: usize = 520;

/// In every bucket each person has a folder of their own below this one.
pub const PEOPLE: &str = "users";

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
    let most = match path.starts_with("/files/") {
        true => MAX_PARTS_OF_FILES,
        false => MAX_PARTS,
    };
    if parts.clone().count() > most {
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
        // The page, its own files, and the description of the interface have nothing of anybody's in them.
        ([], "" | "health" | "ui" | "openapi.json") if looks => Target::Public,
        (["ui"], _) if looks => Target::Public,
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
        (["system", "services", name], "versions" | "definition") if looks => {
            of_function(Action::FunctionRead, name)
        }
        // What is in it is the caller's to try, so whoever may invoke may have it.
        (["system", "services", name], "sample") if looks => {
            of_function(Action::FunctionInvoke, name)
        }
        (["system"], "check") if posts => several(Action::FunctionWrite),
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
        (["jobs", id], "result" | "files") if looks => of_job(Action::JobResult, id),
        (["jobs", id, "files"], _) if looks => of_job(Action::JobResult, id),
        (["jobs", id], "wait") if looks => of_job(Action::JobRead, id),
        (["jobs", id], "log" | "logs") if looks => of_job(Action::LogRead, id),
        (["jobs", id], "cancel") if posts => of_job(Action::JobCancel, id),
        ([], "files" | "usage") if looks => several(match &*last {
            "files" => Action::FileList,
            _ => Action::JobList,
        }),
        (["files"], _) if looks => several(Action::FileList),
        (["files", _, key @ ..], name) => {
            let action = match *method {
                Method::GET | Method::HEAD => Action::FileRead,
                Method::PUT => Action::FileWrite,
                Method::DELETE => Action::FileDelete,
                _ => return None,
            };
            Target::Asks {
                action,
                subject: Subject::FileOf(owner_of(key, name)?.map(Cow::Owned)),
            }
        }
        _ => return None,
    })
}

/// Whose a stored file is, by its key inside its bucket: below `users/FOLDER`, that person's; else the operator's. None for what is
/// no key, or would be another one when it is decoded.
fn owner_of(folders: &[&str], name: &str) -> Option<Option<String>> {
    let odd = |part: &str| matches!(part, "." | "..") || part.contains(['/', '\\', '\0']);
    if odd(name) || folders.iter().any(|part| odd(part)) {
        return None;
    }
    Some(match folders {
        [PEOPLE, folder, ..] => person_of(folder),
        _ => None,
    })
}

/// The same, by a key in one piece, as a definition names it.
pub fn owner_of_file(key: &str) -> Option<String> {
    let (folders, name) = key.rsplit_once('/')?;
    owner_of(&folders.split('/').collect::<Vec<_>>(), name).flatten()
}

/// The folder of a person, as `rgpu_faas_storage::Namespace` names it: a-z 0-9 - _ stay, other bytes are `=` and two digits.
pub fn folder_of(person: &str) -> String {
    let mut folder = String::with_capacity(person.len());
    for byte in person.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => folder.push(char::from(byte)),
            _ => folder.push_str(&format!("={byte:02x}")),
        }
    }
    folder
}

/// Whose folder this is; None if it is nobody's.
fn person_of(folder: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let person = String::from_utf8(bytes).ok()?;
    // A person has one folder, not several that are written differently.
    (!person.is_empty() && folder_of(&person) == folder).then_some(person)
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
            ("GET", "/ui", None),
            ("GET", "/ui/page.js", None),
            ("GET", "/openapi.json", None),
            ("POST", "/system/check", several(Action::FunctionWrite)),
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
            (
                "GET",
                "/system/services/f/definition",
                function(Action::FunctionRead, "f"),
            ),
            (
                "GET",
                "/system/services/f/sample",
                function(Action::FunctionInvoke, "f"),
            ),
            ("GET", "/jobs/7/files", job(Action::JobResult, "7")),
            ("GET", "/jobs/7/files/0", job(Action::JobResult, "7")),
            ("GET", "/usage", several(Action::JobList)),
            ("GET", "/files", several(Action::FileList)),
            ("GET", "/files/b", several(Action::FileList)),
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
    fn a_file_is_whose_folder_it_lies_in() {
        let owner = |path: &str| match asks("GET", path) {
            Some((Action::FileRead, Subject::FileOf(owner))) => {
                Ok(owner.map(|owner| owner.into_owned()))
            }
            other => Err(other),
        };
        let of = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(owner("/files/b/users/ann/x.png"), of("ann"));
        assert_eq!(owner("/files/b/users/ann/deep/er/x.png"), of("ann"));
        assert_eq!(owner("/files/b/users/egi=3aann/x"), of("egi:ann"));
        assert_eq!(owner("/files/b/users/=41nn/x"), of("Ann"));
        assert_eq!(owner("/files/b/%75sers/ann/x"), of("ann"));
        // Nobody's: a person's folder itself is no file of theirs, and there is one way to write a name.
        for nobodys in [
            "/files/b/x",
            "/files/b/users/ann",
            "/files/b/users/Ann/x",
            "/files/b/users/=61nn/x",
            "/files/b/users/=4",
            "/files/b/users/=/x",
            "/files/b/users/=+1/x",
            "/files/b/in/users/ann/x",
        ] {
            assert_eq!(owner(nobodys), Ok(None), "{nobodys}");
        }
        let closed = Err(Some((Action::SystemWrite, Subject::Several)));
        for odd in [
            "/files/b/users/ann/../bob/x",
            "/files/b/users/ann/%2e%2e/bob/x",
            "/files/b/users%2Fbob/x",
            "/files/b/users/ann%2F..%2Fbob/x",
            "/files/b/users/ann/..%5cbob",
            "/files/b/users/ann//x",
            "/files/b/users/ann/",
            "/files/b/users/ann/a%00",
        ] {
            assert_eq!(owner(odd), closed, "{odd}");
        }
        let asked = |method| asks(method, "/files/b/users/ann/x").map(|(action, _)| action);
        assert_eq!(asked("PUT"), Some(Action::FileWrite));
        assert_eq!(asked("DELETE"), Some(Action::FileDelete));
        assert_eq!(asked("POST"), Some(Action::SystemWrite));
        let deep = format!("/files/b/{}x", "a/".repeat(600));
        assert_eq!(
            asks("GET", &deep),
            Some((Action::SystemWrite, Subject::Several))
        );
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
        #[test]
        fn a_folder_is_one_persons(person in ".{1,40}") {
            proptest::prop_assert_eq!(person_of(&folder_of(&person)), Some(person));
        }

        /// Whatever is asked for, nobody gets further without credentials than to what is meant for everybody.
        #[test]
        fn little_is_public(path in "(/|%2[fF]|%2e|\\.|[a-z]{1,6}|health|ui|files|users|system|access|login|services){0,12}") {
            let is_public = of(&Method::GET, &path) == Target::Public;
            let decoded = percent_decode_str(&path).decode_utf8().unwrap();
            proptest::prop_assert!(!is_public || decoded == "/" || decoded == "/health" || decoded == "/ui" || decoded.starts_with("/ui/"), "{}", path);
        }
    }
}
