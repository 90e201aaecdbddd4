//! The thread that has the database. Whatever is wrong with it, sessions do not notice: what there is to write stays in the book until a
//! later turn succeeds.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::store::{Store, StoreError, set_aside};
use crate::time::{MINUTE, Now};
use crate::watch::{self, Watch};
use crate::webhook::Poster;
use crate::{CHECKPOINT, Shared, lock};

/// Between two turns.
const TURN: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is said that nothing can be written, and how often a damaged database is set aside.
const SELDOM: Duration = Duration::from_secs(60);
/// How often thresholds are looked at.
const WATCH: Duration = Duration::from_secs(15);
/// How often what is old is looked for.
const RETAIN: Duration = Duration::from_secs(600);
/// A wall clock that has jumped further than this is not believed at once: what is old by it would be gone for good.
const JUMP: i64 = 10 * MINUTE;
/// Writes of one turn, so that it ends.
const WRITES: usize = 50;

/// Wakes the thread, and tells of its turns.
#[derive(Default)]
pub struct Bell {
    signal: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Default)]
struct Signal {
    asked: u64,
    answered: u64,
    stop: bool,
    /// The thread is gone.
    over: bool,
}

impl Bell {
    /// Asks for a turn, the last one or not, and waits for its end; false if that took too long.
    pub fn ring(&self, is_last: bool, patience: Duration) -> bool {
        let mut signal = lock(&self.signal);
        signal.asked += 1;
        signal.stop |= is_last;
        let mine = signal.asked;
        self.changed.notify_all();
        let waiting = |signal: &mut Signal| signal.answered < mine && !signal.over;
        let waited = self.changed.wait_timeout_while(signal, patience, waiting);
        let (signal, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        signal.answered >= mine
    }

    /// Waits for the next turn: what it answers, and whether it is the last.
    fn next(&self) -> (u64, bool) {
        let signal = lock(&self.signal);
        let idle = |signal: &mut Signal| signal.asked == signal.answered && !signal.stop;
        let waited = self.changed.wait_timeout_while(signal, TURN, idle);
        let (signal, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        (signal.asked, signal.stop)
    }

    fn answer(&self, asked: u64, over: bool) {
        let mut signal = lock(&self.signal);
        (signal.answered, signal.over) = (asked, over);
        self.changed.notify_all();
    }
}

pub fn start(shared: Arc<Shared>) -> std::io::Result<()> {
    let work = move || {
        let mut writer = Writer::default();
        loop {
            let (asked, stop) = shared.bell.next();
            let is_asked = asked > lock(&shared.bell.signal).answered;
            writer.turn(&shared, Now::read(), is_asked || stop);
            shared.bell.answer(asked, stop);
            if stop {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("accounts".into())
        .spawn(work)
        .map(|_| ())
}

#[derive(Default)]
struct Writer {
    store: Option<Store>,
    /// The file that is open.
    inode: u64,
    pause: Duration,
    retry: Option<Instant>,
    said: Option<Instant>,
    aside: Option<Instant>,
    watch: Watch,
    watched: Option<Instant>,
    retained: Option<Instant>,
    clock: Option<Now>,
    poster: Option<Poster>,
}

fn is_past(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

impl Writer {
    /// `at_once`: somebody waits for it, even if it has failed a moment ago.
    fn turn(&mut self, shared: &Shared, now: Now, at_once: bool) {
        let too_early = self.retry.is_some_and(|retry| Instant::now() < retry);
        if too_early && !at_once {
            return;
        }
        if let Err(error) = self.try_turn(shared, now) {
            self.failed(shared, &error, now);
            return;
        }
        (self.retry, self.pause) = (None, Duration::ZERO);
        let failing = lock(&shared.health).failing.take();
        if failing.is_some() {
            self.said = None;
            let lost = lock(&shared.book).lost();
            tracing::info!(path = %shared.path.display(), lost, "accounts are written again");
        }
    }

    fn try_turn(&mut self, shared: &Shared, now: Now) -> Result<(), StoreError> {
        let config = shared.config();
        let store = self.opened(shared)?;
        for _ in 0..WRITES {
            let changes = lock(&shared.book).due(CHECKPOINT, now);
            if changes.is_empty() {
                break;
            }
            let rows = store.write(&changes, &config)?;
            lock(&shared.book).written(&changes, &rows);
            lock(&shared.health).written += rows.len() as u64;
        }
        if is_past(self.watched, WATCH) {
            self.watched = Some(Instant::now());
            self.look(shared, now)?;
        }
        if self.believes(now)
            && is_past(self.retained, RETAIN)
            && let Some(store) = &mut self.store
            && !store.retain(&config.keep, now.wall)?
        {
            self.retained = Some(Instant::now());
        }
        Ok(())
    }

    /// The database; opened again where another file has taken its place.
    fn opened(&mut self, shared: &Shared) -> Result<&mut Store, StoreError> {
        let is_there = std::fs::metadata(&shared.path).is_ok_and(|file| file.ino() == self.inode);
        if self.store.is_some() && !is_there {
            tracing::warn!(path = %shared.path.display(), "the accounts' database is gone, or another; going on in a new one");
            self.store = None;
            lock(&shared.book).forget_rows();
        }
        let store = match self.store.take() {
            Some(store) => store,
            None => {
                let store = Store::open(&shared.path)?;
                self.inode = std::fs::metadata(&shared.path)?.ino();
                // Opening has closed them.
                lock(&shared.book).hurry();
                lock(&shared.health).generation += 1;
                tracing::debug!(path = %shared.path.display(), "the accounts' database is open");
                store
            }
        };
        Ok(self.store.insert(store))
    }

    fn failed(&mut self, shared: &Shared, error: &StoreError, now: Now) {
        if !error.is_passing() {
            self.store = None;
        }
        self.pause = (self.pause * 2).clamp(TURN, LONGEST_PAUSE);
        self.retry = Some(Instant::now() + self.pause);
        let (live, waiting) = {
            let book: &Book = &lock(&shared.book);
            (book.live(), book.waiting())
        };
        let path = shared.path.display().to_string();
        if is_past(self.said, SELDOM) {
            self.said = Some(Instant::now());
            tracing::error!(
                path,
                %error,
                live,
                waiting,
                "accounts are not written; sessions go on, and it is tried again"
            );
        }
        lock(&shared.health).failing = Some(error.to_string());
        if error.is_damage() && is_past(self.aside, SELDOM) {
            self.aside = Some(Instant::now());
            match set_aside(&shared.path, now.wall) {
                Ok(aside) => {
                    tracing::error!(
                        path,
                        aside = %aside.display(),
                        "the accounts' database is damaged; it has another name now, and a new one begins"
                    );
                    lock(&shared.book).forget_rows();
                    self.retry = None;
                }
                Err(error) => {
                    tracing::error!(path, %error, "the damaged database cannot be renamed")
                }
            }
        }
    }

    /// Raises what is worth an alert.
    fn look(&mut self, shared: &Shared, now: Now) -> Result<(), StoreError> {
        let config = shared.config();
        let Some(store) = &self.store else {
            return Ok(());
        };
        let holding = lock(&shared.book).holding(now);
        let over = store.excess(now.wall, &config)?;
        let alerts = watch::of_excess(over, &config, now.wall).chain(watch::of_idle(
            &holding,
            config.idle_alert,
            now.wall,
        ));
        let raised = self.watch.raised(alerts.collect());
        lock(&shared.health).alerts = self.watch.active();
        let mut kept = Ok(());
        for alert in raised {
            match store.alert(&alert) {
                // An earlier daemon has raised it.
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => kept = Err(error),
            }
            tracing::warn!(
                kind = alert.kind,
                tenant = alert.tenant,
                value = alert.value,
                threshold = alert.threshold,
                "{}",
                alert.text
            );
            let Some(webhook) = &config.webhook else {
                continue;
            };
            if self.poster.is_none() {
                self.poster = Some(Poster::start()?);
            }
            if let Some(poster) = &self.poster {
                poster.post(webhook, &alert);
            }
        }
        kept
    }

    /// Whether the wall clock has gone like the monotonic one for some time.
    fn believes(&mut self, now: Now) -> bool {
        let since = self.clock.map(|clock| {
            let passed = now.monotonic.saturating_sub(clock.monotonic) as i64;
            let drift = (now.wall - clock.wall).saturating_sub(passed);
            (passed, drift.abs() <= JUMP)
        });
        match since {
            Some((passed, true)) => passed >= JUMP,
            Some((_, false)) | None => {
                self.clock = Some(now);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, SECOND};

    #[test]
    fn a_clock_that_has_jumped_is_not_believed_at_once() {
        let mut writer = Writer::default();
        let mut at = |wall: i64, seconds: i64| {
            writer.believes(Now {
                wall,
                monotonic: (seconds * SECOND) as u64,
            })
        };
        assert!(!at(0, 0));
        assert!(!at(300 * SECOND, 300));
        assert!(at(600 * SECOND, 600));
        assert!(!at(20_000 * DAY, 601));
        assert!(!at(20_000 * DAY + 10 * SECOND, 611));
        assert!(at(20_000 * DAY + 600 * SECOND, 1201));
    }
}
