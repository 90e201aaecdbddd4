//! Which segments are kept, and where: pure bookkeeping. A tenant has bounds of its own, and what it keeps changes nothing for others.
//!
//! A function's start is the same each time, what it works on is not, and nobody says which is which. So a session's content is on trial: kept
//! until later sessions of the function have ended that made no use of it. What was used is kept as long as there is room for it. When a function
//! makes use of what is kept, its sessions may put little on trial; so what it works on does not wash out what it starts with.

use std::collections::HashMap;

use rgpu_proto::content::Digest;

/// What one tenant may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    pub disk: u64,
    /// Segments in memory, of which each is a descriptor: [`MAX_IN_MEMORY`] at most.
    pub segments: usize,
}

/// Most segments of one function. Each is a descriptor for each of its sessions.
pub const MAX_OF_FUNCTION: usize = 8;
/// Segments of a function on trial: sessions that run at the same time do not see each other's.
const TRIALS: usize = 2;
/// What a session may put on trial, as a part of the memory: where nothing is known that it used, and where something is.
const FIRST_PART: u64 = 2;
const LATER_PART: u64 = 16;
/// What all sessions of a tenant may put on trial at once, as a part of the memory, beside what is kept.
const PROMISED_PART: u64 = 2;
/// Most segments of a tenant in memory, where the limit on open files has room for so many.
pub const MAX_IN_MEMORY: usize = 32;

/// Whose it is: a tenant, and one of its functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    pub tenant: Digest,
    pub function: Digest,
}

impl Owner {
    pub fn new(tenant: &str, function: &str) -> Owner {
        Owner {
            tenant: Digest::of(tenant.as_bytes()),
            function: Digest::of(function.as_bytes()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Out,
    /// It is being read; its room is taken.
    Coming,
    In,
}

#[derive(Clone, Debug)]
struct Held {
    number: u64,
    owner: Owner,
    bytes: u64,
    memory: Memory,
    on_disk: bool,
    /// It will be on disk soon.
    writing: bool,
    /// A later session has made use of it.
    proven: bool,
    /// When it was made, or used last.
    used: u64,
    /// Sessions that have it now: its memory is not given back before they end.
    holders: u32,
}

impl Held {
    /// Its room in memory is taken.
    fn in_memory(&self) -> bool {
        self.memory != Memory::Out
    }

    /// Its room in memory is taken, and cannot be had now.
    fn pinned(&self) -> bool {
        self.holders > 0 || self.memory == Memory::Coming
    }
}

/// Whether a segment can be brought into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// There is no room for it, or no such segment.
    No,
    /// It is there, or somebody reads it already.
    Begun,
    /// It is to be read, and has so many bytes. Its room is taken until [`Store::loaded`] or [`Store::lost`].
    Read(u64),
}

/// What the owner of a store must do because of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Its memory is wanted.
    Forget(u64),
    /// Its file goes.
    Unlink(Owner, u64),
    /// It is to be written to disk.
    Write(Owner, u64),
}

#[derive(Debug, Default)]
pub struct Store {
    limits: Limits,
    held: Vec<Held>,
    /// Whether the function's last session used something that was kept.
    useful: HashMap<Owner, bool>,
    /// Bytes that running sessions may leave, by tenant.
    promised: HashMap<Digest, u64>,
    last: u64,
    clock: u64,
}

/// Functions of which is remembered whether their last session used something.
const MAX_FUNCTIONS: usize = 4096;

impl Store {
    pub fn new(limits: Limits) -> Store {
        Store {
            limits,
            ..Store::default()
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn get(&mut self, number: u64) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.number == number)
    }

    /// Bytes that a session of the function may put on trial, until [`Self::ended`].
    pub fn promise(&mut self, owner: Owner) -> u64 {
        let part = match self.useful.get(&owner) {
            Some(true) => LATER_PART,
            _ => FIRST_PART,
        };
        let promised = self.promised.entry(owner.tenant).or_default();
        let left = (self.limits.memory / PROMISED_PART).saturating_sub(*promised);
        let bytes = left.min(self.limits.memory / part);
        *promised += bytes;
        bytes
    }

