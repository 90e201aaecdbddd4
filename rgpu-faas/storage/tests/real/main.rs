//! Against stores that nobody here wrote, and against a folder of this machine: what holds for one holds for all.

mod broken;
mod relay;
mod servers;

use rgpu_faas_storage::{
    FetchOptions, Folder, Found, Key, Limits, Mode, Namespace, PollOptions, Poller, Problem,
    Providers, RawProviders, Secrets, Seen, Store,
};
use servers::Server;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn folder(text: &str) -> Folder {
    Folder::parse(text).unwrap()
}

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Bytes that are nowhere the same.
fn bytes(size: usize) -> Vec<u8> {
    (0..size.div_ceil(8) as u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(size)
        .collect()
}

async fn fetched(store: &Store, name: &str, etag: Option<&str>) -> Result<Vec<u8>, Problem> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut handle = tokio::fs::File::from_std(file.reopen().unwrap());
    let options = FetchOptions {
        limit: 64 << 20,
        etag: etag.map(str::to_owned),
    };
    let done = store.fetch(&key(name), &mut handle, &options).await;
    done.map_err(|error| error.problem)?;
    Ok(std::fs::read(file.path()).unwrap())
}

/// All keys of a folder, however many pages they take.
async fn keys(store: &Store, within: &str) -> BTreeSet<String> {
    let (mut keys, mut from) = (BTreeSet::new(), None);
    loop {
        let page = store.list(&folder(within), from.as_ref()).await.unwrap();
        for entry in page.entries {
            assert!(
                keys.insert(entry.key.to_string()),
                "{} came twice",
                entry.key
            );
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return keys,
        }
    }
}

