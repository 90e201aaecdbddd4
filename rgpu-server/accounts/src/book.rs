//! The sessions that are running, and those that have ended and are not yet in the database. Pure: it says what there is to write, and
//! hears what has been written.
//!
//! What is written are totals, not what has come since: a write that fails or is late loses nothing as long as a later one succeeds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::amounts::Amounts;
use crate::record::{Device, Outcome, Sample, Who};
use crate::time::Now;

/// Most sessions that have ended and wait for the database. Beyond them, what ends is lost, and counted.
pub const MOST_ENDED: usize = 10_000;
/// Most changes of one write.
const BATCH: usize = 1000;

/// One session's totals at one moment, for the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which entry of the book it is.
    pub entry: u64,
    /// Its row, once it has one.
    pub row: Option<i64>,
    pub session: u64,
    pub who: Arc<Who>,
    /// It began under an earlier daemon, which may have left a row.
    pub adopted: bool,
    pub began: Now,
    pub amounts: Amounts,
    pub held_bytes: u64,
    pub peak_bytes: u64,
    /// When the totals were this.
    pub at: Now,
    pub outcome: Option<Outcome>,
}

/// A session that holds memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    pub entry: u64,
    pub session: u64,
    pub who: Arc<Who>,
    pub began: Now,
    pub held_bytes: u64,
    /// Since it last did anything.
    pub idle: Duration,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    session: u64,
    who: Arc<Who>,
    adopted: bool,
    began: Now,
    sample: Sample,
    /// When anything but the memory last changed, by the monotonic clock.
    active: u64,
    /// When its totals were last written, by the monotonic clock.
    written: Option<u64>,
    row: Option<i64>,
}

impl Entry {
    fn change(&self, at: Now, outcome: Option<Outcome>) -> Change {
        let mut amounts = self.sample.amounts;
        amounts.duration_us = at.monotonic.saturating_sub(self.began.monotonic);
        Change {
            entry: self.number,
            row: self.row,
            session: self.session,
            who: self.who.clone(),
            adopted: self.adopted,
            began: self.began,
            amounts,
            held_bytes: self.sample.held_bytes,
            peak_bytes: self.sample.peak_bytes,
            at,
            outcome,
        }
    }
}

#[derive(Debug, Default)]
pub struct Book {
    /// By session.
    live: HashMap<u64, Entry>,
    ended: VecDeque<Change>,
    numbers: u64,
    lost: u64,
}

impl Book {
    /// A session begins, or is adopted from an earlier daemon. One of the same number that has not ended is ended first.
    pub fn begin(&mut self, session: u64, who: Who, adopted: bool, now: Now) {
        self.end(session, Outcome::unknown(), now);
        self.numbers += 1;
        let entry = Entry {
            number: self.numbers,
            session,
            who: Arc::new(who.cleaned()),
            adopted,
            began: now,
            sample: Sample::default(),
            active: now.monotonic,
            written: None,
            row: None,
        };
        self.live.insert(session, entry);
    }

    /// Its device has become known.
    pub fn placed(&mut self, session: u64, device: Device) {
        if let Some(entry) = self.live.get_mut(&session)
            && entry.who.device != device
        {
            let who = Who {
                device,
                ..Who::clone(&entry.who)
            };
            entry.who = Arc::new(who.cleaned());
        }
    }

    pub fn used(&mut self, session: u64, sample: &Sample, now: Now) {
        let Some(entry) = self.live.get_mut(&session) else {
            return;
        };
        let before = entry.sample;
        let work = |amounts: Amounts| Amounts {
            memory_mib_us: 0,
            ..amounts
        };
        if work(before.amounts) != work(sample.amounts) || before.held_bytes != sample.held_bytes {
            entry.active = now.monotonic;
        }
        entry.sample = Sample {
            amounts: before.amounts.later(sample.amounts),
            held_bytes: sample.held_bytes,
            peak_bytes: before.peak_bytes.max(sample.peak_bytes),
        };
    }

    pub fn end(&mut self, session: u64, outcome: Outcome, now: Now) {
        let Some(entry) = self.live.remove(&session) else {
            return;
        };
        if self.ended.len() >= MOST_ENDED {
            self.lost += 1;
            return;
        }
        let mut change = entry.change(now, Some(outcome));
        change.held_bytes = 0;
        self.ended.push_back(change);
    }

    /// What is to be written now: ends, sessions that have no row yet, and those that were last written `every` ago or longer.
    pub fn due(&self, every: Duration, now: Now) -> Vec<Change> {
        let every = every.as_micros() as u64;
        let is_due = |entry: &&Entry| {
            let since = |written: u64| now.monotonic.saturating_sub(written);
            entry.written.is_none_or(|written| since(written) >= every)
        };
        let live = self.live.values().filter(is_due);
        let ended = self.ended.iter().cloned();
        ended
            .chain(live.map(|entry| entry.change(now, None)))
            .take(BATCH)
            .collect()
    }

