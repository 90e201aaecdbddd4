//! Functions of the client's program that streams have come to. The driver's thread that calls one stands here until the client says that
//! it has returned, or the session is over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What kind of function it is, and so how the client calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of cuLaunchHostFunc.
    Plain = 0,
    /// Of cuStreamAddCallback, which is told its stream.
    Callback = 1,
    /// A destructor, for which nobody waits.
    Detached = 2,
    /// Of a graph's node.
    Node = 3,
}

/// A function of the client's: its address and argument mean nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCall {
    pub kind: Kind,
    pub stream: u64,
    pub status: u32,
    pub function: u64,
    pub data: u64,
    /// Whose streams go on when it has returned.
    pub device: u32,
}

#[derive(Default)]
struct Calls {
    ready: VecDeque<(u64, HostCall)>,
    /// Numbers of those that a driver's thread waits for, and their devices.
    awaited: HashMap<u64, u32>,
    last: u64,
    closed: bool,
}

#[derive(Default)]
pub struct HostCalls {
    calls: Mutex<Calls>,
    changed: Condvar,
}

impl HostCalls {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, call: HostCall) -> (MutexGuard<'_, Calls>, u64) {
        let mut calls = self.calls();
        calls.last += 1;
        let number = calls.last;
        if !calls.closed {
            calls.ready.push_back((number, call));
            self.changed.notify_all();
        }
        (calls, number)
    }

    /// Has the client call it, and waits until that has returned.
    pub fn run(&self, call: HostCall) {
        let (mut calls, number) = self.add(call);
        calls.awaited.insert(number, call.device);
        while !calls.closed && calls.awaited.contains_key(&number) {
            calls = self
                .changed
                .wait(calls)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has the client call it some time.
    pub fn post(&self, call: HostCall) {
        drop(self.add(call));
    }

    /// Whether streams stand at a function.
    pub fn is_waiting(&self) -> bool {
        !self.calls().awaited.is_empty()
    }

    /// The device that goes on when the function of that number has returned.
    pub fn device(&self, number: u64) -> Option<u32> {
        self.calls().awaited.get(&number).copied()
    }

    /// The function of that number has returned.
    pub fn returned(&self, number: u64) {
        if self.calls().awaited.remove(&number).is_some() {
            self.changed.notify_all();
        }
    }

    /// Waits for the next one. `None` when the session is over.
    pub fn next(&self) -> Option<(u64, HostCall)> {
        let mut calls = self.calls();
        loop {
            if calls.closed {
                return None;
            }
            if let Some(next) = calls.ready.pop_front() {
                return Some(next);
            }
            calls = self
                .changed
                .wait(calls)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets everybody go, now and later.
    pub fn close(&self) {
        let mut calls = self.calls();
        calls.closed = true;
        calls.ready.clear();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn call(function: u64) -> HostCall {
        HostCall {
            kind: Kind::Plain,
            stream: 0,
            status: 0,
            function,
            data: 1,
            device: 3,
        }
    }

    #[test]
    fn a_driver_s_thread_waits_for_its_own_function() {
        let hosts = Arc::new(HostCalls::default());
        let waiting = hosts.clone();
        let driver = std::thread::spawn(move || waiting.run(call(7)));
        let (number, next) = hosts.next().unwrap();
        assert_eq!(next, call(7));
        assert!(hosts.is_waiting() && !driver.is_finished());
        assert_eq!(hosts.device(number), Some(3));
        hosts.post(call(8));
        // Nobody waits for a number that is not its own.
        hosts.returned(number + 100);
        let (posted, next) = hosts.next().unwrap();
        assert_eq!(next, call(8));
        assert!(!driver.is_finished());
        assert_eq!(hosts.device(posted), None);
        hosts.post(call(9));
        hosts.returned(number);
        assert_eq!(hosts.next().unwrap().1, call(9));
        driver.join().unwrap();
        assert_ne!(posted, number);
    }

    #[test]
    fn the_end_of_the_session_lets_everybody_go() {
        let hosts = Arc::new(HostCalls::default());
        let waiting = hosts.clone();
        let driver = std::thread::spawn(move || waiting.run(call(7)));
        hosts.next().unwrap();
        let waiting = hosts.clone();
        let client = std::thread::spawn(move || waiting.next());
        hosts.close();
        driver.join().unwrap();
        assert_eq!(client.join().unwrap(), None);
        hosts.run(call(8));
        assert_eq!(hosts.next(), None);
    }
}
