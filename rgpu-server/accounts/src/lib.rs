//! Who used how much of which GPU, when, and at what price.
//!
//! The broker tells [`Accounts`] of its sessions and never waits: what it tells is noted in memory ([`book`]) and written by a thread of
//! its own ([`writer`]) into one SQLite database ([`store`]), as totals, so that a write that fails or comes late loses nothing. The REST
//! routes and the web page ([`router`], [`page`]) read the database over a connection of their own.
//!
//! All times are UTC. Durations are by the monotonic clock and never negative; the wall clock says only which hour they belong to.
#![forbid(unsafe_code)]

mod amounts;
mod api;
mod book;
mod config;
mod page;
mod pattern;
mod price;
mod query;
mod record;
mod spread;
mod store;
mod time;
mod watch;
mod webhook;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use amounts::Amounts;
pub use api::{Caller, openapi, router, router_for};
pub use book::{Holding, MOST_ENDED};
pub use config::{Config, FileAccounts, FileExcess, Wrong};
pub use page::page;
pub use pattern::Pattern;
pub use price::FilePrice;
pub use record::{Device, Outcome, Sample, Who};
pub use store::StoreError;
pub use time::Now;

use book::Book;
use writer::Bell;

/// How often a running session's totals are written.
pub const CHECKPOINT: Duration = Duration::from_secs(10);

/// The accounts of one server. Clones are the same accounts.
#[derive(Clone)]
pub struct Accounts(Arc<Shared>);

pub(crate) struct Shared {
    path: PathBuf,
    book: Mutex<Book>,
    config: Mutex<Arc<Config>>,
    health: Mutex<Health>,
    bell: Bell,
    reader: Mutex<query::Reader>,
}

/// How the accounts themselves are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be written at present.
    pub failing: Option<String>,
    /// Records and checkpoints written since the start.
    pub written: u64,
    /// Sessions that run.
    pub live: usize,
    /// Sessions that have ended and wait to be written.
    pub waiting: usize,
    /// Sessions whose end was not written, since too many waited.
    pub lost: u64,
    /// Alerts that hold now, by kind.
    pub alerts: Vec<(&'static str, usize)>,
    /// Which database it is, counted.
    generation: u64,
}

/// A panic while such a lock was held has changed nothing halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Accounts {
    /// Begins to keep accounts in this database, which is made if need be. A database that cannot be opened is tried again and again:
    /// this fails only where there can be no thread.
    pub fn start(path: PathBuf, config: Config) -> std::io::Result<Accounts> {
        let shared = Arc::new(Shared {
            reader: Mutex::new(query::Reader::new(path.clone())),
            path,
            book: Mutex::default(),
            config: Mutex::new(Arc::new(config)),
            health: Mutex::default(),
            bell: Bell::default(),
        });
        writer::start(shared.clone())?;
        Ok(Accounts(shared))
    }

    /// Takes another configuration. What has been written keeps its price. Another currency needs a new start: sums of today's sessions
    /// would mix both.
    pub fn configure(&self, config: Config) -> Result<(), String> {
        let mut now = lock(&self.0.config);
        if now.currency != config.currency {
            return Err(format!(
                "accounts.currency changes from {:?} to {:?}: restart the server for that",
                now.currency, config.currency
            ));
        }
        *now = Arc::new(config);
        Ok(())
    }

    /// A session begins.
    pub fn begin(&self, session: u64, who: Who) {
        lock(&self.0.book).begin(session, who, false, Now::read());
    }

    /// A session of an earlier daemon goes on under this one: so does its record.
    pub fn adopt(&self, session: u64, who: Who) {
        lock(&self.0.book).begin(session, who, true, Now::read());
    }

    /// A session's device has become known.
    pub fn placed(&self, session: u64, device: Device) {
        lock(&self.0.book).placed(session, device);
    }

    /// A session's totals, as its worker has told them.
    pub fn used(&self, session: u64, sample: &Sample) {
        lock(&self.0.book).used(session, sample, Now::read());
    }

    /// A session has ended.
    pub fn end(&self, session: u64, outcome: Outcome) {
        lock(&self.0.book).end(session, outcome, Now::read());
    }

    /// Sessions that hold memory, those that have been idle longest first.
    pub fn holding(&self) -> Vec<Holding> {
        lock(&self.0.book).holding(Now::read())
    }

    pub fn health(&self) -> Health {
        let mut health = lock(&self.0.health).clone();
        let book = lock(&self.0.book);
        (health.live, health.waiting, health.lost) = (book.live(), book.waiting(), book.lost());
        health
    }

    /// Writes everything now; false if that did not succeed in time.
    pub fn flush(&self, patience: Duration) -> bool {
        self.ring(false, patience)
    }

    fn ring(&self, is_last: bool, patience: Duration) -> bool {
        lock(&self.0.book).hurry();
        let heard = self.0.bell.ring(is_last, patience);
        let health = self.health();
        heard && health.failing.is_none() && health.waiting == 0
    }

    /// The last write. Afterwards nothing is written any more.
    pub fn close(&self, patience: Duration) -> bool {
        let written = self.ring(true, patience);
        if !written {
            let Health {
                live,
                waiting,
                failing,
                ..
            } = self.health();
            tracing::error!(live, waiting, ?failing, "the last accounts are not written");
        }
        written
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.0.config()
    }
}

impl Shared {
    fn config(&self) -> Arc<Config> {
        lock(&self.config).clone()
    }
}
