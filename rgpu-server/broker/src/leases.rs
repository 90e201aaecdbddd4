//! Who may use which device now: schedulers, and the sessions that they speak of. A session's messages come from its worker; what is to be said to
//! workers goes into their queues.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rgpu_proto::control::{self, Assign, ToWorker};
use rgpu_scheduler::{Order, Priority, Rules, Scheduler, Terms, Vgpu};
use tokio::sync::{Notify, mpsc};

use crate::server::{End, Server};

/// Devices of a host, at most: what a worker says of others is not heard.
const MOST_DEVICES: u32 = 64;
/// How much longer than its kernels may take a worker has to say so itself.
const OVERDUE: Duration = Duration::from_secs(2);

/// What is known of a session.
struct Member {
    vgpu: Vgpu,
    /// Who pays what its vGPU owes when that is gone.
    account: String,
    terms: Terms,
    /// The devices that it sees, by the host's ordinals; empty: all.
    devices: Vec<u32>,
    limit: Option<Duration>,
    queue: mpsc::UnboundedSender<ToWorker>,
}

/// A session at one device.
#[derive(Clone, Copy, Default)]
struct Part {
    wants: bool,
    holds: bool,
    /// When it has come to be so.
    at: Duration,
}

/// A vGPU at one device: all its sessions there use one lease.
#[derive(Default)]
struct Holder {
    parts: BTreeMap<u64, Part>,
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    since: Duration,
    ends: Option<Duration>,
    shared: bool,
    used: Duration,
    overdue: Option<Duration>,
}

struct Device {
    /// Who had it last.
    last: Option<Vgpu>,
    scheduler: Scheduler,
    holders: HashMap<Vgpu, Holder>,
}

/// All devices and sessions. `now` is the time since any fixed beginning.
#[derive(Default)]
struct Table {
    members: HashMap<u64, Member>,
    devices: BTreeMap<u32, Device>,
    /// Times that a device went from one vGPU to another.
    switches: u64,
}

impl Member {
    /// The host's ordinal of a device of the session's.
    fn of_host(&self, device: u32) -> Option<u32> {
        let host = match self.devices[..] {
            [] => Some(device),
            _ => self.devices.get(device as usize).copied(),
        };
        host.filter(|host| *host < MOST_DEVICES)
    }

    /// The reverse.
    fn own(&self, host: u32) -> u32 {
        let at = self.devices.iter().position(|device| *device == host);
        at.map_or(host, |at| at as u32)
    }

    fn lease(&self, host: u32, slice: Option<Duration>, shared: bool) {
        self.say(ToWorker::Lease {
            device: self.own(host),
            slice_us: slice.map(micros),
            shared,
        });
    }

    fn say(&self, message: ToWorker) {
        // A worker that is gone hears nothing.
        let _ = self.queue.send(message);
    }
}