    /// The function's segments, those that were of use first: number, and whether it is in memory.
    pub fn of(&self, owner: Owner) -> Vec<(u64, bool)> {
        let mut found: Vec<&Held> = self
            .held
            .iter()
            .filter(|held| held.owner == owner)
            .collect();
        found.sort_by_key(|held| std::cmp::Reverse((held.proven, held.used)));
        let found = found.into_iter().take(MAX_OF_FUNCTION);
        found
            .map(|held| (held.number, held.memory == Memory::In))
            .collect()
    }

    /// Whether one of the function's segments is being read.
    pub fn is_loading(&self, owner: Owner) -> bool {
        let mut of_function = self.held.iter().filter(|held| held.owner == owner);
        of_function.any(|held| held.memory == Memory::Coming)
    }

    /// A session has ended and leaves this behind, in memory. `None`: there is no room for it.
    pub fn add(&mut self, owner: Owner, bytes: u64) -> (Option<u64>, Vec<Do>) {
        let mut todo = Vec::new();
        self.end_trials(owner, &mut todo);
        if !self.make_room(owner.tenant, bytes, false, &mut todo) {
            return (None, todo);
        }
        self.last += 1;
        let (number, used) = (self.last, self.tick());
        let first = !self
            .held
            .iter()
            .any(|held| held.owner == owner && held.on_disk);
        // What a function starts with outlasts the daemon; what comes later is written once it has been of use.
        let writing = first && self.limits.disk > 0;
        self.held.push(Held {
            number,
            owner,
            bytes,
            memory: Memory::In,
            on_disk: false,
            writing,
            proven: false,
            used,
            holders: 0,
        });
        if writing {
            todo.push(Do::Write(owner, number));
        }
        (Some(number), todo)
    }

    /// A segment is there on disk since an earlier life of the daemon, under this number. One that can never come into memory is of no use.
    pub fn found(&mut self, owner: Owner, number: u64, bytes: u64) -> Vec<Do> {
        let mut todo = Vec::new();
        if self.get(number).is_some() || bytes > self.limits.memory {
            return vec![Do::Unlink(owner, number)];
        }
        self.last = self.last.max(number);
        let used = self.tick();
        self.held.push(Held {
            number,
            owner,
            bytes,
            memory: Memory::Out,
            on_disk: true,
            writing: false,
            proven: true,
            used,
            holders: 0,
        });
        self.bound_disk(owner.tenant, &mut todo);
        todo
    }

    /// Those on trial that have been there for so many sessions go, and what is more than one function may have.
    fn end_trials(&mut self, owner: Owner, todo: &mut Vec<Do>) {
        let mut trials: Vec<(u64, u64)> = Vec::new();
        let mut all: Vec<(bool, u64, u64)> = Vec::new();
        for held in self.held.iter().filter(|held| held.owner == owner) {
            if !held.proven {
                trials.push((held.used, held.number));
            }
            all.push((held.proven, held.used, held.number));
        }
        trials.sort_unstable();
        all.sort_unstable();
        let old = trials.len().saturating_sub(TRIALS - 1);
        for (_, number) in trials.into_iter().take(old) {
            self.drop(number, todo);
        }
        let more = self.held.iter().filter(|held| held.owner == owner).count();
        let more = more.saturating_sub(MAX_OF_FUNCTION - 1);
        let left: Vec<u64> = all
            .into_iter()
            .map(|(_, _, number)| number)
            .filter(|number| self.held.iter().any(|held| held.number == *number))
            .take(more)
            .collect();
        for number in left {
            self.drop(number, todo);
        }
    }

    /// Takes it out altogether. What a session has of it stays with that.
    fn drop(&mut self, number: u64, todo: &mut Vec<Do>) {
        let Some(at) = self.held.iter().position(|held| held.number == number) else {
            return;
        };
        // Its memory counts until nobody has it.
        if self.held[at].pinned() {
            return;
        }
        let held = self.held.swap_remove(at);
        if held.in_memory() {
            todo.push(Do::Forget(number));
        }
        if held.on_disk {
            todo.push(Do::Unlink(held.owner, number));
        }
    }

    fn bytes(&self, tenant: Digest, counts: impl Fn(&Held) -> bool) -> u64 {
        let of_tenant = self.held.iter().filter(|held| held.owner.tenant == tenant);
        of_tenant
            .filter(|held| counts(held))
            .map(|held| held.bytes)
            .sum()
    }

