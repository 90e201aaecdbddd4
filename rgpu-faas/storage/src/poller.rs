//! Asks a store that sends no notifications, again and again, what is new in a folder.

use crate::backend::{Cursor, Entry};
use crate::differ::Seen;
use crate::error::{Problem, StoreError};
use crate::key::Folder;
use crate::store::{Store, now};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone, Debug)]
pub struct PollOptions {
    /// From the end of one pass to the next.
    pub interval: Duration,
    /// While the store does not answer, waits double up to this.
    pub longest: Duration,
    /// How late an object may show with an older time; longer than the longest upload in parts takes.
    pub overlap: Duration,
}

impl Default for PollOptions {
    fn default() -> Self {
        PollOptions {
            interval: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            overlap: Duration::from_secs(900),
        }
    }
}

/// What a poller tells. Its channel has few places, so a listing goes no faster than events are taken.
#[derive(Debug)]
pub enum Found {
    /// New objects, a page's at a time.
    New(Vec<Entry>),
    /// A pass is complete: once the events before it are kept, this is to be kept in the place of what was before.
    Pass {
        seen: Seen,
        keys: u64,
        /// Names that cannot be used here, and one of them.
        unusable: u64,
        example: Option<String>,
    },
    /// The pass was given up; another begins after `again`.
    Trouble { error: StoreError, again: Duration },
}

/// Passes over one folder of a bucket.
#[derive(Debug)]
pub struct Poller {
    store: Store,
    folder: Folder,
    options: PollOptions,
    seen: Seen,
}

impl Poller {
    pub fn new(store: Store, folder: Folder, options: PollOptions, seen: Seen) -> Poller {
        Poller {
            store,
            folder,
            options,
            seen,
        }
    }

    /// Polls until nobody listens. It keeps nothing that dropping it would lose.
    pub async fn run(mut self, found: mpsc::Sender<Found>) {
        let mut wait = self.options.interval;
        loop {
            let told = match self.pass(&found).await {
                Ok(pass) => {
                    wait = self.options.interval;
                    pass
                }
                Err(Some(error)) => {
                    let again = wait;
                    wait = wait.saturating_mul(2).min(self.options.longest);
                    Found::Trouble { error, again }
                }
                Err(None) => return,
            };
            let again = match &told {
                Found::Trouble { again, .. } => *again,
                _ => self.options.interval,
            };
            if found.send(told).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = found.closed() => return,
            }
        }
    }

    /// One pass. An error without a StoreError: nobody listens.
    async fn pass(&mut self, found: &mpsc::Sender<Found>) -> Result<Found, Option<StoreError>> {
        // A pass that is given up leaves its marks, so that the next one does not tell its objects again; but nobody is told to keep them.
        let mut scan = self.seen.begin();
        let (mut unusable, mut example) = (0, None);
        // Pages that have nothing count too: a store could give them for ever.
        let mut pages = 0;
        let mut from: Option<Cursor> = None;
        loop {
            let page = self.store.list(&self.folder, from.as_ref()).await?;
            let new: Vec<Entry> = self
                .seen
                .changes(&mut scan, &page.entries)
                .into_iter()
                .cloned()
                .collect();
            if !new.is_empty() && found.send(Found::New(new)).await.is_err() {
                return Err(None);
            }
            unusable += page.unusable;
            example = example.or(page.example);
            pages += 1;
            let limit = self.store.limits().keys;
            if scan.seen() + unusable > limit || pages > limit {
                return Err(Some(StoreError {
                    store: self.store.name().to_owned(),
                    key: None,
                    problem: Problem::TooMany {
                        limit,
                        what: "keys",
                    },
                }));
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        self.seen.end(&scan, now(), self.options.overlap);
        Ok(Found::Pass {
            seen: self.seen.clone(),
            keys: scan.seen(),
            unusable,
            example,
        })
    }
}