impl Table {
    fn want(&mut self, session: u64, device: u32, now: Duration) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        let Some(device) = member.of_host(device) else {
            return;
        };
        let vgpu = member.vgpu;
        let it = self.devices.entry(device).or_insert_with(|| Device {
            last: None,
            scheduler: Scheduler::new(Rules::default()),
            holders: HashMap::new(),
        });
        if !it.scheduler.knows(vgpu) {
            it.scheduler
                .set_of(&member.account, vgpu, member.terms, now);
        }
        let holder = it.holders.entry(vgpu).or_default();
        let part = holder.parts.entry(session).or_default();
        match holder.lease {
            // The vGPU's other sessions use the device: this one does too, for as long.
            Some(lease) if lease.ends.is_none_or(|ends| now < ends) => {
                *part = Part {
                    wants: false,
                    holds: true,
                    at: now,
                };
                let left = lease.ends.map(|ends| ends.saturating_sub(now));
                member.lease(device, left, lease.shared);
            }
            _ => {
                part.wants = true;
                if holder.lease.is_none() {
                    it.scheduler.want(vgpu, now);
                }
            }
        }
        self.settle(device, now);
    }

    fn yielded(&mut self, session: u64, device: u32, used: Duration, wants: bool, now: Duration) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        let own = device;
        let Some(device) = member.of_host(own) else {
            return;
        };
        let vgpu = member.vgpu;
        if let Some(it) = self.devices.get_mut(&device)
            && let Some(holder) = it.holders.get_mut(&vgpu)
            && let Some(part) = holder.parts.get_mut(&session)
            && part.holds
        {
            *part = Part {
                wants,
                holds: false,
                at: now,
            };
            if let Some(lease) = &mut holder.lease {
                lease.used += used;
            }
            it.given_back(vgpu, now);
        } else if wants {
            // What it had was granted by an earlier daemon.
            return self.want(session, own, now);
        }
        self.settle(device, now);
    }

    fn leave(&mut self, session: u64, now: Duration) {
        let Some(member) = self.members.remove(&session) else {
            return;
        };
        let devices: Vec<u32> = self.devices.keys().copied().collect();
        for device in devices {
            let Some(it) = self.devices.get_mut(&device) else {
                continue;
            };
            it.leave(session, member.vgpu, now);
            self.settle(device, now);
        }
        self.devices
            .retain(|_, it| !it.holders.is_empty() || it.scheduler.has_debts(now));
    }

    /// Since when a session has had no work for any device; `None`: it may have some.
    fn idle_since(&self, session: u64) -> Option<Duration> {
        let vgpu = self.members.get(&session)?.vgpu;
        let holders = self.devices.values().filter_map(|it| it.holders.get(&vgpu));
        let mut parts = holders.filter_map(|it| it.parts.get(&session));
        parts.try_fold(Duration::ZERO, |since, part| {
            let is_idle = !part.wants && !part.holds;
            is_idle.then(|| since.max(part.at))
        })
    }

    /// Does what the device's scheduler says.
    fn settle(&mut self, device: u32, now: Duration) {
        let Some(it) = self.devices.get_mut(&device) else {
            return;
        };
        for order in it.scheduler.orders(now) {
            match order {
                Order::Grant {
                    vgpu,
                    slice,
                    shared,
                } => {
                    let Some(holder) = it.holders.get_mut(&vgpu) else {
                        continue;
                    };
                    let last = it.last.replace(vgpu);
                    if last.is_some_and(|last| last != vgpu) {
                        self.switches += 1;
                    }
                    holder.lease = Some(Lease {
                        since: now,
                        ends: slice.map(|slice| now + slice),
                        shared,
                        used: Duration::ZERO,
                        overdue: None,
                    });
                    for (session, part) in &mut holder.parts {
                        if std::mem::take(&mut part.wants)
                            && let Some(member) = self.members.get(session)
                        {
                            part.holds = true;
                            member.lease(device, slice, shared);
                        }
                    }
                }
                Order::Ask { vgpu, within } => {
                    let Some(holder) = it.holders.get_mut(&vgpu) else {
                        continue;
                    };
                    if let Some(lease) = &mut holder.lease {
                        lease.ends = Some(now + within);
                    }
                    let within_us = micros(within);
                    for (session, part) in &holder.parts {
                        if part.holds
                            && let Some(member) = self.members.get(session)
                        {
                            member.say(ToWorker::Yield {
                                device: member.own(device),
                                within_us,
                            });
                        }
                    }
                }
                Order::Overdue { vgpu } => {
                    tracing::debug!(
                        device,
                        vgpu,
                        "others go on beside a lease that does not end"
                    );
                    if let Some(holder) = it.holders.get_mut(&vgpu)
                        && let Some(lease) = &mut holder.lease
                    {
                        lease.overdue = Some(now);
                    }
                }
            }
        }
    }

    /// When something is to be done though nothing is heard.
    fn wakes(&self) -> Option<Duration> {
        let orders = self.devices.values().filter_map(|it| it.scheduler.wakes());
        orders.chain(self.stuck().map(|(_, _, at)| at)).min()
    }

    /// Sessions whose kernels may not take that long, and when they are past it.
    fn stuck(&self) -> impl Iterator<Item = (u64, Duration, Duration)> + '_ {
        let holders = self.devices.values().flat_map(|it| it.holders.values());
        holders.flat_map(move |holder| {
            let overdue = holder.lease.and_then(|lease| lease.overdue);
            let holding = holder.parts.iter().filter(|(_, part)| part.holds);
            holding.filter_map(move |(session, _)| {
                let limit = self.members.get(session)?.limit?;
                // Others have used the device too, meanwhile.
                Some((*session, limit, overdue? + limit * 2 + OVERDUE))
            })
        })
    }

    fn due(&mut self, now: Duration) -> Vec<(u64, Duration)> {
        let devices: Vec<u32> = self.devices.keys().copied().collect();
        for device in devices {
            self.settle(device, now);
        }
        let stuck = self.stuck().filter(|(_, _, at)| *at <= now);
        let stuck: Vec<_> = stuck.map(|(session, limit, _)| (session, limit)).collect();
        for (session, _) in &stuck {
            // Once is enough.
            if let Some(member) = self.members.get_mut(session) {
                member.limit = None;
            }
        }
        stuck
    }
}

