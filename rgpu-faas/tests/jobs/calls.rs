//! Functions that are called: `/job` and `/run`.

use crate::harness::{Gates, Runner, fifo, wait_for};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Read;

const ECHO: &str = r#"cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/out.bin"; echo "$EVENT""#;

#[test]
fn a_call_makes_a_job_whose_input_is_the_body() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("echo", ECHO, "output: [{ path: b/out }]");
    let reply = runner.call("POST", "/job/echo", &[], br#"{"a": 1}"#);
    assert_eq!(reply.status, 201);
    let id = reply.job();
    assert_eq!(reply.headers["location"], format!("/jobs/{id}"));
    assert_eq!(reply.json()["id"], id.as_str());
    let job = runner.finished(&id);
    assert_eq!(
        (&job["state"], &job["trigger"]),
        (&"SUCCEEDED".into(), &"http".into())
    );
    assert_eq!(runner.log(&job), "{\"a\": 1}\n");
    let input = job["input"].as_str().unwrap();
    assert!(input.starts_with("event-file-"), "{input}");
    let out = runner.storage("b/out/out.bin");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), r#"{"a": 1}"#);
    // Base64 is decoded; another call's output does not take the first one's name.
    let reply = runner.call(
        "POST",
        "/job/echo",
        &[],
        STANDARD.encode(b"\x00\xff").as_bytes(),
    );
    let job = runner.finished(&reply.job());
    let keys = job["outputs"].as_array().unwrap();
    assert_ne!(keys[0], "b/out/out.bin");
    let second = std::fs::read(runner.storage(keys[0].as_str().unwrap())).unwrap();
    assert_eq!(second, b"\x00\xff");
    // Without a body there is no input.
    runner.define(
        "bare",
        "echo \"[$INPUT_FILE_PATH]\" $EVENT; ls $TMP_INPUT_DIR",
        "",
    );
    let reply = runner.call("POST", "/job/bare", &[], b"");
    assert_eq!(runner.log(&runner.finished(&reply.job())), "[] {}\n");
    assert_eq!(runner.call("POST", "/job/nowhere", &[], b"x").status, 404);
    runner.assert_clean();
    let kept = std::fs::read_dir(folder.path().join("payloads")).unwrap();
    assert_eq!(kept.count(), 2);
}

#[test]
fn one_key_is_one_job_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", "cat $INPUT_FILE_PATH", "");
    let key = [("Idempotency-Key", "order 66")];
    let first = runner.call("POST", "/job/f", &key, b"{}");
    let id = first.job();
    runner.finished(&id);
    runner.kill();
    let runner = Runner::start(folder.path(), &[]);
    let again = runner.call("POST", "/job/f", &key, b"{}");
    assert_eq!((again.status, again.job()), (200, id.clone()));
    let other = runner.call("POST", "/job/f", &[("Idempotency-Key", "order 67")], b"{}");
    assert_ne!(other.job(), id);
    let long = "x".repeat(300);
    for bad in ["", &long, "ü"] {
        let reply = runner.call("POST", "/job/f", &[("Idempotency-Key", bad)], b"{}");
        assert_eq!(reply.status, 400, "{bad:?}");
    }
    let removed = runner.ask("DELETE", &format!("/system/logs/f/{id}"), "").0;
    assert_eq!(removed, 204);
    assert_eq!(runner.call("POST", "/job/f", &key, b"{}").status, 410);
    assert_eq!(runner.jobs("f", "", 1).len(), 1);
}

#[test]
fn bodies_are_bounded_and_names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(
        folder.path(),
        &["--max-body", "1000", "--max-payloads", "2500"],
    );
    let gate = Gates::make(folder.path(), &["a", "b"]);
    // What follows the name in the body is white space.
    let script = format!(
        "{}; ls $TMP_INPUT_DIR",
        gate.wait("$(tr -d ' ' < $INPUT_FILE_PATH)")
    );
    runner.define("f", &script, "");
    let body = |name: &str, size: usize| format!("{name:size$}").into_bytes();
    let large = body("a", 1001);
    assert_eq!(runner.call("POST", "/job/f", &[], &large).status, 413);
    for bad in ["..%2Fx", "a%2Fb", "", "..", "a%00b"] {
        let reply = runner.call("POST", &format!("/job/f?filename={bad}"), &[], b"x");
        assert_eq!(reply.status, 400, "{bad}");
    }
    let path = "/job/f?filename=clip%20one.dcm";
    let named = runner.call("POST", path, &[], &body("a", 1000));
    assert_eq!(named.status, 201);
    let id = named.job();
    let second = runner.call("POST", "/job/f", &[], &body("b", 1000));
    assert_eq!(second.status, 201);
    let full = runner.call("POST", "/job/f", &[], &body("c", 1000));
    assert_eq!((full.status, full.json()["error"].is_string()), (507, true));
    // What was refused has left nothing.
    let kept = std::fs::read_dir(folder.path().join("payloads")).unwrap();
    assert_eq!(kept.count(), 2);
    for name in ["a", "b"] {
        gate.open(name);
    }
    assert_eq!(runner.log(&runner.finished(&id)), "clip one.dcm\n");
}

