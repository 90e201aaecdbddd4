//! The administration, with clients and workers behind it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::client::{Session, begin, greet, hello};
use crate::daemon::{Daemon, PATIENCE, TOKEN, command, folder};
use rgpu_proto::handshake::Token;

const OTHER: &str = "a-token-of-another-tenant-012345";
const EXPIRED: &str = "a-token-that-has-expired-01234567";
const BOSS: &str = "a-token-of-the-administrator-0123";

fn daemon(driver: &str) -> Daemon {
    daemon_with(driver, &[])
}

fn daemon_with(driver: &str, more: &[&str]) -> Daemon {
    let tenants = format!(
        "sessions = 4\n[[tenant]]\nname = \"other\"\ntoken = \"{OTHER}\"\n\
         tokens = [{{ token = \"{EXPIRED}\", expires = 2020-01-01T00:00:00Z }}]\n\
         [[tenant]]\nname = \"boss\"\nrole = \"admin\"\ntoken = \"{BOSS}\""
    );
    let folder = folder(&tenants);
    let path = folder.path();
    let mut command = command(path, driver);
    command
        .args([
            "--listen",
            "tcp://127.0.0.1:0",
            "--admin",
            "tcp://127.0.0.1:0",
        ])
        .args(more)
        .arg("--config")
        .arg(path.join("rgpud.toml"));
    Daemon::from(command, folder)
}

pub fn ask(daemon: &Daemon, method: &str, path: &str, token: &str) -> (u16, String) {
    ask_with(daemon, method, path, token, "")
}

