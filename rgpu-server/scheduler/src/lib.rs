//! Whose turn it is to use a device. Pure: no I/O, no clock; `now` is passed in, as the time since any fixed beginning.
//!
//! One [`Scheduler`] is for one device. It grants *leases*, one at a time, to vGPUs that want one. What a vGPU has used is told when its lease is over,
//! as measured on the device, and divided by its weight is how far the vGPU has come (`came`, in nanoseconds of a vGPU of the standard weight). Who has come
//! least far is next.
//!
//! - A vGPU that comes back from idleness is put at most [`Rules::credit`] behind the others: it neither saves up time nor loses any by having slept.
//! - What nobody else wanted costs nothing: who was alone owes nothing when another comes.
//! - A priority moves a vGPU ahead of where it stands, by a fixed length: it is served sooner, also by ending a lease between two kernels, but over
//!   time each has its weight's part.
//! - A hard cap is a bucket of device time that fills at the cap's rate; what was used beyond it is owed, so that the cap is exact over time.
//! - What a vGPU owes outlives it: the next one of its account begins with that. A vGPU that dies with a lease has used all of it.
#![forbid(unsafe_code)]

mod bucket;

use std::collections::BTreeMap;
use std::time::Duration;

use bucket::Bucket;

/// A vGPU's number.
pub type Vgpu = u64;

/// The weight of a vGPU of which nothing else is said.
pub const STANDARD_WEIGHT: u32 = 100;
/// Bounds of a weight.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Batch,
    #[default]
    Normal,
    Latency,
}

/// What a vGPU's profile says of device time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its part of the device is its weight of all weights; see [`WEIGHTS`].
    pub weight: u32,
    /// Percent of the device's time that it gets at most, even if nobody else wants it.
    pub cap_percent: Option<u32>,
    /// Device time that a capped vGPU may save up.
    pub burst: Duration,
    pub priority: Priority,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            weight: STANDARD_WEIGHT,
            cap_percent: None,
            burst: Duration::from_millis(50),
            priority: Priority::Normal,
        }
    }
}

/// How all leases of a device are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A lease's length when others wait.
    pub quantum: Duration,
    /// The longest that one gets in one lease, in quanta, while others wait who have come further.
    pub most_quanta: u32,
    /// How far behind the others a vGPU may be that comes back from idleness.
    pub credit: Duration,
    /// How far ahead a step of priority is.
    pub boost: Duration,
    /// How long after the end of its lease a vGPU is waited for before others go on beside it.
    pub grace: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            quantum: Duration::from_millis(5),
            most_quanta: 4,
            credit: Duration::from_millis(10),
            boost: Duration::from_millis(20),
            grace: Duration::from_millis(50),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The vGPU may use the device from now on.
    Grant {
        vgpu: Vgpu,
        /// For so long; `None`: until it is asked to end.
        slice: Option<Duration>,
        /// Others use the device too: little may be under way at once, so that the lease can end soon.
        shared: bool,
    },
    /// The vGPU is to end its lease when it has nothing to do, or so much time has passed.
    Ask { vgpu: Vgpu, within: Duration },
    /// The vGPU has not ended its lease in time; others go on beside it. It gets no other lease until it has.
    Overdue { vgpu: Vgpu },
}

struct Entity {
    /// Who pays what it owes when it is gone.
    account: Option<String>,
    terms: Terms,
    came: i128,
    bucket: Option<Bucket>,
    wants: bool,
    /// It has not ended its last lease, which others did not wait for. Since when it has had it, and since when others have wanted the device.
    overdue: Option<Hold>,
}

impl Entity {
    /// Time of the device's as time of a vGPU of the standard weight.
    fn weighed(&self, time: Duration) -> i128 {
        time.as_nanos() as i128 * i128::from(STANDARD_WEIGHT) / i128::from(self.terms.weight)
    }

    /// The reverse; 0 for what is negative.
    fn unweighed(&self, came: i128) -> Duration {
        let nanos = came * i128::from(self.terms.weight) / i128::from(STANDARD_WEIGHT);
        Duration::from_nanos(nanos.clamp(0, i128::from(u64::MAX)) as u64)
    }

    /// Whether it has less than it may save up.
    fn lacks(&self, now: Duration) -> bool {
        let bucket = self.bucket.as_ref();
        bucket.is_some_and(|bucket| bucket.missing(now) > 0)
    }

