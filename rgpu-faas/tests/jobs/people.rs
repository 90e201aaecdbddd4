//! What the web page asks for: lists that are followed, definitions that are checked, files, results, figures.

use crate::harness::{Gates, Runner};
use serde_json::{Value, json};

const OWN: (&str, &str) = ("Origin", "http://localhost");

fn start(folder: &tempfile::TempDir, arguments: &[&str]) -> Runner {
    Runner::start(folder.path(), arguments)
}

#[test]
fn a_list_is_followed_without_being_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    let gates = Gates::make(folder.path(), &["end"]);
    runner.define("waits", &gates.wait("end"), "");
    let list = |tag: Option<&str>, wait: &str| {
        let headers: Vec<_> = tag.map(|tag| ("If-None-Match", tag)).into_iter().collect();
        runner.call("GET", &format!("/jobs?wait={wait}"), &headers, b"")
    };
    // Without a mark `wait` waits for a job, as ever.
    let first = list(None, "0");
    assert_eq!(first.status, 200);
    let empty = first.headers["etag"].clone();
    assert_eq!(first.json(), json!({ "jobs": [] }));
    let same = list(Some(&empty), "0");
    assert_eq!((same.status, same.headers["etag"].as_str()), (304, &*empty));
    assert_eq!(same.text(), "");
    let changed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| list(Some(&empty), "60"));
        let job = runner.call("POST", "/run/waits?timeout=0s", &[], b"");
        assert_eq!(job.status, 202);
        waiting.join().unwrap()
    });
    assert_eq!(changed.status, 200);
    let tag = changed.headers["etag"].clone();
    assert_ne!(tag, empty);
    assert_eq!(changed.json()["jobs"][0]["function"], "waits");
    gates.open("end");
    runner.only_job("waits");
    // It has changed since, so nobody waits.
    assert_eq!(list(Some(&tag), "60").status, 200);
}

#[test]
fn a_definition_is_checked_shown_and_has_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    let check = |text: &str| {
        let (status, answer) = runner.ask("POST", "/system/check", text);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let wrong = check("name: f\nscript: |\n  true\nmemry: 1Gi\n");
    let problem = &wrong["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(4), &json!(1))
    );
    assert!(
        problem["message"].as_str().unwrap().contains("memory"),
        "{wrong}"
    );
    assert_eq!(check("name: [")["problems"].as_array().unwrap().len(), 1);
    let right = "name: f\nscript: |\n  true\nimage: x\nannotations: { rgpu.io/sample: 'data:;base64,aGVsbG8=', rgpu.io/sample-name: a b.txt }\n";
    let answer = check(right);
    assert_eq!(
        (&answer["functions"], &answer["problems"]),
        (&json!(["f"]), &json!([]))
    );
    assert_eq!(answer["warnings"][0]["function"], "f", "{answer}");
    assert_eq!(
        runner.get("/system/services"),
        json!([]),
        "nothing is registered"
    );

    assert_eq!(runner.ask("PUT", "/system/services", right).0, 201);
    let definition = runner.get("/system/services/f/definition");
    assert_eq!(definition["script"], "true\n");
    assert_eq!(
        runner
            .ask("PUT", "/system/services", &definition.to_string())
            .0,
        201
    );
    assert_eq!(
        runner.get("/system/services/f")["version"],
        1,
        "it is the same"
    );
    let sample = runner.call("GET", "/system/services/f/sample", &[], b"");
    assert!(sample.headers["content-disposition"].contains("UTF-8''a%20b.txt"));
    assert_eq!(sample.text(), "hello");
    // A file of the machine is no sample for who comes over the network.
    for (place, status) in [
        ("./journal.db", 409),
        ("data/../journal.db", 404),
        ("/etc/passwd", 409),
        ("data/x", 404),
    ] {
        let text =
            json!({ "name": "g", "script": "true\n", "annotations": { "rgpu.io/sample": place } });
        assert_eq!(
            runner.ask("PUT", "/system/services", &text.to_string()).0,
            201
        );
        let answer = runner.call("GET", "/system/services/g/sample", &[], b"");
        assert_eq!(answer.status, status, "{place}");
    }
    assert_eq!(runner.ask("GET", "/system/services/h/sample", "").0, 404);
    let text = "name: h\nscript: |\n  true\nannotations: { rgpu.io/sample: ./beside.txt }\n";
    std::fs::write(folder.path().join("functions/h.yaml"), text).unwrap();
    std::fs::write(folder.path().join("functions/beside.txt"), "beside").unwrap();
    runner.stop();
    let runner = start(&folder, &[]);
    let beside = runner.call("GET", "/system/services/h/sample", &[], b"");
    assert_eq!(beside.text(), "beside");
}

