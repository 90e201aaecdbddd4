//! The examples of functions that need no package, as their READMEs say to run them.

use crate::harness::Runner;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn examples() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    root.canonicalize().unwrap()
}

fn definition(name: &str) -> String {
    let file = examples().join(name).join("function.yaml");
    file.to_str().unwrap().to_owned()
}

fn sample(path: &str) -> Vec<u8> {
    std::fs::read(examples().join(path)).unwrap()
}

/// What `POST /run/digits` answers.
fn digits(runner: &Runner, body: &[u8]) -> Value {
    let reply = runner.call(
        "POST",
        "/run/digits",
        &[("Accept", "application/json")],
        body,
    );
    let (status, kind) = (reply.status, reply.headers["content-type"].clone());
    let answer = reply.json();
    assert_eq!(
        (status, kind.as_str()),
        (200, "application/json"),
        "{answer}"
    );
    answer
}

fn classes(answer: &Value) -> Vec<&str> {
    let predictions = answer["predictions"].as_array().unwrap();
    predictions
        .iter()
        .map(|it| it["class"].as_str().unwrap())
        .collect()
}

#[test]
fn digits_answers_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--function", &definition("digits")]);
    let answer = digits(&runner, &sample("digits/sample.json"));
    assert_eq!(classes(&answer), ["4", "0", "7"]);
    assert_eq!(
        (&answer["model"], &answer["device"]),
        (&json!("built-in"), &json!("cpu"))
    );
    let picture = digits(&runner, &sample("digits/sample.pgm"));
    assert_eq!(classes(&picture), ["3"]);
    // A request that is none is an answer that says so, and is not tried again.
    for odd in [
        "{\"instances\": [[1, 2]]}",
        "[]",
        "P5 9999 9999 255\n",
        "\"text\"",
    ] {
        let reply = runner.call("POST", "/run/digits", &[], odd.as_bytes());
        let status = reply.status;
        let answer = reply.json();
        let words = answer["error"].as_str().unwrap();
        assert!(
            status == 500 && words.contains("cannot read the request"),
            "{odd}: {answer}"
        );
    }
}

/// A picture of a letter that the built-in model does not know, from the samples.
fn letter() -> Vec<u8> {
    let samples = String::from_utf8(sample("retrain/samples.jsonl")).unwrap();
    let of_a = |line: &&str| line.contains("\"class\":\"A\"");
    let line: Value = serde_json::from_str(samples.lines().find(of_a).unwrap()).unwrap();
    json!({ "instances": [line["pixels"]] })
        .to_string()
        .into_bytes()
}

#[test]
fn a_retrained_model_answers_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("storage/digits/models");
    let runner = Runner::start(
        folder.path(),
        &[
            "--function",
            &definition("digits"),
            "--function",
            &definition("retrain"),
            "--env",
            &format!("MODELS={}", models.display()),
        ],
    );
    let before = digits(&runner, &letter());
    assert_eq!(before["model"], "built-in");
    assert_ne!(classes(&before), ["A"]);
    let samples = String::from_utf8(sample("retrain/samples.jsonl")).unwrap();
    runner.drop_file("digits/samples/samples.jsonl", &samples);
    let job = runner.jobs("digits-train", "SUCCEEDED", 1)[0].clone();
    assert!(
        runner.log(&job).contains("kept out of training: 0.9"),
        "{}",
        runner.log(&job)
    );
    let after = digits(&runner, &letter());
    assert_eq!(classes(&after), ["A"]);
    let pointer = |runner: &Runner| -> Value {
        let text = std::fs::read_to_string(runner.storage("digits/models/newest.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(after["model"], pointer(&runner)["file"]);
    // Fewer samples, under the same name: another model takes the pointer's place, and the earlier one stays.
    let fewer: String = samples
        .lines()
        .take(400)
        .map(|line| format!("{line}\n"))
        .collect();
    runner.drop_file("digits/samples/samples.jsonl", &fewer);
    runner.jobs("digits-train", "SUCCEEDED", 2);
    let newest = pointer(&runner)["file"].as_str().unwrap().to_owned();
    assert_ne!(after["model"], newest);
    assert_eq!(digits(&runner, &letter())["model"], newest);
    assert_eq!(runner.list("digits/models").len(), 3);
    // Samples that teach nothing: the model before them stays.
    let nonsense = samples
        .replace("\"class\":\"A\"", "\"class\":\"7\"")
        .replace("\"class\":\"1\"", "\"class\":\"8\"");
    let nonsense: String = nonsense
        .lines()
        .take(60)
        .map(|line| format!("{line}\n"))
        .collect();
    runner.drop_file("digits/samples/samples.jsonl", &nonsense);
    let job = runner.jobs("digits-train", "FAILED", 1)[0].clone();
    assert!(matches!(job["exit_code"].as_i64(), Some(2 | 3)), "{job}");
    assert_eq!(digits(&runner, &letter())["model"], newest);
}

#[test]
fn a_command_of_deepaas_kind_gets_a_file_and_writes_one() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--function", &definition("deepaas")]);
    let picture = String::from_utf8(sample("deepaas/three.pgm")).unwrap();
    runner.drop_file("deepaas/in/three.pgm", &picture);
    assert_eq!(runner.only_job("deepaas")["state"], "SUCCEEDED");
    let answer = std::fs::read(runner.storage("deepaas/out/three.json")).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["labels"][0], "3");
    // Another command, as DEEPaaS 2 takes its options; its status is the job's.
    assert!(runner.stop().success());
    let command = examples().join("deepaas/deepaas-predict");
    let runner = Runner::start(
        folder.path(),
        &[
            "--function",
            &definition("deepaas"),
            "--env",
            &format!("DEEPAAS_PREDICT={}", command.display()),
        ],
    );
    let accept = [("Accept", "application/json")];
    let path = "/run/deepaas?filename=leaf.pgm";
    let reply = runner.call("POST", path, &accept, picture.as_bytes());
    let named = reply.headers["content-disposition"].clone();
    assert!(
        reply.status == 200 && named.ends_with("''out_leaf.json"),
        "{named}"
    );
    let reply = runner.call("POST", path, &accept, b"no picture");
    let answer = reply.json();
    assert!(
        answer["error"].as_str().unwrap().contains("no PGM"),
        "{answer}"
    );
}
