//! Which objects of a listing are new. Pure: the time is passed in.
//!
//! A store of any size is told apart by little: the time before which everything has been seen, and marks of the objects since. A store
//! writes times in whole seconds or milliseconds, gives an upload in parts the time of its beginning, and lists while others write; so what
//! was changed less than `overlap` before the newest object is looked at again, and known by its mark.

use crate::backend::Entry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Marks that are kept, at most; each is 40 bytes in JSON.
const MOST: usize = 16_384;

/// What has been seen of a folder. Small, and to be kept where events are: an object whose event was kept, but not this, is told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Milliseconds since 1970. What was changed before has been seen, or came too late.
    floor: i64,
    /// Objects changed since then: their time and their mark.
    marks: BTreeSet<(i64, String)>,
    /// How often more objects came about within `overlap` than marks are kept. Later ones may have been missed then.
    #[serde(default)]
    pub crowded: u64,
}

/// One pass over a whole listing, page by page.
#[derive(Clone, Debug)]
pub struct Scan {
    floor: i64,
    next_floor: i64,
    newest: i64,
    seen: u64,
}

impl Seen {
    /// Nothing has been seen: all that is there is new.
    pub fn nothing() -> Seen {
        Seen::until(i64::MIN)
    }

    /// What was changed before this time (milliseconds since 1970) is not new.
    pub fn until(floor: i64) -> Seen {
        Seen {
            floor,
            marks: BTreeSet::new(),
            crowded: 0,
        }
    }

    pub fn begin(&self) -> Scan {
        Scan {
            floor: self.floor,
            next_floor: self.floor,
            newest: self.floor,
            seen: 0,
        }
    }

    /// The objects of a page that are new, which are known from now on.
    pub fn changes<'p>(&mut self, scan: &mut Scan, page: &'p [Entry]) -> Vec<&'p Entry> {
        let mut new = Vec::new();
        for entry in page {
            scan.seen += 1;
            let time = entry.meta.modified;
            if time < scan.floor {
                continue;
            }
            scan.newest = scan.newest.max(time);
            if self.marks.insert((time, mark(entry))) {
                new.push(entry);
            }
            // The oldest go first, all of a time together: what is left is complete from its time on.
            while self.marks.len() > MOST {
                let Some((oldest, _)) = self.marks.pop_first() else {
                    break;
                };
                scan.next_floor = scan.next_floor.max(oldest.saturating_add(1));
            }
        }
        new
    }

    /// Ends a pass that went through everything. `now` bounds what a store that says tomorrow can make old.
    pub fn end(&mut self, scan: &Scan, now: i64, overlap: Duration) {
        let overlap = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
        let wanted = scan.newest.min(now).saturating_sub(overlap);
        if scan.next_floor > wanted && scan.next_floor > self.floor {
            self.crowded += 1;
        }
        self.floor = self.floor.max(wanted).max(scan.next_floor);
        let floor = self.floor;
        self.marks = self.marks.split_off(&(floor, String::new()));
    }
}