#[test]
fn files_come_go_and_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &["--max-body", "64Ki"]);
    let call = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let reply = runner.call(method, path, headers, body);
        (reply.status, reply.text())
    };
    assert_eq!(
        call("PUT", "/files/data/a/b%20c.png", &[], b"picture").0,
        201
    );
    assert_eq!(
        std::fs::read(runner.storage("data/a/b c.png")).unwrap(),
        b"picture"
    );
    let free = [("If-None-Match", "*")];
    assert_eq!(
        call("PUT", "/files/data/a/b%20c.png", &free, b"other").0,
        409
    );
    assert_eq!(call("PUT", "/files/data/new", &free, b"").0, 201);
    assert_eq!(
        call("PUT", "/files/data/large", &[], &vec![0; 65 << 10]).0,
        413
    );
    let shown = runner.call("GET", "/files/data/a/b%20c.png?preview=true", &[], b"");
    assert_eq!(shown.headers["content-type"], "image/png");
    assert!(shown.headers["content-security-policy"].contains("sandbox"));
    assert_eq!(shown.text(), "picture");
    let saved = runner.call("GET", "/files/data/a/b%20c.png", &[], b"");
    assert!(saved.headers["content-disposition"].starts_with("attachment"));
    assert_eq!(saved.headers["content-type"], "application/octet-stream");

    for number in 0..5 {
        assert_eq!(
            call("PUT", &format!("/files/data/many/{number}"), &[], b"x").0,
            201
        );
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = runner.get(&format!("/files/data?prefix=many&limit=2{after}"));
        let files = page["files"].as_array().unwrap();
        seen.extend(
            files
                .iter()
                .map(|file| file["key"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(seen, ["many/0", "many/1", "many/2", "many/3", "many/4"]);
    assert_eq!(
        runner.get("/files"),
        json!({ "buckets": ["data"], "own": null })
    );

    std::fs::write(folder.path().join("outside"), "keep").unwrap();
    for (link, to) in [("data/link", "../../outside"), ("data/folder", "../..")] {
        std::os::unix::fs::symlink(to, runner.storage(link)).unwrap();
    }
    for path in [
        "/files/data/link",
        "/files/data/folder/outside",
        "/files/data/folder/journal.db",
    ] {
        for method in ["GET", "PUT"] {
            // A link in the place of a file may be replaced; it is never followed.
            if (method, path) == ("PUT", "/files/data/link") {
                continue;
            }
            let (status, text) = call(method, path, &[], b"evil");
            assert_eq!(status, 409, "{method} {path}: {text}");
        }
    }
    assert_ne!(
        call("DELETE", "/files/data/folder/outside", &[], b"").0,
        204
    );
    for path in [
        "/files/data/../journal.db",
        "/files/data/%2e%2e/journal.db",
        "/files/data/a%2F..%2F..%2F..%2Foutside",
        "/files/..%2F/outside",
        "/files/%2e%2e/outside",
        "/files/data/a%00b",
        "/files/data/a%0Ab",
        "/files/data/a%5Cb",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let (status, text) = call(method, path, &[], b"evil");
            assert!(
                (400..500).contains(&status),
                "{method} {path}: {status} {text}"
            );
        }
    }
    assert_eq!(
        std::fs::read(folder.path().join("outside")).unwrap(),
        b"keep"
    );
    assert_eq!(call("DELETE", "/files/data/a/b%20c.png", &[], b"").0, 204);
    assert_eq!(call("DELETE", "/files/data/a/b%20c.png", &[], b"").0, 204);
    assert_eq!(call("GET", "/files/data/a/b%20c.png", &[], b"").0, 404);
    // What was refused or replaced leaves nothing behind.
    assert!(
        runner
            .list("data")
            .iter()
            .all(|name| !name.starts_with('.'))
    );
}

#[test]
fn what_a_job_has_made_is_listed_and_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    let script = "mkdir \"$TMP_OUTPUT_DIR/d\"; printf one > \"$TMP_OUTPUT_DIR/d/a.txt\"; printf two > \"$TMP_OUTPUT_DIR/b.html\"";
    runner.define(
        "makes",
        script,
        "output: [{ path: makes/out, suffix: [.txt] }]",
    );
    let run = runner.call("POST", "/run/makes", &[], b"");
    assert_eq!(run.status, 200);
    let job = run.job();
    let files = runner.get(&format!("/jobs/{job}/files"));
    let named = |index: usize| {
        let file = &files["files"][index];
        (
            file["name"].as_str().unwrap(),
            file["kind"].as_str().unwrap(),
            file["size"].as_u64().unwrap(),
        )
    };
    assert_eq!(named(0), ("makes/out/d/a.txt", "published", 3));
    assert_eq!(
        (named(1), named(2)),
        (("b.html", "result", 3), ("d/a.txt", "result", 3))
    );
    let file = |number: u32| {
        runner.call(
            "GET",
            &format!("/jobs/{job}/files/{number}?preview=true"),
            &[],
            b"",
        )
    };
    assert!(file(0).headers["content-type"].starts_with("text/plain"));
    let page = file(1);
    assert_eq!(page.headers["content-type"], "application/octet-stream");
    assert_eq!((page.text(), file(2).text()), ("two".into(), "one".into()));
    assert_eq!(file(3).status, 404);
    std::fs::remove_file(runner.storage("makes/out/d/a.txt")).unwrap();
    assert_eq!(
        runner.get(&format!("/jobs/{job}/files"))["files"][0]["size"],
        Value::Null
    );
    assert_eq!(file(0).status, 404);
    // A link that somebody puts there is not followed.
    std::os::unix::fs::symlink("/etc/passwd", runner.storage("makes/out/d/a.txt")).unwrap();
    assert_eq!(file(0).status, 409);
}

/// Names in a storage's keys have no such characters; a job's outputs may.
#[test]
fn outputs_of_any_name_are_fetched_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    let script =
        r#"cd "$TMP_OUTPUT_DIR"; printf 1 > "$(printf 'a\nb')"; printf 2 > "$(printf 'b\377')""#;
    runner.define("odd", script, "output: [{ path: odd/out }]");
    let run = runner.call("POST", "/run/odd", &[], b"");
    assert_eq!(run.status, 200);
    let job = run.job();
    for (number, name) in ["odd/out/a\nb", "odd/out/b\u{fffd}"]
        .into_iter()
        .enumerate()
    {
        let files = runner.get(&format!("/jobs/{job}/files"));
        assert_eq!(files["files"][number]["name"], name);
        let file = runner.call("GET", &format!("/jobs/{job}/files/{number}"), &[], b"");
        assert_eq!((file.status, file.text()), (200, (number + 1).to_string()));
    }
}

