//! Whose job is next: deficit round robin between owners, and between the functions of each. Pure.
//!
//! Everyone who waits gets the same share of the runner's time, however many jobs they have and however long these take:
//! a start costs what the function's jobs usually take, and whoever's turn it is may spend as much as the most expensive
//! one costs. A function's priority counts among those of its owner alone, so that nobody gets ahead of others by it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What is not known yet is taken to last so many seconds.
const UNKNOWN: f64 = 1.0;
/// Costs are kept within these bounds, in seconds.
const LEAST: f64 = 0.01;
const MOST: f64 = 3600.0;
/// How much the newest job counts in a function's mean.
const NEWEST: f64 = 0.2;

/// One level of turns.
#[derive(Debug)]
struct Rounds<K> {
    /// Whose turn it is stands in front; what each may still spend.
    waiting: VecDeque<(K, f64)>,
    /// The one in front has had its share of this round.
    has_share: bool,
}

impl<K> Default for Rounds<K> {
    fn default() -> Self {
        Rounds {
            waiting: VecDeque::new(),
            has_share: false,
        }
    }
}

impl<K: Eq + Hash + Clone> Rounds<K> {
    /// Chooses among those that wait now, each with the cost of its next job. Those that do not wait lose their place.
    fn next(&mut self, costs: &HashMap<K, f64>) -> Option<K> {
        let front = self.waiting.front().map(|(key, _)| key.clone());
        self.waiting.retain(|(key, _)| costs.contains_key(key));
        if self.waiting.front().map(|(key, _)| key) != front.as_ref() {
            self.has_share = false;
        }
        let mut new: Vec<&K> = costs.keys().collect();
        new.retain(|key| self.waiting.iter().all(|(known, _)| known != *key));
        self.waiting
            .extend(new.into_iter().map(|key| (key.clone(), 0.0)));
        // So much that nobody has to wait for more than one round.
        let share = costs.values().copied().fold(LEAST, f64::max);
        loop {
            let (key, may_spend) = self.waiting.front_mut()?;
            if !self.has_share {
                *may_spend += share;
                self.has_share = true;
            }
            let cost = costs.get(key).copied().unwrap_or(share);
            if *may_spend >= cost {
                *may_spend -= cost;
                return Some(key.clone());
            }
            self.waiting.rotate_left(1);
            self.has_share = false;
        }
    }
}

/// A function of an owner that has a job which could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub owner: &'a str,
    pub function: &'a str,
    pub priority: i32,
}

/// Turns between owners and functions.
#[derive(Debug, Default)]
pub struct Turns {
    owners: Rounds<String>,
    functions: HashMap<String, Rounds<String>>,
    /// Mean seconds of each function's jobs.
    means: HashMap<String, f64>,
}