impl Scan {
    /// Keys that this pass has gone through.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

/// Tells an object from others and from its own other versions.
fn mark(entry: &Entry) -> String {
    let mut hash = blake3::Hasher::new();
    let etag = entry.meta.etag.as_deref().unwrap_or("");
    // Lengths in front, so that no two objects are the same text.
    for part in [entry.key.as_str(), etag] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(&entry.meta.size.to_le_bytes());
    hash.update(&entry.meta.modified.to_le_bytes());
    hash.finalize().to_hex()[..24].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Meta;
    use crate::key::Key;
    use proptest::prelude::*;

    fn entry(key: &str, etag: &str, modified: i64) -> Entry {
        Entry {
            key: Key::parse(key).unwrap(),
            meta: Meta {
                size: 1,
                etag: Some(etag.into()),
                modified,
            },
        }
    }

    const OVERLAP: Duration = Duration::from_secs(10);

    /// One pass; the keys that were new.
    fn pass(seen: &mut Seen, entries: &[Entry], now: i64) -> Vec<String> {
        let mut scan = seen.begin();
        let mut new = Vec::new();
        for page in entries.chunks(3) {
            let found = seen.changes(&mut scan, page);
            new.extend(found.into_iter().map(|entry| entry.key.to_string()));
        }
        seen.end(&scan, now, OVERLAP);
        // As it is kept between.
        *seen = serde_json::from_str(&serde_json::to_string(seen).unwrap()).unwrap();
        new
    }

    #[test]
    fn each_version_is_new_once() {
        let mut seen = Seen::nothing();
        let now = 100_000;
        let mut all = vec![entry("a", "1", 50_000), entry("b", "1", 99_000)];
        assert_eq!(pass(&mut seen, &all, now), ["a", "b"]);
        assert_eq!(pass(&mut seen, &all, now), [""; 0]);
        // The same second as the newest, and before a key that was seen.
        all.insert(1, entry("aa", "1", 99_000));
        assert_eq!(pass(&mut seen, &all, now), ["aa"]);
        // A new version of an old one.
        all[0] = entry("a", "2", 99_500);
        assert_eq!(pass(&mut seen, &all, now), ["a"]);
        // An upload whose time is that of its beginning.
        all.push(entry("late", "1", 92_000));
        assert_eq!(pass(&mut seen, &all, now), ["late"]);
        assert_eq!(pass(&mut seen, &all, now), [""; 0]);
    }

    #[test]
    fn what_was_there_before_is_not_new_when_it_shall_not_be() {
        let mut seen = Seen::until(60_000);
        let all = [entry("old", "1", 50_000), entry("new", "1", 60_000)];
        assert_eq!(pass(&mut seen, &all, 70_000), ["new"]);
    }

    #[test]
    fn a_time_in_the_future_hides_nothing() {
        let mut seen = Seen::nothing();
        let mut all = vec![entry("liar", "1", i64::MAX)];
        assert_eq!(pass(&mut seen, &all, 100_000), ["liar"]);
        all.push(entry("honest", "1", 100_500));
        assert_eq!(pass(&mut seen, &all, 101_000), ["honest"]);
        assert_eq!(pass(&mut seen, &all, 102_000), [""; 0]);
    }

    #[test]
    fn millions_of_keys_take_little() {
        let mut seen = Seen::nothing();
        let mut scan = seen.begin();
        let mut new = 0;
        for n in 0..200_000 {
            // All within the overlap, and in no order of time.
            let page = [entry(&format!("k{n}"), "1", 1_000_000 + (n * 7919) % 5000)];
            new += seen.changes(&mut scan, &page).len();
            assert!(seen.marks.len() <= MOST);
        }
        seen.end(&scan, 2_000_000, OVERLAP);
        assert_eq!((new, scan.seen()), (200_000, 200_000));
        assert_eq!(seen.crowded, 1);
        assert!(serde_json::to_string(&seen).unwrap().len() < 1 << 20);
        // None of them comes again.
        let mut scan = seen.begin();
        for n in 0..200_000 {
            let page = [entry(&format!("k{n}"), "1", 1_000_000 + (n * 7919) % 5000)];
            assert!(seen.changes(&mut scan, &page).is_empty());
        }
    }

    proptest! {
        /// Objects come about, at times up to the overlap ago, between passes and during them; each is told, and told once.
        #[test]
        fn nothing_is_lost_or_doubled(steps in proptest::collection::vec((0..9i64, 0..1000i64, 0..8u8), 1..60)) {
            let (mut seen, mut all, mut told, mut now) = (Seen::nothing(), Vec::new(), Vec::new(), 1_000_000);
            for (n, (late, passed, key)) in steps.iter().enumerate() {
                now += passed;
                let name = format!("{key}/{n}");
                // Marks of the newest object lie at most at `now`, so this one is inside the overlap.
                all.push(entry(&name, "1", now - late * 1000));
                all.sort_by(|a: &Entry, b| a.key.cmp(&b.key));
                if n % 3 == 0 {
                    told.extend(pass(&mut seen, &all, now));
                }
            }
            told.extend(pass(&mut seen, &all, now));
            told.sort();
            let mut expected: Vec<String> = all.iter().map(|entry| entry.key.to_string()).collect();
            expected.sort();
            prop_assert_eq!(told, expected);
        }
    }
}