    /// Segments in memory: all, or those that have been of use.
    fn count(&self, tenant: Digest, proven: bool) -> usize {
        let of_tenant = self.held.iter().filter(|held| held.owner.tenant == tenant);
        of_tenant
            .filter(|held| held.in_memory() && (held.proven || !proven))
            .count()
    }

    /// The one that is missed least.
    fn least(&self, tenant: Digest, may: impl Fn(&Held) -> bool) -> Option<(Owner, u64)> {
        let of_tenant = self.held.iter().filter(|held| held.owner.tenant == tenant);
        of_tenant
            .filter(|held| may(held))
            .min_by_key(|held| (held.proven, held.used))
            .map(|held| (held.owner, held.number))
    }

    /// Room in memory, for what is on trial or has been of use. What sessions have now cannot make any; half of the memory what is on trial cannot
    /// take from what has been of use.
    fn make_room(&mut self, tenant: Digest, bytes: u64, proven: bool, todo: &mut Vec<Do>) -> bool {
        let pinned = self.bytes(tenant, Held::pinned);
        if pinned.saturating_add(bytes) > self.limits.memory {
            return false;
        }
        while self.bytes(tenant, Held::in_memory) + bytes > self.limits.memory
            || self.count(tenant, false) >= self.limits.segments
        {
            let of_use = self.bytes(tenant, |held| held.in_memory() && held.proven);
            let many_of_use = self.count(tenant, true) > self.limits.segments / 2;
            let any = proven || of_use > self.limits.memory / 2 || many_of_use;
            let may = |held: &Held| held.in_memory() && !held.pinned() && (any || !held.proven);
            let Some((_, number)) = self.least(tenant, may) else {
                return false;
            };
            todo.push(Do::Forget(number));
            if let Some(held) = self.get(number) {
                held.memory = Memory::Out;
                if !held.on_disk {
                    self.held.retain(|held| held.number != number);
                }
            }
        }
        true
    }

    fn bound_disk(&mut self, tenant: Digest, todo: &mut Vec<Do>) {
        while self.bytes(tenant, |held| held.on_disk) > self.limits.disk {
            let Some((owner, number)) = self.least(tenant, |held| held.on_disk) else {
                return;
            };
            todo.push(Do::Unlink(owner, number));
            self.unlinked(number);
        }
    }

    /// It is on disk now.
    pub fn written(&mut self, owner: Owner, number: u64) -> Vec<Do> {
        let mut todo = Vec::new();
        let Some(held) = self.get(number) else {
            // It has been dropped meanwhile.
            return vec![Do::Unlink(owner, number)];
        };
        (held.on_disk, held.writing) = (true, false);
        self.bound_disk(owner.tenant, &mut todo);
        todo
    }

    /// It could not be written.
    pub fn unwritten(&mut self, number: u64) {
        if let Some(held) = self.get(number) {
            held.writing = false;
        }
    }

    /// It is not on disk any more.
    fn unlinked(&mut self, number: u64) {
        if let Some(held) = self.get(number) {
            held.on_disk = false;
            if !held.in_memory() {
                self.held.retain(|held| held.number != number);
            }
        }
    }

    /// It is wanted in memory. Its room is taken before anything is read, and it is read once, however many sessions want it.
    pub fn load(&mut self, number: u64) -> (Load, Vec<Do>) {
        let mut todo = Vec::new();
        let Some(held) = self.get(number) else {
            return (Load::No, todo);
        };
        let (tenant, bytes) = (held.owner.tenant, held.bytes);
        if held.in_memory() {
            return (Load::Begun, todo);
        }
        if !self.make_room(tenant, bytes, true, &mut todo) {
            return (Load::No, todo);
        }
        if let Some(held) = self.get(number) {
            held.memory = Memory::Coming;
        }
        (Load::Read(bytes), todo)
    }

    /// It has been read.
    pub fn loaded(&mut self, number: u64) {
        if let Some(held) = self.get(number) {
            held.memory = Memory::In;
        }
    }

    /// It could not be read: it is gone, or damaged.
    pub fn lost(&mut self, number: u64) {
        if let Some(held) = self.get(number) {
            held.memory = Memory::Out;
        }
        self.unlinked(number);
    }

    /// A session has it from now on. False: it is not in memory.
    pub fn hold(&mut self, number: u64) -> bool {
        match self.get(number).filter(|held| held.memory == Memory::In) {
            Some(held) => {
                held.holders += 1;
                true
            }
            None => false,
        }
    }

