//! Inputs from and outputs to stores that nobody here wrote.

use crate::double::{Double, Reply};
use crate::harness::{Runner, fifo};
use crate::servers::{SECRET, Server};
use rgpu_faas_storage::{FetchOptions, Folder, Key, Mode, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

/// What is in a store, asked from a test that does not wait otherwise.
pub struct Shelf {
    pub store: Store,
    pub runtime: tokio::runtime::Runtime,
}

impl Shelf {
    pub fn new(server: &Server, bucket: &str) -> Shelf {
        Shelf {
            store: server.store(bucket),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    pub fn prepare(&self, folder: &str) {
        let folder = Folder::parse(folder).unwrap();
        self.runtime.block_on(self.store.prepare(&folder)).unwrap();
    }

    /// Puts an object there; its ETag.
    pub fn put(&self, key: &str, content: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let key = Key::parse(key).unwrap();
        self.runtime
            .block_on(async {
                self.store.publish(file, &key, Mode::Replace).await?;
                self.store.stat(&key).await
            })
            .unwrap()
            .etag
            .unwrap()
    }

    pub fn get(&self, key: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut to = tokio::fs::File::from_std(file.reopen().unwrap());
        let options = FetchOptions {
            limit: 1 << 20,
            etag: None,
        };
        let key = Key::parse(key).unwrap();
        self.runtime
            .block_on(self.store.fetch(&key, &mut to, &options))
            .unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    }

    pub fn keys(&self, folder: &str) -> BTreeSet<String> {
        let folder = Folder::parse(folder).unwrap();
        let page = self
            .runtime
            .block_on(self.store.list(&folder, None))
            .unwrap();
        assert!(page.next.is_none());
        let keys = page.entries.iter();
        keys.map(|entry| entry.key.to_string()).collect()
    }
}

pub fn keys<const N: usize>(keys: [&str; N]) -> BTreeSet<String> {
    keys.map(str::to_owned).into()
}

/// The provider's definition.
pub fn provider(kind: &str, id: &str, address: SocketAddr) -> String {
    match kind {
        "minio" => format!(
            "minio: {{ {id}: {{ endpoint: 'http://{address}', access_key: tester, secret_key: {SECRET} }} }}"
        ),
        _ => format!(
            "webdav: {{ {id}: {{ hostname: 'http://{address}/dav', login: tester, password: {SECRET} }} }}"
        ),
    }
}

/// A notification of an object.
pub fn created(bucket: &str, key: &str, etag: &str, sequencer: &str) -> Vec<u8> {
    json!({ "EventName": "s3:ObjectCreated:Put", "Records": [{
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-03-01T12:00:00.000Z",
        "s3": {
            "bucket": { "name": bucket },
            "object": { "key": key.replace('/', "%2F"), "eTag": etag, "sequencer": sequencer },
        },
    }]})
    .to_string()
    .into_bytes()
}

/// Sends an event; status and the job.
pub fn tell(runner: &Runner, function: &str, body: &[u8]) -> (u16, String) {
    let reply = runner.call("POST", &format!("/events/{function}"), &[], body);
    let status = reply.status;
    let answer: Value = reply.json();
    let id = answer["jobs"][0]["id"].as_str();
    (status, id.unwrap_or_else(|| panic!("{answer}")).to_owned())
}

const COPY: &str = r#"cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"; echo "$STORAGE_OBJECT_KEY""#;

#[test]
fn objects_are_fetched_and_outputs_published_in_their_store() {
    let server = Server::seaweed().unwrap();
    let shelf = Shelf::new(&server, "clips");
    shelf.prepare("in");
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let fields = format!(
        "storage_providers: {{ {} }}
input: [{{ storage_provider: minio.lab, path: clips/in, suffix: [.dcm] }}]
output: [{{ storage_provider: minio.lab, path: clips/out }}, {{ path: b/out }}]
retry: {{ attempts: 1 }}",
        provider("minio", "lab", server.address)
    );
    runner.define("f", COPY, &fields);
    let shown = runner.get("/system/services/f").to_string();
    assert!(
        shown.contains("minio.lab") && shown.contains("***"),
        "{shown}"
    );
    assert!(!shown.contains(SECRET), "{shown}");
    let versions = runner.get("/system/services/f/versions").to_string();
    assert!(
        versions.contains("***") && !versions.contains(SECRET),
        "{versions}"
    );

    let first = shelf.put("in/a.dcm", "one");
    let event = created("clips", "in/a.dcm", &first, "1");
    let (status, id) = tell(&runner, "f", &event);
    assert_eq!(status, 201);
    let job = runner.finished(&id);
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(job["input"], "clips/in/a.dcm");
    assert_eq!(
        job["outputs"],
        json!(["b/out/a.dcm", "minio.lab:clips/out/a.dcm"])
    );
    assert_eq!(runner.log(&job), "in/a.dcm\n");
    assert_eq!(shelf.get("out/a.dcm"), "one");
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/a.dcm")).unwrap(),
        "one"
    );
    // Told again, also to another runner of the same data.
    assert_eq!(tell(&runner, "f", &event), (200, id.clone()));
    assert!(runner.stop().success());
    let runner = Runner::start(folder.path(), &[]);
    assert_eq!(tell(&runner, "f", &event), (200, id));

    // A newer version of the input takes the earlier output's place; the older event is over.
    let second = shelf.put("in/a.dcm", "two");
    let (_, old) = tell(&runner, "f", &created("clips", "in/a.dcm", &first, "2"));
    let old = runner.finished(&old);
    assert_eq!(
        (&old["state"], &old["attempt"]),
        (&"FAILED".into(), &1.into())
    );
    let reason = old["reason"].as_str().unwrap();
    assert!(
        reason.contains("replaced meanwhile") && !reason.contains(SECRET),
        "{reason}"
    );
    let (_, new) = tell(&runner, "f", &created("clips", "in/a.dcm", &second, "3"));
    assert_eq!(runner.finished(&new)["state"], "SUCCEEDED");
    assert_eq!(shelf.get("out/a.dcm"), "two");

    // What is somebody else's keeps its name.
    shelf.put("out/b.dcm", "theirs");
    let tag = shelf.put("in/b.dcm", "ours");
    let (_, id) = tell(&runner, "f", &created("clips", "in/b.dcm", &tag, "4"));
    let job = runner.finished(&id);
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(shelf.get("out/b.dcm"), "theirs");
    let mut names = shelf.keys("out");
    assert!(names.remove("out/a.dcm") && names.remove("out/b.dcm"));
    let other = names.pop_first().unwrap();
    assert!(other.starts_with("out/b-") && other.ends_with(".dcm") && names.is_empty());
    assert_eq!(shelf.get(&other), "ours");

    // What is not there, what is not wanted, and what is no name.
    let (_, id) = tell(&runner, "f", &created("clips", "in/gone.dcm", "x", "5"));
    let job = runner.finished(&id);
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("there is no such object"), "{reason}");
    for (key, why) in [
        (
            "in/a.txt",
            "in no input folder of f (which has clips/in of minio.lab)",
        ),
        ("out/a.dcm", "in no input folder"),
        ("in/../x.dcm", "\"..\""),
        ("in\\x.dcm", "in no input folder"),
        ("in/a\\b.dcm", "backslash"),
    ] {
        let reply = runner.call("POST", "/events/f", &[], &created("clips", key, "x", "6"));
        assert_eq!(reply.status, 422);
        let text = reply.text();
        assert!(text.contains(&why.replace('"', "\\\"")), "{text}");
    }
    runner.assert_clean();
    let log = std::fs::read_to_string(folder.path().join("runner.log")).unwrap();
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn providers_of_the_server_need_no_credentials_in_definitions() {
    let server = Server::moto().unwrap();
    let shelf = Shelf::new(&server, "clips");
    shelf.prepare("in");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stores.yaml");
    let text = format!(
        "storage_providers: {{ {} }}\n",
        provider("minio", "default", server.address)
    );
    std::fs::write(&file, text.replace(SECRET, "secret:s3")).unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/s3"), SECRET).unwrap();
    let runner = Runner::start(folder.path(), &["--storage", file.to_str().unwrap()]);
    let folders = "input: [{ storage_provider: minio, path: clips/in }]\noutput: [{ storage_provider: minio, path: clips/out }]";
    runner.define("f", COPY, folders);
    let tag = shelf.put("in/a", "one");
    let (_, id) = tell(&runner, "f", &created("clips", "in/a", &tag, "1"));
    let job = runner.finished(&id);
    assert_eq!(
        job["outputs"],
        json!(["minio.default:clips/out/a"]),
        "{job}"
    );
    assert_eq!(shelf.get("out/a"), "one");
    // Without the server's, the definition is refused with its place.
    let body = "name: g\nscript: \"x\\n\"\ninput: [{ path: b/in, storage_provider: s3.none }]\n";
    let (status, answer) = runner.ask("POST", "/system/services", body);
    assert_eq!(status, 400);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.starts_with("request:3:") && error.contains("minio.default"),
        "{error}"
    );
}

#[test]
fn stores_that_are_down_or_lie_are_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // As much as it says never comes, though each part begins as asked.
    let liar = runtime.block_on(Double::start(|asked, _| {
        const SAID: u64 = 1000;
        let is_object = asked.method == "GET" && asked.target.starts_with("/clips/in/");
        if !is_object {
            return Reply::new(200, &[], "");
        }
        let range = asked.header("range");
        let from = range
            .strip_prefix("bytes=")
            .and_then(|it| it.strip_suffix('-'));
        let from: u64 = from.map_or(0, |it| it.parse().unwrap());
        let length = (SAID - from).to_string();
        let part = format!("bytes {from}-{}/{SAID}", SAID - 1);
        let mut headers = vec![
            ("content-length", length.as_str()),
            ("etag", "\"x\""),
            ("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT"),
        ];
        match from {
            0 => Reply::raw(200, &headers, "short").close(),
            _ => {
                headers.push(("content-range", &part));
                Reply::raw(206, &headers, "").close()
            }
        }
    }));
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--store-patience", "0.5s"]);
    let define = |name: &str, address, input: &str, output: &str| {
        let fields = format!(
            "storage_providers: {{ {} }}\n{input}\n{output}\nretry: {{ attempts: 2, min_wait: 1ms }}",
            provider("minio", "lab", address)
        );
        runner.define(name, "echo x > $TMP_OUTPUT_DIR/x", &fields);
    };
    let input = "input: [{ storage_provider: minio.lab, path: clips/in }]";
    let output = "output: [{ path: b/out }, { storage_provider: minio.lab, path: clips/out }]";
    define("liar", liar.address, input, "");
    define("down", nobody, input, "");
    define("full", nobody, "input: [{ path: b/in }]", output);
    let event = created("clips", "in/a", "x", "1");
    let mut jobs = vec![
        tell(&runner, "liar", &event).1,
        tell(&runner, "down", &event).1,
    ];
    runner.drop_file("b/in/a", "x");
    jobs.push(
        runner.jobs("full", "", 1)[0]["id"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    for (id, why) in jobs.iter().zip([
        "the store said 1000 bytes, and the answer ended after 5 each time",
        "the store cannot be reached or is overloaded",
        "the outputs could not be published: minio.lab (http://",
    ]) {
        let job = runner.finished(id);
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&"FAILED".into(), &2.into()),
            "{job}"
        );
        let reason = job["reason"].as_str().unwrap();
        assert!(reason.contains(why) && !reason.contains(SECRET), "{reason}");
    }
    // Nothing of an attempt that fails is seen, hidden or not.
    assert_eq!(runner.list("b/out"), Vec::<String>::new());
    runner.assert_clean();
}

