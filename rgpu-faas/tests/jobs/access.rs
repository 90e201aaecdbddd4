//! Several people at one runner: each has functions, jobs and logs, and nobody else's.

use crate::harness::{Reply, Runner};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SERVICES: &str = "/system/services";

fn program(arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_rgpu-faas"))
        .args(arguments)
        .env_remove("RGPU_SERVERS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // One that stops before it reads has refused something else.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    process.wait_with_output().unwrap()
}

/// The configuration, with these people, whose passwords are `secret-of-NAME`.
fn configure(folder: &Path, people: &[(&str, &str)]) -> PathBuf {
    let mut lines = Vec::new();
    for (name, role) in people {
        let password = format!("secret-of-{name}\n");
        let made = program(&["user", name, "--role", role], &password);
        assert!(made.status.success(), "{made:?}");
        lines.extend(made.stdout);
    }
    let users = folder.join("users");
    std::fs::write(&users, lines).unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = folder.join("access.toml");
    std::fs::write(&file, "users_file = \"users\"\n").unwrap();
    file
}

fn ask_as(runner: &Runner, name: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    // `curl -u`, by hand.
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("{name}:secret-of-{name}");
    let base64: String = pair
        .as_bytes()
        .chunks(3)
        .flat_map(|three| {
            let bits = (0..3).fold(0_u32, |bits, at| {
                bits << 8 | u32::from(*three.get(at).unwrap_or(&0))
            });
            let digit = move |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
            (0..=three.len()).map(digit)
        })
        .collect();
    let address = runner.endpoint.strip_prefix("tcp://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nAuthorization: Basic {base64}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_lowercase()
            .contains("x-content-type-options: nosniff"),
        "{head}"
    );
    let status = head[9..12].parse().unwrap();
    let value = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    (status, value)
}

fn definition(name: &str) -> String {
    json!({
        "name": name,
        "script": "echo done\n",
        "input": [{ "path": format!("{name}/in") }],
        "output": [{ "path": format!("{name}/out") }],
    })
    .to_string()
}

fn names(all: &Value) -> Vec<&str> {
    let all = all.as_array().unwrap();
    all.iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect()
}

#[test]
fn each_has_their_own_and_sees_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let people = [
        ("ann", "user"),
        ("bob", "user"),
        ("vic", "viewer"),
        ("ada", "administrator"),
    ];
    let file = configure(folder.path(), &people);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let arguments = ["--access", file.to_str().unwrap()];
    let mut runner = Runner::start(&data, &arguments);
    assert_eq!(runner.ask("GET", "/health", "").0, 200);
    assert_eq!(runner.ask("GET", "/jobs", "").0, 401);
    assert_eq!(ask_as(&runner, "eve", "GET", "/jobs", "").0, 401);

    let (status, made) = ask_as(&runner, "ann", "POST", SERVICES, &definition("anns"));
    assert_eq!(status, 201, "{made}");
    let token = made["tokens"]["anns"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    assert_eq!(
        ask_as(&runner, "bob", "PUT", SERVICES, &definition("bobs")).0,
        201
    );
    let (status, refused) = ask_as(&runner, "bob", "PUT", SERVICES, &definition("anns"));
    assert_eq!(status, 403, "{refused}");
    assert_eq!(
        ask_as(&runner, "vic", "PUT", SERVICES, &definition("vics")).0,
        403
    );
    assert_eq!(ask_as(&runner, "bob", "POST", SERVICES, "name: [").0, 400);

    runner.drop_file("anns/in/a", "x");
    let (_, jobs) = ask_as(&runner, "ann", "GET", "/jobs?state=SUCCEEDED&wait=60", "");
    let id = jobs["jobs"][0]["id"].as_str().unwrap().to_owned();
    let (job, log) = (format!("/jobs/{id}"), format!("/system/logs/anns/{id}"));
    for (who, functions, count, status) in [
        ("ann", &["anns"][..], 1, 200),
        ("bob", &["bobs"], 0, 403),
        ("vic", &["anns", "bobs"], 1, 200),
        ("ada", &["anns", "bobs"], 1, 200),
    ] {
        let (_, listed) = ask_as(&runner, who, "GET", SERVICES, "");
        assert_eq!(names(&listed), functions, "{who}");
        let (_, jobs) = ask_as(&runner, who, "GET", "/jobs", "");
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), count, "{who}");
        for path in [&*job, &log, "/system/services/anns", "/system/logs/anns"] {
            assert_eq!(
                ask_as(&runner, who, "GET", path, "").0,
                status,
                "{who} {path}"
            );
        }
    }
    for (who, method, path) in [
        ("bob", "DELETE", "/system/services/anns"),
        ("vic", "DELETE", "/system/services/anns"),
        ("bob", "POST", "/access/tokens/anns"),
    ] {
        assert_eq!(ask_as(&runner, who, method, path, "").0, 403, "{who}");
    }

    // The function's token sees its jobs, and nothing besides.
    runner.token = Some(token);
    assert_eq!(runner.ask("GET", &job, "").0, 200);
    for path in [&*log, SERVICES, "/jobs"] {
        assert_eq!(runner.ask("GET", path, "").0, 403, "{path}");
    }

    // The function goes; its name, with the jobs that it has had, stays hers, over a restart too.
    assert_eq!(
        ask_as(&runner, "ann", "DELETE", "/system/services/anns", "").0,
        204
    );
    assert_eq!(runner.ask("GET", &job, "").0, 401);
    assert!(runner.stop().success());
    let runner = Runner::start(&data, &arguments);
    assert_eq!(
        ask_as(&runner, "bob", "PUT", SERVICES, &definition("anns")).0,
        403
    );
    assert_eq!(ask_as(&runner, "ann", "GET", &log, "").1, "done\n");
    assert_eq!(
        ask_as(&runner, "ann", "PUT", SERVICES, &definition("anns")).0,
        201
    );
}