    /// A session has ended that had these, has used some of them, and was promised so many bytes.
    pub fn ended(&mut self, owner: Owner, had: &[u64], used: &[u64], promised: u64) -> Vec<Do> {
        let now = self.tick();
        if let Some(all) = self.promised.get_mut(&owner.tenant) {
            *all = all.saturating_sub(promised);
        }
        let mut todo = Vec::new();
        let writes = self.limits.disk > 0;
        for number in had {
            let Some(held) = self.get(*number) else {
                continue;
            };
            held.holders = held.holders.saturating_sub(1);
            if used.contains(number) {
                (held.proven, held.used) = (true, now);
                if writes && !held.on_disk && !held.writing {
                    held.writing = true;
                    todo.push(Do::Write(owner, *number));
                }
            }
        }
        if self.useful.len() >= MAX_FUNCTIONS {
            self.useful.clear();
        }
        let useful = used.iter().any(|number| had.contains(number));
        if !had.is_empty() {
            self.useful.insert(owner, useful);
        }
        todo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        memory: 1600,
        disk: 1000,
        segments: MAX_IN_MEMORY,
    };

    fn owner(tenant: &str, function: &str) -> Owner {
        Owner::new(tenant, function)
    }

    /// A session that is told all there is, uses what `uses` says, and leaves so many bytes.
    fn session(
        store: &mut Store,
        owner: Owner,
        leaves: u64,
        uses: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let had: Vec<u64> = store
            .of(owner)
            .into_iter()
            .map(|(number, _)| number)
            .filter(|number| store.hold(*number))
            .collect();
        let used: Vec<u64> = had.iter().copied().filter(|number| uses(*number)).collect();
        let promised = store.promise(owner);
        let _ = store.ended(owner, &had, &used, promised);
        if leaves > 0 {
            store.add(owner, leaves);
        }
        had
    }

    fn budget(store: &mut Store, owner: Owner) -> u64 {
        let promised = store.promise(owner);
        let _ = store.ended(owner, &[], &[], promised);
        promised
    }

    #[test]
    fn sessions_at_the_same_time_share_what_may_be_left() {
        let mut store = Store::new(LIMITS);
        let (f, other) = (owner("t", "f"), owner("other", "f"));
        assert_eq!((store.promise(f), store.promise(f)), (800, 0));
        assert_eq!(store.promise(other), 800);
        let _ = store.ended(f, &[], &[], 800);
        assert_eq!(store.promise(f), 800);
    }

    #[test]
    fn descriptors_are_bounded_as_bytes_are() {
        let mut store = Store::new(LIMITS);
        for at in 0..100 {
            assert!(store.add(owner("t", &at.to_string()), 1).0.is_some());
        }
        let tenant = owner("t", "").tenant;
        assert_eq!(store.count(tenant, false), MAX_IN_MEMORY);
        // Though all have been of use, another function may come.
        let all: Vec<u64> = store.held.iter().map(|held| held.number).collect();
        for number in &all {
            assert!(store.hold(*number));
        }
        let _ = store.ended(owner("t", "x"), &all, &all, 0);
        assert_eq!(store.count(tenant, true), MAX_IN_MEMORY);
        assert!(store.add(owner("t", "new"), 1).0.is_some());
    }

    #[test]
    fn what_a_function_works_on_does_not_wash_out_what_it_starts_with() {
        let mut store = Store::new(LIMITS);
        let echo = owner("t", "echo");
        assert_eq!(budget(&mut store, echo), 800);
        session(&mut store, echo, 500, |_| false);
        for _ in 0..50 {
            // The first segment is of use; frames never are.
            let frames = budget(&mut store, echo);
            let had = session(&mut store, echo, frames, |number| number == 1);
            assert!(had.contains(&1));
            assert_eq!(budget(&mut store, echo), 100);
            assert!(store.of(echo).len() <= 1 + TRIALS);
        }
    }

