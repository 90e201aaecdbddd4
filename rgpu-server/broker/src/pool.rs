//! Workers that have loaded their driver before anybody needs one: a first cuInit takes a fifth of a second on NVIDIA's driver, and a function
//! has better things to wait for. Where sessions come faster than one worker starts, more of them are kept ahead for a while.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::server::Server;
use crate::worker::Fresh;

/// So many times as many as are asked for, at most, while sessions come fast.
const MORE: usize = 4;
/// After so long without a session that had to wait for its worker there are as many as before.
pub const CALM: Duration = Duration::from_secs(10);

/// Those that see the same devices.
#[derive(Default)]
struct Kind {
    idle: VecDeque<Fresh>,
    /// When a session came last for which no worker was ready, and how many are kept since.
    short: Option<(Instant, usize)>,
}

impl Kind {
    fn wanted(&self, asked: usize) -> usize {
        match self.short {
            Some((_, wanted)) if self.is_short() => wanted.max(asked),
            _ => asked,
        }
    }

    fn is_short(&self) -> bool {
        self.short.is_some_and(|(at, _)| at.elapsed() < CALM)
    }
}

/// By the device that they see; `None`: all.
#[derive(Default)]
pub struct Pool(RefCell<HashMap<Option<u32>, Kind>>);

impl Pool {
    /// One that is still alive; `asked`: how many are to be kept.
    pub fn take(&self, device: Option<u32>, asked: u32) -> Option<Fresh> {
        let asked = asked as usize;
        let mut kinds = self.0.borrow_mut();
        let kind = kinds.entry(device).or_default();
        let was_there = !kind.idle.is_empty();
        let taken = std::iter::from_fn(|| kind.idle.pop_front()).find_map(Fresh::if_alive);
        // One that has died says nothing of how fast sessions come.
        if !taken.as_ref().map_or(was_there, Fresh::has_spoken) {
            let more = (2 * kind.wanted(asked)).min(MORE * asked);
            kind.short = Some((Instant::now(), more));
        }
        taken
    }

    /// Whether a session has come lately for which no worker was ready.
    pub fn is_short(&self) -> bool {
        self.0.borrow().values().any(Kind::is_short)
    }

    pub fn put(&self, device: Option<u32>, fresh: Fresh) {
        let mut kinds = self.0.borrow_mut();
        kinds.entry(device).or_default().idle.push_back(fresh);
    }

    /// Starts what is missing. Called when a session has begun, and not again and again if
    /// workers end by themselves. `uuid`: of the device, if it is not all.
    pub fn fill(&self, server: &Server, device: Option<u32>, uuid: Option<&str>) {
        let mut kinds = self.0.borrow_mut();
        let kind = kinds.entry(device).or_default();
        while kind.idle.len() < kind.wanted(server.settings.ready_workers as usize) {
            match Fresh::exec(server, &[], uuid) {
                Ok(fresh) => kind.idle.push_back(fresh),
                Err(error) => {
                    return tracing::warn!(%error, "no worker can be started ahead");
                }
            }
        }
    }

    /// Ends those that no session has had to wait for lately.
    pub fn trim(&self, asked: u32) {
        for kind in self.0.borrow_mut().values_mut() {
            let wanted = kind.wanted(asked as usize);
            kind.idle.truncate(wanted);
        }
    }

    pub fn len(&self) -> usize {
        self.0.borrow().values().map(|kind| kind.idle.len()).sum()
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
