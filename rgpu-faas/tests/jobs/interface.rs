//! REST and command line.

use crate::harness::{Runner, fifo, wait_for};
use serde_json::json;
use std::process::{Command, Output};

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]";

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rgpu-faas"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn functions_are_listed_replaced_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    assert_eq!(runner.get("/health")["status"], "ok");
    assert_eq!(runner.get("/system/services"), json!([]));
    runner.define("f", "sleep 600", FOLDERS);
    runner.define("f", "sleep 601", FOLDERS);
    let all = runner.get("/system/services");
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["source"], "request");
    assert_eq!(runner.get("/system/services/f")["script"], "sleep 601\n");
    runner.drop_file("b/in/a", "x");
    let job = runner.jobs("f", "RUNNING", 1)[0].clone();
    let id = job["id"].as_str().unwrap();
    assert_eq!(
        runner.get("/system/logs/f")["jobs"][id]["status"],
        "Running"
    );
    assert_eq!(runner.ask("DELETE", "/system/services/f", "").0, 204);
    let job = runner.finished(id);
    assert_eq!(job["state"], "CANCELLED");
    assert_eq!(job["reason"], "the function was removed");
    assert_eq!(runner.ask("DELETE", "/system/services/f", "").0, 404);
    assert_eq!(runner.ask("GET", "/system/services/f", "").0, 404);
}

#[test]
fn functions_that_came_together_are_kept_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let script = |runner: &Runner, name: &str| {
        let (status, answer) = runner.ask("GET", &format!("/system/services/{name}"), "");
        (status, answer["script"].clone())
    };
    let runner = Runner::start(folder.path(), &[]);
    let three =
        ["a", "b", "c"].map(|name| json!({ "here": { "name": name, "script": "echo old\n" } }));
    let together = json!({ "functions": { "oscar": three } });
    let (status, answer) = runner.ask("POST", "/system/services", &together.to_string());
    assert_eq!(status, 201, "{answer}");
    runner.define("b", "echo new", FOLDERS);
    assert_eq!(runner.ask("DELETE", "/system/services/c", "").0, 204);
    assert!(runner.stop().success());
    // Twice, because a start must not change what is kept either.
    for _ in 0..2 {
        let runner = Runner::start(folder.path(), &[]);
        assert_eq!(script(&runner, "a"), (200, json!("echo old\n")));
        assert_eq!(script(&runner, "b"), (200, json!("echo new\n")));
        assert_eq!(script(&runner, "c").0, 404);
        assert!(runner.stop().success());
    }
}

#[test]
fn bad_requests_get_clear_answers() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (status, answer) = runner.ask("POST", "/system/services", "name: f\nscrpt: x\n");
    assert_eq!(status, 400);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.starts_with("request:2:1: ") && error.contains("`script`"),
        "{error}"
    );
    for (method, path, status) in [
        ("GET", "/jobs/nobody", 404),
        ("GET", "/jobs/nobody/wait", 404),
        ("POST", "/jobs/nobody/cancel", 404),
        ("GET", "/system/logs/f/..%2F..%2Fjournal.db", 404),
        ("GET", "/jobs?state=DONE", 400),
        ("GET", "/jobs?limit=x", 400),
        ("GET", "/jobs?limit=-1", 400),
        ("GET", "/files/b/%ff", 400),
        ("GET", "/nowhere", 404),
        ("DELETE", "/jobs", 405),
    ] {
        let (got, answer) = runner.ask(method, path, "");
        assert_eq!(got, status, "{method} {path}");
        let said = answer["error"].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "{method} {path}: {answer}");
    }
    let huge = "#".repeat(3 << 20);
    assert_eq!(runner.ask("POST", "/system/services", &huge).0, 413);
    // Not UTF-8, not HTTP: the next request is answered all the same.
    use std::io::Write;
    let address = runner.endpoint.strip_prefix("tcp://").unwrap();
    let mut raw = std::net::TcpStream::connect(address).unwrap();
    raw.write_all(b"\x00\xff\xfe garbage \r\n\r\n").unwrap();
    assert_eq!(runner.get("/health")["status"], "ok");
}

#[test]
fn definition_files_dropped_changed_and_removed_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let file = folder.path().join("functions/copy.yaml");
    std::fs::write(
        folder.path().join("functions/run.sh"),
        "cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/; ls $RGPU_FUNCTION_DIR",
    )
    .unwrap();
    std::fs::create_dir_all(runner.storage("b/in")).unwrap();
    runner.drop_file("b/in/a", "x");
    std::fs::write(folder.path().join("functions/broken.yaml"), "name: [\n").unwrap();
    std::fs::write(&file, format!("name: copy\nscript: run.sh\n{FOLDERS}\n")).unwrap();
    let job = runner.only_job("copy");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(runner.log(&job), "broken.yaml\ncopy.yaml\nrun.sh\n");
    let (status, answer) = runner.ask("DELETE", "/system/services/copy", "");
    assert_eq!(status, 409, "{answer}");
    // The file's other function replaces its first; a job of the new one shows that it was read.
    std::fs::write(&file, format!("name: other\nscript: run.sh\n{FOLDERS}\n")).unwrap();
    runner.only_job("other");
    assert_eq!(runner.ask("GET", "/system/services/copy", "").0, 404);
}

