//! Stores that are asked what is new.

use crate::harness::Runner;
use crate::servers::Server;
use crate::stores::{Shelf, created, keys, provider, tell};

const COPY: &str = r#"cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/""#;

#[test]
fn what_comes_into_a_webdav_folder_makes_one_job_each() {
    let server = Server::wsgidav().unwrap();
    let shelf = Shelf::new(&server, "clips");
    shelf.prepare("in/deep");
    shelf.put("in/before", "1");
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let fields = format!(
        "storage_providers: {{ {} }}
input: [{{ storage_provider: webdav.d, path: clips/in, poll: 1s }}]
output: [{{ storage_provider: webdav.d, path: clips/out }}]",
        provider("webdav", "d", server.address)
    );
    runner.define("f", COPY, &fields);
    runner.jobs("f", "SUCCEEDED", 1);
    shelf.put("in/deep/later", "2");
    shelf.put("in/hidden.part", "x");
    let jobs = runner.jobs("f", "SUCCEEDED", 2);
    assert!(jobs.iter().all(|job| job["trigger"] == "poll"), "{jobs:?}");
    assert_eq!(shelf.keys("out"), keys(["out/before", "out/later"]));
    runner.kill();
    shelf.put("in/meanwhile", "3");
    let runner = Runner::start(folder.path(), &[]);
    runner.jobs("f", "SUCCEEDED", 3);
    // Another function begins with all that is there; the first one's are known.
    runner.define("g", "cat $INPUT_FILE_PATH", &fields);
    runner.jobs("g", "SUCCEEDED", 3);
    assert_eq!(runner.jobs("f", "", 3).len(), 3);
    assert_eq!(shelf.keys("out").len(), 3);
}

#[test]
fn a_listing_and_a_notification_tell_of_one_object() {
    let server = Server::moto().unwrap();
    let shelf = Shelf::new(&server, "clips");
    shelf.prepare("in");
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let fields = |poll: &str| {
        format!(
            "storage_providers: {{ {} }}\ninput: [{{ storage_provider: minio.lab, path: clips/in, poll: {poll} }}]",
            provider("minio", "lab", server.address)
        )
    };
    runner.define("f", "cat $INPUT_FILE_PATH", &fields("off"));
    let one = shelf.put("in/one", "1");
    let (status, id) = tell(&runner, "f", &created("clips", "in/one", &one, "1"));
    assert_eq!(status, 201);
    runner.finished(&id);
    runner.define("f", "cat $INPUT_FILE_PATH", &fields("1s"));
    let two = shelf.put("in/two", "2");
    let jobs = runner.jobs("f", "SUCCEEDED", 2);
    let found = jobs.iter().find(|job| job["trigger"] == "poll").unwrap();
    assert_eq!(found["input"], "clips/in/two");
    let (status, id) = tell(&runner, "f", &created("clips", "in/two", &two, "2"));
    assert_eq!((status, id.as_str()), (200, found["id"].as_str().unwrap()));
    assert_eq!(runner.jobs("f", "", 2).len(), 2);
}
