//! Which device holds which lease, and what is to be done about it. Pure: what kubelet lists and the time are passed in.
//!
//! Kubelet says when it gives a device to a pod, and never that it has taken it back: what it no longer lists is gone. It lists nothing for a while
//! after its own start, so a device must be missing for a time that begins then.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// A device of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: String,
    pub device: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.resource, self.device)
    }
}

/// The devices that pods have, each with the pod's name.
pub type Listing = HashMap<Key, String>;

/// Times that the decisions follow.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub ttl: Duration,
    /// How long kubelet may not list a device that it has just given away, or anything after its own start.
    pub grace: Duration,
    /// How long it may not list a device that it has listed before.
    pub gone: Duration,
}

/// What a device holds.
#[derive(Clone, Debug)]
pub struct Holding {
    pub server: String,
    /// None: it is being claimed, or has been lost.
    pub lease: Option<String>,
    /// The pod that had it when kubelet listed it last.
    pub pod: Option<String>,
    /// Grows with each allocation: what was decided about an earlier one does not matter any more.
    pub turn: u64,
    missing: Option<Instant>,
    /// When it was claimed or renewed, or known first.
    since: Instant,
    is_due: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Renew(String),
    /// The pod lives and its lease does not.
    Claim,
    /// The pod is gone.
    Release,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub key: Key,
    pub server: String,
    pub turn: u64,
    pub what: What,
}

#[derive(Debug, Default)]
pub struct Ledger {
    held: BTreeMap<Key, Holding>,
    turns: u64,
}

impl Ledger {
    /// As an earlier run has left it.
    pub fn restore(
        entries: impl IntoIterator<Item = (Key, String, Option<String>)>,
        now: Instant,
    ) -> Ledger {
        let mut ledger = Ledger::default();
        for (key, server, lease) in entries {
            ledger.insert(key, server, lease, now);
        }
        ledger
    }

    fn insert(&mut self, key: Key, server: String, lease: Option<String>, now: Instant) {
        self.turns += 1;
        let holding = Holding {
            server,
            lease,
            pod: None,
            turn: self.turns,
            missing: None,
            since: now,
            is_due: true,
        };
        self.held.insert(key, holding);
    }

    pub fn get(&self, key: &Key) -> Option<&Holding> {
        self.held.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Holding)> {
        self.held.iter()
    }

    /// How many devices hold something of each server.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for holding in self.held.values() {
            *counts.entry(holding.server.clone()).or_default() += 1;
        }
        counts
    }

    /// A lease is about to be claimed there, for a new pod.
    pub fn begin(&mut self, key: &Key, server: &str, now: Instant) {
        self.insert(key.clone(), server.to_owned(), None, now);
    }

    /// It has been claimed.
    pub fn claimed(&mut self, key: &Key, lease: &str, now: Instant) {
        if let Some(holding) = self.held.get_mut(key) {
            holding.lease = Some(lease.to_owned());
            holding.since = now;
            holding.is_due = false;
        }
    }

    pub fn renewed(&mut self, key: &Key, now: Instant) {
        if let Some(holding) = self.held.get_mut(key) {
            holding.since = now;
            holding.is_due = false;
        }
    }

    /// The server does not know the lease any more.
    pub fn lost(&mut self, key: &Key) {
        if let Some(holding) = self.held.get_mut(key) {
            holding.lease = None;
        }
    }

    pub fn remove(&mut self, key: &Key) {
        self.held.remove(key);
    }

    /// The server has ended the lease by itself by now, whether it can be asked or not.
    pub fn has_lapsed(&self, key: &Key, now: Instant, ttl: Duration) -> bool {
        let held = self.held.get(key);
        held.is_some_and(|holding| now.saturating_duration_since(holding.since) >= ttl)
    }

    /// What is to be done now. `listed`: what pods have, if kubelet has said so; `kubelet`: since when it runs, as far as is known;
    /// `home`: the server of a device that is listed and not known here, as after the state was lost.
    pub fn plan(
        &mut self,
        now: Instant,
        listed: Option<&Listing>,
        kubelet: Instant,
        rules: &Rules,
        home: impl Fn(&Key) -> Option<String>,
    ) -> Vec<Task> {
        for key in listed.into_iter().flat_map(Listing::keys) {
            if let (None, Some(server)) = (self.held.get(key), home(key)) {
                self.insert(key.clone(), server, None, now);
            }
        }
        let settled = now.saturating_duration_since(kubelet) >= rules.grace;
        let tasks = self.held.iter_mut().filter_map(|(key, holding)| {
            let what = holding.decide(key, now, listed, settled, rules)?;
            Some(Task {
                key: key.clone(),
                server: holding.server.clone(),
                turn: holding.turn,
                what,
            })
        });
        tasks.collect()
    }
}