#[test]
fn a_synchronous_call_gets_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--max-result", "1000"]);
    runner.define("one", ECHO, "");
    let body = STANDARD.encode(b"\x89PNG");
    let reply = runner.call("POST", "/run/one", &[], body.as_bytes());
    assert_eq!(reply.status, 200);
    let id = reply.job();
    assert_eq!(reply.text(), body);
    let raw = [("Accept", "image/png")];
    let reply = runner.call("POST", "/run/one", &raw, body.as_bytes());
    assert_eq!(reply.headers["content-type"], "application/octet-stream");
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    assert_eq!(reply.body(), b"\x89PNG");
    // It can be asked for again.
    let path = format!("/jobs/{id}/result");
    assert_eq!(runner.call("GET", &path, &raw, b"").body(), b"\x89PNG");

    runner.define(
        "many",
        "mkdir $TMP_OUTPUT_DIR/deep; echo 1 > $TMP_OUTPUT_DIR/a.txt; echo 2 > $TMP_OUTPUT_DIR/deep/b.txt",
        "output: [{ path: b/out }]",
    );
    let text = runner.call("POST", "/run/many", &[], b"").text();
    let bytes = STANDARD.decode(text).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut names: Vec<String> = (0..zip.len())
        .map(|at| zip.by_index(at).unwrap().name().unwrap().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["a.txt", "deep/b.txt"]);
    let mut text = String::new();
    zip.by_name("deep/b.txt")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "2\n");
    assert_eq!(runner.list("b/out"), ["a.txt", "deep"], "published too");

    runner.define("none", "echo from $OSCAR_SERVICE_NAME", "");
    assert_eq!(
        runner.call("POST", "/run/none", &[], b"x").text(),
        "from none\n"
    );

    runner.define("large", "head -c 1001 /dev/zero > $TMP_OUTPUT_DIR/x", "");
    let reply = runner.call("POST", "/run/large", &[], b"");
    assert_eq!(reply.status, 500);
    assert!(
        reply.json()["error"]
            .as_str()
            .unwrap()
            .contains("--max-result")
    );

    runner.define("bad", "echo the reason; exit 3", "retry: { attempts: 1 }");
    let reply = runner.call("POST", "/run/bad", &[], b"");
    assert_eq!(reply.status, 500);
    let answer = reply.json();
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.contains("exit code 3") && error.contains("the reason"),
        "{error}"
    );
    assert_eq!(answer["state"], "FAILED");
}

#[test]
fn a_call_that_takes_longer_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let mark = folder.path().join("mark");
    let gate = Gates::make(folder.path(), &["1", "2"]);
    runner.define(
        "slow",
        &format!(
            "touch {}; {}; echo done > $TMP_OUTPUT_DIR/x",
            mark.display(),
            gate.wait("$(cat $INPUT_FILE_PATH)")
        ),
        "synchronous: { max_scale: 1 }",
    );
    let reply = runner.call("POST", "/run/slow?timeout=1ms", &[], b"1");
    assert_eq!(reply.status, 202);
    let id = reply.job();
    assert_eq!(reply.json()["job"], id.as_str());
    wait_for(&mark);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runner.call("POST", "/run/slow", &[], b"2"));
        // Its job is there, so its place is taken.
        runner.jobs("slow", "", 2);
        let busy = runner.call("POST", "/run/slow", &[], b"3");
        assert_eq!((busy.status, busy.json()["error"].is_string()), (429, true));
        for name in ["1", "2"] {
            gate.open(name);
        }
        assert_eq!(waits.join().unwrap().text(), STANDARD.encode("done\n"));
    });
    assert_eq!(runner.finished(&id)["state"], "SUCCEEDED");
    let result = runner.call("GET", &format!("/jobs/{id}/result"), &[], b"");
    assert_eq!(result.text(), STANDARD.encode("done\n"));
    for bad in ["soon", "-1s"] {
        let reply = runner.call("POST", &format!("/run/slow?timeout={bad}"), &[], b"");
        assert_eq!(reply.status, 400);
    }
}

