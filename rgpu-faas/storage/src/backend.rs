//! What each kind of store does, one try at a time. `Store` adds bounds, tries and time limits.

use crate::error::Problem;
use crate::key::{Folder, Key};
use crate::limits::Limits;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Keys of a page of a listing, at most.
pub const PAGE: usize = 1000;

/// What a store says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub size: u64,
    /// Without quotes; `W/` in front where the store calls it weak.
    pub etag: Option<String>,
    /// Milliseconds since 1970; 0 when the store does not say.
    pub modified: i64,
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub key: Key,
    pub meta: Meta,
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// After this key, in the store's order.
    After(String),
    /// Where the store says, by its own mark.
    Token(String),
}

/// A part of a listing, in the store's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// How many names the store gave that cannot be used here (`a//b`, line ends), and one of them.
    pub unusable: u64,
    pub example: Option<String>,
    /// None at the end.
    pub next: Option<Cursor>,
}

impl Page {
    pub(crate) fn skip(&mut self, error: &crate::key::NameError) {
        self.unusable += 1;
        self.example.get_or_insert_with(|| error.to_string());
    }
}

/// How an object comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whatever has the name is replaced.
    Replace,
    /// Only if nothing has the name, which the store decides.
    IfAbsent,
}

/// Whose a publication is, and which of them: kept with the object, where the store keeps such things, so that one that a crash cut short is
/// recognised when it is taken up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub publisher: String,
    pub publication: String,
}

impl Mark {
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.publisher, self.publication)
    }
}

/// What became of a publication that must not take anybody's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Now,
    /// It had been published before: by this mark or, where the store keeps no marks, as the content is the same.
    Before,
    /// Another publication of the same publisher has the name.
    Earlier,
    /// Something else has the name.
    Taken,
}

/// An object that is being read.
pub(crate) struct Reading {
    pub meta: Meta,
    /// Where the bytes begin: as asked, or 0 where the store cannot begin elsewhere.
    pub from: u64,
    pub body: BoxStream<'static, Result<Bytes, Problem>>,
}

/// A file to be published. Its size is fixed at the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Arc<File>,
    size: u64,
}

impl Source {
    pub fn new(file: File) -> Result<Source, Problem> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Problem::Source("it is no regular file".into()));
        }
        Ok(Source {
            size: metadata.len(),
            file: Arc::new(file),
        })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// `length` bytes from `at`.
    pub async fn read(&self, at: u64, length: usize) -> Result<Bytes, Problem> {
        let this = self.clone();
        blocking(move || this.read_now(at, length).map(Bytes::from)).await
    }

    /// The same, where it may block.
    pub fn read_now(&self, at: u64, length: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Problem::Source("it became shorter meanwhile".into()))
            }
            Err(error) => Err(Problem::Source(error.to_string())),
        }
    }
}

/// What a publication may use.
pub(crate) struct Means<'a> {
    pub limits: &'a Limits,
    /// A permit for each part in memory.
    pub parts: &'a Semaphore,
    /// What the object is to be marked with, where the store keeps marks; None: a mark of this publication's own.
    pub mark: Option<&'a str>,
}

#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync {
    async fn stat(&self, key: &Key) -> Result<Meta, Problem>;

    /// Reads from `from`. With `etag`, an object that has another one is `Changed`.
    async fn read(&self, key: &Key, from: u64, etag: Option<&str>) -> Result<Reading, Problem>;

    /// Publishes in one step; what is under way is not visible, and is taken back when it fails or is dropped.
    async fn write(
        &self,
        key: &Key,
        source: &Source,
        mode: Mode,
        means: &Means<'_>,
    ) -> Result<(), Problem>;

    /// What the object was marked with when it was published; empty: it was not. None: this kind of store keeps no marks.
    async fn mark(&self, key: &Key) -> Result<Option<String>, Problem> {
        let _ = key;
        Ok(None)
    }

    async fn list(&self, folder: &Folder, from: Option<&Cursor>) -> Result<Page, Problem>;

    /// Nothing there is as good.
    async fn delete(&self, key: &Key) -> Result<(), Problem>;

    /// Makes the bucket and what shows the folder, where they are missing.
    async fn prepare(&self, folder: &Folder) -> Result<(), Problem>;

    /// Removes publications below `folder` that were begun before `before` (milliseconds since 1970) and never ended; how many.
    async fn sweep(&self, folder: &Folder, before: i64) -> Result<u64, Problem>;
}

/// Runs what blocks where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Problem::Io(std::io::Error::other(error))),
    }
}

/// Without its quotes, which events and listings leave out at times.
pub(crate) fn bare_etag(etag: &str) -> String {
    let (weak, tag) = match etag.strip_prefix("W/") {
        Some(tag) => ("W/", tag),
        None => ("", etag),
    };
    format!("{weak}{}", tag.trim_matches('"'))
}

/// Fit for If-Match, which takes no weak ones.
pub(crate) fn strong(etag: Option<&str>) -> Option<String> {
    let etag = etag.filter(|etag| !etag.is_empty() && !etag.starts_with("W/"))?;
    Some(format!("\"{etag}\""))
}

/// A name under which nothing is seen: hidden, and with an ending that folder triggers pass over.
pub(crate) fn temporary() -> String {
    format!(".rgpu-{:016x}.part", fastrand::u64(..))
}

pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_prefix(".rgpu-")
        .and_then(|rest| rest.strip_suffix(".part"))
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_compare_however_they_are_written() {
        for (written, bare) in [
            ("\"ab\"", "ab"),
            ("ab", "ab"),
            ("W/\"ab\"", "W/ab"),
            ("", ""),
        ] {
            assert_eq!(bare_etag(written), bare);
        }
        assert_eq!(strong(Some("ab")).as_deref(), Some("\"ab\""));
        assert_eq!(strong(Some("W/ab")), None);
        assert!(is_temporary(&temporary()));
        assert!(!is_temporary(".rgpu-x.part") && !is_temporary("a.part"));
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_noticed() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"12345").unwrap();
        let source = Source::new(file.try_clone().unwrap()).unwrap();
        assert_eq!(&source.read(1, 3).await.unwrap()[..], b"234");
        file.set_len(2).unwrap();
        assert!(matches!(source.read(1, 3).await, Err(Problem::Source(_))));
        assert!(Source::new(File::open("/dev/null").unwrap()).is_err());
    }
}
