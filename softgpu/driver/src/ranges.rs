//! First-fit allocation of ranges: addresses of the window, offsets of the backing file, bytes of a chunk.

use std::collections::BTreeMap;

/// The free parts of one span.
#[derive(Default)]
pub struct Ranges {
    /// Start to length; neighbours are always merged.
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    pub fn new(start: u64, len: u64) -> Ranges {
        Ranges {
            free: BTreeMap::from([(start, len)]),
        }
    }

    /// Lowest place (the top is left to callers who name addresses) for `len` bytes at a multiple of `align` (a power of two).
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let found = self.free.iter().find_map(|(start, have)| {
            let at = start.checked_next_multiple_of(align)?;
            (at - start <= *have && have - (at - start) >= len).then_some(at)
        })?;
        self.take_at(found, len).then_some(found)
    }

    /// Exactly this place, if it is free.
    pub fn take_at(&mut self, at: u64, len: u64) -> bool {
        let Some((&start, &have)) = self.free.range(..=at).next_back() else {
            return false;
        };
        let Some(end) = at.checked_add(len) else {
            return false;
        };
        if len == 0 || end > start + have {
            return false;
        }
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        if start + have > end {
            self.free.insert(end, start + have - end);
        }
        true
    }

    pub fn give(&mut self, at: u64, len: u64) {
        let (mut at, mut len) = (at, len);
        if let Some((&start, &have)) = self.free.range(..at).next_back()
            && start + have == at
        {
            self.free.remove(&start);
            (at, len) = (start, have + len);
        }
        if let Some(have) = self.free.remove(&(at + len)) {
            len += have;
        }
        self.free.insert(at, len);
    }

    /// Is all of `start..start+len` free?
    pub fn is_whole(&self, start: u64, len: u64) -> bool {
        self.free.get(&start) == Some(&len)
    }
}

/// Small allocations out of chunks that somebody else provides and takes back.
#[derive(Default)]
pub struct Pool {
    chunks: BTreeMap<u64, Chunk>,
}

struct Chunk {
    len: u64,
    free: Ranges,
}

impl Pool {
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        self.chunks
            .values_mut()
            .find_map(|chunk| chunk.free.take(len, align))
    }

    pub fn add(&mut self, start: u64, len: u64) {
        self.chunks.insert(
            start,
            Chunk {
                len,
                free: Ranges::new(start, len),
            },
        );
    }

    /// Returns a chunk that is now empty and no longer part of the pool; one empty chunk is kept for the next caller.
    pub fn give(&mut self, at: u64, len: u64) -> Option<(u64, u64)> {
        let (&start, chunk) = self.chunks.range_mut(..=at).next_back()?;
        chunk.free.give(at, len);
        if !chunk.free.is_whole(start, chunk.len) {
            return None;
        }
        let empty = self
            .chunks
            .iter()
            .filter(|(s, c)| c.free.is_whole(**s, c.len))
            .count();
        (empty > 1).then(|| self.chunks.remove(&start).map(|c| (start, c.len)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_split_and_merge() {
        let mut r = Ranges::new(0x1000, 0x10000);
        let a = r.take(0x100, 0x200).unwrap();
        let b = r.take(0x100, 0x200).unwrap();
        assert_eq!((a, b), (0x1000, 0x1200));
        assert!(!r.take_at(0x1000, 1));
        assert_eq!(r.take(0x20000, 1), None);
        r.give(a, 0x100);
        r.give(b, 0x100);
        assert!(r.is_whole(0x1000, 0x10000));
        assert!(!r.take_at(u64::MAX, 2) && !r.take_at(0, 1) && !r.take_at(0x1000, 0));
    }

    #[test]
    fn random_takes_never_overlap() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        println!("seed {seed:#x}");
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut r = Ranges::new(0, 1 << 16);
        let mut held: Vec<(u64, u64)> = Vec::new();
        for _ in 0..4000 {
            if next() % 2 == 0 {
                let len = next() % 900 + 1;
                let got = r.take(len, 1 << (next() % 8));
                if let Some(at) = got {
                    assert!(held.iter().all(|(s, l)| at + len <= *s || s + l <= at));
                    held.push((at, len));
                }
            } else if !held.is_empty() {
                let (at, len) = held.swap_remove(next() as usize % held.len());
                r.give(at, len);
            }
        }
        held.into_iter().for_each(|(at, len)| r.give(at, len));
        assert!(r.is_whole(0, 1 << 16));
    }

    #[test]
    fn pool_keeps_one_empty_chunk() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(10, 1), None);
        pool.add(0, 100);
        pool.add(1000, 100);
        let a = pool.take(80, 1).unwrap();
        let b = pool.take(80, 1).unwrap();
        assert_eq!(pool.give(a, 80), None);
        assert_eq!(pool.give(b, 80), Some((1000, 100)));
    }
}