/// One store has the output, the other takes what it is sent and does not answer, when the runner is killed.
#[test]
fn a_crash_between_stores_publishes_nothing_twice() {
    let one = Server::seaweed().unwrap();
    let shelf = Shelf::new(&one, "clips");
    shelf.prepare("out");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let runner = Runner::start(folder.path(), &[]);
    let fields = |webdav: &str| {
        format!(
            "storage_providers: {{ {}, {webdav} }}
input: [{{ path: b/in }}]
output: [{{ storage_provider: minio.lab, path: clips/out }}, {{ storage_provider: webdav.slow, path: clips/out }}, {{ path: b/out }}]
retry: {{ attempts: 50, min_wait: 1ms }}",
            provider("minio", "lab", one.address)
        )
    };
    let slow = provider("webdav", "slow", silent.local_addr().unwrap());
    let script = format!("echo x >> {}; date +%N > $TMP_OUTPUT_DIR/n", ran.display());
    runner.define("f", &script, &fields(&slow));
    runner.drop_file("b/in/a", "x");
    let id = runner.jobs("f", "", 1)[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // The journal has the first output, so the other is on its way.
    let journal = rgpu_faas::journal::Journal::open(&folder.path().join("journal.db")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while journal.objects_of(&id).unwrap().is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "nothing was published"
        );
        // Nobody tells another process of a change in the journal.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(journal);
    let published = shelf.get("out/n");
    runner.kill();
    assert!(!folder.path().join("storage/b/out/n").exists());

    // The other store is at another address now, where it answers. The plan names where it was to go, so the script runs again.
    drop(silent);
    let two = Server::wsgidav().unwrap();
    let other = Shelf::new(&two, "clips");
    let runner = Runner::start(folder.path(), &["--store-patience", "0s"]);
    runner.define(
        "f",
        &script,
        &fields(&provider("webdav", "slow", two.address)),
    );
    let job = runner.finished(&id);
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    // The second attempt's file took the place of the first one's, which was its own.
    assert_eq!(shelf.keys("out"), keys(["out/n"]));
    assert_eq!(other.keys("out"), keys(["out/n"]));
    let now = shelf.get("out/n");
    assert_eq!(other.get("out/n"), now);
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/n")).unwrap(),
        now
    );
    assert_eq!(runner.list("b/out"), ["n"]);
    assert_ne!(now, published);
    assert!(std::fs::read_to_string(&ran).unwrap().lines().count() > 1);
    runner.assert_clean();
}

