//! Tenants of one device, simulated step by step: what each gets, how long each waits, whatever they do. Everything follows from numbers that a
//! failing test prints.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rgpu_scheduler::{Order, Priority, Rules, Scheduler, Terms, Vgpu};

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a tenant does, again and again: so many kernels of such a length, and a pause (0: it always has work).
#[derive(Clone, Copy, Debug)]
struct Work {
    kernel: Duration,
    kernels: u32,
    pause: Duration,
}

const fn endless(kernel: Duration) -> Work {
    Work {
        kernel,
        kernels: u32::MAX,
        pause: Duration::ZERO,
    }
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ends: Option<Duration>,
    used: Duration,
}

#[derive(Debug)]
struct Tenant {
    work: Work,
    left: u32,
    /// When its next burst begins, while it pauses.
    sleeps: Option<Duration>,
    lease: Option<Lease>,
    /// When the kernel ends that runs.
    runs: Option<Duration>,
    /// Since when it has had work and got nothing done.
    waits: Option<Duration>,
    got: Duration,
    longest_wait: Duration,
}

/// A device, its scheduler, and tenants whose workers do as real ones: kernels one after the other while the lease lasts.
struct World {
    scheduler: Scheduler,
    now: Duration,
    tenants: BTreeMap<Vgpu, Tenant>,
    /// Between the end of a lease and the next.
    switch: Duration,
    /// The clock that the scheduler sees runs backwards now and then.
    broken_clock: bool,
    ticks: u64,
}

impl World {
    fn new(rules: Rules) -> World {
        World {
            scheduler: Scheduler::new(rules),
            now: Duration::ZERO,
            tenants: BTreeMap::new(),
            switch: us(100),
            broken_clock: false,
            ticks: 0,
        }
    }

    fn clock(&mut self) -> Duration {
        self.ticks += 1;
        match self.broken_clock && self.ticks.is_multiple_of(3) {
            true => self.now.saturating_sub(ms(self.ticks % 1000)),
            false => self.now,
        }
    }

    fn add(&mut self, vgpu: Vgpu, terms: Terms, work: Work) {
        let now = self.clock();
        self.scheduler.set(vgpu, terms, now);
        let tenant = Tenant {
            work,
            left: work.kernels,
            sleeps: None,
            lease: None,
            runs: None,
            waits: Some(self.now),
            got: Duration::ZERO,
            longest_wait: Duration::ZERO,
        };
        self.tenants.insert(vgpu, tenant);
        self.scheduler.want(vgpu, now);
    }

    fn remove(&mut self, vgpu: Vgpu) {
        let now = self.clock();
        self.tenants.remove(&vgpu);
        self.scheduler.remove(vgpu, now);
    }

    fn obey(&mut self) {
        let now = self.clock();
        for order in self.scheduler.orders(now) {
            match order {
                Order::Grant { vgpu, slice, .. } => {
                    let holders = self.tenants.values().filter(|it| it.lease.is_some());
                    let overdue = holders.filter(|it| {
                        it.lease
                            .is_some_and(|it| it.ends.is_some_and(|ends| ends < self.now))
                    });
                    let all = self.tenants.values().filter(|it| it.lease.is_some());
                    assert_eq!(overdue.count(), all.count(), "two leases at once");
                    let starts = self.now + self.switch;
                    let tenant = self.tenants.get_mut(&vgpu).expect("a tenant that is there");
                    assert!(tenant.lease.is_none(), "a second lease");
                    let ends = slice.map(|slice| starts + slice);
                    tenant.lease = Some(Lease {
                        ends,
                        used: Duration::ZERO,
                    });
                    tenant.begin_kernel(starts);
                }
                Order::Ask { vgpu, within } => {
                    let ends = self.now + within;
                    let tenant = self.tenants.get_mut(&vgpu).expect("a tenant that is there");
                    if let Some(lease) = &mut tenant.lease {
                        lease.ends = Some(lease.ends.map_or(ends, |before| before.min(ends)));
                    }
                }
                Order::Overdue { .. } => {}
            }
        }
        // Who has nothing to do gives the lease back when it is asked.
        for vgpu in self.tenants.keys().copied().collect::<Vec<_>>() {
            self.give_back(vgpu);
        }
    }