    /// What is compared: how far it has come, its priority taken off.
    fn place(&self, rules: &Rules) -> i128 {
        self.came - self.ahead(rules)
    }

    fn ahead(&self, rules: &Rules) -> i128 {
        let boost = self.weighed(rules.boost);
        match self.terms.priority {
            Priority::Batch => -boost,
            Priority::Normal => 0,
            Priority::Latency => boost,
        }
    }
}

/// Gone vGPUs whose debts are kept, at most: as many must have lived at once.
const MOST_DEBTS: usize = 1024;

/// A lease.
#[derive(Clone, Copy, Debug)]
struct Hold {
    vgpu: Vgpu,
    since: Duration,
    /// Since when others want the device too.
    contended: Option<Duration>,
    /// When it is to end.
    ends: Option<Duration>,
}

/// Who may use one device, and who waits for it.
pub struct Scheduler {
    rules: Rules,
    now: Duration,
    /// How far those who want the device have come at least; never goes back.
    floor: i128,
    entities: BTreeMap<Vgpu, Entity>,
    /// vGPUs that are gone and still owe something, the oldest first.
    debts: Vec<Entity>,
    hold: Option<Hold>,
}

impl Scheduler {
    pub fn new(rules: Rules) -> Scheduler {
        Scheduler {
            rules,
            now: Duration::ZERO,
            floor: 0,
            entities: BTreeMap::new(),
            debts: Vec::new(),
            hold: None,
        }
    }