/// What every store does. `questions`: names may have a question mark.
async fn conforms(store: &Store, questions: bool) {
    // Folders are there before anything is in them, and made once.
    for _ in 0..2 {
        store.prepare(&folder("in/deep")).await.unwrap();
    }
    store.prepare(&Folder::default()).await.unwrap();
    assert_eq!(keys(store, "in").await, BTreeSet::new());

    // A small object, its replacement, and what is known of both.
    store
        .publish(file(b"one"), &key("in/a"), Mode::Replace)
        .await
        .unwrap();
    let first = store.stat(&key("in/a")).await.unwrap();
    assert_eq!(first.size, 3);
    assert!(first.modified > 1_700_000_000_000, "{first:?}");
    assert_eq!(
        fetched(store, "in/a", first.etag.as_deref()).await.unwrap(),
        b"one"
    );
    store
        .publish(file(b"other"), &key("in/a"), Mode::Replace)
        .await
        .unwrap();
    assert_eq!(fetched(store, "in/a", None).await.unwrap(), b"other");
    let old = fetched(store, "in/a", first.etag.as_deref()).await;
    assert!(matches!(old, Err(Problem::Changed)), "{old:?}");

    // Once is once, small and in parts.
    for (name, size) in [("out/small", 0), ("out/large", 20 << 20)] {
        let content = bytes(size);
        store
            .publish(file(&content), &key(name), Mode::IfAbsent)
            .await
            .unwrap();
        let again = store
            .publish(file(&bytes(size + 1)), &key(name), Mode::IfAbsent)
            .await;
        assert!(matches!(again.unwrap_err().problem, Problem::AlreadyExists));
        assert!(fetched(store, name, None).await.unwrap() == content);
    }

    // Names of every kind.
    let names = [
        "a+b c/x",
        "a-b",
        "a/b",
        "ü/é%2f.txt",
        "#1 100%.txt",
        "q&x=\"y\"<z>",
        "~'(!)*",
        "%2e%2e",
    ];
    let mut odd: BTreeSet<String> = names.iter().map(|name| format!("odd/{name}")).collect();
    if questions {
        odd.insert("odd/who?me".into());
    }
    for name in &odd {
        store
            .publish(file(name.as_bytes()), &key(name), Mode::Replace)
            .await
            .unwrap();
    }
    assert_eq!(keys(store, "odd").await, odd);
    for name in &odd {
        assert_eq!(fetched(store, name, None).await.unwrap(), name.as_bytes());
    }
    assert_eq!(
        keys(store, "od").await,
        BTreeSet::new(),
        "a folder is no beginning of a name"
    );

    // What is deleted is gone, and may be deleted again.
    for _ in 0..2 {
        store.delete(&key("odd/a-b")).await.unwrap();
    }
    let gone = store.stat(&key("odd/a-b")).await.unwrap_err();
    assert!(matches!(gone.problem, Problem::NotFound), "{gone}");
    assert!(matches!(
        fetched(store, "odd/a-b", None).await,
        Err(Problem::NotFound)
    ));
    assert!(!keys(store, "odd").await.contains("odd/a-b"));

    // Users see what is theirs.
    let users = Namespace::below(folder("users"));
    for user in ["ada", "Ada", "ada/../bob"] {
        let own = users.of(user).unwrap();
        store.prepare(own.folder()).await.unwrap();
        store
            .publish(file(b"x"), &own.key("mine.txt").unwrap(), Mode::Replace)
            .await
            .unwrap();
    }
    for user in ["ada", "Ada", "ada/../bob"] {
        let own = users.of(user).unwrap();
        let page = store.list(own.folder(), None).await.unwrap();
        let names: Vec<&str> = page
            .entries
            .iter()
            .map(|entry| own.name(&entry.key).unwrap())
            .collect();
        assert_eq!(names, ["mine.txt"], "{user}");
    }

    // Too much is refused by what the store says already.
    let mut sink = tokio::fs::File::from_std(tempfile::tempfile().unwrap());
    let options = FetchOptions {
        limit: 1000,
        etag: None,
    };
    let much = store
        .fetch(&key("out/large"), &mut sink, &options)
        .await
        .unwrap_err();
    assert!(
        matches!(much.problem, Problem::TooLarge { limit: 1000, .. }),
        "{much}"
    );

    // Nothing is left of any of it.
    assert_eq!(
        store
            .sweep(&Folder::default(), Duration::ZERO)
            .await
            .unwrap(),
        0
    );
}

/// A poller tells each object once, also of what comes about later and is replaced.
async fn polls(store: &Store) {
    store.prepare(&folder("watched")).await.unwrap();
    let options = PollOptions {
        interval: Duration::from_millis(20),
        ..PollOptions::default()
    };
    let (sender, mut found) = tokio::sync::mpsc::channel(4);
    let poller = Poller::new(store.clone(), folder("watched"), options, Seen::nothing());
    let running = tokio::spawn(poller.run(sender));
    let mut told = Vec::new();
    for name in ["b", "a", "sub/c"] {
        store
            .publish(
                file(name.as_bytes()),
                &key(&format!("watched/{name}")),
                Mode::Replace,
            )
            .await
            .unwrap();
        let new = async {
            loop {
                match found.recv().await.unwrap() {
                    Found::New(new) => return new,
                    Found::Pass { .. } => {}
                    Found::Trouble { error, .. } => panic!("{error}"),
                }
            }
        };
        let new = tokio::time::timeout(Duration::from_secs(30), new)
            .await
            .unwrap();
        told.extend(new.into_iter().map(|entry| entry.key.to_string()));
    }
    assert_eq!(told, ["watched/b", "watched/a", "watched/sub/c"]);
    // Two whole passes later nothing came twice.
    let mut passes = 0;
    while passes < 2 {
        match found.recv().await.unwrap() {
            Found::Pass { keys, .. } => {
                passes += 1;
                assert!(keys <= 3);
            }
            other => panic!("{other:?}"),
        }
    }
    drop(found);
    running.await.unwrap();
}