impl Holding {
    fn decide(
        &mut self,
        key: &Key,
        now: Instant,
        listed: Option<&Listing>,
        settled: bool,
        rules: &Rules,
    ) -> Option<What> {
        let pod = listed.and_then(|listed| listed.get(key));
        match (listed, pod) {
            // Not to know is not to miss.
            (None, _) => self.missing = None,
            (_, Some(pod)) => {
                self.missing = None;
                self.pod = Some(pod.clone());
            }
            (Some(_), None) => {
                let missing = *self.missing.get_or_insert(now);
                let patience = match self.pod {
                    Some(_) => rules.gone,
                    None => rules.grace,
                };
                if settled && now.saturating_duration_since(missing) >= patience {
                    return Some(What::Release);
                }
            }
        }
        match &self.lease {
            None => pod.map(|_| What::Claim),
            Some(lease) => {
                let age = now.saturating_duration_since(self.since);
                let is_due = self.is_due || age >= rules.ttl / 3;
                is_due.then(|| What::Renew(lease.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        ttl: Duration::from_secs(600),
        grace: Duration::from_secs(60),
        gone: Duration::from_secs(5),
    };

    fn key(device: &str) -> Key {
        Key {
            resource: "rgpu.io/vgpu".into(),
            device: device.into(),
        }
    }

    fn listing(devices: &[&str]) -> Listing {
        let devices = devices.iter();
        devices
            .map(|device| (key(device), "ns/pod".into()))
            .collect()
    }

    /// A ledger, with its clock.
    struct Clock {
        start: Instant,
        kubelet: Instant,
        ledger: Ledger,
    }

    impl Clock {
        fn new() -> Clock {
            let start = Instant::now();
            Clock {
                start,
                kubelet: start,
                ledger: Ledger::default(),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn allocate(&mut self, device: &str, seconds: u64) {
            let now = self.at(seconds);
            self.ledger.begin(&key(device), "s", now);
            self.ledger.claimed(&key(device), "lease", now);
        }

        fn plan(&mut self, seconds: u64, listed: Option<&[&str]>) -> Vec<What> {
            let (now, listed) = (self.at(seconds), listed.map(listing));
            let tasks = self
                .ledger
                .plan(now, listed.as_ref(), self.kubelet, &RULES, |_| {
                    Some("s".into())
                });
            tasks.into_iter().map(|task| task.what).collect()
        }
    }

    #[test]
    fn a_lease_is_renewed_while_its_pod_lives() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        assert_eq!(clock.plan(5, Some(&["a"])), []);
        assert_eq!(clock.plan(199, Some(&["a"])), []);
        assert_eq!(clock.plan(200, Some(&["a"])), [What::Renew("lease".into())]);
        let now = clock.at(201);
        clock.ledger.renewed(&key("a"), now);
        assert_eq!(clock.plan(205, Some(&["a"])), []);
    }

    #[test]
    fn a_pod_that_is_gone_leaves_nothing() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        assert_eq!(clock.plan(100, Some(&["a"])), []);
        // Once is not enough.
        assert_eq!(clock.plan(105, Some(&[])), []);
        assert_eq!(clock.plan(110, Some(&[])), [What::Release]);
        clock.ledger.remove(&key("a"));
        assert_eq!(clock.plan(115, Some(&[])), []);
    }

    #[test]
    fn a_pod_that_has_not_begun_has_its_grace() {
        let mut clock = Clock::new();
        clock.allocate("a", 1000 - 2 * 60);
        assert_eq!(clock.plan(885, Some(&[])), []);
        assert_eq!(clock.plan(940, Some(&[])), []);
        assert_eq!(clock.plan(945, Some(&[])), [What::Release]);
    }

    #[test]
    fn a_kubelet_that_has_just_begun_is_not_believed_that_there_are_no_pods() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        assert_eq!(clock.plan(100, Some(&["a"])), []);
        clock.kubelet = clock.at(101);
        assert_eq!(clock.plan(105, Some(&[])), []);
        assert_eq!(clock.plan(160, Some(&[])), []);
        assert_eq!(clock.plan(161, Some(&[])), [What::Release]);
    }

    #[test]
    fn while_kubelet_says_nothing_nothing_is_released() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        clock.plan(100, Some(&["a"]));
        assert_eq!(clock.plan(105, Some(&[])), []);
        assert_eq!(clock.plan(200, None), [What::Renew("lease".into())]);
        // Missing begins anew.
        assert_eq!(clock.plan(205, Some(&[])), [What::Renew("lease".into())]);
        assert_eq!(clock.plan(210, Some(&[])), [What::Release]);
    }

    #[test]
    fn a_lost_lease_is_claimed_again_while_the_pod_lives() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        clock.plan(100, Some(&["a"]));
        clock.ledger.lost(&key("a"));
        assert_eq!(clock.plan(101, Some(&["a"])), [What::Claim]);
        assert_eq!(clock.plan(102, None), []);
    }

    #[test]
    fn what_is_listed_and_not_known_is_claimed() {
        let mut clock = Clock::new();
        assert_eq!(clock.plan(0, Some(&["a"])), [What::Claim]);
        assert_eq!(clock.ledger.get(&key("a")).unwrap().server, "s");
        let listed = listing(&["b"]);
        let (now, kubelet) = (clock.at(1), clock.kubelet);
        let tasks = clock
            .ledger
            .plan(now, Some(&listed), kubelet, &RULES, |_| None);
        assert_eq!(tasks, []);
    }

    #[test]
    fn what_an_earlier_run_left_is_renewed_at_once() {
        let mut clock = Clock::new();
        let entry = (key("a"), "s".to_owned(), Some("lease".to_owned()));
        clock.ledger = Ledger::restore([entry], clock.start);
        assert_eq!(clock.plan(0, None), [What::Renew("lease".into())]);
        assert!(!clock.ledger.has_lapsed(&key("a"), clock.at(599), RULES.ttl));
        assert!(clock.ledger.has_lapsed(&key("a"), clock.at(600), RULES.ttl));
    }

    #[test]
    fn a_new_pod_is_not_judged_by_an_earlier_one() {
        let mut clock = Clock::new();
        clock.allocate("a", 0);
        clock.plan(100, Some(&["a"]));
        clock.plan(105, Some(&[]));
        let turn = clock.ledger.get(&key("a")).unwrap().turn;
        clock.allocate("a", 106);
        assert_ne!(clock.ledger.get(&key("a")).unwrap().turn, turn);
        assert_eq!(clock.plan(112, Some(&[])), []);
    }
}