#[test]
fn a_definition_file_may_be_away_for_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let functions = folder.path().join("functions");
    std::fs::create_dir(&functions).unwrap();
    let go = folder.path().join("go");
    fifo(&go);
    let define = |name: &str, output: &str| {
        let script = format!("read line < {}", go.display());
        format!(
            "name: {name}\nscript: \"{script}\\n\"\ninput: [{{ path: b/in }}]\noutput: [{{ path: {output} }}]\n"
        )
    };
    let file = functions.join("f.yaml");
    std::fs::write(&file, define("f", "b/old")).unwrap();
    // So long that the moment is not over before the test is.
    let runner = Runner::start(folder.path(), &["--settle", "1h"]);
    // When the folder of another definition is there, everything before it has been noticed; when the second's is, also looked at.
    let looked_at = |stage: &str| {
        for name in ["x", "y"] {
            let name = format!("{stage}-{name}");
            let other = functions.join(format!("{name}.yaml"));
            let text = format!("name: {name}\ncommand: [x]\ninput: [{{ path: other/{name} }}]");
            std::fs::create_dir_all(runner.storage("other")).unwrap();
            std::fs::write(other, text).unwrap();
            wait_for(&runner.storage(&format!("other/{name}")));
        }
    };
    runner.drop_file("b/in/a", "x");
    let job = runner.jobs("f", "RUNNING", 1)[0].clone();
    // As an editor saves.
    std::fs::rename(&file, functions.join("f.yaml~")).unwrap();
    looked_at("saving");
    std::fs::write(&file, define("f", "b/new")).unwrap();
    looked_at("saved");
    let function = runner.get("/system/services/f");
    assert_eq!(function["output"][0]["path"], "b/new");
    let renamed = functions.join("renamed.yaml");
    std::fs::rename(&file, &renamed).unwrap();
    looked_at("renamed");
    let function = runner.get("/system/services/f");
    assert_eq!(function["source"]["file"], renamed.to_str().unwrap());
    let id = job["id"].as_str().unwrap();
    assert_eq!(runner.get(&format!("/jobs/{id}"))["state"], "RUNNING");
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(runner.finished(id)["state"], "SUCCEEDED");
}

#[test]
fn a_function_goes_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let functions = folder.path().join("functions");
    std::fs::create_dir(&functions).unwrap();
    let file = functions.join("f.yaml");
    let definition = format!("name: f\nscript: \"sleep 600\\n\"\n{FOLDERS}\n");
    std::fs::write(&file, definition).unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.drop_file("b/in/a", "x");
    let job = runner.jobs("f", "RUNNING", 1)[0].clone();
    std::fs::remove_file(&file).unwrap();
    let job = runner.finished(job["id"].as_str().unwrap());
    assert_eq!(job["state"], "CANCELLED", "{job}");
    assert_eq!(job["reason"], "the function was removed");
    assert_eq!(runner.ask("GET", "/system/services/f", "").0, 404);
}

#[test]
fn apply_sends_the_script_along() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let file = elsewhere.path().join("f.yaml");
    std::fs::write(
        elsewhere.path().join("run.sh"),
        "echo from $RGPU_FUNCTION_DIR",
    )
    .unwrap();
    std::fs::write(
        &file,
        format!(
            "functions:\n  oscar:\n    - here:\n        name: sent\n        script: run.sh\n        {}\n",
            FOLDERS.replace('\n', "\n        ")
        ),
    )
    .unwrap();
    let applied = command(&[
        "apply",
        file.to_str().unwrap(),
        "--endpoint",
        &runner.endpoint,
    ]);
    assert!(applied.status.success(), "{applied:?}");
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("sent");
    assert_eq!(
        runner.log(&job),
        format!("from {}\n", elsewhere.path().display())
    );
    // It is still there after a restart, without the file.
    drop(elsewhere);
    assert!(runner.stop().success());
    let runner = Runner::start(folder.path(), &[]);
    assert_eq!(runner.get("/system/services/sent")["source"], "request");
    let failed = command(&["check", file.to_str().unwrap()]);
    assert!(!failed.status.success());
    let message = String::from_utf8_lossy(&failed.stderr);
    assert!(message.contains("cannot read"), "{message}");
}

