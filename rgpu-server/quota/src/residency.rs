//! Whose memory is on a device, where more is promised than the device has. Pure: no I/O, no clock; `now` is passed in, as the time since any fixed
//! beginning.
//!
//! A session has *room* on its device, and never more there than that. Who needs more waits in line, and gets all that it needs at once; who is put away
//! gives all of its room back, and needs it again on top of what it waits for. So nobody waits for one who waits, and what is promised comes.
//!
//! - Who has done nothing longest goes first. Who is at work goes only after a stay of [`STAY`]: what it costs to move memory is paid once in that time.
//! - Where everyone who has room waits for more, and nobody can go since files may hold no more, it would stay so: who came last is told so after
//!   [`STANDSTILL`].
//! - Those in line are served as they came. One that cannot be served, since what is in its way does not go, holds nobody up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Least time for which one that is at work has its memory on the device.
pub const STAY: Duration = Duration::from_secs(1);
/// Bytes a second that memory moves at least. For as long as it moves there and back a session has done nothing before that pays.
const RATE: u64 = 1 << 30;
const LEAST_IDLE: Duration = Duration::from_millis(5);
/// When one that was at work is asked again, and one that says that it cannot go.
const AGAIN: Duration = Duration::from_millis(20);
const STUCK: Duration = Duration::from_secs(5);
/// After so long without an answer others are asked instead.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a standstill lasts before somebody goes without. In less of it one whose memory is away may end.
const STANDSTILL: Duration = Duration::from_secs(5);
/// When it is looked again without a reason.
const LOOK: Duration = Duration::from_secs(1);

/// Where memory goes that leaves a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    Disk,
}

/// How much of it there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub memory: u64,
    pub disk: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The session may have so much more on its device; 0: there will never be so much.
    Room { session: u64, bytes: u64 },
    /// The session's memory is to leave for a file of so many bytes, if it has done nothing for so long.
    PutAway {
        session: u64,
        bytes: u64,
        idle: Duration,
        to: Store,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    /// It has been asked to go.
    Leaving {
        since: Duration,
    },
    Away,
}

#[derive(Debug)]
struct Session {
    device: u32,
    /// Otherwise another daemon has let it in, and it has yet to say how things are.
    is_known: bool,
    room: u64,
    /// That it holds without having asked for room.
    beside: u64,
    place: Place,
    /// Since when it is here.
    since: Duration,
    /// Not asked to go before.
    again: Duration,
    /// It cannot go until then, by what it says.
    is_stuck: bool,
    /// What a file has of it, or may soon.
    stored: Option<(Store, u64)>,
}