    /// Ends the tenant's lease if it has nothing to do, or its time is over.
    fn give_back(&mut self, vgpu: Vgpu) {
        let now = self.now;
        let tenant = self.tenants.get_mut(&vgpu).expect("a tenant that is there");
        let (Some(lease), None) = (tenant.lease, tenant.runs) else {
            return;
        };
        let has_work = tenant.sleeps.is_none();
        if lease.ends.is_none() || (has_work && lease.ends.is_some_and(|ends| now < ends)) {
            return;
        }
        tenant.lease = None;
        let at = self.clock();
        self.scheduler.yielded(vgpu, lease.used, has_work, at);
        self.obey();
    }

    /// On to the next thing that happens.
    fn step(&mut self, until: Duration) {
        let wakes = self.scheduler.wakes();
        let things = self
            .tenants
            .values()
            .flat_map(|it| [it.runs, it.sleeps, it.lease.and_then(|lease| lease.ends)]);
        let next = things
            .flatten()
            .chain(wakes)
            .filter(|at| *at > self.now)
            .min();
        self.now = next.unwrap_or(until).min(until);
        for vgpu in self.tenants.keys().copied().collect::<Vec<_>>() {
            self.advance(vgpu);
        }
        self.obey();
    }

    fn advance(&mut self, vgpu: Vgpu) {
        let now = self.now;
        let tenant = self.tenants.get_mut(&vgpu).expect("a tenant that is there");
        if tenant.sleeps.is_some_and(|at| at <= now) {
            tenant.sleeps = None;
            tenant.left = tenant.work.kernels;
            tenant.waits = Some(now);
            match tenant.lease {
                Some(_) => tenant.begin_kernel(now),
                None => {
                    let at = self.clock();
                    self.scheduler.want(vgpu, at);
                }
            }
            return;
        }
        if tenant.runs.is_some_and(|at| at <= now) {
            tenant.end_kernel(now);
            let goes_on = tenant.sleeps.is_none()
                && tenant
                    .lease
                    .is_some_and(|lease| lease.ends.is_none_or(|ends| now < ends));
            if goes_on {
                tenant.begin_kernel(now);
            }
        }
        self.give_back(vgpu);
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.obey();
        while self.now < until {
            self.step(until);
        }
    }

    fn got(&self, vgpu: Vgpu) -> Duration {
        self.tenants[&vgpu].got
    }

    /// Forgets what was.
    fn reset(&mut self) {
        for tenant in self.tenants.values_mut() {
            tenant.got = Duration::ZERO;
            tenant.longest_wait = Duration::ZERO;
        }
    }
}

impl Tenant {
    fn begin_kernel(&mut self, now: Duration) {
        if let Some(since) = self.waits.take() {
            self.longest_wait = self.longest_wait.max(now - since);
        }
        self.runs = Some(now + self.work.kernel);
    }

    fn end_kernel(&mut self, now: Duration) {
        self.runs = None;
        self.got += self.work.kernel;
        if let Some(lease) = &mut self.lease {
            lease.used += self.work.kernel;
        }
        self.waits = Some(now);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.waits = None;
            self.sleeps = Some(now + self.work.pause);
        }
    }
}

fn weight(weight: u32) -> Terms {
    Terms {
        weight,
        ..Terms::default()
    }
}