#[test]
fn a_token_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(folder.path(), &["--token", "s3cret"]);
    assert_eq!(runner.ask("GET", "/health", "").0, 200);
    assert_eq!(runner.ask("GET", "/jobs", "").0, 401);
    // Nor is anybody told what there is not.
    assert_eq!(runner.ask("GET", "/nowhere", "").0, 401);
    runner.token = Some("wrong".into());
    assert_eq!(runner.ask("GET", "/jobs", "").0, 401);
    runner.token = Some("s3cret".into());
    assert_eq!(runner.ask("GET", "/jobs", "").0, 200);
    assert_eq!(runner.ask("GET", "/nowhere", "").0, 404);
}

#[test]
fn other_users_of_the_machine_may_look_and_not_change() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can take another user's place.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(folder.path(), &[]);
    runner.define("f", "sleep 600", FOLDERS);
    runner.drop_file("b/in/a", "x");
    let id = runner.jobs("f", "RUNNING", 1)[0]["id"].to_string();
    let cancel = format!("/jobs/{}/cancel", id.trim_matches('"'));
    let as_other = |runner: &Runner, method, path: &str, body: &str| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                // SAFETY: takes a number; holds for this thread alone, which makes the socket.
                unsafe { libc::setfsuid(65534) };
                runner.ask(method, path, body)
            });
            other.join().unwrap()
        })
    };
    assert_eq!(as_other(&runner, "GET", "/jobs", "").0, 200);
    for (method, path) in [
        ("POST", "/system/services"),
        ("PUT", "/system/services"),
        ("DELETE", "/system/services/f"),
        ("POST", &cancel),
    ] {
        let (status, answer) = as_other(&runner, method, path, "name: g\ncommand: [x]");
        assert_eq!(status, 403, "{method} {path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains("--token"));
    }
    assert_eq!(runner.ask("POST", &cancel, "").0, 202);
    assert!(runner.stop().success());
    runner = Runner::start(folder.path(), &["--token", "s3cret"]);
    runner.token = Some("s3cret".into());
    let removed = as_other(&runner, "DELETE", "/system/services/f", "");
    assert_eq!(removed.0, 204, "{}", removed.1);
}

#[test]
fn unix_sockets_are_served_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/api.sock", folder.path().display());
    let runner = Runner::start(folder.path(), &["--listen", &address]);
    assert_eq!(runner.endpoint, address);
    assert_eq!(runner.get("/jobs"), json!({ "jobs": [] }));
    runner.define("f", "true", FOLDERS);
    assert!(runner.stop().success());
    assert!(!folder.path().join("api.sock").exists());
}

#[test]
fn wrong_options_are_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "name: f\nscript: nowhere.sh\n").unwrap();
    for (arguments, message) in [
        (vec!["--listen", "tcp://0.0.0.0:0"], "without --token"),
        (vec!["--listen", "http://x"], "write tcp://HOST:PORT"),
        (vec!["--gpu", "direct:/nonexistent"], "/nonexistent"),
        (vec!["--gpu", "all"], "write direct:DIR"),
        (vec!["--max-jobs", "0"], "no job could ever run"),
        (vec!["--server", "foo"], "write tcp://HOST:PORT"),
        (vec!["--server", "unix:///s,tcp://h"], "the port is missing"),
        (vec!["--server", "unix:///s,unix:///s"], "listed twice"),
        (
            vec!["--server", "unix:///s", "--client-lib", data],
            "no libcuda.so.1",
        ),
        (vec!["--env", "RGPU_SERVERS=x"], "sets this variable itself"),
        (
            vec!["--function", broken.to_str().unwrap()],
            "broken.yaml:2:9: ",
        ),
    ] {
        let mut all = vec!["serve", "--data", data];
        all.extend(&arguments);
        let output = command(&all);
        assert!(!output.status.success(), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}

#[test]
fn gpu_variables_reach_the_script_and_its_statistics_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("lib");
    std::fs::create_dir(&library).unwrap();
    std::fs::write(library.join("libcuda.so.1"), "").unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let runner = Runner::start(
        &data,
        &[
            "--server",
            "tcp://127.0.0.1:1",
            "--token-file",
            token.to_str().unwrap(),
            "--client-lib",
            library.to_str().unwrap(),
        ],
    );
    runner.define(
        "gpu",
        "echo '{\"calls\": 7}' > $RGPU_STATS; echo $RGPU_SERVERS $RGPU_TOKEN_FILE $RGPU_VGPU_MEMORY $RGPU_VGPU_SHARE $LD_LIBRARY_PATH",
        &format!("{FOLDERS}\nvgpu: {{ memory: 256Mi, share: 25 }}"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("gpu");
    assert_eq!(job["stats"]["calls"], 7, "{job}");
    assert!(runner.list("b/out").is_empty());
    let expected = format!(
        "tcp://127.0.0.1:1 {} 256 25 {}\n",
        token.display(),
        library.display()
    );
    assert_eq!(runner.log(&job), expected);
}