impl Session {
    /// Whether it may go, now or soon.
    fn may_leave(&self, now: Duration) -> bool {
        match self.place {
            Place::Here => !(self.is_stuck && now < self.again),
            Place::Leaving { since } => now < since + ANSWER,
            Place::Away => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    session: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Bytes that sessions of this kind may have together.
    capacity: u64,
    /// What somebody has of it who is not known here: a driver has refused what there should have been.
    unknown: u64,
    line: VecDeque<Waiter>,
    /// Since when nobody has got further, and nobody will by itself.
    stands: Option<Duration>,
}

/// All sessions whose memory may be moved.
#[derive(Debug, Default)]
pub struct Books {
    devices: BTreeMap<u32, Device>,
    sessions: BTreeMap<u64, Session>,
    budget: Budget,
}

impl Books {
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// The devices that sessions of this kind are on.
    pub fn devices(&self) -> Vec<u32> {
        self.devices.keys().copied().collect()
    }

    /// `bytes`: what a device has for these sessions.
    pub fn set_capacity(&mut self, device: u32, bytes: u64) {
        if let Some(it) = self.devices.get_mut(&device) {
            it.capacity = bytes;
        }
    }

    /// A session begins on a device, with nothing.
    pub fn enter(&mut self, session: u64, device: u32, now: Duration) {
        self.add(session, device, true, now);
    }

    /// A session is there that another daemon has let in; [`Books::holds`] tells what it has, and nothing that it says before counts.
    pub fn expect(&mut self, session: u64, device: u32, now: Duration) {
        self.add(session, device, false, now);
    }

    fn add(&mut self, session: u64, device: u32, is_known: bool, now: Duration) {
        self.devices.entry(device).or_default();
        let fresh = Session {
            device,
            is_known,
            room: 0,
            beside: 0,
            place: Place::Here,
            since: now,
            again: now,
            is_stuck: false,
            stored: None,
        };
        self.sessions.insert(session, fresh);
    }

    /// A session is gone, with all that it had, wherever that was.
    pub fn leave(&mut self, session: u64) {
        let Some(gone) = self.sessions.remove(&session) else {
            return;
        };
        if let Some(device) = self.devices.get_mut(&gone.device) {
            device.line.retain(|waiter| waiter.session != session);
            // It may have been this one's.
            device.unknown = 0;
        }
        if !self.sessions.values().any(|it| it.device == gone.device) {
            self.devices.remove(&gone.device);
        }
    }

    /// A session needs more room; 0: not any more. `refused`: the driver did not give what there was room for.
    pub fn need(&mut self, session: u64, bytes: u64, refused: bool) {
        let known = self.sessions.get(&session).filter(|it| it.is_known);
        let Some(number) = known.map(|it| it.device) else {
            return;
        };
        let available = self.available(number);
        let Some(device) = self.devices.get_mut(&number) else {
            return;
        };
        if refused {
            device.unknown = device.unknown.saturating_add(available);
        }
        if bytes == 0 {
            device.line.retain(|waiter| waiter.session != session);
            return;
        }
        match device.line.iter_mut().find(|it| it.session == session) {
            Some(waiting) => waiting.bytes = bytes,
            None => device.line.push_back(Waiter { session, bytes }),
        }
    }

    fn known(&mut self, session: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&session).filter(|it| it.is_known)
    }

    /// A session has given room back.
    pub fn gave(&mut self, session: u64, bytes: u64) {
        if let Some(it) = self.known(session) {
            it.room = it.room.saturating_sub(bytes);
        }
    }

    pub fn beside(&mut self, session: u64, bytes: u64) {
        if let Some(it) = self.known(session) {
            it.beside = bytes;
        }
    }

    /// A session's memory has left: `moved` bytes of it, and room that was not used.
    pub fn away(&mut self, session: u64, moved: u64, spare: u64) {
        let Some(it) = self.known(session) else {
            return;
        };
        it.room = it.room.saturating_sub(moved.saturating_add(spare));
        it.place = Place::Away;
        // One that another daemon has asked has not said where.
        let store = it.stored.map_or(Store::Memory, |(store, _)| store);
        it.stored = Some((store, moved));
        let number = it.device;
        if let Some(device) = self.devices.get_mut(&number)
            && let Some(waiter) = device.line.iter_mut().find(|it| it.session == session)
        {
            waiter.bytes = waiter.bytes.saturating_add(moved);
        }
    }

    /// A session's memory has not left.
    pub fn stays(&mut self, session: u64, stuck: bool, now: Duration) {
        if let Some(it) = self.known(session)
            && it.place != Place::Away
        {
            it.place = Place::Here;
            it.stored = None;
            it.is_stuck = stuck;
            // One that was at work cannot have been idle for long enough before then.
            let again = match it.since + STAY {
                _ if stuck => STUCK,
                end if now < end => pays_after(it.room).max(AGAIN).min(end - now),
                _ => AGAIN,
            };
            it.again = now + again;
        }
    }

    /// A session's memory is on its device again.
    pub fn back(&mut self, session: u64, now: Duration) {
        if let Some(it) = self.known(session) {
            it.place = Place::Here;
            it.stored = None;
            it.since = now;
            it.again = now;
            it.is_stuck = false;
        }
    }

    /// How things are with a session that another daemon has let in.
    pub fn holds(&mut self, session: u64, room: u64, beside: u64, away: (Store, u64), needs: u64) {
        if let Some(it) = self.sessions.get_mut(&session) {
            it.is_known = true;
            it.room = room;
            it.beside = beside;
            if away.1 > 0 {
                it.place = Place::Away;
                it.stored = Some(away);
            }
            self.need(session, needs, false);
        }
    }

    /// Bytes that files have of sessions' memory, or may soon.
    pub fn stored(&self, store: Store) -> u64 {
        let stored = self.sessions.values().filter_map(|it| it.stored);
        let there = stored.filter(|(where_to, _)| *where_to == store);
        there.fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// Where so many bytes more may go.
    fn store_for(&self, bytes: u64) -> Option<Store> {
        let fits = |store, most: u64| self.stored(store).saturating_add(bytes) <= most;
        if fits(Store::Memory, self.budget.memory) {
            Some(Store::Memory)
        } else if fits(Store::Disk, self.budget.disk) {
            Some(Store::Disk)
        } else {
            None
        }
    }

    fn on(&self, device: u32) -> impl Iterator<Item = (u64, &Session)> {
        let there = self.sessions.iter();
        let there = there.filter(move |(_, it)| it.device == device);
        there.map(|(session, it)| (*session, it))
    }

    /// Bytes of a device that nobody has.
    fn available(&self, device: u32) -> u64 {
        let taken = self.on(device).fold(0_u64, |sum, (_, it)| {
            sum.saturating_add(it.room).saturating_add(it.beside)
        });
        let it = self.devices.get(&device);
        it.map_or(0, |it| {
            it.capacity.saturating_sub(taken.saturating_add(it.unknown))
        })
    }

    /// What is to be done now; to be asked after each change, and at the time that [`Books::wakes`] says. `idle_since`: when a session has used its
    /// device last; `None`: it may be at work.
    pub fn orders(
        &mut self,
        now: Duration,
        idle_since: impl Fn(u64) -> Option<Duration>,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        for device in self.devices() {
            self.serve(device, now, &idle_since, &mut orders);
        }
        orders
    }

    fn serve(
        &mut self,
        device: u32,
        now: Duration,
        idle_since: &dyn Fn(u64) -> Option<Duration>,
        orders: &mut Vec<Order>,
    ) {
        // Of what one has of whom nothing is known nothing may be given away; it says so at once.
        let is_unknown = |it: &Session| !it.is_known && now < it.since + ANSWER;
        if self.on(device).any(|(_, it)| is_unknown(it)) {
            return;
        }
        self.break_standstill(device, now, orders);
        let mut at = 0;
        while let Some(waiter) = self.waiter(device, at) {
            let Waiter { session, bytes } = waiter;
            let available = self.available(device);
            if bytes <= available {
                self.unline(device, at);
                if let Some(it) = self.sessions.get_mut(&session) {
                    it.room = it.room.saturating_add(bytes);
                }
                orders.push(Order::Room { session, bytes });
            } else if self.is_too_much(device, session, bytes) {
                self.unline(device, at);
                orders.push(Order::Room { session, bytes: 0 });
            } else if bytes - available <= self.could_leave(device, session, now) {
                let asked = self.make_room(device, session, bytes - available, now, idle_since);
                orders.extend(asked);
                return;
            } else {
                at += 1;
            }
        }
    }

    /// Whether all who have room on a device wait for more, and none can be put away, nor the first in line be served.
    fn stands_still(&self, device: u32) -> bool {
        let Some(it) = self.devices.get(&device) else {
            return false;
        };
        let available = self.available(device);
        let waits = |session| it.line.iter().any(|waiter| waiter.session == session);
        let mut with_room = self.on(device).filter(|(_, it)| it.room > 0);
        !it.line.is_empty()
            && it.line.iter().all(|waiter| waiter.bytes > available)
            && with_room.all(|(session, it)| {
                it.place == Place::Here && waits(session) && self.store_for(it.room).is_none()
            })
    }

    /// One that goes without may end, or free what it has: the others are served then. One whose memory is away is not refused: it was promised.
    fn break_standstill(&mut self, device: u32, now: Duration, orders: &mut Vec<Order>) {
        let stands = self.stands_still(device);
        let Some(it) = self.devices.get_mut(&device) else {
            return;
        };
        if !stands {
            it.stands = None;
            return;
        }
        if now < *it.stands.get_or_insert(now) + STANDSTILL {
            return;
        }
        it.stands = None;
        let is_here = |waiter: &Waiter| {
            let session = self.sessions.get(&waiter.session);
            session.is_some_and(|it| it.place == Place::Here)
        };
        if let Some(last) = it.line.iter().rposition(is_here)
            && let Some(Waiter { session, .. }) = it.line.remove(last)
        {
            orders.push(Order::Room { session, bytes: 0 });
        }
    }

    fn waiter(&self, device: u32, at: usize) -> Option<Waiter> {
        self.devices.get(&device)?.line.get(at).copied()
    }

    fn unline(&mut self, device: u32, at: usize) {
        if let Some(it) = self.devices.get_mut(&device) {
            it.line.remove(at);
        }
    }

    /// Whether a session that has its memory here could not have so much more even if it were alone with what does not move. One whose memory is away waits.
    fn is_too_much(&self, device: u32, session: u64, bytes: u64) -> bool {
        let Some(it) = self.sessions.get(&session) else {
            return true;
        };
        let beside = self.on(device).fold(0, |sum, (_, it)| sum + it.beside);
        let all = beside.saturating_add(it.room).saturating_add(bytes);
        let capacity = self.devices.get(&device).map_or(0, |it| it.capacity);
        it.place != Place::Away && all > capacity
    }

    /// How much others than this session could give, now or soon.
    fn could_leave(&self, device: u32, session: u64, now: Duration) -> u64 {
        let others = self.on(device).filter(|(other, _)| *other != session);
        let able = others.filter(|(_, it)| {
            it.may_leave(now) && (it.stored.is_some() || self.store_for(it.room).is_some())
        });
        able.fold(0, |sum, (_, it)| sum.saturating_add(it.room))
    }

    /// Asks others to go until that is enough.
    fn make_room(
        &mut self,
        device: u32,
        session: u64,
        bytes: u64,
        now: Duration,
        idle_since: &dyn Fn(u64) -> Option<Duration>,
    ) -> Vec<Order> {
        let leaving = self
            .on(device)
            .filter(|(_, it)| matches!(it.place, Place::Leaving { .. }) && it.may_leave(now));
        let leaving = leaving.fold(0_u64, |sum, (_, it)| sum.saturating_add(it.room));
        let mut missing = bytes.saturating_sub(leaving);
        let mut orders = Vec::new();
        for other in self.choose(device, session, now, idle_since) {
            if missing == 0 {
                break;
            }
            let Some(room) = self.sessions.get(&other).map(|it| it.room) else {
                continue;
            };
            let Some(to) = self.store_for(room) else {
                continue;
            };
            if let Some(it) = self.sessions.get_mut(&other) {
                it.place = Place::Leaving { since: now };
                it.stored = Some((to, room));
                let idle = match now >= it.since + STAY {
                    true => Duration::ZERO,
                    false => pays_after(room),
                };
                orders.push(Order::PutAway {
                    session: other,
                    bytes: room,
                    idle,
                    to,
                });
            }
            missing = missing.saturating_sub(room);
        }
        orders
    }

    /// Who is asked to go, in this order: who has been idle longest, then those who may be at work, by how long they have been here. Never the one for
    /// whom it is.
    fn choose(
        &self,
        device: u32,
        session: u64,
        now: Duration,
        idle_since: &dyn Fn(u64) -> Option<Duration>,
    ) -> Vec<u64> {
        let able = self.on(device).filter(|(other, it)| {
            *other != session && it.place == Place::Here && it.again <= now && it.room > 0
        });
        let mut able: Vec<_> = able
            .map(|(other, it)| {
                let idle = idle_since(other);
                (idle.is_none(), idle.unwrap_or(it.since), other)
            })
            .collect();
        able.sort_unstable();
        able.into_iter().map(|(_, _, other)| other).collect()
    }

    /// When something may be to be done though nothing has changed.
    pub fn wakes(&self, now: Duration) -> Option<Duration> {
        let waiting = self.devices.iter().filter(|(_, it)| !it.line.is_empty());
        let times = waiting.flat_map(|(device, _)| {
            self.on(*device).flat_map(|(_, it)| match it.place {
                Place::Here => [Some(it.again), Some(it.since + STAY)],
                Place::Leaving { since } => [Some(since + ANSWER), None],
                Place::Away => [None, None],
            })
        });
        let next = times.flatten().filter(|at| *at > now).min();
        let any = self.devices.values().any(|it| !it.line.is_empty());
        any.then(|| next.unwrap_or(now + LOOK).min(now + LOOK))
    }
}

/// How long a session has done nothing before it pays to move so much.
fn pays_after(bytes: u64) -> Duration {
    let there_and_back = u128::from(bytes) * 2 * 1_000_000 / u128::from(RATE);
    let micros = u64::try_from(there_and_back).unwrap_or(u64::MAX);
    Duration::from_micros(micros).clamp(LEAST_IDLE, STAY)
}

#[cfg(test)]
mod tests;