impl Device {
    /// One of the vGPU's sessions holds nothing any more; when none does, its lease is over.
    fn given_back(&mut self, vgpu: Vgpu, now: Duration) {
        let Some(holder) = self.holders.get_mut(&vgpu) else {
            return;
        };
        if holder.parts.values().any(|part| part.holds) {
            return;
        }
        if let Some(lease) = holder.lease.take() {
            // Sessions that are at work at the same time use the device once.
            let used = lease.used.min(now.saturating_sub(lease.since));
            let wants = holder.parts.values().any(|part| part.wants);
            self.scheduler.yielded(vgpu, used, wants, now);
        }
    }

    fn leave(&mut self, session: u64, vgpu: Vgpu, now: Duration) {
        let Some(holder) = self.holders.get_mut(&vgpu) else {
            return;
        };
        let Some(part) = holder.parts.remove(&session) else {
            return;
        };
        // One that ends while it holds the lease says no more what it has used; a kernel that has taken too long is an end like that.
        if part.holds
            && let Some(lease) = &mut holder.lease
        {
            lease.used += now.saturating_sub(lease.since.max(part.at));
        }
        let is_last = holder.parts.is_empty();
        if !is_last && !holder.parts.values().any(|part| part.wants) {
            self.scheduler.unwant(vgpu, now);
        }
        self.given_back(vgpu, now);
        if is_last {
            self.holders.remove(&vgpu);
            self.scheduler.remove(vgpu, now);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the daemon's tasks share.
pub struct Leases {
    table: RefCell<Table>,
    began: Instant,
    changed: Notify,
}

impl Leases {
    pub fn new() -> Leases {
        Leases {
            table: RefCell::default(),
            began: Instant::now(),
            changed: Notify::new(),
        }
    }

    /// A session begins. It is out again when what is returned is dropped; what its worker is to be told comes by the queue.
    pub fn enter(
        self: &Rc<Leases>,
        assign: &Assign,
        profile: &str,
    ) -> (Membership, mpsc::UnboundedReceiver<ToWorker>) {
        let (queue, messages) = mpsc::unbounded_channel();
        let priority = match assign.priority {
            control::Priority::Batch => Priority::Batch,
            control::Priority::Normal => Priority::Normal,
            control::Priority::Latency => Priority::Latency,
        };
        let caps = [assign.cap_percent, assign.share_percent];
        let terms = Terms {
            weight: assign.weight,
            cap_percent: caps.into_iter().flatten().min(),
            burst: match assign.burst_ms {
                0 => Terms::default().burst,
                millis => Duration::from_millis(millis.into()),
            },
            priority,
        };
        let limit = assign.kernel_time_limit_ms;
        let member = Member {
            vgpu: assign.vgpu,
            // Neither has control characters.
            account: format!("{}\0{profile}", assign.tenant),
            terms,
            devices: assign.devices.clone(),
            limit: limit.map(|millis| Duration::from_millis(millis.into())),
            queue,
        };
        self.table
            .borrow_mut()
            .members
            .insert(assign.session, member);
        let membership = Membership {
            leases: self.clone(),
            session: assign.session,
        };
        (membership, messages)
    }

    /// Times that a device went from one vGPU to another.
    pub fn switches(&self) -> u64 {
        self.table.borrow().switches
    }

    /// Since when a session has had no work for any device; `None`: it may have some.
    pub fn idle_since(&self, session: u64) -> Option<Instant> {
        let since = self.table.borrow().idle_since(session)?;
        Some(self.began + since)
    }

    /// A session's worker has work for a device.
    pub fn want(&self, session: u64, device: u32) {
        let now = self.began.elapsed();
        self.table.borrow_mut().want(session, device, now);
        self.changed.notify_one();
    }

    /// A session's worker has ended its lease.
    pub fn yielded(&self, session: u64, device: u32, used: Duration, wants: bool) {
        let now = self.began.elapsed();
        self.table
            .borrow_mut()
            .yielded(session, device, used, wants, now);
        self.changed.notify_one();
    }
}

/// A session's place among those who may want leases.
pub struct Membership {
    leases: Rc<Leases>,
    session: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let now = self.leases.began.elapsed();
        self.leases.table.borrow_mut().leave(self.session, now);
        self.leases.changed.notify_one();
    }
}

/// Does what is to be done when time has passed.
pub async fn watch(server: Rc<Server>) {
    let leases = server.leases.clone();
    loop {
        let wakes = leases.table.borrow().wakes();
        let late = async {
            match wakes {
                Some(at) => tokio::time::sleep_until((leases.began + at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => {}
            () = leases.changed.notified() => {}
        }
        let stuck = leases.table.borrow_mut().due(leases.began.elapsed());
        for (session, limit) in stuck {
            let reason = format!(
                "a kernel took longer than {} ms, the limit of the profile",
                limit.as_millis()
            );
            server.stop_session(
                session,
                End {
                    result: 702,
                    reason,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A table with sessions of these vGPUs, and what is said to each.
    fn table(vgpus: &[(u64, Vgpu)]) -> (Table, HashMap<u64, mpsc::UnboundedReceiver<ToWorker>>) {
        let mut table = Table::default();
        let mut heard = HashMap::new();
        for (session, vgpu) in vgpus {
            let (queue, messages) = mpsc::unbounded_channel();
            let member = Member {
                vgpu: *vgpu,
                account: vgpu.to_string(),
                terms: Terms::default(),
                devices: Vec::new(),
                limit: Some(ms(100)),
                queue,
            };
            table.members.insert(*session, member);
            heard.insert(*session, messages);
        }
        (table, heard)
    }

    type Heard = HashMap<u64, mpsc::UnboundedReceiver<ToWorker>>;

    fn next(heard: &mut Heard, session: u64) -> Option<ToWorker> {
        heard.get_mut(&session)?.try_recv().ok()
    }

    /// Until it is asked back.
    const LEASE: ToWorker = ToWorker::Lease {
        device: 0,
        slice_us: None,
        shared: false,
    };

    fn is_lease(message: Option<ToWorker>) -> bool {
        matches!(message, Some(ToWorker::Lease { device: 0, .. }))
    }

    #[test]
    fn sessions_of_one_vgpu_use_its_lease_together() {
        let (mut table, mut heard) = table(&[(1, 10), (2, 10), (3, 30)]);
        table.want(1, 0, ms(0));
        assert_eq!(next(&mut heard, 1), Some(LEASE));
        table.want(2, 0, ms(1));
        assert_eq!(next(&mut heard, 2), Some(LEASE));
        // Another vGPU waits for both.
        table.want(3, 0, ms(2));
        for session in [1, 2] {
            let asked = next(&mut heard, session);
            assert!(matches!(asked, Some(ToWorker::Yield { device: 0, .. })));
        }
        table.yielded(1, 0, ms(5), true, ms(7));
        assert_eq!(next(&mut heard, 3), None);
        table.yielded(2, 0, ms(5), false, ms(8));
        let idle = [1, 2, 3].map(|session| table.idle_since(session));
        assert_eq!(idle, [None, Some(ms(8)), None]);
        assert!(is_lease(next(&mut heard, 3)));
        // The first of the two wants it again, and gets it alone.
        table.yielded(3, 0, ms(12), true, ms(20));
        assert!(is_lease(next(&mut heard, 1)));
        assert_eq!(next(&mut heard, 2), None);
    }

    #[test]
    fn the_dead_give_back_what_they_hold() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2), (3, 2)]);
        table.want(1, 0, ms(0));
        table.want(2, 0, ms(0));
        table.want(3, 0, ms(0));
        table.leave(1, ms(1));
        assert!(is_lease(next(&mut heard, 2)));
        assert!(is_lease(next(&mut heard, 3)));
        table.leave(2, ms(2));
        table.leave(3, ms(3));
        assert!(table.devices.is_empty() && table.members.is_empty());
        // What they still say is not heard.
        table.want(2, 0, ms(4));
        table.yielded(3, 0, ms(1), true, ms(4));
        assert!(table.devices.is_empty());
    }

    #[test]
    fn who_dies_with_a_lease_has_used_it_and_the_next_one_owes_that() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2), (3, 3)]);
        for (session, account) in [(1, "a"), (2, "a"), (3, "b")] {
            let member = table.members.get_mut(&session).unwrap();
            member.account = account.to_owned();
            member.terms.cap_percent = Some(50);
        }
        table.want(1, 0, ms(0));
        assert!(is_lease(next(&mut heard, 1)));
        // It says nothing of what it has used, as one whose kernel has taken too long.
        table.leave(1, ms(1000));
        table.want(2, 0, ms(1000));
        assert_eq!(next(&mut heard, 2), None);
        // Its debt is not another's.
        table.want(3, 0, ms(1001));
        assert!(is_lease(next(&mut heard, 3)));
        table.yielded(3, 0, ms(1), false, ms(1002));
        // 475 ms too much, and as much more as it begins with.
        table.due(ms(1900));
        assert_eq!(next(&mut heard, 2), None);
        table.due(ms(2000));
        assert!(is_lease(next(&mut heard, 2)));
        table.yielded(2, 0, ms(10), false, ms(2010));
        for session in [2, 3] {
            table.leave(session, ms(2011));
        }
        // What is owed outlives the last, until it is paid.
        let device = table.devices.values_mut().next().unwrap();
        assert!(device.scheduler.has_debts(ms(2011)));
        assert!(!device.scheduler.has_debts(ms(9000)));
    }

    #[test]
    fn a_session_that_dies_with_the_lease_of_others_is_charged_for_it() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 1)]);
        for session in [1, 2] {
            table.members.get_mut(&session).unwrap().terms.cap_percent = Some(50);
        }
        table.want(1, 0, ms(0));
        table.want(2, 0, ms(0));
        assert!(is_lease(next(&mut heard, 1)) && is_lease(next(&mut heard, 2)));
        table.yielded(2, 0, ms(1), true, ms(2));
        table.leave(1, ms(1000));
        assert_eq!(next(&mut heard, 2), None);
        table.due(ms(2000));
        assert!(is_lease(next(&mut heard, 2)));
    }

    #[test]
    fn a_session_knows_its_devices_by_its_own_ordinals() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2)]);
        table.members.get_mut(&1).unwrap().devices = vec![5];
        table.want(1, 0, ms(0));
        table.want(1, 1, ms(0));
        assert_eq!(table.devices.keys().collect::<Vec<_>>(), [&5]);
        assert_eq!(next(&mut heard, 1), Some(LEASE));
        table.want(2, 5, ms(1));
        let asked = next(&mut heard, 1);
        assert!(matches!(asked, Some(ToWorker::Yield { device: 0, .. })));
        table.yielded(1, 0, ms(1), false, ms(2));
        let lease = next(&mut heard, 2);
        assert!(matches!(lease, Some(ToWorker::Lease { device: 5, .. })));
    }

    #[test]
    fn what_another_daemon_has_granted_ends_with_what_is_wanted() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2)]);
        table.yielded(1, 0, ms(5), false, ms(1));
        assert_eq!(next(&mut heard, 1), None);
        table.yielded(1, 0, ms(5), true, ms(2));
        assert_eq!(next(&mut heard, 1), Some(LEASE));
        table.yielded(2, 0, ms(5), true, ms(3));
        let asked = next(&mut heard, 1);
        assert!(matches!(asked, Some(ToWorker::Yield { device: 0, .. })));
        table.yielded(1, 0, ms(1), false, ms(4));
        assert!(is_lease(next(&mut heard, 2)));
    }

    #[test]
    fn devices_are_apart_and_bounded() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2)]);
        table.want(1, 0, ms(0));
        table.want(2, 1, ms(0));
        assert!(next(&mut heard, 1).is_some() && next(&mut heard, 2).is_some());
        table.want(1, MOST_DEVICES, ms(0));
        table.want(1, u32::MAX, ms(0));
        assert_eq!(table.devices.len(), 2);
    }

    #[test]
    fn one_who_does_not_end_its_lease_is_gone_around_and_then_ended() {
        let (mut table, mut heard) = table(&[(1, 1), (2, 2)]);
        table.want(1, 0, ms(0));
        table.want(2, 0, ms(0));
        let wakes = table.wakes().unwrap();
        assert_eq!(table.due(wakes), []);
        assert!(is_lease(next(&mut heard, 2)));
        let wakes = table.wakes().unwrap();
        assert_eq!(table.due(wakes), [(1, ms(100))]);
        assert_eq!(table.due(wakes + ms(1)), []);
    }
}