    #[test]
    fn what_is_of_use_gives_way_to_what_is_on_trial_down_to_half() {
        let mut store = Store::new(LIMITS);
        for name in ["f", "g", "h"] {
            let (number, _) = store.add(owner("t", name), 400);
            let number = number.unwrap();
            assert!(store.hold(number));
            let _ = store.ended(owner("t", name), &[number], &[number], 0);
        }
        let new = owner("t", "new");
        let (number, todo) = store.add(new, 790);
        assert_eq!(todo[0], Do::Forget(1));
        assert!(number.is_some() && !store.of(owner("t", "g")).is_empty());
        // The newer trial takes the older one's place, and no more of what is of use.
        for at in 0..5 {
            let (number, _) = store.add(owner("t", &at.to_string()), 800);
            assert!(number.is_some());
            assert!(!store.of(owner("t", "g")).is_empty());
        }
    }

    #[test]
    fn a_function_that_uses_nothing_any_more_may_learn_anew() {
        let mut store = Store::new(LIMITS);
        let echo = owner("t", "echo");
        session(&mut store, echo, 500, |_| false);
        session(&mut store, echo, 0, |_| true);
        assert_eq!(budget(&mut store, echo), 100);
        session(&mut store, echo, 0, |_| false);
        assert_eq!(budget(&mut store, echo), 800);
    }

    #[test]
    fn one_tenant_takes_nothing_of_anothers() {
        let mut store = Store::new(LIMITS);
        let (mine, theirs) = (owner("a", "f"), owner("b", "f"));
        session(&mut store, mine, 700, |_| false);
        let before = store.of(mine);
        for at in 0..20 {
            session(&mut store, owner("b", &at.to_string()), 800, |_| false);
        }
        assert_eq!(store.of(mine), before);
        assert!(store.of(theirs).is_empty());
        assert_eq!(budget(&mut store, theirs), 800);
    }

    #[test]
    fn what_sessions_have_is_not_given_away() {
        let mut store = Store::new(LIMITS);
        let f = owner("t", "f");
        let (number, _) = store.add(f, 1000);
        assert!(store.hold(number.unwrap()));
        assert_eq!(store.add(owner("t", "g"), 700).0, None);
        assert!(store.add(owner("t", "g"), 600).0.is_some());
        let _ = store.ended(f, &[number.unwrap()], &[], 0);
        assert!(store.add(owner("t", "h"), 700).0.is_some());
        assert!(!store.hold(number.unwrap()));
    }

    #[test]
    fn disk_has_what_memory_has_no_room_for() {
        let mut store = Store::new(LIMITS);
        let (f, g) = (owner("t", "f"), owner("t", "g"));
        let (first, todo) = store.add(f, 900);
        let first = first.unwrap();
        assert_eq!(todo, [Do::Write(f, first)]);
        assert_eq!(store.written(f, first), []);
        let (second, todo) = store.add(g, 800);
        let second = second.unwrap();
        assert_eq!(todo, [Do::Forget(first), Do::Write(g, second)]);
        assert_eq!(store.of(f), [(first, false)]);
        assert!(!store.hold(first));
        // Both are more than the disk may have.
        assert_eq!(store.written(g, second), [Do::Unlink(f, first)]);
        assert!(store.of(f).is_empty());
        assert_eq!(store.load(first), (Load::No, vec![]));
        assert_eq!(store.found(f, 77, 100), []);
        assert_eq!(store.found(g, 77, 100), [Do::Unlink(g, 77)]);
        assert_eq!(store.load(77), (Load::Read(100), vec![]));
        store.loaded(77);
        assert!(store.hold(77));
        assert_eq!(store.add(owner("t", "h"), 10).0, Some(78));
    }

    #[test]
    fn what_many_sessions_want_is_read_once_and_has_its_room_first() {
        let mut store = Store::new(LIMITS);
        let (f, g) = (owner("t", "f"), owner("t", "g"));
        assert_eq!(store.found(f, 1, 400), []);
        assert_eq!(store.found(f, 2, 300), []);
        let (third, _) = store.add(g, 1000);
        assert!(store.hold(third.unwrap()));
        assert_eq!(store.load(1), (Load::Read(400), vec![]));
        assert_eq!(store.load(1), (Load::Begun, vec![]));
        // What is coming has its room, and gives it to nobody.
        assert_eq!(store.load(2), (Load::No, vec![]));
        assert_eq!(store.add(g, 300).0, None);
        assert!(store.is_loading(f) && !store.is_loading(g));
        assert!(!store.hold(1), "it is not there yet");
        assert_eq!(store.of(f).last(), Some(&(1, false)));
        store.loaded(1);
        assert!(!store.is_loading(f) && store.hold(1));
        let _ = store.ended(f, &[1], &[], 0);
        // One that cannot be read gives its room back.
        assert_eq!(store.load(2), (Load::Read(300), vec![Do::Forget(1)]));
        store.lost(2);
        assert_eq!(store.of(f), [(1, false)]);
        assert_eq!(store.load(1), (Load::Read(400), vec![]));
    }

