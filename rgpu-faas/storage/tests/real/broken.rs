//! Connections that break, and processes that die, in the middle.

use crate::relay::Relay;
use crate::servers::{self, Server};
use crate::{bytes, fetched, file, folder, key, keys};
use rgpu_faas_storage::{FetchOptions, Folder, Mode, Problem};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the test in a child process where to publish to.
const CHILD: &str = "RGPU_TEST_PUBLISH";

const SIZE: usize = 20 << 20;
/// Within the third part.
const MIDDLE: i64 = 12 << 20;

#[tokio::test]
async fn a_download_goes_on_where_it_broke() {
    for server in [Server::seaweed().unwrap(), Server::wsgidav().unwrap()] {
        let direct = server.store("clips");
        direct.prepare(&folder("in")).await.unwrap();
        let content = bytes(SIZE);
        direct
            .publish(file(&content), &key("in/a"), Mode::Replace)
            .await
            .unwrap();
        let relay = Relay::start(server.address, i64::MAX, MIDDLE).await;
        let store = servers::store(server.kind, relay.address, servers::SECRET, "clips");
        let into = tempfile::NamedTempFile::new().unwrap();
        let mut handle = tokio::fs::File::from_std(into.reopen().unwrap());
        let options = FetchOptions {
            limit: SIZE as u64,
            etag: None,
        };
        let done = store
            .fetch(&key("in/a"), &mut handle, &options)
            .await
            .unwrap();
        assert_eq!(done.resumed, 1, "{}", server.kind);
        assert!(std::fs::read(into.path()).unwrap() == content);
    }
}

/// The process that is killed in the next test; alone it does nothing.
#[tokio::test]
async fn child() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let (kind, address) = place.split_once(' ').unwrap();
    let store = servers::store(kind, address.parse().unwrap(), servers::SECRET, "clips");
    let published = store
        .publish(file(&bytes(SIZE)), &key("out/a"), Mode::Replace)
        .await;
    panic!("it was to be killed before: {published:?}");
}

#[tokio::test]
async fn of_a_publication_whose_process_dies_nothing_is_seen() {
    for server in [
        Server::seaweed().unwrap(),
        Server::moto().unwrap(),
        Server::wsgidav().unwrap(),
    ] {
        let store = server.store("clips");
        store.prepare(&folder("out")).await.unwrap();
        let relay = Relay::start(server.address, MIDDLE, i64::MAX).await;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "broken::child", "--nocapture"])
            .env(CHILD, format!("{} {}", server.kind, relay.address))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let reached = tokio::time::timeout(Duration::from_secs(60), relay.reached()).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reached.expect("the middle of the upload");
        drop(relay);
        assert!(keys(&store, "").await.is_empty(), "{}", server.log());
        let gone = store.stat(&key("out/a")).await.unwrap_err();
        assert!(matches!(gone.problem, Problem::NotFound), "{gone}");
        // A server notices at its own time that the rest of a body does not come.
        let swept = async {
            while store
                .sweep(&Folder::default(), Duration::ZERO)
                .await
                .unwrap()
                == 0
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), swept)
            .await
            .expect("something to sweep");
        assert_eq!(
            store
                .sweep(&Folder::default(), Duration::ZERO)
                .await
                .unwrap(),
            0
        );
        // And the name is as free as before.
        store
            .publish(file(b"right"), &key("out/a"), Mode::IfAbsent)
            .await
            .unwrap();
        assert_eq!(fetched(&store, "out/a", None).await.unwrap(), b"right");
    }
}

#[tokio::test]
async fn a_publication_that_is_given_up_is_taken_back() {
    for server in [Server::seaweed().unwrap(), Server::wsgidav().unwrap()] {
        let direct = server.store("clips");
        direct.prepare(&folder("out")).await.unwrap();
        let relay = Relay::start(server.address, MIDDLE, i64::MAX).await;
        let store = servers::store(server.kind, relay.address, servers::SECRET, "clips");
        let publishing = tokio::spawn(async move {
            store
                .publish(file(&bytes(SIZE)), &key("out/a"), Mode::Replace)
                .await
        });
        relay.reached().await;
        relay.release();
        publishing.abort();
        assert!(publishing.await.unwrap_err().is_cancelled());
        assert!(keys(&direct, "").await.is_empty());
        assert!(direct.stat(&key("out/a")).await.is_err());
    }
}