#[test]
fn figures_tell_what_has_happened() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    runner.define("good", "true", "");
    runner.define(
        "bad",
        "exit 1",
        "retry: { attempts: 2, min_wait: 1ms, max_wait: 1ms }",
    );
    let key = [("Idempotency-Key", "once")];
    for _ in 0..2 {
        assert_eq!(runner.call("POST", "/run/good", &key, b"").status, 200);
    }
    assert_eq!(runner.call("POST", "/run/bad", &[], b"").status, 500);
    let gates = Gates::make(folder.path(), &["end"]);
    runner.define("waits", &gates.wait("end"), "concurrency: 1");
    for _ in 0..3 {
        assert_eq!(runner.call("POST", "/job/waits", &[], b"").status, 201);
    }
    runner.jobs("waits", "RUNNING", 1);
    runner.jobs("waits", "QUEUED", 2);
    let text = |accept: &str| {
        let reply = runner.call("GET", "/metrics", &[("Accept", accept)], b"");
        assert_eq!(reply.status, 200);
        reply.text()
    };
    let plain = text("");
    for line in [
        "rgpu_faas_jobs_ended_total{function=\"good\",state=\"SUCCEEDED\"} 1",
        "rgpu_faas_jobs_ended_total{function=\"bad\",state=\"FAILED\"} 1",
        "rgpu_faas_attempts_total{function=\"bad\"} 2",
        "rgpu_faas_retries_total{function=\"bad\"} 1",
        "rgpu_faas_dead_letters{function=\"bad\"} 1",
        "rgpu_faas_events_total{kind=\"http\",outcome=\"new\"} 5",
        "rgpu_faas_events_total{kind=\"http\",outcome=\"known\"} 1",
        "rgpu_faas_jobs{function=\"waits\",state=\"RUNNING\"} 1",
        "rgpu_faas_queue_length 2",
        "rgpu_faas_start_seconds_count{function=\"good\"} 1",
        "rgpu_faas_end_seconds_count{function=\"bad\"} 1",
        "rgpu_faas_requests_total{method=\"POST\",route=\"/run/{name}\",status=\"200\"} 2",
        "rgpu_faas_functions 3",
    ] {
        assert!(plain.lines().any(|it| it == line), "{line}\n{plain}");
    }
    assert!(text("application/openmetrics-text").ends_with("# EOF\n"));
    let described = runner.get("/openapi.json");
    assert_eq!(described["openapi"], "3.1.0");
    assert_eq!(
        runner.get("/usage"),
        json!({ "configured": false, "functions": [], "series": [] })
    );
}