/// As a program that has a function's token.
fn call_with(runner: &Runner, token: &str, path: &str, key: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", &*authorization), ("Idempotency-Key", key)];
    runner.call("POST", path, &headers, b"x")
}

#[test]
fn calls_results_and_dead_letters_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let people = [
        ("ann", "user"),
        ("bob", "user"),
        ("vic", "viewer"),
        ("ada", "administrator"),
    ];
    let file = configure(folder.path(), &people);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let runner = Runner::start(&data, &["--access", file.to_str().unwrap()]);
    let put = |who: &str, fields: Value| ask_as(&runner, who, "PUT", SERVICES, &fields.to_string());
    let (status, made) = put("ann", json!({ "name": "anns", "script": "echo made\n" }));
    assert_eq!(
        (status, &made["functions"][0]["name"]),
        (201, &"anns".into())
    );
    let token = made["tokens"]["anns"].as_str().unwrap();
    assert_eq!(
        put("bob", json!({ "name": "bobs", "script": "true\n" })).0,
        201
    );

    // Its token calls a function, as its owner does; nobody else's.
    let reply = call_with(&runner, token, "/run/anns", "k");
    assert_eq!(reply.status, 200);
    let id = reply.job();
    assert_eq!(reply.text(), "made\n");
    for path in ["/job/bobs", "/run/bobs", "/events/bobs", "/job/nowhere"] {
        assert_eq!(call_with(&runner, token, path, "k").status, 403, "{path}");
    }
    for (who, path, status) in [
        ("ann", "/job/anns", 201),
        ("ada", "/run/anns", 200),
        ("bob", "/job/anns", 403),
        ("bob", "/run/anns", 403),
        ("bob", "/events/anns", 403),
        ("vic", "/job/anns", 403),
    ] {
        assert_eq!(
            ask_as(&runner, who, "POST", path, "x").0,
            status,
            "{who} {path}"
        );
    }
    // The token's keys are not its owner's.
    assert_eq!(call_with(&runner, token, "/job/anns", "k").job(), id);
    assert_eq!(call_with(&runner, token, "/events/anns", "k").status, 400);
    let jobs = runner_jobs(&runner, "ann");
    let owners: Vec<&str> = jobs
        .iter()
        .map(|job| job["owner"].as_str().unwrap())
        .collect();
    assert_eq!(owners, ["ann", "ann", "ada"]);
    let result = format!("/jobs/{id}/result");
    let bearer = format!("Bearer {token}");
    let reply = runner.call("GET", &result, &[("Authorization", &bearer)], b"");
    assert_eq!((reply.status, reply.text()), (200, "made\n".into()));
    for (who, status) in [("ann", 200), ("ada", 200), ("bob", 403), ("vic", 403)] {
        assert_eq!(ask_as(&runner, who, "GET", &result, "").0, status, "{who}");
    }

    // Dead letters.
    let fails = json!({ "name": "fails", "script": "exit 1\n", "retry": { "attempts": 1 } });
    assert_eq!(put("ann", fails).0, 201);
    assert_eq!(ask_as(&runner, "ann", "POST", "/run/fails", "x").0, 500);
    const DEAD: &str = "/system/dead-letter";
    let dead = |who: &str| {
        let (status, answer) = ask_as(&runner, who, "GET", DEAD, "");
        assert_eq!(status, 200, "{answer}");
        answer["jobs"].as_array().unwrap().clone()
    };
    assert_eq!(
        [dead("ann").len(), dead("bob").len(), dead("vic").len()],
        [1, 0, 1]
    );
    let letter = format!("{DEAD}/{}", dead("ada")[0]["id"].as_str().unwrap());
    let (replay, replay_all) = (format!("{letter}/replay"), format!("{DEAD}/replay"));
    let ask = |who: &str, method: &str, path: &str| ask_as(&runner, who, method, path, "");
    assert_eq!(ask("bob", "DELETE", &letter).0, 403);
    assert_eq!(ask("bob", "POST", &replay).0, 403);
    assert_eq!(ask("vic", "POST", &replay_all).0, 403);
    assert_eq!(ask("bob", "DELETE", DEAD).1["dismissed"], 0);
    assert_eq!(ask("bob", "POST", &replay_all).1["replayed"], json!({}));
    assert_eq!(dead("ann").len(), 1);
    assert_eq!(ask("ann", "DELETE", &letter).0, 204);
    assert!(dead("ada").is_empty());

    // Versions and logs.
    let versions = "/system/services/anns/versions";
    assert_eq!(ask("bob", "GET", versions).0, 403);
    assert_eq!(
        ask("ann", "GET", versions).1["versions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let restore = format!("{versions}/1/restore");
    assert_eq!(ask("bob", "POST", &restore).0, 403);
    assert_eq!(ask("ann", "POST", &restore).0, 200);
    assert_eq!(ask("bob", "DELETE", "/system/logs/anns").0, 403);
    assert_eq!(ask("ann", "DELETE", "/system/logs/anns").0, 204);
    assert_eq!(ask("ada", "GET", &format!("/jobs/{id}")).0, 404);
}

fn runner_jobs(runner: &Runner, who: &str) -> Vec<Value> {
    let (_, answer) = ask_as(runner, who, "GET", "/jobs?min=3&wait=60", "");
    answer["jobs"].as_array().unwrap().clone()
}

#[test]
fn nobody_gets_what_somebody_elses_function_makes() {
    let folder = tempfile::tempdir().unwrap();
    let people = [("ann", "user"), ("bob", "user"), ("ada", "administrator")];
    let file = configure(folder.path(), &people);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let runner = Runner::start(&data, &["--access", file.to_str().unwrap()]);
    let put = |who: &str, fields: Value| ask_as(&runner, who, "PUT", SERVICES, &fields.to_string());
    let follow = |name: &str, on: &str| json!({ "name": name, "script": "true\n", "depends_on": on, "when": "all" });
    assert_eq!(
        put("ann", json!({ "name": "anns", "script": "true\n" })).0,
        201
    );
    let (status, refused) = put("bob", follow("spy", "anns"));
    assert_eq!(status, 403, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("anns"));
    assert_eq!(
        put("bob", follow("spy", "nowhere")).1["error"],
        refused["error"]
            .as_str()
            .unwrap()
            .replace("anns", "nowhere")
    );
    // The name has not been taken.
    assert_eq!(put("ann", follow("spy", "anns")).0, 201);
    // Of a name that is awaited nobody else gets hold.
    assert_eq!(put("ada", follow("watch", "soon")).0, 201);
    assert_eq!(
        put("bob", json!({ "name": "soon", "script": "true\n" })).0,
        403
    );
    assert_eq!(
        put("ada", json!({ "name": "soon", "script": "true\n" })).0,
        201
    );
    // What follows is seen by whose it is.
    assert_eq!(put("ada", follow("adas", "anns")).0, 201);
    let (status, job) = ask_as(&runner, "ann", "POST", "/job/anns", "x");
    assert_eq!(status, 201);
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(
        ask_as(
            &runner,
            "ann",
            "GET",
            &format!("{path}/wait?timeout=60"),
            ""
        )
        .0,
        200
    );
    let children = |who: &str| {
        let (_, job) = ask_as(&runner, who, "GET", &path, "");
        let children = job["children"].as_array().unwrap().iter();
        let mut names: Vec<String> = children
            .map(|child| child["function"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(children("ada"), ["adas", "spy"]);
    assert_eq!(children("ann"), ["spy"]);
}

#[test]
fn what_the_server_defines_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), &[("ann", "user")]);
    let function = folder.path().join("files.yaml");
    std::fs::write(&function, definition("files")).unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut arguments = vec!["--access", file.to_str().unwrap(), "--token", "s3cret"];
    arguments.extend(["--function", function.to_str().unwrap()]);
    let mut runner = Runner::start(&data, &arguments);
    runner.token = Some("s3cret".into());
    runner.drop_file("files/in/a", "x");
    runner.only_job("files");
    assert_eq!(ask_as(&runner, "ann", "GET", SERVICES, "").1, json!([]));
    assert_eq!(
        ask_as(&runner, "ann", "PUT", SERVICES, &definition("files")).0,
        403
    );
    // One of the server's own token is the operator's too, and its token can be had by whoever runs the server.
    runner.define("own", "true", "");
    assert_eq!(
        ask_as(&runner, "ann", "PUT", SERVICES, &definition("own")).0,
        403
    );
    let (status, renewed) = runner.ask("POST", "/access/tokens/files", "");
    assert_eq!(status, 200, "{renewed}");
    assert!(runner.stop().success());
    // Without that file there is no such function any more, but there are its jobs.
    let mut runner = Runner::start(&data, &arguments[..4]);
    assert_eq!(
        ask_as(&runner, "ann", "PUT", SERVICES, &definition("files")).0,
        403
    );
    runner.token = Some("s3cret".into());
    assert_eq!(runner.ask("GET", "/system/services/files", "").0, 404);
}

#[test]
fn mistakes_are_said_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let file = configure(folder.path(), &[("ann", "user")]);
    let file = file.to_str().unwrap();
    let start = |text: &str| {
        std::fs::write(file, text).unwrap();
        let refused = program(&["serve", "--data", data, "--access", file], "");
        assert!(!refused.status.success(), "{text}");
        String::from_utf8(refused.stderr).unwrap()
    };
    assert!(start("\nuser_file = \"users\"").contains("access.toml:2: "));
    assert!(start("users_file = \"nowhere\"").contains("nowhere"));
    std::fs::write(folder.path().join("users"), "ann:king:x\n").unwrap();
    assert!(start("users_file = \"users\"").contains("users:1: "));
    for (arguments, input, expected) in [
        (["user", "a:b", "--role", "user"], "long enough\n", "a:b"),
        (
            ["user", "ann", "--role", "king"],
            "long enough\n",
            "administrator, user or viewer",
        ),
        (["user", "ann", "--role", "user"], "short\n", "8 to"),
        (["user", "ann", "--role", "user"], "", "8 to"),
    ] {
        let refused = program(&arguments, input);
        let message = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && message.contains(expected),
            "{message}"
        );
        assert!(!message.contains("long enough"), "{message}");
    }
}
