//! What has happened since the start, counted where the journal writes it, and by whom it was asked. For metrics.

use crate::journal::Job;
use crate::state::JobState;
use crate::time::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};
use tokio::sync::mpsc;

/// Functions that are told apart; who may make functions could else make series without end.
const MAX_FUNCTIONS: usize = 500;
/// What the others are together. No function has such a name.
const OTHERS: &str = "(others)";

/// Seconds from an event to the start of its process: a few milliseconds on a machine with room, minutes in a queue.
const STARTS: [f64; 14] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0,
];
/// Seconds to the end of the job.
const ENDS: [f64; 14] = [
    0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0,
];

pub type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub struct Figures {
    functions: Mutex<BTreeSet<String>>,
    events: Counters,
    attempts: Counters,
    retries: Counters,
    ended: Counters,
    starts: Times,
    ends: Times,
    requests: Counters,
    /// Who wants to hear of jobs that are over.
    watcher: OnceLock<mpsc::Sender<String>>,
}

impl Default for Figures {
    fn default() -> Figures {
        let starts: fn() -> Histogram = || Histogram::new(STARTS);
        let ends: fn() -> Histogram = || Histogram::new(ENDS);
        Figures {
            functions: Mutex::default(),
            events: Counters::default(),
            attempts: Counters::default(),
            retries: Counters::default(),
            ended: Counters::default(),
            starts: Times::new_with_constructor(starts),
            ends: Times::new_with_constructor(ends),
            requests: Counters::default(),
            watcher: OnceLock::new(),
        }
    }
}

fn add(counters: &Counters, labels: Labels, count: u64) {
    counters.get_or_create(&labels).inc_by(count);
}

impl Figures {
    /// The name of a function as a label.
    pub fn label(&self, function: &str) -> String {
        let mut known = self.functions.lock().unwrap_or_else(|e| e.into_inner());
        if known.contains(function) {
            return function.to_owned();
        }
        if known.len() >= MAX_FUNCTIONS {
            return OTHERS.to_owned();
        }
        known.insert(function.to_owned());
        function.to_owned()
    }

    fn of(&self, function: &str) -> Labels {
        vec![("function", self.label(function))]
    }

    /// What became of events of a kind: `new`, `known`, `ignored` or `refused`.
    pub fn events(&self, kind: &'static str, outcome: &'static str, count: u64) {
        let labels = vec![("kind", kind.into()), ("outcome", outcome.into())];
        add(&self.events, labels, count);
    }

    /// An attempt has begun.
    pub fn attempt(&self, function: &str) {
        add(&self.attempts, self.of(function), 1);
    }

    /// A job's first process exists.
    pub fn started(&self, function: &str, submitted: Timestamp, now: Timestamp) {
        let times = self.starts.get_or_create_owned(&self.of(function));
        times.observe(now.since(submitted).as_secs_f64());
    }

    pub fn retry(&self, function: &str) {
        add(&self.retries, self.of(function), 1);
    }

    pub fn ended(&self, job: &Job, to: JobState, now: Timestamp) {
        let mut labels = self.of(&job.function);
        let times = self.ends.get_or_create_owned(&labels);
        times.observe(now.since(job.t_submitted).as_secs_f64());
        labels.push(("state", to.to_string()));
        add(&self.ended, labels, 1);
        if let Some(watcher) = self.watcher.get() {
            // Who does not keep up misses some: nobody waits for it.
            let _ = watcher.try_send(job.id.clone());
        }
    }

    /// The names of jobs, as each is over. One may listen.
    pub fn watch(&self, most: usize) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(most);
        let _ = self.watcher.set(sender);
        receiver
    }

    /// A request was answered. `route`: as the router has it, with its parameters' names.
    pub fn request(&self, method: &'static str, route: &str, status: u16) {
        let labels = vec![
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        add(&self.requests, labels, 1);
    }

    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("events", "What became of events, by kind", &self.events),
            ("attempts", "Attempts that have begun", &self.attempts),
            (
                "retries",
                "Attempts that failed and whose job is tried again",
                &self.retries,
            ),
            ("jobs_ended", "Jobs that are over, by how", &self.ended),
            ("requests", "Requests that were answered", &self.requests),
        ];
        for (name, help, counters) in counters {
            registry.register(name, help, counters.clone());
        }
        for (name, help, times) in [
            (
                "start",
                "From a job's submission to its first process",
                &self.starts,
            ),
            ("end", "From a job's submission to its end", &self.ends),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, times.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_functions_are_told_apart() {
        let figures = Figures::default();
        for number in 0..2 * MAX_FUNCTIONS {
            figures.attempt(&format!("f{number}"));
        }
        assert_eq!(figures.label("f7"), "f7");
        assert_eq!(figures.label("f999"), OTHERS);
        let mut registry = Registry::default();
        figures.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("attempts_total{"));
        assert_eq!(lines.count(), MAX_FUNCTIONS + 1);
        assert!(
            text.contains("attempts_total{function=\"(others)\"} 500"),
            "{text}"
        );
    }
}
