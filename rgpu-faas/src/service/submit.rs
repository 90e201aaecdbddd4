//! Events become jobs.

use super::{Result, Service, ServiceError};
use crate::event::{self, Event, FileEvent, Input};
use crate::function::Channel;
use crate::journal::{NewJob, Submitted};
use crate::runner;
use crate::time::Timestamp;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A place among the calls that wait for a function's jobs; given back when this goes.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Mutex<HashMap<String, u32>>>,
    function: String,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = waiters.get_mut(&self.function) {
            *count -= 1;
            if *count == 0 {
                waiters.remove(&self.function);
            }
        }
    }
}

impl Service {
    /// Makes a job of a function for an event of any kind, unless it has had one. A body that was kept for an event which
    /// makes no job goes again.
    pub fn submit(&self, function: &str, event: Event) -> Result<Submitted> {
        let payload = match &event.input {
            Input::Kept { payload, .. } => Some(payload.clone()),
            _ => None,
        };
        let submitted = self.make_job(function, event);
        if let (Some(payload), Err(_) | Ok(Submitted::Known(_))) = (payload, &submitted)
            && !self.journal.needs_payload(&payload)?
            && let Err(error) = self.payloads.remove(&payload)
        {
            tracing::warn!(%payload, %error, "a body that is not needed stays until the next start");
        }
        submitted
    }

    fn make_job(&self, function: &str, event: Event) -> Result<Submitted> {
        let entry = self.registry.get(function);
        let entry = entry.ok_or_else(|| ServiceError::NoSuchFunction(function.to_owned()))?;
        event.check().map_err(ServiceError::Refused)?;
        if let Input::Kept { name, .. } = &event.input
            && !runner::is_file_name(name)
        {
            return Err(ServiceError::Refused(format!(
                "{name:?} is no file's name: it has 1 to 255 bytes, and no slash"
            )));
        }
        let mut event = event;
        if event.owner.is_empty() {
            event.owner = entry.owner;
        }
        let id = crate::id::new().map_err(|error| ServiceError::Io {
            what: "no random bytes".into(),
            error,
        })?;
        let job = NewJob {
            priority: entry.function.priority,
            ..NewJob::new(&id, function, &event)
        };
        let submitted = self.journal.submit(&job, Timestamp::now())?;
        if let Submitted::New(job) = &submitted {
            let trigger = event.trigger.as_str();
            tracing::info!(%job, %function, trigger, "submitted");
            self.submitted(function)?;
        }
        Ok(submitted)
    }

    /// A function has got a new job.
    pub(crate) fn submitted(&self, function: &str) -> Result<()> {
        // Whoever removed the function meanwhile may not have seen this job.
        if self.registry.get(function).is_none() {
            self.cancel_all(function)?;
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Makes a job for every function that wants this file and has none for it yet.
    pub fn submit_file(&self, file: &FileEvent) -> Result<()> {
        for entry in self.registry.all() {
            let function = &entry.function;
            let key = Path::new(&file.key);
            let wants = |channel: &Channel| channel.is_embedded() && event::matches(channel, key);
            if function.input.iter().any(wants) {
                match self.submit(&function.name, Event::from(file)) {
                    // Removed since the list was made.
                    Ok(_) | Err(ServiceError::NoSuchFunction(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A place for a call that waits for a job of this function; as many as it allows.
    pub fn wait_for(&self, function: &str) -> Result<Waiter> {
        let entry = self.registry.get(function);
        let entry = entry.ok_or_else(|| ServiceError::NoSuchFunction(function.to_owned()))?;
        let most = entry.function.synchronous_max;
        let mut waiters = self.waiters.lock().unwrap_or_else(|e| e.into_inner());
        let count = waiters.entry(function.to_owned()).or_default();
        if most > 0 && *count >= most {
            return Err(ServiceError::Busy(format!(
                "{function} serves {most} synchronous calls at a time; try again later, or POST /job/{function}"
            )));
        }
        *count += 1;
        Ok(Waiter {
            waiters: self.waiters.clone(),
            function: function.to_owned(),
        })
    }

    /// Does a job that failed for good once more, as a new job; its name.
    pub fn replay(&self, id: &str) -> Result<String> {
        let job = self.journal.job(id)?;
        let job = job.ok_or_else(|| crate::journal::JournalError::NoSuchJob(id.to_owned()))?;
        let entry = self.registry.get(&job.function);
        let entry = entry.ok_or_else(|| ServiceError::NoSuchFunction(job.function.clone()))?;
        let new = crate::id::new().map_err(crate::journal::JournalError::from)?;
        let priority = entry.function.priority;
        self.journal.replay(id, &new, priority, Timestamp::now())?;
        tracing::info!(job = %new, function = %job.function, again = %id, "submitted again");
        if self.registry.get(&job.function).is_none() {
            self.cancel_all(&job.function)?;
        }
        self.wake.notify_one();
        Ok(new)
    }
}