#[tokio::test]
async fn seaweedfs() {
    let server = Server::seaweed().unwrap();
    let store = server.store("clips");
    let early = store.list(&folder("in"), None).await.unwrap_err();
    assert!(matches!(early.problem, Problem::NoBucket), "{early}");
    conforms(&store, true).await;
    polls(&store).await;
    more_than_a_page(&store).await;
    wrong_secret(&server).await;
}

#[tokio::test]
async fn moto() {
    let server = Server::moto().unwrap();
    let store = server.store("clips");
    conforms(&store, true).await;
    polls(&store).await;
}

#[tokio::test]
async fn wsgidav() {
    let server = Server::wsgidav().unwrap();
    let store = server.store("clips");
    conforms(&store, false).await;
    polls(&store).await;
    // It renames to what stands before the question mark, and says that all is well.
    let question = store
        .publish(file(b"x"), &key("out/who?me"), Mode::Replace)
        .await;
    assert!(matches!(
        question.unwrap_err().problem,
        Problem::Nonsense(_)
    ));
    wrong_secret(&server).await;
}

#[tokio::test]
async fn a_folder_of_this_machine() {
    let root = tempfile::tempdir().unwrap();
    let local = Some(root.path().to_owned());
    let providers = Providers::check(&RawProviders::default(), local).unwrap();
    let store = providers
        .open("local", "clips", &Secrets::none(), Limits::default())
        .unwrap();
    conforms(&store, true).await;
    polls(&store).await;

    // Links that a job made lead nowhere.
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "keep").unwrap();
    let bucket = root.path().join("clips");
    std::os::unix::fs::symlink(outside.path(), bucket.join("in/link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), bucket.join("in/file")).unwrap();
    assert_eq!(
        keys(&store, "in").await,
        BTreeSet::from(["in/a".to_owned()])
    );
    for name in ["in/link/secret", "in/file"] {
        assert!(fetched(&store, name, None).await.is_err(), "{name}");
    }
    assert!(
        store
            .publish(file(b"x"), &key("in/link/new"), Mode::Replace)
            .await
            .is_err()
    );
    assert!(store.delete(&key("in/link/secret")).await.is_err());
    // A link in the place of the target is replaced, not followed.
    store
        .publish(file(b"x"), &key("in/file"), Mode::Replace)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.path().join("secret")).unwrap(),
        "keep"
    );
    assert_eq!(fetched(&store, "in/file", None).await.unwrap(), b"x");
    assert!(!outside.path().join("new").exists());

    // What a process left that died is swept, and nothing else.
    let staged = bucket.join("out/.rgpu-0123456789abcdef.part");
    std::fs::write(&staged, "half").unwrap();
    assert!(
        !keys(&store, "out")
            .await
            .iter()
            .any(|key| key.contains("rgpu"))
    );
    assert_eq!(
        store
            .sweep(&folder("out"), Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options()
        .write(true)
        .open(&staged)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(
        store
            .sweep(&Folder::default(), Duration::from_secs(3600))
            .await
            .unwrap(),
        1
    );
    assert!(!staged.exists() && keys(&store, "out").await.len() == 2);
}

async fn more_than_a_page(store: &Store) {
    let mut publishing = tokio::task::JoinSet::new();
    let names: BTreeSet<String> = (0..1005).map(|n| format!("many/{n:04}")).collect();
    for name in names.clone() {
        let store = store.clone();
        publishing.spawn(async move {
            store
                .publish(file(b""), &key(&name), Mode::Replace)
                .await
                .unwrap();
        });
    }
    publishing.join_all().await;
    assert_eq!(keys(store, "many").await, names);
}

async fn wrong_secret(server: &Server) {
    let store = servers::store(server.kind, server.address, "not-the-password", "clips");
    let error = store.stat(&key("in/a")).await.unwrap_err();
    assert!(matches!(error.problem, Problem::Denied { .. }), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("not-the-password"),
        "{error}"
    );
}