fn share(world: &World, vgpu: Vgpu) -> f64 {
    let all: Duration = world.tenants.values().map(|it| it.got).sum();
    world.got(vgpu).as_secs_f64() / all.as_secs_f64()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the weights and lengths of kernels: over ten seconds each gets its part.
    #[test]
    fn shares_are_the_weights(
        tenants in prop::collection::vec((1_u32..=10, 50_u64..2000), 2..6),
    ) {
        let mut world = World::new(Rules::default());
        for (at, (parts, kernel)) in tenants.iter().enumerate() {
            world.add(at as Vgpu, weight(parts * 50), endless(us(*kernel)));
        }
        world.run(ms(500));
        world.reset();
        world.run(Duration::from_secs(10));
        let whole: u32 = tenants.iter().map(|(parts, _)| parts).sum();
        for (at, (parts, _)) in tenants.iter().enumerate() {
            let due = f64::from(*parts) / f64::from(whole);
            let got = share(&world, at as Vgpu);
            prop_assert!((got - due).abs() < 0.01, "{at}: {got} of {due}");
        }
    }

    /// Priorities serve sooner, and do not change what one gets over time.
    #[test]
    fn priorities_keep_the_shares(
        tenants in prop::collection::vec((0_usize..3, 50_u64..2000), 2..6),
    ) {
        const ALL: [Priority; 3] = [Priority::Batch, Priority::Normal, Priority::Latency];
        let mut world = World::new(Rules::default());
        for (at, (priority, kernel)) in tenants.iter().enumerate() {
            let terms = Terms { priority: ALL[*priority], ..Terms::default() };
            world.add(at as Vgpu, terms, endless(us(*kernel)));
        }
        world.run(ms(500));
        world.reset();
        world.run(Duration::from_secs(10));
        let due = 1.0 / tenants.len() as f64;
        for at in 0..tenants.len() {
            let got = share(&world, at as Vgpu);
            prop_assert!((got - due).abs() < 0.02, "{at}: {got} of {due}");
        }
    }

    /// Nobody waits longer than for the longest lease of every other, and what is under way in it.
    #[test]
    fn nobody_starves(
        tenants in prop::collection::vec((1_u32..=4, 50_u64..2000, 1_u32..50, 0_u64..30_000), 2..7),
        broken_clock in any::<bool>(),
    ) {
        let rules = Rules::default();
        let mut world = World::new(rules);
        world.broken_clock = broken_clock;
        for (at, (parts, kernel, kernels, pause)) in tenants.iter().enumerate() {
            let work = Work { kernel: us(*kernel), kernels: *kernels, pause: us(*pause) };
            world.add(at as Vgpu, weight(parts * 100), work);
        }
        world.run(Duration::from_secs(5));
        // A weight of 4 beside 1 makes one wait for four times the quantum, and as much again for who comes back with credit.
        let others = tenants.len() as u32 - 1;
        let bound = others * (rules.quantum * 8 + rules.credit * 4 + ms(3));
        for (vgpu, tenant) in &world.tenants {
            prop_assert!(tenant.longest_wait <= bound, "{vgpu}: {:?} > {bound:?}", tenant.longest_wait);
            prop_assert!(!tenant.got.is_zero(), "{vgpu} got nothing");
        }
    }

    /// The device is at work whenever somebody may use it: only the switches are lost.
    #[test]
    fn nothing_is_left_idle(
        tenants in prop::collection::vec((1_u32..=10, 200_u64..2000, 1_u32..40, 0_u64..20_000), 1..6),
    ) {
        let mut world = World::new(Rules::default());
        world.switch = Duration::ZERO;
        world.add(99, weight(100), endless(ms(1)));
        for (at, (parts, kernel, kernels, pause)) in tenants.iter().enumerate() {
            let work = Work { kernel: us(*kernel), kernels: *kernels, pause: us(*pause) };
            world.add(at as Vgpu, weight(parts * 50), work);
        }
        world.run(Duration::from_secs(3));
        let all: Duration = world.tenants.values().map(|it| it.got).sum();
        prop_assert!(all >= ms(2990), "{all:?} of 3 s");
    }

    /// A cap is exact, alone and beside others, for any length of kernels.
    #[test]
    fn caps_are_exact(percent in 5_u32..=90, kernel in 50_u64..4000, beside in any::<bool>()) {
        let mut world = World::new(Rules::default());
        let terms = Terms { cap_percent: Some(percent), weight: 10_000, ..Terms::default() };
        world.add(1, terms, endless(us(kernel)));
        if beside {
            world.add(2, weight(1), endless(ms(1)));
        }
        world.run(ms(1000));
        world.reset();
        world.run(Duration::from_secs(10));
        let got = world.got(1).as_secs_f64() / 10.0;
        let cap = f64::from(percent) / 100.0;
        prop_assert!(got <= cap + 0.005, "{got} of {cap}");
        // What it does not get is lost to switches, and beside others to theirs.
        prop_assert!(got >= (cap - 0.005).min(0.86), "{got} of {cap}");
    }

    /// Who sleeps comes back with no more than the credit, and with no less than others have.
    #[test]
    fn sleep_saves_nothing_up(slept in 1_u64..100_000) {
        let rules = Rules::default();
        let mut world = World::new(rules);
        world.add(1, weight(100), endless(ms(1)));
        world.add(2, weight(100), endless(ms(1)));
        world.run(ms(100));
        world.remove(2);
        world.add(2, weight(100), Work { kernel: us(100), kernels: 1, pause: ms(slept) });
        world.add(3, weight(100), endless(ms(1)));
        world.run(ms(slept));
        // It wakes, and from now on always has work.
        world.tenants.get_mut(&2).unwrap().work = endless(ms(1));
        world.run(ms(2 * slept % 7));
        world.reset();
        world.run(Duration::from_secs(2));
        let got = share(&world, 2);
        prop_assert!((got - 1.0 / 3.0).abs() < 0.02, "{got}");
    }

    /// Holders die at any moment, and others come: somebody always has the device.
    #[test]
    fn the_dead_hold_nothing(deaths in prop::collection::vec((0_u64..5, 1_u64..40), 1..60)) {
        let mut world = World::new(Rules::default());
        world.add(99, weight(100), endless(ms(1)));
        for at in 0..5 {
            world.add(at, weight(100), endless(us(300 + 400 * at)));
        }
        for (vgpu, time) in &deaths {
            world.run(ms(*time));
            world.remove(*vgpu);
            if time % 2 == 0 {
                world.add(*vgpu, weight(200), endless(us(700)));
            }
        }
        world.reset();
        let began = world.now;
        world.run(ms(500));
        prop_assert_eq!(world.now - began, ms(500));
        let all: Duration = world.tenants.values().map(|it| it.got).sum();
        prop_assert!(all >= ms(440), "{all:?} of 500 ms");
        prop_assert!(world.got(99) > Duration::ZERO);
    }

    /// Calls in any order, with any clock, break nothing.
    #[test]
    fn any_calls(calls in prop::collection::vec((0_u8..7, 0_u64..6, 0_u64..100_000), 0..300)) {
        let mut scheduler = Scheduler::new(Rules::default());
        let mut holder = None;
        for (call, vgpu, micros) in calls {
            let now = us(micros);
            match call {
                0 | 1 => scheduler.set(vgpu, Terms {
                    weight: micros as u32 % 20_000,
                    cap_percent: (micros % 3 == 0).then_some(micros as u32 % 150),
                    burst: us(micros % 7000),
                    priority: if micros % 2 == 0 { Priority::Batch } else { Priority::Latency },
                }, now),
                2 => {
                    scheduler.remove(vgpu, now);
                    holder = holder.filter(|holder| *holder != vgpu);
                }
                3 | 4 => scheduler.want(vgpu, now),
                5 => scheduler.unwant(vgpu, now),
                _ => {
                    scheduler.yielded(vgpu, us(micros * 3), micros % 2 == 0, now);
                    holder = holder.filter(|holder| *holder != vgpu);
                }
            }
            for order in scheduler.orders(now) {
                match order {
                    Order::Grant { vgpu, .. } => {
                        prop_assert_eq!(holder, None);
                        prop_assert!(scheduler.knows(vgpu));
                        holder = Some(vgpu);
                    }
                    Order::Overdue { vgpu } => {
                        prop_assert_eq!(holder.take(), Some(vgpu));
                    }
                    Order::Ask { vgpu, .. } => prop_assert_eq!(holder, Some(vgpu)),
                }
            }
            let _ = scheduler.wakes();
        }
    }
}

