//! Messages of stores and brokers.

use crate::harness::{Reply, Runner};
use serde_json::{Value, json};
use std::path::Path;

const TELL: &str = r#"cat "$INPUT_FILE_PATH"; echo "$STORAGE_OBJECT_KEY"; echo "$EVENT""#;
const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]";
/// Files that are not renamed into their folder are left alone for so long: nobody but a notification tells of them.
const PATIENT: [&str; 2] = ["--settle", "1h"];

fn notification(objects: &[(&str, &str)]) -> Vec<u8> {
    let records: Vec<Value> = objects
        .iter()
        .map(|(bucket, key)| {
            json!({
                "eventVersion": "2.0",
                "eventSource": "minio:s3",
                "eventName": "s3:ObjectCreated:Put",
                "eventTime": "2026-03-01T12:00:00.000Z",
                "s3": {
                    "bucket": { "name": bucket },
                    "object": { "key": key, "size": 3, "sequencer": "17D2C7B650BC4F6E" },
                },
            })
        })
        .collect();
    json!({ "EventName": "s3:ObjectCreated:Put", "Records": records })
        .to_string()
        .into_bytes()
}

/// Status, the jobs and whether they are new, and what was refused.
fn read(reply: Reply) -> (u16, Vec<(String, bool)>, Vec<String>) {
    let status = reply.status;
    let answer = reply.json();
    let jobs = answer["jobs"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let job = |job: &Value| (job["id"].as_str().unwrap().to_owned(), job["new"] == true);
    let refused = answer["refused"].as_array().unwrap().iter();
    let refused = refused.map(|why| why.as_str().unwrap().to_owned());
    (status, jobs.iter().map(job).collect(), refused.collect())
}

fn start(folder: &Path) -> Runner {
    Runner::start(folder, &PATIENT)
}

#[test]
fn each_object_of_a_notification_makes_one_job_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(folder.path());
    runner.define("f", TELL, FOLDERS);
    std::fs::write(runner.storage("b/in/a b"), "one\n").unwrap();
    std::fs::write(runner.storage("b/in/c"), "two\n").unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), runner.storage("b/in/link")).unwrap();
    let body = notification(&[
        ("b", "in%2Fa+b"),
        ("elsewhere", "in%2Fa+b"),
        ("b", "in%2Fc"),
        ("b", "in%2F..%2F..%2Fjournal.db"),
        ("b", "out%2Fc"),
        ("b", "in%2Fmissing"),
        ("b", "in%2Flink"),
        ("b", "in%2F%zz"),
    ]);
    let (status, jobs, refused) = read(runner.call("POST", "/job/f", &[], &body));
    assert_eq!((status, jobs.len()), (201, 2), "{refused:?}");
    assert!(jobs.iter().all(|(_, new)| *new));
    for (why, expected) in refused.iter().zip([
        "elsewhere/in/a b is in no input folder of f (which has b/in)",
        "\"..\"",
        "b/out/c is in no input folder",
        "b/in/missing is no file of the runner's storage; to have it fetched from another store",
        "b/in/link is no file of the runner's storage",
        "Records[7].s3.object.key",
    ]) {
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(refused.len(), 6);
    let job = runner.finished(&jobs[0].0);
    assert_eq!(
        (&job["trigger"], &job["input"]),
        (&"notification".into(), &"b/in/a b".into())
    );
    let log = runner.log(&job);
    let told = log
        .strip_prefix("one\nin/a b\n")
        .unwrap_or_else(|| panic!("{log}"));
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["Records"].as_array().unwrap().len(), 1);
    assert_eq!(told["Records"][0]["s3"]["object"]["key"], "in%2Fa+b");
    assert!(
        runner
            .log(&runner.finished(&jobs[1].0))
            .starts_with("two\n")
    );

    // Delivered again, at either address, and to another runner of the same data.
    let again = notification(&[("b", "in%2Fa+b")]);
    let known = (200, vec![(jobs[0].0.clone(), false)], vec![]);
    let reply = runner.call("POST", "/events/f", &[], &again);
    assert_eq!(reply.job(), jobs[0].0);
    assert_eq!(read(reply), known);
    runner.kill();
    let runner = start(folder.path());
    assert_eq!(read(runner.call("POST", "/job/f", &[], &again)), known);
    assert_eq!(runner.jobs("f", "", 2).len(), 2);

    // Where nothing is right, that is the answer.
    let reply = runner.call("POST", "/job/f", &[], &notification(&[("other", "x")]));
    assert_eq!(reply.status, 422);
    assert!(reply.json()["error"].as_str().unwrap().contains("other/x"));
    // A file that has changed is another event.
    std::fs::write(runner.storage("b/in/a b"), "three\n").unwrap();
    let (status, changed, _) = read(runner.call("POST", "/events/f", &[], &again));
    assert_eq!(status, 201);
    let job = runner.finished(&changed[0].0);
    assert!(runner.log(&job).starts_with("three\n"));
}

