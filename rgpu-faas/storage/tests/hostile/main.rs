//! Stores that are slow, down, or lie: each ends in time, with an error that says what it was, and nothing half done stays.

mod dav;
mod double;
mod list;
mod read;
mod write;

use double::Double;
use rgpu_faas_storage::{
    FetchOptions, Fetched, Key, Limits, Problem, Providers, Secrets, Store, StoreError,
};
use std::time::Duration;

/// Times and sizes that a test can wait for.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        idle: Duration::from_millis(300),
        request: Duration::from_millis(500),
        transfer: Duration::from_secs(20),
        attempts: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        part_size: 1 << 20,
        answer: 1 << 20,
        keys: 5000,
        ..Limits::default()
    }
}

/// What no error, log or request in clear may hold.
pub const SECRET: &str = "correct-horse-battery";

pub fn store(kind: &str, double: &Double) -> Store {
    store_at(kind, double.address)
}

pub fn store_at(kind: &str, address: std::net::SocketAddr) -> Store {
    let yaml = match kind {
        "minio" => format!(
            "minio: {{ default: {{ endpoint: 'http://{}', access_key: tester, secret_key: {SECRET} }} }}",
            address
        ),
        _ => format!(
            "webdav: {{ default: {{ hostname: 'http://{}/dav', login: tester, password: {SECRET} }} }}",
            address
        ),
    };
    let providers = Providers::check(&serde_saphyr::from_str(&yaml).unwrap(), None).unwrap();
    providers
        .open(kind, "clips", &Secrets::none(), limits())
        .unwrap()
}

pub fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub async fn fetch(store: &Store, limit: u64) -> Result<(Fetched, Vec<u8>), StoreError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut handle = tokio::fs::File::from_std(file.reopen().unwrap());
    let options = FetchOptions { limit, etag: None };
    let fetched = store.fetch(&key("in/a"), &mut handle, &options).await?;
    Ok((fetched, std::fs::read(file.path()).unwrap()))
}

/// The problem, after a look that the error names the store and not its secret.
pub fn problem<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Problem {
    let error = result.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        error.to_string().contains(".default (http://127.0.0.1"),
        "{shown}"
    );
    assert!(!shown.contains(SECRET) && shown.len() < 3000, "{shown}");
    error.problem
}