#[test]
fn one_who_is_alone_is_not_asked_and_owes_nothing() {
    let mut scheduler = Scheduler::new(Rules::default());
    scheduler.set(1, Terms::default(), ms(0));
    scheduler.want(1, ms(0));
    let granted = Order::Grant {
        vgpu: 1,
        slice: None,
        shared: false,
    };
    assert_eq!(scheduler.orders(ms(0)), [granted]);
    assert_eq!(scheduler.wakes(), None);
    assert_eq!(scheduler.orders(ms(60_000)), []);
    scheduler.set(2, Terms::default(), ms(60_000));
    scheduler.want(2, ms(60_000));
    let asked = Order::Ask {
        vgpu: 1,
        within: Duration::ZERO,
    };
    assert_eq!(scheduler.orders(ms(60_000)), [asked]);
    assert_eq!(scheduler.orders(ms(60_000)), []);
    scheduler.yielded(1, ms(60_000), true, ms(60_001));
    let shared = |vgpu, millis| Order::Grant {
        vgpu,
        slice: Some(ms(millis)),
        shared: true,
    };
    // The second has its quantum, and the first is not behind it by a minute.
    let orders = scheduler.orders(ms(60_001));
    assert!(
        matches!(orders[..], [Order::Grant { vgpu: 2, .. }]),
        "{orders:?}"
    );
    scheduler.yielded(2, ms(15), true, ms(60_020));
    let orders = scheduler.orders(ms(60_020));
    assert_eq!(orders.len(), 1);
    assert!(
        orders == [shared(1, 5)] || matches!(orders[..], [Order::Grant { vgpu: 1, .. }]),
        "{orders:?}"
    );
}