    #[test]
    fn what_can_never_come_into_memory_goes() {
        let mut store = Store::new(LIMITS);
        let f = owner("t", "f");
        assert_eq!(store.found(f, 1, 1601), [Do::Unlink(f, 1)]);
        assert!(store.of(f).is_empty());
        assert_eq!(store.found(f, 1, 900), []);
    }

    #[test]
    fn sessions_that_end_together_have_it_written_once() {
        let mut store = Store::new(LIMITS);
        let f = owner("t", "f");
        let (first, todo) = store.add(f, 100);
        let first = first.unwrap();
        assert_eq!(todo, [Do::Write(f, first)]);
        assert!(store.hold(first) && store.hold(first));
        assert_eq!(store.ended(f, &[first], &[first], 0), []);
        // A disk that was full may have room by the next end.
        store.unwritten(first);
        assert_eq!(store.ended(f, &[first], &[first], 0), [Do::Write(f, first)]);
        assert_eq!(store.written(f, first), []);
    }

    #[test]
    fn one_without_a_place_on_disk_is_in_memory_alone() {
        let mut store = Store::new(Limits {
            memory: 100,
            disk: 0,
            segments: 1,
        });
        let f = owner("t", "f");
        let (number, todo) = store.add(f, 40);
        assert_eq!(todo, []);
        let number = number.unwrap();
        assert!(store.hold(number));
        assert_eq!(store.ended(f, &[number], &[number], 0), []);
        assert_eq!(Store::new(Limits::default()).add(f, 1).0, None);
    }

    proptest! {
        /// Whatever comes in whatever order: no tenant has more than it may, and nothing is forgotten that a session has.
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0u8..7, 0u8..3, 0u8..3, 1u64..900), 1..200)) {
            let mut store = Store::new(LIMITS);
            let mut sessions: Vec<(Owner, Vec<u64>)> = Vec::new();
            let mut loading = std::collections::HashSet::new();
            for (step, tenant, function, bytes) in steps {
                let f = owner(&tenant.to_string(), &function.to_string());
                let todo = match step {
                    0 | 1 => store.add(f, bytes).1,
                    2 => {
                        let had: Vec<u64> = store.of(f).into_iter().map(|(number, _)| number).collect();
                        let had: Vec<u64> = had.into_iter().filter(|number| store.hold(*number)).collect();
                        sessions.push((f, had));
                        vec![]
                    }
                    3 if !sessions.is_empty() => {
                        let (f, had) = sessions.swap_remove(bytes as usize % sessions.len());
                        let used: Vec<u64> = had.iter().copied().filter(|number| number % 2 == 0).collect();
                        store.ended(f, &had, &used, 0)
                    }
                    4 => {
                        let first = store.of(f).first().copied();
                        first.map_or(vec![], |(number, _)| store.written(f, number))
                    }
                    5 => {
                        let number = store.of(f).last().map_or(0, |(number, _)| *number);
                        if loading.remove(&number) {
                            match bytes % 3 {
                                0 => store.lost(number),
                                _ => store.loaded(number),
                            }
                        }
                        vec![]
                    }
                    _ => {
                        let last = store.of(f).last().copied();
                        last.map_or(vec![], |(number, _)| {
                            let (load, todo) = store.load(number);
                            if matches!(load, Load::Read(_)) {
                                assert!(loading.insert(number), "{number} is read twice");
                            }
                            todo
                        })
                    }
                };
                for one in todo {
                    if let Do::Forget(number) = one {
                        prop_assert!(!sessions.iter().any(|(_, had)| had.contains(&number)));
                        prop_assert!(!loading.contains(&number));
                    }
                }
                for tenant in 0..3u8 {
                    let tenant = owner(&tenant.to_string(), "").tenant;
                    prop_assert!(store.bytes(tenant, Held::in_memory) <= LIMITS.memory);
                    prop_assert!(store.bytes(tenant, |held| held.on_disk) <= LIMITS.disk);
                }
            }
        }
    }
}
