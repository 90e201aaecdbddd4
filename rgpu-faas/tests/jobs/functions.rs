//! What functions say of themselves: secrets, versions, vGPUs, OSCAR's fields.

use crate::harness::Runner;
use serde_json::json;

#[test]
fn secrets_reach_the_script_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let secrets = folder.path().join("secrets");
    std::fs::write(secrets.join("api-key"), "hunter2\n").unwrap();
    runner.define(
        "f",
        "printf %s \"$KEY\" | wc -c; [ \"$KEY\" = $(printf hunter; echo 2) ] && echo same",
        "environment: { secrets: { KEY: api-key } }",
    );
    let id = runner.call("POST", "/job/f", &[], b"").job();
    let job = runner.finished(&id);
    assert_eq!(runner.log(&job), "7\nsame\n");
    for path in [
        "/system/services",
        "/system/services/f",
        "/system/services/f/versions",
        &format!("/jobs/{id}"),
    ] {
        let text = runner.get(path).to_string();
        assert!(!text.contains("hunter2"), "{path}: {text}");
    }
    let log = std::fs::read_to_string(folder.path().join("runner.log")).unwrap();
    assert!(!log.contains("hunter2"));
    // One that is not there, a link to elsewhere, or a folder.
    std::fs::remove_file(secrets.join("api-key")).unwrap();
    let failed = || {
        let id = runner.call("POST", "/job/f", &[], b"").job();
        let job = runner.finished(&id);
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&"FAILED".into(), &1.into())
        );
        job["reason"].as_str().unwrap().to_owned()
    };
    assert!(failed().contains("the secret \"api-key\" of KEY cannot be read"));
    std::os::unix::fs::symlink("/etc/hostname", secrets.join("api-key")).unwrap();
    assert!(failed().contains("a link"));
}

#[test]
fn an_update_is_a_version_and_versions_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", "echo one", "labels: { team: cardio }");
    runner.define("f", "echo two", "");
    runner.define("f", "echo two", "");
    let run = |runner: &Runner| runner.call("POST", "/run/f", &[], b"").text();
    assert_eq!(run(&runner), "two\n");
    let versions = runner.get("/system/services/f/versions");
    let versions = versions["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(
        (&versions[0]["version"], &versions[0]["current"]),
        (&2.into(), &true.into())
    );
    assert_eq!(versions[1]["definition"]["script"], "echo one\n");
    let (status, answer) = runner.ask("POST", "/system/services/f/versions/1/restore", "");
    assert_eq!((status, &answer["version"]), (200, &3.into()), "{answer}");
    assert_eq!(answer["labels"]["team"], "cardio");
    assert_eq!(run(&runner), "one\n");
    let job = runner.jobs("f", "SUCCEEDED", 2)[1].clone();
    assert_eq!(job["version"], 3);
    let (status, _) = runner.ask("POST", "/system/services/f/versions/9/restore", "");
    assert_eq!(status, 404);
    // A mistake changes nothing.
    assert_eq!(
        runner
            .ask("PUT", "/system/services", "name: f\nscript: x\n")
            .0,
        400
    );
    assert_eq!(run(&runner), "one\n");
    assert!(runner.stop().success());
    let runner = Runner::start(folder.path(), &[]);
    assert_eq!(runner.get("/system/services/f")["version"], 3);
    runner.define("f", "echo four", "");
    assert_eq!(runner.get("/system/services/f")["version"], 4);
}

#[test]
fn a_definition_of_oscars_own_client_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    // As its client writes every field, of a function that uses few.
    let body = json!({
        "name": "plants", "memory": "1Gi", "cpu": "1.0", "total_memory": "", "total_cpu": "", "enable_gpu": false,
        "enable_sgx": false, "image_prefetch": false, "synchronous": { "min_scale": 0, "max_scale": 0 },
        "image": "ghcr.io/grycap/plants", "alpine": false, "token": "", "file_stage_in": false,
        "input": [{ "storage_provider": "minio.default", "path": "plants/in" }],
        "output": [{ "storage_provider": "minio.default", "path": "plants/out" }],
        "script": "#!/bin/sh\ncp \"$INPUT_FILE_PATH\" \"$TMP_OUTPUT_DIR/\"\n", "image_pull_secrets": null,
        "expose": { "min_scale": 0, "max_scale": 0, "api_port": 0, "cpu_threshold": 0, "rewrite_target": false },
        "environment": { "variables": {}, "secrets": {} }, "annotations": null, "labels": {},
        "federation": null, "allowed_users": [], "visibility": "", "isolation_level": "SERVICE", "mount": {},
        "storage_providers": { "s3": null, "minio": { "other": { "endpoint": "http://minio", "access_key": "a", "secret_key": "hidden" } } },
        "clusters": {}, "log_level": "INFO", "delegation": "static", "namespace": "oscar-svc",
    });
    let (status, answer) = runner.ask("POST", "/system/services", &body.to_string());
    assert_eq!(status, 201, "{answer}");
    assert!(
        !runner
            .get("/system/services/plants")
            .to_string()
            .contains("hidden")
    );
    runner.drop_file("plants/in/leaf.jpg", "x");
    assert_eq!(runner.only_job("plants")["state"], "SUCCEEDED");
    assert_eq!(runner.list("plants/out"), ["leaf.jpg"]);
    let exposed = body
        .to_string()
        .replace("\"api_port\":0", "\"api_port\":80");
    let (status, answer) = runner.ask("PUT", "/system/services", &exposed);
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("`expose`"));
}