    /// A clock that goes back stands still here.
    fn at(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Takes a vGPU in, or changes its terms. A weight out of bounds is put within.
    pub fn set(&mut self, vgpu: Vgpu, terms: Terms, now: Duration) {
        self.at(now);
        let weight = terms.weight.clamp(*WEIGHTS.start(), *WEIGHTS.end());
        let terms = Terms { weight, ..terms };
        let fresh = |before: Option<&Bucket>| {
            let percent = terms.cap_percent.filter(|percent| *percent < 100)?;
            // A quantum more than may be saved up: a lease begins a moment after there is enough for it, and what flows in meanwhile is not lost.
            let quantum = self.rules.quantum;
            let most = terms.burst.max(quantum) + quantum;
            Some(Bucket::new(percent, most, before, self.now))
        };
        match self.entities.get_mut(&vgpu) {
            Some(entity) => {
                entity.bucket = fresh(entity.bucket.as_ref());
                entity.terms = terms;
            }
            None => {
                let bucket = fresh(None);
                let entity = Entity {
                    account: None,
                    terms,
                    // Nowhere: it counts from when it first wants something.
                    came: i128::MIN / 2,
                    bucket,
                    wants: false,
                    overdue: None,
                };
                self.entities.insert(vgpu, entity);
            }
        }
    }

    /// The same, of a vGPU for whose debts this account stands: a new one begins with those of one that is gone, so that dying pays nothing.
    pub fn set_of(&mut self, account: &str, vgpu: Vgpu, terms: Terms, now: Duration) {
        self.at(now);
        if !self.knows(vgpu)
            && let Some(heir) = self.inherit(account)
        {
            self.entities.insert(vgpu, heir);
        }
        self.set(vgpu, terms, now);
        if let Some(entity) = self.entities.get_mut(&vgpu) {
            entity.account = Some(account.to_owned());
        }
    }

    /// The vGPU of this account that has gone with most debts. Nobody else inherits them.
    fn inherit(&mut self, account: &str) -> Option<Entity> {
        self.forgive();
        let debts = self.debts.iter().enumerate();
        let own = debts.filter(|(_, it)| it.account.as_deref() == Some(account));
        let most = own.max_by_key(|(_, it)| {
            let missing = it.bucket.as_ref().map(|bucket| bucket.missing(self.now));
            (missing, it.came)
        });
        let at = most?.0;
        Some(self.debts.remove(at))
    }

    /// Whether the vGPU would be behind where a new one begins.
    fn is_behind(&self, entity: &Entity) -> bool {
        // With nobody here there is nobody to be behind.
        !self.entities.is_empty() && entity.came > self.start(entity)
    }

    /// Where one begins that comes back from idleness.
    fn start(&self, entity: &Entity) -> i128 {
        self.floor - entity.weighed(self.rules.credit) + entity.ahead(&self.rules)
    }

    /// Forgets debts that change nothing any more.
    fn forgive(&mut self) {
        self.raise_floor();
        let mut debts = std::mem::take(&mut self.debts);
        debts.retain(|it| self.is_behind(it) || it.lacks(self.now));
        self.debts = debts;
    }

    /// Whether there are debts that outlive all vGPUs.
    pub fn has_debts(&mut self, now: Duration) -> bool {
        self.at(now);
        self.forgive();
        !self.debts.is_empty()
    }

    /// Whether the vGPU is known here.
    pub fn knows(&self, vgpu: Vgpu) -> bool {
        self.entities.contains_key(&vgpu)
    }

    /// The vGPU is gone, and its lease with it, all of which it has used: it cannot say any more how much. What it owes its account does.
    pub fn remove(&mut self, vgpu: Vgpu, now: Duration) {
        self.yielded(vgpu, Duration::MAX, false, now);
        let Some(mut gone) = self.entities.remove(&vgpu) else {
            return;
        };
        // Its heir has asked for nothing yet.
        gone.wants = false;
        self.forgive();
        if gone.account.is_some() && (self.is_behind(&gone) || gone.lacks(self.now)) {
            if self.debts.len() == MOST_DEBTS {
                self.debts.remove(0);
            }
            self.debts.push(gone);
        }
    }

    /// The vGPU wants a lease. One that has one, or waits for one, says nothing new.
    pub fn want(&mut self, vgpu: Vgpu, now: Duration) {
        self.at(now);
        if self.hold.is_some_and(|hold| hold.vgpu == vgpu) {
            return;
        }
        self.raise_floor();
        let Some(start) = self.entities.get(&vgpu).map(|it| self.start(it)) else {
            return;
        };
        let Some(entity) = self.entities.get_mut(&vgpu).filter(|it| !it.wants) else {
            return;
        };
        entity.wants = true;
        // An overdue one has not been idle.
        if entity.overdue.is_none() {
            entity.came = entity.came.max(start);
        }
    }

    /// The vGPU wants none any more.
    pub fn unwant(&mut self, vgpu: Vgpu, now: Duration) {
        self.at(now);
        if let Some(entity) = self.entities.get_mut(&vgpu) {
            entity.wants = false;
        }
    }

    /// The vGPU's lease is over: it used the device for so long, by its own measure (more than the lease has lasted is not believed), and may want
    /// the next one already.
    pub fn yielded(&mut self, vgpu: Vgpu, used: Duration, wants: bool, now: Duration) {
        self.at(now);
        let held = self.hold.take_if(|hold| hold.vgpu == vgpu);
        let Some(entity) = self.entities.get_mut(&vgpu) else {
            return;
        };
        let Some(hold) = held.or(entity.overdue.take()) else {
            return;
        };
        let used = used.min(self.now.saturating_sub(hold.since));
        if let Some(bucket) = &mut entity.bucket {
            bucket.take(used, hold.since, self.now, self.rules.quantum);
        }
        if let Some(contended) = hold.contended {
            let owed = used.min(self.now.saturating_sub(contended));
            entity.came += entity.weighed(owed);
        }
        // It has been at work: what it is behind stays its own.
        entity.wants = wants;
    }

    /// Puts the floor at the least place of those who want the device or have it.
    fn raise_floor(&mut self) {
        let holder = self.hold.map(|hold| hold.vgpu);
        let at_work = self
            .entities
            .iter()
            .filter(|(vgpu, it)| it.wants || it.overdue.is_some() || Some(**vgpu) == holder);
        let least = at_work.map(|(_, it)| it.place(&self.rules)).min();
        self.floor = self.floor.max(least.unwrap_or(self.floor));
    }

    /// Whether the vGPU could have the device now.
    fn may(&self, entity: &Entity) -> bool {
        let full = |bucket: &Bucket| bucket.has(self.rules.quantum, self.now);
        entity.wants && entity.overdue.is_none() && entity.bucket.as_ref().is_none_or(full)
    }

    /// Who is next, of those who could have the device.
    fn first(&self) -> Option<(Vgpu, &Entity)> {
        let able = self.entities.iter().filter(|(_, it)| self.may(it));
        let first = able.min_by_key(|(vgpu, it)| (it.place(&self.rules), **vgpu))?;
        Some((*first.0, first.1))
    }

    /// What is to be done now. To be asked after each change, and at the time that [`Scheduler::wakes`] says.
    pub fn orders(&mut self, now: Duration) -> Vec<Order> {
        self.at(now);
        let mut orders = Vec::new();
        if let Some(hold) = self.hold {
            orders.extend(self.look_at(hold));
        }
        if self.hold.is_none()
            && let Some((vgpu, _)) = self.first()
        {
            orders.push(self.grant(vgpu));
        }
        orders
    }

    /// Asks the holder to end its lease, or goes on without it.
    fn look_at(&mut self, mut hold: Hold) -> Option<Order> {
        let vgpu = hold.vgpu;
        if let Some(ends) = hold.ends
            && self.now >= ends + self.rules.grace
            && self.first().is_some()
        {
            self.hold = None;
            if let Some(entity) = self.entities.get_mut(&vgpu) {
                entity.overdue = Some(hold);
            }
            return Some(Order::Overdue { vgpu });
        }
        let ends = self.end_beside_others(&hold)?.max(self.now);
        hold.contended.get_or_insert(self.now);
        let sooner = hold.ends.is_none_or(|before| ends < before);
        let ask = sooner.then(|| Order::Ask {
            vgpu,
            within: ends.saturating_sub(self.now),
        });
        if sooner {
            hold.ends = Some(ends);
        }
        self.hold = Some(hold);
        ask
    }

    /// When the lease is to end, since others could have the device; `None`: nobody could.
    fn end_beside_others(&self, hold: &Hold) -> Option<Duration> {
        let (_, next) = self.first()?;
        let holder = self.entities.get(&hold.vgpu)?;
        let used = self
            .now
            .saturating_sub(hold.contended.unwrap_or(self.now).max(hold.since));
        let now_at = holder.place(&self.rules) + holder.weighed(used);
        let next_at = next.place(&self.rules);
        if next.terms.priority > holder.terms.priority && next_at <= now_at {
            return Some(hold.since);
        }
        Some(hold.since + self.slice(holder, next_at))
    }

    /// How long a vGPU may have the device while one waits who stands there: until that one is a quantum behind, within bounds. A lease less is a pause
    /// of the device less.
    fn slice(&self, holder: &Entity, next_at: i128) -> Duration {
        let lead = holder.unweighed(next_at - holder.place(&self.rules));
        let most = self.rules.quantum * self.rules.most_quanta.max(1);
        (self.rules.quantum + lead).min(most)
    }

    fn grant(&mut self, vgpu: Vgpu) -> Order {
        let shared = self.entities.len() > 1;
        let now = self.now;
        if let Some(entity) = self.entities.get_mut(&vgpu) {
            entity.wants = false;
        }
        let next = self.first().map(|(_, next)| next.place(&self.rules));
        let (mut slice, mut capped) = (None, false);
        if let Some(entity) = self.entities.get(&vgpu) {
            slice = next.map(|next| self.slice(entity, next));
            if let Some(bucket) = &entity.bucket {
                let left = bucket.left(now).max(self.rules.quantum);
                slice = Some(slice.map_or(left, |slice| slice.min(left)));
                capped = true;
            }
        }
        self.hold = Some(Hold {
            vgpu,
            since: now,
            contended: next.map(|_| now),
            ends: slice.map(|slice| now + slice),
        });
        Order::Grant {
            vgpu,
            slice,
            shared: shared || capped,
        }
    }

    /// When something is to be done though nothing has changed.
    pub fn wakes(&self) -> Option<Duration> {
        let waiting = self
            .entities
            .values()
            .filter(|it| it.wants && it.overdue.is_none());
        let filled = waiting.filter_map(|it| {
            let bucket = it.bucket.as_ref()?;
            let at = bucket.full(self.rules.quantum);
            (at > self.now).then_some(at)
        });
        let ends = self.hold.and_then(|hold| hold.ends);
        let overdue = ends.map(|ends| ends + self.rules.grace);
        // Nobody to go on without it: what changes that is a change.
        let overdue = overdue.filter(|at| *at > self.now);
        filled.chain(overdue).min()
    }
}