#[test]
fn a_folder_and_a_notification_tell_of_one_event() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", TELL, FOLDERS);
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("f");
    let body = notification(&[("b", "in%2Fa")]);
    let (status, jobs, _) = read(runner.call("POST", "/events/f", &[], &body));
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!((status, jobs), (200, vec![(id, false)]));
    assert_eq!(runner.jobs("f", "", 1).len(), 1);
}

#[test]
fn cloud_events_make_one_job_each() {
    let folder = tempfile::tempdir().unwrap();
    let runner = start(folder.path());
    runner.define("f", r#"cat "$INPUT_FILE_PATH"; echo; echo "$EVENT""#, "");
    let binary = |id: &'static str| {
        [
            ("ce-specversion", "1.0"),
            ("ce-type", "test"),
            ("ce-source", "/here"),
            ("ce-id", id),
            ("Content-Type", "text/plain"),
        ]
    };
    let (status, jobs, _) = read(runner.call("POST", "/events/f", &binary("1"), b"hello"));
    assert_eq!((status, jobs.len(), jobs[0].1), (201, 1, true));
    let job = runner.finished(&jobs[0].0);
    assert_eq!(job["trigger"], "cloudevent");
    let log = runner.log(&job);
    let told: Value = serde_json::from_str(log.strip_prefix("hello\n").unwrap()).unwrap();
    assert_eq!((&told["id"], &told["data"]), (&"1".into(), &"hello".into()));
    // The same one again makes none; its data is not kept a second time.
    let (status, again, _) = read(runner.call("POST", "/job/f", &binary("1"), b"hello"));
    assert_eq!((status, again), (200, vec![(jobs[0].0.clone(), false)]));
    let kept = std::fs::read_dir(folder.path().join("payloads")).unwrap();
    assert_eq!(kept.count(), 1);

    let batch = json!([
        { "specversion": "1.0", "type": "test", "source": "/here", "id": "1", "data": 1 },
        { "specversion": "1.0", "type": "test", "source": "/here", "data": 2 },
        { "specversion": "1.0", "type": "test", "source": "/here", "id": "3" },
    ]);
    let kind = [("Content-Type", "application/cloudevents-batch+json")];
    let batch = batch.to_string();
    let (status, jobs, refused) = read(runner.call("POST", "/job/f", &kind, batch.as_bytes()));
    let new: Vec<bool> = jobs.iter().map(|job| job.1).collect();
    assert_eq!((status, new), (201, vec![false, true]));
    assert!(
        refused.len() == 1 && refused[0].contains("[1]"),
        "{refused:?}"
    );
    // One that says it is an event, and is none, is no call.
    let reply = runner.call("POST", "/job/f", &[("ce-id", "1")], b"x");
    assert_eq!(reply.status, 400);
    assert_eq!(runner.jobs("f", "", 2).len(), 2);
}

#[test]
fn what_is_no_event_is_a_call_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--max-body", "1000"]);
    runner.define("f", "cat $INPUT_FILE_PATH", "");
    for body in [
        &b"{\"a\": 1}"[..],
        b"hello",
        b"[]",
        b"{\"Records\": []}",
        b"",
    ] {
        let reply = runner.call("POST", "/events/f", &[], body);
        assert_eq!(reply.status, 400, "{:?}", body.escape_ascii().to_string());
    }
    assert_eq!(
        runner.call("POST", "/events/nowhere", &[], b"x").status,
        404
    );
    let large = vec![b' '; 1001];
    assert_eq!(runner.call("POST", "/events/f", &[], &large).status, 413);
    let reply = runner.call("POST", "/job/f", &[], b"{\"event\": \"click\"}");
    assert_eq!(reply.status, 201);
    let job = runner.finished(&reply.job());
    assert_eq!(runner.log(&job), "{\"event\": \"click\"}");
    // The store tries the address.
    let test = br#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}"#;
    for path in ["/job/f", "/events/f"] {
        let reply = runner.call("POST", path, &[], test);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["ignored"].as_array().unwrap().len(), 1);
    }
    assert_eq!(runner.jobs("f", "", 1).len(), 1);
    let kept = std::fs::read_dir(folder.path().join("payloads")).unwrap();
    assert_eq!(kept.count(), 1);
}

#[test]
fn a_gateways_request_gives_its_parameters_and_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "f",
        r#"cat "$INPUT_FILE_PATH"; echo " $CONT_VAR_name"; echo "$EVENT""#,
        "",
    );
    let request = json!({
        "httpMethod": "POST",
        "queryStringParameters": { "name": "x y" },
        "body": "aGVsbG8=",
    });
    let reply = runner.call("POST", "/job/f", &[], request.to_string().as_bytes());
    assert_eq!(reply.status, 201);
    let job = runner.finished(&reply.job());
    assert_eq!(job["trigger"], "http");
    let log = runner.log(&job);
    let told = log.strip_prefix("hello x y\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(told).unwrap(), request);
    let large = json!({
        "httpMethod": "GET",
        "queryStringParameters": { "name": "x".repeat(70_000) },
    });
    let reply = runner.call("POST", "/job/f", &[], large.to_string().as_bytes());
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("65536 at most"));
}
