//! The whole of it over real sockets, with a daemon of the test's own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::Value;

use crate::data::{Check, Ended, Facts, Session};
use crate::{Admin, Failure, Identity, Mount, Options, Question, Questions, Role, channel};

const ALICE: &str = "token-of-alice";
const BOSS: &str = "token-of-the-boss";

/// Answers as a daemon would that has one session of alice's. `None`: takes questions and answers none.
fn daemon(mut questions: Questions, answers: bool) {
    std::thread::spawn(move || {
        let mut unanswered = Vec::new();
        while let Some(question) = questions.blocking_recv() {
            match answers {
                true => answer(question),
                false => unanswered.push(question),
            }
        }
    });
}

fn answer(question: Question) {
    match question {
        Question::Who { token, answer } => {
            let identity = |tenant: &str, role| Identity {
                tenant: tenant.into(),
                role,
            };
            let _ = answer.send(match token.as_str() {
                ALICE => Ok(identity("alice", Role::Tenant)),
                BOSS => Ok(identity("boss", Role::Admin)),
                _ => Err(Failure::Unauthenticated("the token has expired".into())),
            });
        }
        Question::Ready(answer) => {
            let full = Check {
                name: "room".into(),
                ok: false,
                detail: "all 8 sessions are taken".into(),
            };
            let _ = answer.send(vec![full]);
        }
        Question::Facts(answer) => {
            let _ = answer.send(Facts::default());
        }
        Question::Sessions { of, answer } => {
            let session = Session {
                session: 7,
                tenant: "alice".into(),
                ..Session::default()
            };
            let seen = of.is_none_or(|of| of == "alice");
            let _ = answer.send(seen.then_some(session).into_iter().collect());
        }
        Question::EndSession {
            session,
            reason,
            answer,
            ..
        } => {
            let ended = Ended {
                session,
                tenant: "alice".into(),
                reason,
            };
            let _ = answer.send(match session {
                7 => Ok(ended),
                _ => Err(Failure::NotFound("there is no such session".into())),
            });
        }
        Question::Reload(answer) => {
            let _ = answer.send(Err(Failure::NotImplemented("not yet".into())));
        }
        _ => {}
    }
}

fn start(answers: bool, listen: &[&str]) -> Admin {
    let (asker, questions) = channel();
    daemon(questions, answers);
    let open = Router::new().route("/page", get(|| async { "a page" }));
    let known = Router::new().route("/v1/mine", get(|by: Identity| async move { by.tenant }));
    let mount = Mount {
        known,
        open,
        openapi: None,
    };
    Admin::start(Options {
        listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
        asker,
        mounts: vec![mount],
    })
    .unwrap()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// Status, head and body of the answer.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

fn ask(admin: &Admin, method: &str, path: &str, token: &str) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let (status, _, body) = exchange(connect(&admin.addresses[0]), &request);
    (status, body)
}

