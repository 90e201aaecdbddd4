//! A bucket of a store, bounded: what callers use.

use crate::backend::{Backend, Cursor, Mark, Means, Meta, Mode, Page, Published, Source};
use crate::error::{Problem, StoreError};
use crate::key::{Folder, Key};
use crate::limits::Limits;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// A bucket. Clones share their bounds.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    backend: Box<dyn Backend>,
    limits: Arc<Limits>,
    transfers: Semaphore,
    parts: Semaphore,
}

/// How much may be fetched, and of what.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Bytes, at most.
    pub limit: u64,
    /// The object must have this ETag, as an event named it; with or without quotes.
    pub etag: Option<String>,
}

/// An object that has arrived as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub meta: Meta,
    /// How often the connection broke on the way.
    pub resumed: u32,
}

impl Store {
    pub(crate) fn new(name: String, backend: Box<dyn Backend>, limits: Arc<Limits>) -> Store {
        Store(Arc::new(Inner {
            name,
            backend,
            transfers: Semaphore::new(limits.transfers.max(1)),
            parts: Semaphore::new(limits.parts.max(1)),
            limits,
        }))
    }

    /// The provider and the bucket, for people.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn failed(&self, key: Option<&Key>, problem: Problem) -> StoreError {
        StoreError {
            store: self.0.name.clone(),
            key: key.cloned(),
            problem,
        }
    }

    /// What the store says of an object.
    pub async fn stat(&self, key: &Key) -> Result<Meta, StoreError> {
        let backend = &self.0.backend;
        let asked = self.0.limits.retry(|_| backend.stat(key)).await;
        asked.map_err(|problem| self.failed(Some(key), problem))
    }

    /// Fetches an object into an empty file. A connection that breaks is taken up again where it broke, if the object is still the
    /// same. After an error the file holds nothing of use.
    pub async fn fetch(
        &self,
        key: &Key,
        file: &mut tokio::fs::File,
        options: &FetchOptions,
    ) -> Result<Fetched, StoreError> {
        let inner = &self.0;
        let _permit = inner.transfers.acquire().await;
        let mut fetch = Fetch {
            inner,
            key,
            file,
            options,
            meta: None,
            at: 0,
        };
        let limit = inner.limits.transfer;
        let fetched = inner.limits.within(limit, fetch.run()).await;
        fetched.map_err(|problem| self.failed(Some(key), problem))
    }

    /// Publishes a file, so that readers see all of it or nothing.
    pub async fn publish(
        &self,
        file: std::fs::File,
        key: &Key,
        mode: Mode,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        let _permit = inner.transfers.acquire().await;
        let work = async {
            let source = Source::new(file)?;
            let means = Means {
                limits: &inner.limits,
                parts: &inner.parts,
                mark: None,
            };
            inner.backend.write(key, &source, mode, &means).await
        };
        let published = inner.limits.within(inner.limits.transfer, work).await;
        published.map_err(|problem| self.failed(Some(key), problem))
    }

    /// Publishes a file under a mark. With [`Mode::IfAbsent`] a name that something has is no error: it is told whose it is, so that a
    /// publication that a crash cut short can be taken up again and nothing is published twice.
    pub async fn publish_as(
        &self,
        file: std::fs::File,
        key: &Key,
        mode: Mode,
        mark: &Mark,
    ) -> Result<Published, StoreError> {
        let inner = &self.0;
        let _permit = inner.transfers.acquire().await;
        let text = mark.text();
        let work = async {
            let source = Source::new(file)?;
            let means = Means {
                limits: &inner.limits,
                parts: &inner.parts,
                mark: Some(&text),
            };
            match inner.backend.write(key, &source, mode, &means).await {
                Ok(()) => Ok(Published::Now),
                Err(Problem::AlreadyExists) => self.whose(key, &source, mark).await,
                Err(problem) => Err(problem),
            }
        };
        let published = inner.limits.within(inner.limits.transfer, work).await;
        published.map_err(|problem| self.failed(Some(key), problem))
    }

    /// Whose an object is that has a name which was wanted.
    async fn whose(&self, key: &Key, source: &Source, mark: &Mark) -> Result<Published, Problem> {
        let inner = &self.0;
        let kept = match inner.limits.retry(|_| inner.backend.mark(key)).await {
            Err(Problem::NotFound) => {
                return Err(Problem::Unavailable(
                    "the name was taken, and is free again".into(),
                ));
            }
            kept => kept?,
        };
        let Some(kept) = kept else {
            let same = inner.limits.retry(|_| self.is_same(key, source)).await?;
            return Ok(match same {
                true => Published::Before,
                false => Published::Taken,
            });
        };
        Ok(match kept.rsplit_once('.') {
            Some(_) if kept == mark.text() => Published::Before,
            Some((publisher, _)) if publisher == mark.publisher => Published::Earlier,
            _ => Published::Taken,
        })
    }

    /// Whether an object has a file's content.
    async fn is_same(&self, key: &Key, source: &Source) -> Result<bool, Problem> {
        let mut reading = self.0.backend.read(key, 0, None).await?;
        if reading.meta.size != source.size() {
            return Ok(false);
        }
        let mut at = 0;
        while let Some(bytes) = reading.body.next().await {
            let bytes = bytes?;
            let end = at + bytes.len() as u64;
            if end > source.size() || source.read(at, bytes.len()).await? != bytes {
                return Ok(false);
            }
            at = end;
        }
        match at == source.size() {
            true => Ok(true),
            false => Err(Problem::Truncated {
                said: source.size(),
                came: at,
                why: "as if it were complete".into(),
            }),
        }
    }

    /// A page of the objects in a folder and below, from its beginning or where another page ended.
    pub async fn list(&self, folder: &Folder, from: Option<&Cursor>) -> Result<Page, StoreError> {
        let backend = &self.0.backend;
        let asked = self.0.limits.retry(|_| backend.list(folder, from)).await;
        let page = asked.and_then(|page| checked(page, folder, from));
        page.map_err(|problem| self.failed(None, problem))
    }

    /// Deletes an object; one that is not there is as good.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let backend = &self.0.backend;
        let asked = self.0.limits.retry(|_| backend.delete(key)).await;
        asked.map_err(|problem| self.failed(Some(key), problem))
    }

    /// Makes the bucket and the folder (on S3 an empty object that ends with a slash), where they are missing. Done when a function is
    /// registered, so that users see where to put their files.
    pub async fn prepare(&self, folder: &Folder) -> Result<(), StoreError> {
        let backend = &self.0.backend;
        let asked = self.0.limits.retry(|_| backend.prepare(folder)).await;
        asked.map_err(|problem| self.failed(None, problem))
    }

    /// Removes what publications left that were begun so long ago and never ended, since their process or machine died. Nobody sees
    /// it, but it takes space. Says how many there were.
    pub async fn sweep(&self, folder: &Folder, older: Duration) -> Result<u64, StoreError> {
        let age = i64::try_from(older.as_millis()).unwrap_or(i64::MAX);
        let before = now().saturating_sub(age);
        let backend = &self.0.backend;
        let asked = self.0.limits.retry(|_| backend.sweep(folder, before)).await;
        asked.map_err(|problem| self.failed(None, problem))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A listing that leaves its folder would show users what is not theirs; one that stands still would never end.
fn checked(page: Page, folder: &Folder, from: Option<&Cursor>) -> Result<Page, Problem> {
    if let Some(foreign) = page
        .entries
        .iter()
        .find(|entry| folder.relative(&entry.key).is_none())
    {
        return Err(Problem::Nonsense(format!(
            "the listing of {:?} has {:?}",
            folder.as_str(),
            foreign.key.as_str()
        )));
    }
    if page.next.is_some() && page.next.as_ref() == from {
        return Err(Problem::Nonsense(
            "the listing goes on where it began".into(),
        ));
    }
    Ok(page)
}

/// A fetch on its way.
struct Fetch<'a> {
    inner: &'a Inner,
    key: &'a Key,
    file: &'a mut tokio::fs::File,
    options: &'a FetchOptions,
    /// What the first answer said.
    meta: Option<Meta>,
    /// Bytes in the file.
    at: u64,
}