#[test]
fn without_credentials_the_page_needs_the_key_that_was_printed() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(&folder, &[]);
    runner.define("f", "true", "");
    let (bare, key) = runner.page.split_once("/#key=").unwrap();
    assert_eq!(
        bare.strip_prefix("http://"),
        runner.endpoint.strip_prefix("tcp://")
    );
    assert_eq!(key.len(), 64);
    let submit = |headers: &[(&str, &str)]| runner.call("POST", "/job/f", headers, b"").status;
    assert_eq!(submit(&[OWN]), 403);
    assert_eq!(submit(&[OWN, ("X-CSRF-Token", &key[1..])]), 403);
    assert_eq!(
        submit(&[("Origin", "http://localhost:1"), ("X-CSRF-Token", key)]),
        403
    );
    assert_eq!(
        submit(&[OWN, ("X-CSRF-Token", key), ("Sec-Fetch-Site", "same-site")]),
        403
    );
    assert_eq!(
        submit(&[
            OWN,
            ("X-CSRF-Token", key),
            ("Sec-Fetch-Site", "same-origin")
        ]),
        201
    );
    let me = |headers: &[(&str, &str)]| runner.call("GET", "/access/me", headers, b"").json();
    assert_eq!(me(&[])["key"], false);
    assert_eq!(me(&[("X-CSRF-Token", key)])["key"], true);
    let page = runner.call("GET", "/", &[], b"");
    let policy = &page.headers["content-security-policy"];
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        page.text()
            .contains("<script type=\"module\" src=\"ui/main.js\">")
    );
    assert_eq!(
        runner.call("GET", "/ui/../Cargo.toml", &[], b"").status,
        404
    );
    assert_eq!(runner.call("GET", "/ui/nothing.js", &[], b"").status, 404);
}