/// What a failure says that has this code.
fn words(body: &str, code: &str) -> String {
    let failure: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"));
    assert_eq!(failure["code"], code, "{body}");
    failure["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_token_shows_what_is_its_tenants() {
    let admin = start(true, &["tcp://127.0.0.1:0"]);
    let sessions = |token, query: &str| {
        let (status, body) = ask(&admin, "GET", &format!("/v1/sessions{query}"), token);
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["sessions"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(sessions(ALICE, ""), (200, 1));
    assert_eq!(sessions(ALICE, "?limit=0"), (200, 0));
    assert_eq!(sessions(BOSS, ""), (200, 1));
    assert_eq!(sessions(BOSS, "?tenant=bob"), (200, 0));
    assert_eq!(sessions(ALICE, "?tenant=bob").0, 403);
    let (status, body) = ask(&admin, "GET", "/v1/sessions", "guess");
    assert_eq!(
        (status, words(&body, "unauthenticated")),
        (401, "the token has expired".into())
    );
    let (status, body) = ask(&admin, "GET", "/v1/sessions?limit=many", ALICE);
    assert_eq!(status, 400);
    assert!(words(&body, "invalid").contains("limit"), "{body}");
    assert_eq!(ask(&admin, "POST", "/v1/reload", ALICE).0, 403);
    assert_eq!(ask(&admin, "POST", "/v1/reload", BOSS).0, 501);
    assert_eq!(ask(&admin, "GET", "/v1/mine", ALICE), (200, "alice".into()));
    assert_eq!(ask(&admin, "GET", "/v1/mine", "guess").0, 401);
    assert_eq!(ask(&admin, "GET", "/page", "guess"), (200, "a page".into()));
    assert_eq!(ask(&admin, "GET", "/nowhere", BOSS).0, 404);
    admin.stop();
}

#[test]
fn a_session_is_ended_with_the_callers_words() {
    let admin = start(true, &["tcp://127.0.0.1:0"]);
    let (status, body) = ask(&admin, "DELETE", "/v1/sessions/7?reason=too%20long", BOSS);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 202);
    assert_eq!(
        body["reason"],
        "ended by boss through the server's administration: too long"
    );
    assert_eq!(ask(&admin, "DELETE", "/v1/sessions/8", BOSS).0, 404);
    let (status, body) = ask(&admin, "DELETE", "/v1/sessions/x", BOSS);
    assert_eq!(status, 400);
    assert!(!words(&body, "invalid").is_empty(), "{body}");
    assert_eq!(
        ask(&admin, "DELETE", "/v1/sessions/7?reason=a%0Ab", BOSS).0,
        400
    );
    admin.stop();
}

#[test]
fn probes_need_no_token_from_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let unix = format!("unix://{}", socket.display());
    let admin = start(true, &["tcp://127.0.0.1:0", &unix]);
    let plain = |path: &str, host: &str| format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let by_tcp = |request: &str| exchange(connect(&admin.addresses[0]), request);
    let (status, _, body) = by_tcp(&plain("/livez", "localhost"));
    assert_eq!((status, body.as_str()), (200, "ok"));
    let (status, _, body) = by_tcp(&plain("/readyz", "127.0.0.1:1"));
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "[-]room failed: all 8 sessions are taken\nreadyz check failed\n"
    );
    // A page that a browser on this machine shows.
    let (status, _, body) = by_tcp(&plain("/metrics", "evil.example"));
    assert_eq!(status, 401);
    assert!(words(&body, "unauthenticated").contains("`Host`"), "{body}");
    assert_eq!(by_tcp(&plain("/v1/sessions", "localhost")).0, 401);
    let (status, head, body) = by_tcp(&plain("/metrics", "localhost"));
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4") && body.contains("rgpu_build_info"));
    let open =
        "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n";
    let (_, head, body) = exchange(UnixStream::connect(&socket).unwrap(), open);
    assert!(head.contains("application/openmetrics-text") && body.ends_with("# EOF\n"));
    admin.stop();
    assert!(!socket.exists());
}

#[test]
fn a_daemon_that_does_not_answer_is_said_to_be_unavailable() {
    let admin = start(false, &["tcp://127.0.0.1:0"]);
    let (status, body) = ask(&admin, "GET", "/v1/sessions", ALICE);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("has not answered within 2 s"), "{body}");
    let (status, _) = ask(&admin, "GET", "/livez", ALICE);
    assert_eq!(status, 503);
    admin.stop();
}

#[test]
fn what_is_too_large_is_refused() {
    let admin = start(true, &["tcp://127.0.0.1:0"]);
    let address = &admin.addresses[0];
    let head = format!(
        "GET /livez HTTP/1.0\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(40 << 10)
    );
    assert_eq!(exchange(connect(address), &head).0, 431);
    let body = format!(
        "POST /v1/leases HTTP/1.0\r\nAuthorization: Bearer {ALICE}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        1 << 20
    );
    assert_eq!(exchange(connect(address), &body).0, 400);
    for wish in [
        r#"{"holder":"","ttl_seconds":1}"#,
        r#"{"holder":"a","ttl_seconds":0}"#,
        r#"{"holder":"a","ttl_seconds":1,"more":1}"#,
        "{",
    ] {
        let request = format!(
            "POST /v1/leases HTTP/1.0\r\nAuthorization: Bearer {ALICE}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{wish}",
            wish.len()
        );
        assert_eq!(exchange(connect(address), &request).0, 400, "{wish}");
    }
    admin.stop();
}

#[test]
fn who_opens_many_connections_keeps_nobody_out() {
    let admin = start(true, &["tcp://127.0.0.1:0"]);
    let half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(&admin.addresses[0]);
            // The last may find the first gone.
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\n");
            stream
        })
        .collect();
    assert_eq!(ask(&admin, "GET", "/v1/sessions", ALICE).0, 200);
    // The oldest has been dropped for another.
    let mut bytes = Vec::new();
    let _ = (&half[0]).read_to_end(&mut bytes);
    assert!(bytes.is_empty());
    admin.stop();
    for stream in half {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