#[test]
fn a_higher_priority_ends_a_lease_between_kernels() {
    let mut scheduler = Scheduler::new(Rules::default());
    let terms = |priority| Terms {
        priority,
        ..Terms::default()
    };
    scheduler.set(1, terms(Priority::Batch), ms(0));
    scheduler.set(2, terms(Priority::Latency), ms(0));
    scheduler.set(3, terms(Priority::Batch), ms(0));
    scheduler.want(1, ms(0));
    scheduler.want(3, ms(0));
    assert_eq!(scheduler.orders(ms(0)).len(), 1);
    scheduler.want(2, ms(1));
    let asked = Order::Ask {
        vgpu: 1,
        within: Duration::ZERO,
    };
    assert_eq!(scheduler.orders(ms(1)), [asked]);
    scheduler.yielded(1, ms(1), true, ms(2));
    let orders = scheduler.orders(ms(2));
    assert!(
        matches!(orders[..], [Order::Grant { vgpu: 2, .. }]),
        "{orders:?}"
    );
    // The same priority waits for the quantum.
    scheduler.yielded(2, ms(1), false, ms(3));
    assert_eq!(scheduler.orders(ms(3)).len(), 1);
    assert_eq!(scheduler.orders(ms(4)), []);
}

#[test]
fn a_short_job_is_served_soon_beside_endless_ones() {
    let mut world = World::new(Rules::default());
    for vgpu in 1..=3 {
        world.add(vgpu, Terms::default(), endless(ms(2)));
    }
    let job = Work {
        kernel: ms(1),
        kernels: 5,
        pause: ms(53),
    };
    world.add(4, Terms::default(), job);
    world.run(ms(200));
    world.reset();
    world.run(Duration::from_secs(10));
    let waited = world.tenants[&4].longest_wait;
    assert!(waited <= ms(8), "{waited:?}");
    // Its neighbours have what it leaves.
    for vgpu in 1..=3 {
        assert!(share(&world, vgpu) > 0.25, "{vgpu}");
    }
}

#[test]
fn a_long_kernel_is_waited_for_no_longer_than_the_grace() {
    let mut world = World::new(Rules::default());
    world.add(1, Terms::default(), endless(ms(200)));
    let job = Work {
        kernel: ms(1),
        kernels: 5,
        pause: ms(53),
    };
    world.add(2, Terms::default(), job);
    world.run(Duration::from_secs(10));
    let bound = Rules::default().grace + Rules::default().quantum + ms(1);
    let waited = world.tenants[&2].longest_wait;
    assert!(waited <= bound, "{waited:?}");
    assert!(world.got(1) > Duration::from_secs(5));
}

