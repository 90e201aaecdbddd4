//! Workers that have loaded their driver before anybody needs one: a first cuInit takes a fifth of a second on NVIDIA's driver, and a function
//! has better things to wait for.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::settings::Settings;
use crate::worker::Fresh;

#[derive(Default)]
pub struct Pool(RefCell<VecDeque<Fresh>>);

impl Pool {
    /// One that is still alive.
    pub fn take(&self) -> Option<Fresh> {
        let mut idle = self.0.borrow_mut();
        std::iter::from_fn(|| idle.pop_front()).find_map(Fresh::if_alive)
    }

    /// Starts what is missing. Called when a session has begun, so that its own start has the machine for itself; and not again and again if
    /// workers end by themselves.
    pub fn fill(&self, settings: &Settings) {
        let mut idle = self.0.borrow_mut();
        while idle.len() < settings.ready_workers as usize {
            match Fresh::exec(settings, &[]) {
                Ok(fresh) => idle.push_back(fresh),
                Err(error) => {
                    return tracing::warn!(%error, "no worker can be started ahead");
                }
            }
        }
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
