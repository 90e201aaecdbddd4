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
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const LONG: Duration = ms(10_000);

    /// A device of 100, and sessions that have so much of it from the beginning.
    fn books(rooms: &[u64]) -> Books {
        let mut books = Books::default();
        books.set_budget(Budget {
            memory: 1000,
            disk: 0,
        });
        for (session, room) in (1..).zip(rooms) {
            books.enter(session, 0, ms(0));
            books.set_capacity(0, 100);
            if *room > 0 {
                books.need(session, *room, false);
                let bytes = *room;
                assert_eq!(at_work(&mut books, ms(0)), [Order::Room { session, bytes }]);
            }
        }
        books
    }

    fn at_work(books: &mut Books, now: Duration) -> Vec<Order> {
        books.orders(now, |_| None)
    }

    fn put_away(session: u64, bytes: u64, idle: Duration) -> Order {
        let to = Store::Memory;
        Order::PutAway {
            session,
            bytes,
            idle,
            to,
        }
    }

    #[test]
    fn who_has_done_nothing_longest_goes_and_never_who_asks() {
        let mut books = books(&[40, 20, 40, 0]);
        books.need(4, 50, false);
        let idle = |session| match session {
            1 => None,
            2 => Some(ms(3000)),
            _ => Some(ms(2000)),
        };
        let orders = books.orders(LONG, idle);
        let gone = [
            put_away(3, 40, Duration::ZERO),
            put_away(2, 20, Duration::ZERO),
        ];
        assert_eq!(orders, gone);
        // They are waited for.
        assert_eq!(books.orders(LONG, idle), []);
        books.away(3, 40, 0);
        assert_eq!(books.orders(LONG, idle), []);
        books.away(2, 20, 0);
        let room = Order::Room {
            session: 4,
            bytes: 50,
        };
        assert_eq!(books.orders(LONG, idle), [room]);
        assert_eq!(books.stored(Store::Memory), 60);
    }

    #[test]
    fn who_is_at_work_stays_a_while() {
        let mut books = books(&[100, 0]);
        books.need(2, 60, false);
        // Only if it does nothing.
        assert_eq!(at_work(&mut books, ms(10)), [put_away(1, 100, LEAST_IDLE)]);
        books.stays(1, false, ms(11));
        assert_eq!(at_work(&mut books, ms(12)), []);
        let wakes = books.wakes(ms(12)).unwrap();
        assert_eq!(wakes, ms(31));
        assert_eq!(at_work(&mut books, wakes), [put_away(1, 100, LEAST_IDLE)]);
        books.stays(1, false, ms(990));
        assert_eq!(at_work(&mut books, ms(999)), []);
        let orders = at_work(&mut books, ms(1010));
        assert_eq!(orders, [put_away(1, 100, Duration::ZERO)]);
    }

    #[test]
    fn one_that_waits_and_is_put_away_gets_all_at_once() {
        let mut books = books(&[60, 40]);
        books.need(1, 30, false);
        books.need(2, 50, false);
        assert_eq!(at_work(&mut books, LONG), [put_away(2, 40, Duration::ZERO)]);
        books.away(2, 40, 0);
        let room = |session, bytes| Order::Room { session, bytes };
        // The second now needs what it had, too, and the first goes for it.
        let orders = at_work(&mut books, LONG);
        assert_eq!(orders, [room(1, 30), put_away(1, 90, Duration::ZERO)]);
        books.away(1, 60, 30);
        assert_eq!(at_work(&mut books, LONG), [room(2, 90)]);
        books.back(2, LONG);
        assert_eq!(books.stored(Store::Memory), 60);
        // And gets a stay of its own.
        books.need(1, 60, false);
        let orders = at_work(&mut books, LONG + ms(1));
        assert_eq!(orders, [put_away(2, 90, LEAST_IDLE)]);
    }

    #[test]
    fn the_first_in_line_is_not_overtaken_but_by_whom_it_does_not_wait_for() {
        let mut books = books(&[90, 0, 0]);
        books.need(2, 50, false);
        books.need(3, 5, false);
        assert_eq!(at_work(&mut books, LONG), [put_away(1, 90, Duration::ZERO)]);
        // Nothing else can go: the first cannot be served, and the other can.
        books.stays(1, true, LONG);
        let room = Order::Room {
            session: 3,
            bytes: 5,
        };
        assert_eq!(at_work(&mut books, LONG), [room]);
        // The small one may go as well, when the time has come.
        let later = LONG + STUCK;
        assert_eq!(
            at_work(&mut books, later),
            [put_away(1, 90, Duration::ZERO)]
        );
    }

    #[test]
    fn what_can_never_be_is_said_at_once() {
        let mut books = books(&[10, 10]);
        books.beside(1, 15);
        books.need(2, 80, false);
        let never = Order::Room {
            session: 2,
            bytes: 0,
        };
        assert_eq!(at_work(&mut books, LONG), [never]);
        books.need(2, 75, false);
        assert_eq!(at_work(&mut books, LONG), [put_away(1, 10, Duration::ZERO)]);
    }

    #[test]
    fn the_dead_leave_nothing_behind() {
        let mut books = books(&[60, 40, 0]);
        books.need(3, 60, false);
        at_work(&mut books, LONG);
        books.leave(1);
        books.leave(2);
        let room = Order::Room {
            session: 3,
            bytes: 60,
        };
        assert_eq!(at_work(&mut books, LONG), [room]);
        assert_eq!((books.stored(Store::Memory), books.wakes(LONG)), (0, None));
        // What they still say is not heard.
        books.away(1, 60, 0);
        books.need(2, 1, true);
        assert_eq!(at_work(&mut books, LONG), []);
        books.leave(3);
        assert_eq!(books.devices(), []);
    }

    #[test]
    fn what_the_driver_refuses_is_somebodys() {
        let mut books = books(&[40, 10]);
        books.gave(2, 10);
        books.need(2, 10, true);
        assert_eq!(at_work(&mut books, LONG), [put_away(1, 40, Duration::ZERO)]);
        books.away(1, 40, 0);
        let room = Order::Room {
            session: 2,
            bytes: 10,
        };
        assert_eq!(at_work(&mut books, LONG), [room]);
        // When somebody is gone, it may have been that one's.
        books.leave(2);
        books.need(1, 100, false);
        let room = Order::Room {
            session: 1,
            bytes: 100,
        };
        assert_eq!(at_work(&mut books, LONG), [room]);
    }

    #[test]
    fn memory_is_full_before_the_disk_and_then_nobody_goes() {
        let mut books = books(&[30, 30, 40, 0]);
        books.set_budget(Budget {
            memory: 30,
            disk: 35,
        });
        books.need(4, 90, false);
        // All of it would not fit.
        assert_eq!(at_work(&mut books, LONG), []);
        books.need(4, 60, false);
        let orders = at_work(&mut books, LONG);
        let on_disk = Order::PutAway {
            session: 2,
            bytes: 30,
            idle: Duration::ZERO,
            to: Store::Disk,
        };
        assert_eq!(orders, [put_away(1, 30, Duration::ZERO), on_disk]);
        books.stays(2, true, LONG);
        assert_eq!(books.stored(Store::Disk), 0);
    }

    #[test]
    fn where_all_wait_and_files_are_full_who_came_last_goes_without() {
        let mut books = books(&[50, 50, 0]);
        books.set_budget(Budget {
            memory: 40,
            disk: 0,
        });
        books.need(1, 10, false);
        books.need(3, 5, false);
        // The second may end, or free what it has.
        assert_eq!(at_work(&mut books, LONG), []);
        let later = LONG + STANDSTILL;
        assert_eq!(at_work(&mut books, later), []);
        books.need(2, 10, false);
        assert_eq!(at_work(&mut books, later), []);
        let wakes = books.wakes(later).unwrap();
        assert!(wakes <= later + STANDSTILL);
        let end = later + STANDSTILL;
        let never = |session| Order::Room { session, bytes: 0 };
        assert_eq!(at_work(&mut books, end), [never(2)]);
        // It is not known yet what becomes of it.
        assert_eq!(at_work(&mut books, end + STANDSTILL), []);
        books.leave(2);
        let room = |session, bytes| Order::Room { session, bytes };
        let orders = at_work(&mut books, end + STANDSTILL);
        assert_eq!(orders, [room(1, 10), room(3, 5)]);
    }

    #[test]
    fn where_all_wait_and_one_can_go_nobody_goes_without() {
        let mut books = books(&[50, 50]);
        books.set_budget(Budget {
            memory: 60,
            disk: 0,
        });
        books.need(1, 10, false);
        books.need(2, 10, false);
        let orders = at_work(&mut books, LONG);
        assert_eq!(orders, [put_away(2, 50, Duration::ZERO)]);
        // It says that it cannot now: it is asked again.
        books.stays(2, true, LONG);
        let later = LONG + STUCK * 2;
        let orders = at_work(&mut books, later);
        assert_eq!(orders, [put_away(2, 50, Duration::ZERO)]);
    }

    #[test]
    fn another_daemon_is_told_how_things_are() {
        let mut books = books(&[]);
        for session in [1, 2] {
            books.expect(session, 0, LONG);
        }
        books.set_capacity(0, 100);
        // This is in what the second holds and needs.
        books.need(2, 60, false);
        books.gave(2, 60);
        books.holds(2, 0, 5, (Store::Disk, 60), 60);
        assert_eq!(books.stored(Store::Disk), 60);
        assert_eq!(at_work(&mut books, LONG), []);
        books.holds(1, 70, 5, (Store::Memory, 0), 0);
        let later = LONG + STAY;
        let orders = at_work(&mut books, later);
        assert_eq!(orders, [put_away(1, 70, Duration::ZERO)]);
        books.away(1, 70, 0);
        let room = Order::Room {
            session: 2,
            bytes: 60,
        };
        assert_eq!(at_work(&mut books, later), [room]);
        // One that never says anything holds nobody up for ever.
        books.expect(3, 0, later);
        books.need(1, 10, false);
        assert_eq!(at_work(&mut books, later), []);
        let room = Order::Room {
            session: 1,
            bytes: 10,
        };
        assert_eq!(at_work(&mut books, later + ANSWER), [room]);
    }

    #[test]
    fn moving_pays_by_what_is_moved() {
        assert_eq!(pays_after(1), LEAST_IDLE);
        assert_eq!(pays_after(1 << 28), ms(500));
        assert_eq!(pays_after(u64::MAX), STAY);
    }
}