/// Reads one server-sent event: its name and its data.
fn event(reply: &mut crate::harness::Reply) -> (String, serde_json::Value) {
    let (mut name, mut data) = (String::new(), serde_json::Value::Null);
    loop {
        let line = reply.line();
        assert!(!line.is_empty(), "the stream has ended");
        match line.trim_end().split_once(": ") {
            Some(("event", value)) => name = value.to_owned(),
            Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
            _ if !name.is_empty() => return (name, data),
            _ => {}
        }
    }
}

#[test]
fn logs_come_while_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let gate = Gates::make(folder.path(), &["1", "2"]);
    let tried = folder.path().join("tried");
    // The first attempt fails, the second finds that there was one.
    let script = format!(
        "n=1; [ ! -e {0} ] || n=2; echo one; {1}; echo two; echo r > $TMP_OUTPUT_DIR/x; [ $n = 2 ] || {{ touch {0}; exit 1; }}",
        tried.display(),
        gate.wait("$n")
    );
    runner.define("talk", &script, "retry: { attempts: 2, min_wait: 1ms }");
    let accept = [("Accept", "text/event-stream")];
    let mut stream = runner.call("POST", "/run/talk", &accept, b"");
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let (name, data) = event(&mut stream);
    assert_eq!(name, "job");
    let id = data["id"].as_str().unwrap().to_owned();
    assert_eq!(event(&mut stream), ("log".into(), "one\n".into()));
    // The script waits, so this came before its end.
    let mut follow = runner.call(
        "GET",
        &format!("/system/logs/talk/{id}?follow=true"),
        &[],
        b"",
    );
    assert_eq!(follow.line(), "one\n");
    for name in ["1", "2"] {
        gate.open(name);
    }
    let mut log = String::new();
    let (name, data) = loop {
        let (name, data) = event(&mut stream);
        if name != "log" {
            break (name, data);
        }
        log.push_str(data.as_str().unwrap());
    };
    assert_eq!(log, "two\n\n--- attempt 2 ---\none\ntwo\n");
    assert_eq!(
        (name.as_str(), data),
        ("result", STANDARD.encode("r\n").into())
    );
    assert_eq!(
        follow.text(),
        "two\n\n--- attempt 2 ---\none\ntwo\n",
        "and then it ends"
    );
    let first = runner.call(
        "GET",
        &format!("/system/logs/talk/{id}?follow=true&attempt=1"),
        &[],
        b"",
    );
    assert_eq!(first.text(), "one\ntwo\n");
}

#[test]
fn a_stream_that_is_not_waited_for_names_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let gate = Gates::make(folder.path(), &["1", "2"]);
    runner.define("slow", &gate.wait("$(cat $INPUT_FILE_PATH)"), "");
    let accept = [("Accept", "text/event-stream")];
    let mut stream = runner.call("POST", "/run/slow?timeout=1ms", &accept, b"1");
    assert_eq!(event(&mut stream).0, "job");
    let (name, data) = event(&mut stream);
    assert_eq!(
        (name.as_str(), &data["job"]),
        ("accepted", &stream.job().into())
    );
    let id = stream.job();
    drop(stream);
    // A caller that goes away takes nothing with it.
    let gone = runner.call("POST", "/run/slow", &accept, b"2");
    let other = gone.job();
    drop(gone);
    for name in ["1", "2"] {
        gate.open(name);
    }
    for id in [id, other] {
        assert_eq!(runner.finished(&id)["state"], "SUCCEEDED");
    }
}

#[test]
fn a_call_that_was_running_when_the_runner_was_killed_has_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (mark, go) = (folder.path().join("mark"), folder.path().join("go"));
    fifo(&go);
    runner.define(
        "f",
        &format!(
            "cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/x; touch {}; read line < {}",
            mark.display(),
            go.display()
        ),
        "retry: { attempts: 2, min_wait: 1ms }",
    );
    let key = [("Idempotency-Key", "k")];
    let id = runner
        .call("POST", "/run/f?timeout=1ms", &key, b"aGVsbG8=")
        .job();
    wait_for(&mark);
    runner.kill();
    let runner = Runner::start(folder.path(), &[]);
    std::fs::write(&go, "go\n").unwrap();
    let again = runner.call("POST", "/run/f", &key, b"aGVsbG8=");
    assert_eq!(again.job(), id);
    assert_eq!(again.text(), "aGVsbG8=");
    assert_eq!(runner.finished(&id)["attempt"], 2);
}