fn ask_with(daemon: &Daemon, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    let address = daemon.admin.as_deref().unwrap();
    let mut stream = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let shown = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{shown}{length}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

pub fn get(daemon: &Daemon, path: &str, token: &str) -> Value {
    let (status, body) = ask(daemon, "GET", path, token);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn of(token: &str) -> rgpu_proto::handshake::Hello {
    rgpu_proto::handshake::Hello {
        token: Token::new(token),
        ..hello()
    }
}

fn start(daemon: &Daemon, token: &str) -> Session {
    begin(&daemon.listen[0], &of(token)).unwrap()
}

pub fn each_tenant_sees_its_own() {
    let daemon = daemon("driver.so");
    let (mine, theirs) = (start(&daemon, TOKEN), start(&daemon, OTHER));
    let numbers = |token| {
        let told = get(&daemon, "/v1/sessions", token);
        let sessions = told["sessions"].as_array().unwrap().clone();
        sessions
            .iter()
            .map(|it| it["session"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(TOKEN), [mine.welcome.session]);
    assert_eq!(numbers(OTHER), [theirs.welcome.session]);
    assert_eq!(numbers(BOSS).len(), 2);
    let session = &get(&daemon, "/v1/sessions", TOKEN)["sessions"][0];
    for (name, value) in [
        ("tenant", Value::from("tests")),
        ("program", "test".into()),
        ("host", "here".into()),
        ("state", "running".into()),
        ("memory_bytes", 2048.into()),
        ("calls", 7.into()),
        ("devices", vec![0].into()),
    ] {
        assert_eq!(session[name], value, "{name}: {session}");
    }
    let tenants = get(&daemon, "/v1/tenants", BOSS);
    assert_eq!(tenants["tenants"].as_array().unwrap().len(), 3);
    let own = get(&daemon, "/v1/tenants", TOKEN);
    assert_eq!(own["tenants"][0]["sessions"], 1);
    assert_eq!(own["tenants"][0]["sessions_limit"], 4);
    assert_eq!(own["tenants"].as_array().unwrap().len(), 1);
    let device = &get(&daemon, "/v1/devices", TOKEN)["devices"][0];
    assert_eq!(device["name"], "A device");
    assert_eq!(device["memory_held_bytes"], 4096);
    assert_eq!(device["utilization_percent"], 37.0);
    assert_eq!(get(&daemon, "/v1/queue", TOKEN)["length"], 0);
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", "").0, 401);
    let (status, body) = ask(&daemon, "GET", "/v1/sessions", EXPIRED);
    assert_eq!(status, 401);
    assert!(body.contains("the token has expired; use one"), "{body}");
    assert_eq!(
        ask(&daemon, "GET", "/v1/sessions", "a-token-that-is-nobodys").0,
        401
    );
}

pub fn metrics_tell_what_has_happened() {
    let mut daemon = daemon("driver.so");
    let mut session = start(&daemon, TOKEN);
    assert!(greet(&daemon.listen[0], &of("a-token-that-is-nobodys"), b"").is_err());
    let metrics = || {
        let (status, body) = ask(&daemon, "GET", "/metrics", "");
        assert_eq!(status, 200, "{body}");
        body
    };
    let has = |text: &str, line: &str| assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    let mine = "{tenant=\"tests\",profile=\"\"}";
    let now = metrics();
    has(&now, &format!("rgpu_sessions{mine} 1"));
    has(&now, &format!("rgpu_sessions_admitted_total{mine} 1"));
    has(&now, &format!("rgpu_bytes_in_total{mine} 1000"));
    has(&now, &format!("rgpu_memory_held_bytes{mine} 2048"));
    has(&now, "rgpu_refused_total{code=\"unauthenticated\"} 1");
    has(&now, "rgpu_admission_wait_seconds_count 1");
    let device = now
        .lines()
        .find(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\""));
    assert!(device.is_some_and(|line| line.ends_with(" 37.0")), "{now}");
    // What a session has used stays counted when it is over.
    session.control.take();
    drop(session);
    daemon.logs("session ends");
    let metrics = ask(&daemon, "GET", "/metrics", "").1;
    has(&metrics, &format!("rgpu_sessions{mine} 0"));
    has(&metrics, &format!("rgpu_bytes_in_total{mine} 1000"));
    has(&metrics, "rgpu_sessions_ended_total{outcome=\"ok\"} 1");
    assert!(daemon.stop().success());
}

pub fn a_session_is_ended_from_outside() {
    let daemon = daemon("driver.so");
    let mut session = start(&daemon, TOKEN);
    let path = format!("/v1/sessions/{}", session.welcome.session);
    assert_eq!(ask(&daemon, "DELETE", &path, OTHER).0, 404);
    session.data.echoes();
    let (status, body) = ask(
        &daemon,
        "DELETE",
        &format!("{path}?reason=maintenance"),
        BOSS,
    );
    assert_eq!(status, 202, "{body}");
    let (result, reason) = session.ended();
    assert_eq!(result, 46);
    assert_eq!(
        reason,
        "ended by boss through the server's administration: maintenance"
    );
    assert_eq!(ask(&daemon, "DELETE", &path, BOSS).0, 404);
}

pub fn a_lease_lets_its_sessions_in_until_it_ends() {
    let daemon = daemon("driver.so");
    let wish = "{\"holder\": \"a pod\", \"ttl_seconds\": 60}";
    let (status, granted) = ask_with(&daemon, "POST", "/v1/leases", TOKEN, wish);
    assert_eq!(status, 201, "{granted}");
    let granted: Value = serde_json::from_str(&granted).unwrap();
    let (id, token) = (&granted["id"], granted["token"].as_str().unwrap());
    let mut session = start(&daemon, token);
    let told = &get(&daemon, "/v1/sessions", TOKEN)["sessions"][0];
    assert_eq!(
        (&told["lease"], &told["tenant"]),
        (id, &Value::from("tests"))
    );
    let held = &get(&daemon, "/v1/leases?holder=a%20pod", TOKEN)["leases"][0];
    assert_eq!((&held["id"], &held["sessions"]), (id, &Value::from(1)));
    assert_eq!(
        get(&daemon, "/v1/tenants", TOKEN)["tenants"][0]["leases"],
        1
    );
    // The token is for sessions alone, and the lease is its tenant's.
    assert_eq!(ask(&daemon, "GET", "/v1/sessions", token).0, 401);
    let path = format!("/v1/leases/{}", id.as_str().unwrap());
    let renew = |token: &str| ask_with(&daemon, "PUT", &path, token, "{\"ttl_seconds\": 90}").0;
    assert_eq!((renew(TOKEN), renew(OTHER)), (200, 404));
    assert_eq!(ask(&daemon, "DELETE", &path, OTHER).0, 404);
    assert_eq!(ask(&daemon, "DELETE", &path, TOKEN).0, 200);
    assert_eq!(session.ended().1, "the lease of its vGPU has ended");
    assert!(greet(&daemon.listen[0], &of(token), b"").is_err());
    assert_eq!(
        (renew(TOKEN), ask(&daemon, "DELETE", &path, TOKEN).0),
        (404, 404)
    );
}

pub fn the_configuration_is_read_again() {
    let daemon = daemon("driver.so");
    assert_eq!(ask(&daemon, "POST", "/v1/reload", TOKEN).0, 403);
    let file = daemon.folder.path().join("rgpud.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replacen("sessions = 4", "sessions = 5", 1);
    std::fs::write(&file, changed).unwrap();
    let (status, body) = ask(&daemon, "POST", "/v1/reload", BOSS);
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        told["changed"],
        Value::from(vec!["tenant tests has changed"])
    );
    let own = get(&daemon, "/v1/tenants", TOKEN);
    assert_eq!(own["tenants"][0]["sessions_limit"], 5);
    std::fs::write(&file, "[[tenant]]\n").unwrap();
    assert_eq!(ask(&daemon, "POST", "/v1/reload", BOSS).0, 400);
    assert_eq!(
        get(&daemon, "/v1/tenants", BOSS)["tenants"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

pub fn a_driver_that_fails_makes_the_server_unready() {
    let daemon = daemon("broken.so");
    assert_eq!(ask(&daemon, "GET", "/readyz", ""), (200, "ok".into()));
    assert!(begin(&daemon.listen[0], &of(TOKEN)).is_err());
    let (status, text) = ask(&daemon, "GET", "/readyz", "");
    assert_eq!(status, 503);
    assert!(
        text.contains("[-]driver failed: the driver does not load"),
        "{text}"
    );
    assert_eq!(ask(&daemon, "GET", "/livez", "").0, 200);
}

pub fn a_draining_daemon_answers_and_is_not_ready() {
    let mut daemon = daemon_with("driver.so", &["--drain-seconds", "600"]);
    let session = start(&daemon, TOKEN);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.logs("stopping: no new sessions");
    let (status, text) = ask(&daemon, "GET", "/readyz", "");
    assert!(
        status == 503 && text.contains("[-]serving failed: the daemon is stopping"),
        "{text}"
    );
    assert_eq!(ask(&daemon, "GET", "/livez", "").0, 200);
    let told = get(&daemon, "/v1/sessions", TOKEN);
    assert_eq!(
        told["sessions"][0]["session"],
        Value::from(session.welcome.session)
    );
    drop(session);
    assert!(daemon.wait().success());
}
