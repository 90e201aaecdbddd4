//! Workers that have loaded their driver before anybody needs one: a first cuInit takes a fifth of a second on NVIDIA's driver, and a function
//! has better things to wait for.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use crate::isolation::Isolation;
use crate::settings::Settings;
use crate::worker::Fresh;

/// By the device that they see; `None`: all.
#[derive(Default)]
pub struct Pool(RefCell<HashMap<Option<u32>, VecDeque<Fresh>>>);

impl Pool {
    /// One that is still alive.
    pub fn take(&self, device: Option<u32>) -> Option<Fresh> {
        let mut idle = self.0.borrow_mut();
        let idle = idle.get_mut(&device)?;
        std::iter::from_fn(|| idle.pop_front()).find_map(Fresh::if_alive)
    }

    pub fn put(&self, device: Option<u32>, fresh: Fresh) {
        let mut idle = self.0.borrow_mut();
        idle.entry(device).or_default().push_back(fresh);
    }

    /// Starts what is missing. Called when a session has begun, so that its own start has the machine for itself; and not again and again if
    /// workers end by themselves. `uuid`: of the device, if it is not all.
    pub fn fill(
        &self,
        settings: &Settings,
        isolation: &Isolation,
        device: Option<u32>,
        uuid: Option<&str>,
    ) {
        let mut idle = self.0.borrow_mut();
        let idle = idle.entry(device).or_default();
        while idle.len() < settings.ready_workers as usize {
            match Fresh::exec(settings, isolation, &[], uuid) {
                Ok(fresh) => idle.push_back(fresh),
                Err(error) => {
                    return tracing::warn!(%error, "no worker can be started ahead");
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.0.borrow().values().map(VecDeque::len).sum()
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