    /// These changes are in the database, in these rows.
    pub fn written(&mut self, changes: &[Change], rows: &[i64]) {
        let ends = changes
            .iter()
            .filter(|it| it.outcome.is_some())
            .map(|it| it.entry)
            .collect::<std::collections::HashSet<_>>();
        self.ended.retain(|change| !ends.contains(&change.entry));
        for (change, row) in changes.iter().zip(rows) {
            match self.live.get_mut(&change.session) {
                Some(entry) if entry.number == change.entry => {
                    entry.row = Some(*row);
                    entry.written = Some(change.at.monotonic);
                }
                // One that has ended meanwhile goes on in the same row.
                _ if change.outcome.is_none() => {
                    let mut ended = self.ended.iter_mut();
                    if let Some(end) = ended.find(|it| it.entry == change.entry) {
                        end.row = Some(*row);
                    }
                }
                _ => {}
            }
        }
    }

    /// All sessions are due.
    pub fn hurry(&mut self) {
        for entry in self.live.values_mut() {
            entry.written = None;
        }
    }

    /// The database is another: nothing has a row any more.
    pub fn forget_rows(&mut self) {
        self.hurry();
        for entry in self.live.values_mut() {
            entry.row = None;
        }
        for end in &mut self.ended {
            end.row = None;
        }
    }

    /// Sessions that hold memory, those that have been idle longest first.
    pub fn holding(&self, now: Now) -> Vec<Holding> {
        let mut found: Vec<_> = self
            .live
            .values()
            .filter(|entry| entry.sample.held_bytes > 0)
            .map(|entry| Holding {
                entry: entry.number,
                session: entry.session,
                who: entry.who.clone(),
                began: entry.began,
                held_bytes: entry.sample.held_bytes,
                idle: Duration::from_micros(now.monotonic.saturating_sub(entry.active)),
            })
            .collect();
        found.sort_by_key(|it| (std::cmp::Reverse(it.idle), it.session));
        found
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Sessions that have ended and are not in the database yet.
    pub fn waiting(&self) -> usize {
        self.ended.len()
    }

    /// Sessions whose end, at least, never got there.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            wall: 0,
            monotonic: seconds * 1_000_000,
        }
    }

    fn sample(calls: u64, held_bytes: u64) -> Sample {
        Sample {
            amounts: Amounts {
                calls,
                ..Amounts::default()
            },
            held_bytes,
            peak_bytes: held_bytes,
        }
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn a_session_is_due_at_its_start_now_and_then_and_at_its_end() {
        let mut book = Book::default();
        book.begin(7, Who::default(), false, at(0));
        let first = book.due(TEN, at(0));
        assert_eq!((first.len(), first[0].row), (1, None));
        book.written(&first, &[11]);
        assert!(book.due(TEN, at(9)).is_empty());
        book.used(7, &sample(5, 1), at(9));
        let second = book.due(TEN, at(10));
        assert_eq!(second[0].row, Some(11));
        assert_eq!(second[0].amounts.calls, 5);
        assert_eq!(second[0].amounts.duration_us, 10_000_000);
        // It is not heard of, and the session ends: the end is written, and nothing else.
        book.end(7, Outcome::new(0, "bye"), at(11));
        let third = book.due(TEN, at(30));
        assert_eq!((third.len(), third[0].amounts.duration_us), (1, 11_000_000));
        book.written(&third, &[11]);
        assert!(book.due(TEN, at(100)).is_empty());
        assert_eq!((book.live(), book.waiting(), book.lost()), (0, 0, 0));
    }

    #[test]
    fn an_end_in_the_midst_of_a_write_keeps_the_row() {
        let mut book = Book::default();
        book.begin(1, Who::default(), false, at(0));
        let changes = book.due(TEN, at(0));
        book.end(1, Outcome::new(0, ""), at(1));
        // The number may be another's by now.
        book.begin(1, Who::default(), false, at(2));
        book.written(&changes, &[5]);
        let due = book.due(TEN, at(2));
        let rows: Vec<_> = due
            .iter()
            .map(|it| (it.outcome.is_some(), it.row))
            .collect();
        assert_eq!(rows, [(true, Some(5)), (false, None)]);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_lost_is_counted() {
        let mut book = Book::default();
        for session in 0..MOST_ENDED as u64 + 3 {
            book.begin(session, Who::default(), false, at(0));
            book.end(session, Outcome::new(0, ""), at(1));
        }
        assert_eq!((book.waiting(), book.lost()), (MOST_ENDED, 3));
        assert_eq!(book.due(TEN, at(1)).len(), BATCH);
    }

    #[test]
    fn idle_is_who_holds_memory_and_does_nothing() {
        let mut book = Book::default();
        for session in 1..=3 {
            book.begin(session, Who::default(), false, at(0));
        }
        book.used(1, &sample(1, 10), at(1));
        book.used(2, &sample(1, 20), at(5));
        book.used(3, &sample(9, 0), at(5));
        // A report without news is no activity.
        book.used(1, &sample(1, 10), at(8));
        let holding = book.holding(at(10));
        let found: Vec<_> = holding
            .iter()
            .map(|it| (it.session, it.idle.as_secs()))
            .collect();
        assert_eq!(found, [(1, 9), (2, 5)]);
        // A clock that went back makes nobody negative.
        assert_eq!(book.holding(at(0))[0].idle, Duration::ZERO);
    }
}