#[test]
fn a_stuck_one_is_gone_around_and_comes_back_in_the_end() {
    let mut scheduler = Scheduler::new(Rules::default());
    for vgpu in [1, 2] {
        scheduler.set(vgpu, Terms::default(), ms(0));
        scheduler.want(vgpu, ms(0));
    }
    assert_eq!(scheduler.orders(ms(0)).len(), 1);
    assert_eq!(scheduler.wakes(), Some(ms(55)));
    assert_eq!(scheduler.orders(ms(54)), []);
    let orders = scheduler.orders(ms(55));
    assert!(
        matches!(
            orders[..],
            [
                Order::Overdue { vgpu: 1 },
                Order::Grant {
                    vgpu: 2,
                    slice: None,
                    ..
                }
            ]
        ),
        "{orders:?}"
    );
    // It cannot have another lease, and is charged for all the time when it ends this one.
    scheduler.want(1, ms(60));
    assert_eq!(scheduler.orders(ms(60)), []);
    scheduler.yielded(1, ms(90), true, ms(90));
    let orders = scheduler.orders(ms(90));
    assert!(
        matches!(orders[..], [Order::Ask { vgpu: 2, .. }]),
        "{orders:?}"
    );
    scheduler.yielded(2, ms(36), true, ms(91));
    let orders = scheduler.orders(ms(91));
    assert!(
        matches!(orders[..], [Order::Grant { vgpu: 2, .. }]),
        "{orders:?}"
    );
}

/// A vGPU works for a while, maybe beside another's, dies, and the next one of its account comes: what part of more than 10 s the account has got, less
/// what is saved up before the first.
fn churned(terms: Terms, beside: bool, lives: Duration) -> f64 {
    let mut world = World::new(Rules::default());
    if beside {
        world.add(1, Terms::default(), endless(ms(1)));
    }
    let mut got = Duration::ZERO;
    for vgpu in 2.. {
        if world.now >= Duration::from_secs(10) {
            break;
        }
        world.scheduler.set_of("one", vgpu, terms, world.now);
        world.add(vgpu, terms, endless(ms(1)));
        world.run(lives);
        got += world.got(vgpu);
        // The kernel that it dies in has used the device, too.
        let tenant = &world.tenants[&vgpu];
        if let Some(ends) = tenant.runs {
            got += tenant.work.kernel.saturating_sub(ends - world.now);
        }
        world.remove(vgpu);
    }
    let saved = terms.burst + Rules::default().quantum;
    got.saturating_sub(saved).as_secs_f64() / world.now.as_secs_f64()
}

#[test]
fn a_new_session_for_each_kernel_does_not_get_around_a_cap() {
    let capped = Terms {
        cap_percent: Some(20),
        ..Terms::default()
    };
    for beside in [false, true] {
        for lives in [ms(3), ms(10), ms(40), ms(300)] {
            let got = churned(capped, beside, lives);
            assert!(got <= 0.201, "{lives:?}, {beside}: {got}");
        }
    }
}

#[test]
fn a_new_session_for_each_kernel_gets_no_more_than_its_part() {
    for lives in [ms(12), ms(40)] {
        let got = churned(Terms::default(), true, lives);
        assert!(got <= 0.53, "{lives:?}: {got}");
    }
}

#[test]
fn debts_of_the_dead_are_inherited_once_and_end() {
    let terms = Terms {
        cap_percent: Some(50),
        ..Terms::default()
    };
    let mut scheduler = Scheduler::new(Rules::default());
    let granted = |scheduler: &mut Scheduler, account, vgpu, now| {
        scheduler.set_of(account, vgpu, terms, now);
        scheduler.want(vgpu, now);
        let orders = scheduler.orders(now);
        matches!(orders[..], [Order::Grant { vgpu: to, .. }] if to == vgpu)
    };
    assert!(granted(&mut scheduler, "a", 1, ms(0)));
    // It dies with its lease: 200 ms used, of which 100 have flowed in, and 25 were there. At 50 % it takes 150 ms to get out of debt.
    scheduler.remove(1, ms(200));
    assert!(scheduler.has_debts(ms(200)));
    assert!(!granted(&mut scheduler, "a", 2, ms(200)));
    // The account's next lives at the same time, and has a bucket of its own; so has another's.
    assert!(granted(&mut scheduler, "a", 3, ms(201)));
    scheduler.remove(3, ms(201));
    assert!(granted(&mut scheduler, "b", 4, ms(202)));
    scheduler.remove(4, ms(202));
    // The heir dies in debt: its heir goes on from there.
    scheduler.remove(2, ms(203));
    assert!(!granted(&mut scheduler, "a", 5, ms(300)));
    scheduler.remove(5, ms(300));
    assert!(scheduler.has_debts(ms(399)));
    assert!(!scheduler.has_debts(ms(401)));
    assert!(granted(&mut scheduler, "a", 6, ms(401)));
}