/// The crash came after the store had taken the output, and before the journal knew.
#[test]
fn a_publication_that_the_journal_does_not_know_of_is_recognised() {
    use rgpu_faas::event::{Event, FileEvent, Fingerprint};
    use rgpu_faas::journal::{Journal, Naming, NewJob, Outcome};
    use rgpu_faas::outputs::{Planned, ToStore};
    use rgpu_faas::time::Timestamp;
    for kind in ["minio", "webdav"] {
        let server = match kind {
            "minio" => Server::seaweed().unwrap(),
            _ => Server::wsgidav().unwrap(),
        };
        let shelf = Shelf::new(&server, "clips");
        shelf.prepare("out");
        let folder = tempfile::tempdir().unwrap();
        let ran = folder.path().join("ran");
        let runner = Runner::start(folder.path(), &[]);
        let fields = format!(
            "storage_providers: {{ {} }}\ninput: [{{ path: b/in }}]\noutput: [{{ storage_provider: {kind}.lab, path: clips/out }}, {{ path: b/out }}]",
            provider(kind, "lab", server.address)
        );
        runner.define("f", &format!("touch {}", ran.display()), &fields);
        assert!(runner.stop().success());
        let storage = folder.path().join("storage");
        std::fs::write(storage.join("b/in/a"), "x").unwrap();
        let metadata = std::fs::metadata(storage.join("b/in/a")).unwrap();
        let address = match kind {
            "minio" => format!("s3 http://{}", server.address),
            _ => format!("webdav http://{}/dav/", server.address),
        };
        {
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let event = Event::from(&FileEvent {
                key: "b/in/a".into(),
                fingerprint: Fingerprint::of(&metadata),
                time: Timestamp(1),
            });
            journal
                .submit(&NewJob::new("job-1", "f", &event), Timestamp(1))
                .unwrap();
            journal.queue("job-1", Timestamp(2)).unwrap();
            journal.start("job-1", Timestamp(3)).unwrap();
            journal.running("job-1", 4_000_000, Timestamp(4)).unwrap();
            let wanted = ["one", "two"].map(|name| ToStore {
                provider: format!("{kind}.lab"),
                address: address.clone(),
                file: name.into(),
                wanted: format!("clips/out/{name}"),
                key: format!("clips/out/{name}"),
                replace: false,
                done: false,
            });
            let staged = [Planned {
                staged: "b/out/.rgpu-job-1-0".into(),
                target: "b/out/one".into(),
            }];
            let outcome = Outcome {
                exit_code: Some(0),
                ..Outcome::default()
            };
            let named = journal
                .plan_stores("job-1", wanted.to_vec(), &staged, &outcome)
                .unwrap();
            assert_eq!(named, Naming::Named(wanted.to_vec()));
            // As the runner would have published the first of them.
            let publication = blake3::hash(b"job-1 1 0").to_hex()[..16].to_owned();
            let mark = rgpu_faas_storage::Mark {
                publisher: journal.lineage("job-1").unwrap(),
                publication,
            };
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"first").unwrap();
            let key = Key::parse("out/one").unwrap();
            let published = shelf.store.publish_as(file, &key, Mode::IfAbsent, &mark);
            shelf.runtime.block_on(published).unwrap();
        }
        let output = folder.path().join("work/job-1-1/output");
        std::fs::create_dir_all(&output).unwrap();
        std::fs::write(output.join("one"), "first").unwrap();
        std::fs::write(output.join("two"), "second").unwrap();
        std::fs::write(storage.join("b/out/.rgpu-job-1-0"), "first").unwrap();
        let before = shelf
            .runtime
            .block_on(shelf.store.stat(&Key::parse("out/one").unwrap()));
        let runner = Runner::start(folder.path(), &[]);
        let job = runner.finished("job-1");
        assert_eq!(job["state"], "SUCCEEDED", "{job}");
        assert!(!ran.exists(), "the script does not run again");
        assert_eq!(shelf.keys("out"), keys(["out/one", "out/two"]), "{kind}");
        let after = shelf
            .runtime
            .block_on(shelf.store.stat(&Key::parse("out/one").unwrap()));
        assert_eq!(
            before.unwrap(),
            after.unwrap(),
            "it was not published again"
        );
        assert_eq!(shelf.get("out/two"), "second");
        assert_eq!(runner.list("b/out"), ["one"]);
        runner.assert_clean();
    }
}