impl Turns {
    /// Which of these is next; None if there are none.
    pub fn choose(&mut self, candidates: &[Candidate<'_>]) -> Option<usize> {
        // Each owner's most urgent ones.
        let mut urgent: HashMap<&str, i32> = HashMap::new();
        for candidate in candidates {
            let most = urgent.entry(candidate.owner).or_insert(i32::MIN);
            *most = (*most).max(candidate.priority);
        }
        let mut by_owner: HashMap<String, HashMap<String, f64>> = HashMap::new();
        for candidate in candidates {
            if urgent.get(candidate.owner) == Some(&candidate.priority) {
                let functions = by_owner.entry(candidate.owner.to_owned()).or_default();
                functions.insert(candidate.function.to_owned(), self.cost(candidate.function));
            }
        }
        self.functions
            .retain(|owner, _| by_owner.contains_key(owner));
        // An owner's next job is not chosen yet; the mean of those that it could be is near enough.
        let costs = by_owner.iter().map(|(owner, functions)| {
            let mean = functions.values().sum::<f64>() / functions.len() as f64;
            (owner.clone(), mean)
        });
        let owner = self.owners.next(&costs.collect())?;
        let rounds = self.functions.entry(owner.clone()).or_default();
        let function = rounds.next(by_owner.get(&owner)?)?;
        let priority = urgent.get(owner.as_str()).copied()?;
        candidates
            .iter()
            .position(|it| it.owner == owner && it.function == function && it.priority == priority)
    }

    fn cost(&self, function: &str) -> f64 {
        self.means.get(function).copied().unwrap_or(UNKNOWN)
    }

    /// An attempt of this function has taken so long.
    pub fn took(&mut self, function: &str, seconds: f64) {
        let seconds = seconds.clamp(LEAST, MOST);
        let mean = self.means.entry(function.to_owned()).or_insert(seconds);
        *mean += (seconds - *mean) * NEWEST;
    }

    /// A function that is no more.
    pub fn forget(&mut self, function: &str) {
        self.means.remove(function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn of<'a>(owner: &'a str, function: &'a str, priority: i32) -> Candidate<'a> {
        Candidate {
            owner,
            function,
            priority,
        }
    }

    /// How often each was chosen of `rounds`, with all of them always waiting.
    fn count(
        turns: &mut Turns,
        all: &[Candidate<'_>],
        rounds: usize,
    ) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..rounds {
            let chosen = all[turns.choose(all).unwrap()];
            *counts
                .entry((chosen.owner.to_owned(), chosen.function.to_owned()))
                .or_default() += 1;
        }
        counts
    }

    fn key(owner: &str, function: &str) -> (String, String) {
        (owner.to_owned(), function.to_owned())
    }

    #[test]
    fn owners_share_evenly_however_many_functions_they_have() {
        let all = [
            of("a", "f", 0),
            of("b", "g", 0),
            of("b", "h", 0),
            of("b", "i", 0),
        ];
        let counts = count(&mut Turns::default(), &all, 600);
        assert_eq!(counts[&key("a", "f")], 300);
        for function in ["g", "h", "i"] {
            assert_eq!(counts[&key("b", function)], 100);
        }
    }

    #[test]
    fn long_jobs_get_fewer_turns() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.took("long", 10.0);
            turns.took("short", 1.0);
        }
        let counts = count(&mut turns, &[of("a", "long", 0), of("a", "short", 0)], 1100);
        assert_eq!(counts[&key("a", "long")], 100);
        assert_eq!(counts[&key("a", "short")], 1000);
        let counts = count(&mut turns, &[of("a", "long", 0), of("b", "short", 0)], 1100);
        assert!(counts[&key("a", "long")].abs_diff(100) <= 1, "{counts:?}");
    }

    #[test]
    fn priority_counts_among_an_owners_own() {
        let all = [of("a", "low", -5), of("a", "high", 5), of("b", "other", 0)];
        let counts = count(&mut Turns::default(), &all, 100);
        assert_eq!(counts[&key("a", "high")], 50);
        assert_eq!(counts[&key("b", "other")], 50);
        assert!(!counts.contains_key(&key("a", "low")));
    }

    #[test]
    fn nobody_saves_up_while_away() {
        let mut turns = Turns::default();
        let (a, b) = (of("a", "f", 0), of("b", "g", 0));
        count(&mut turns, &[a, b], 10);
        count(&mut turns, &[b], 1000);
        let counts = count(&mut turns, &[a, b], 100);
        assert!(counts[&key("a", "f")].abs_diff(50) <= 1, "{counts:?}");
        assert_eq!(turns.choose(&[]), None);
        assert!(turns.owners.waiting.len() <= 2);
    }

    proptest::proptest! {
        /// Whatever comes and goes: nobody who waits is passed over for long. With means of 1 to 2 s a turn is worth 3 jobs
        /// at most, and there are three others.
        #[test]
        fn whoever_waits_is_served(
            rounds in proptest::collection::vec((0u8..8, 1.0f64..2.0), 1..200),
        ) {
            let mut turns = Turns::default();
            let (owners, functions) = (["a", "b", "c"], ["f", "g", "h"]);
            let mut passed_over = 0;
            for (who, seconds) in &rounds {
                let mut all: Vec<Candidate<'_>> = (0..3usize)
                    .filter(|at| who & (1 << at) != 0)
                    .map(|at| of(owners[at], functions[at], 0))
                    .collect();
                all.push(of("always", "z", 0));
                let chosen = all[turns.choose(&all).unwrap()];
                turns.took(chosen.function, *seconds);
                passed_over = if chosen.owner == "always" { 0 } else { passed_over + 1 };
                proptest::prop_assert!(passed_over <= 9, "{passed_over}");
            }
        }
    }
}