impl Fetch<'_> {
    async fn run(&mut self) -> Result<Fetched, Problem> {
        let mut tries = self.inner.limits.tries();
        let mut resumed = 0;
        loop {
            let begun = self.at;
            let problem = match self.pull().await {
                Ok(meta) => return Ok(Fetched { meta, resumed }),
                Err(problem) if problem.is_transient() => problem,
                Err(problem) => return Err(problem),
            };
            if self.at > begun {
                // It comes forward; the time limit holds nevertheless.
                tries = self.inner.limits.tries();
            }
            let Some(wait) = tries.next_wait() else {
                return Err(problem);
            };
            tokio::time::sleep(wait).await;
            resumed += u32::from(self.meta.is_some());
        }
    }

    /// One answer, as far as it goes.
    async fn pull(&mut self) -> Result<Meta, Problem> {
        let known = self.meta.as_ref().and_then(|meta| meta.etag.as_deref());
        let wanted = self.options.etag.as_deref().map(crate::backend::bare_etag);
        let etag = known.or(wanted.as_deref());
        // Without a mark that tells versions apart the halves of two would be put together.
        let from = match crate::backend::strong(known) {
            Some(_) => self.at,
            None => 0,
        };
        let mut reading = self.inner.backend.read(self.key, from, etag).await?;
        let meta = self.judge(reading.meta, wanted.as_deref())?;
        self.at = reading.from;
        self.file.set_len(self.at).await?;
        self.file.seek(std::io::SeekFrom::Start(self.at)).await?;
        while let Some(bytes) = reading.body.next().await {
            // What arrived before the connection broke is kept.
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(problem) => {
                    self.file.flush().await?;
                    return Err(match problem {
                        Problem::Unavailable(why) => self.truncated(&meta, why),
                        problem => problem,
                    });
                }
            };
            let at = self.at + bytes.len() as u64;
            if at > meta.size {
                return Err(Problem::SentMore { said: meta.size });
            }
            self.file.write_all(&bytes).await?;
            self.at = at;
        }
        self.file.flush().await?;
        match self.at < meta.size {
            true => Err(self.truncated(&meta, "as if it were complete".into())),
            false => Ok(meta),
        }
    }

    fn truncated(&self, meta: &Meta, why: String) -> Problem {
        Problem::Truncated {
            said: meta.size,
            came: self.at,
            why,
        }
    }

    /// The answer's own word is checked against what is wanted, and against the answers before.
    fn judge(&mut self, said: Meta, wanted: Option<&str>) -> Result<Meta, Problem> {
        if let Some(first) = &self.meta {
            let same = first.size == said.size
                && first.etag == said.etag
                && (first.etag.is_some() || first.modified == said.modified);
            return if same {
                Ok(said)
            } else {
                Err(Problem::Changed)
            };
        }
        if said.size > self.options.limit {
            return Err(Problem::TooLarge {
                size: said.size,
                limit: self.options.limit,
            });
        }
        if wanted.is_some() && said.etag.as_deref() != wanted {
            return Err(Problem::Changed);
        }
        self.meta = Some(said.clone());
        Ok(said)
    }
}