#[test]
fn outputs_in_a_store_are_the_next_functions_inputs() {
    let server = Server::seaweed().unwrap();
    let shelf = Shelf::new(&server, "clips");
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    fifo(&gate);
    let runner = Runner::start(folder.path(), &[]);
    let output = format!(
        "storage_providers: {{ {} }}\noutput: [{{ storage_provider: minio.lab, path: clips/frames }}]",
        provider("minio", "lab", server.address)
    );
    runner.define(
        "split",
        &format!(
            "for n in 1 2 3; do echo $n > $TMP_OUTPUT_DIR/$n; done; read line < {}",
            gate.display()
        ),
        &format!("input: [{{ path: b/in }}]\n{output}"),
    );
    // It names no store itself.
    runner.define(
        "double",
        "cat $INPUT_FILE_PATH $INPUT_FILE_PATH",
        "depends_on: split\neach: file",
    );
    runner.define(
        "all",
        "cd $INPUT_FILE_PATH && cat *",
        "depends_on: split\nwhen: all",
    );
    runner.drop_file("b/in/a", "x");
    std::fs::write(&gate, "go\n").unwrap();
    let jobs = runner.jobs("double", "SUCCEEDED", 3);
    let logs: BTreeSet<String> = jobs.iter().map(|job| runner.log(job)).collect();
    assert_eq!(logs, keys(["1\n1\n", "2\n2\n", "3\n3\n"]));
    let inputs: BTreeSet<String> = jobs
        .iter()
        .map(|job| job["input"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        inputs,
        keys(["clips/frames/1", "clips/frames/2", "clips/frames/3"])
    );
    assert_eq!(runner.log(&runner.only_job("all")), "1\n2\n3\n");
    assert_eq!(shelf.keys("frames").len(), 3);
}
