//! What is over is removed after a while, a little at a time.

use super::{Result, Service, ServiceError};
use crate::beneath;
use crate::config::Config;
use crate::event::Fingerprint;
use crate::journal::{Job, JournalError, Reminder};
use crate::results;
use crate::time::Timestamp;
use rustix::fs::AtFlags;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked for what is over.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one step looks at.
const STEP: u32 = 256;

/// Where the walks through reminders are.
#[derive(Debug, Default)]
struct Walk {
    seen: i64,
    outputs: i64,
}

impl Service {
    /// Removes what is over, again and again, until told to stop.
    pub async fn keep_tidy(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut walk = Walk::default();
        loop {
            let service = self.clone();
            let step = tokio::task::spawn_blocking(move || {
                let done = service.tidy(&mut walk, Timestamp::now());
                (done, walk)
            });
            let more = match step.await {
                Ok((Ok(more), back)) => {
                    walk = back;
                    more
                }
                Ok((Err(error), back)) => {
                    walk = back;
                    tracing::error!(%error, "old jobs cannot be removed; trying again in a minute");
                    false
                }
                Err(error) => {
                    tracing::error!(%error, "old jobs cannot be removed");
                    return;
                }
            };
            let pause = if more { Duration::ZERO } else { EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// One step; whether there is more to do now.
    fn tidy(&self, walk: &mut Walk, now: Timestamp) -> Result<bool> {
        let keep = self.config.keep_jobs;
        if keep.is_zero() {
            return Ok(false);
        }
        let before = Timestamp(now.0.saturating_sub(keep.as_micros() as i64));
        let expired = self.journal.expired(before, STEP)?;
        for job in &expired {
            match self.remove_job(job) {
                // Someone needs it after all.
                Ok(()) | Err(ServiceError::Journal(JournalError::Conflict(_))) => {}
                Err(error) => return Err(error),
            }
        }
        if !expired.is_empty() {
            tracing::info!(jobs = expired.len(), "removed: they ended long ago");
        }
        self.journal.forget_events(before)?;
        let seen = self.journal.seen_files(walk.seen, STEP)?;
        let outputs = self.journal.old_outputs(walk.outputs, STEP)?;
        // From the beginning again after the last.
        let last = |rows: &[Reminder]| match rows.last() {
            Some(row) if rows.len() == STEP as usize => row.rowid,
            _ => 0,
        };
        (walk.seen, walk.outputs) = (last(&seen), last(&outputs));
        let mut walked_on = false;
        for rows in [seen, outputs] {
            walked_on |= rows.len() == STEP as usize;
            let gone: Vec<Reminder> = rows.into_iter().filter(|it| self.is_gone(it)).collect();
            self.journal.forget_files(&gone)?;
        }
        Ok(expired.len() == STEP as usize || walked_on)
    }

    /// Whether the file is there no more, or is another.
    fn is_gone(&self, reminder: &Reminder) -> bool {
        let file = beneath::root(&self.config.storage())
            .and_then(|root| beneath::open(&root, Path::new(&reminder.key)))
            .and_then(|file| file.metadata());
        match (file, reminder.fingerprint) {
            (Ok(metadata), Some(was)) => Fingerprint::of(&metadata) != was,
            (Ok(_), None) => false,
            // A disk that is away for a moment has not lost its files.
            (Err(error), _) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Removes a job that has ended: its logs, what it left for whoever waited, its body, and what the journal has of it.
    /// Its published outputs stay.
    pub fn remove_job(&self, job: &Job) -> Result<()> {
        self.journal.check_removable(&job.id)?;
        let failed = |what: &str, error| ServiceError::Io {
            what: format!("{what} of job {} cannot be removed", job.id),
            error,
        };
        // Files first: what a crash leaves in the journal is removed again.
        let remove_logs = || -> std::io::Result<()> {
            let data = beneath::root(&self.config.data)?;
            for attempt in 1..=job.attempt {
                let log = Config::log(&job.function, &job.id, attempt);
                let removed = beneath::parent(&data, &log).and_then(|(folder, name)| {
                    Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
                });
                match removed {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => done?,
                }
            }
            Ok(())
        };
        remove_logs().map_err(|error| failed("the logs", error))?;
        results::remove(&self.config.results(), &job.id)
            .map_err(|error| failed("the result", error))?;
        let payload = self.journal.remove(&job.id, Timestamp::now())?;
        if let Some(payload) = payload {
            self.payloads
                .remove(&payload)
                .map_err(|error| failed("the body", error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{file, service};
    use super::*;
    use crate::event::{Event, Input, Trigger};
    use crate::journal::{Filter, Outcome, Submitted};
    use crate::state::JobState;

    #[test]
    fn old_jobs_go_with_all_that_belongs_to_them_and_make_no_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let service = service(folder.path());
        service
            .register_request("name: f\ncommand: [x]\ninput: [{ path: b/in }]", "")
            .unwrap();
        let storage = service.config.storage();
        for n in 0..600 {
            std::fs::write(storage.join(format!("b/in/{n}")), "x").unwrap();
            service
                .submit_file(&file(&storage, &format!("b/in/{n}")))
                .unwrap();
        }
        let mut incoming = service.payloads.begin().unwrap();
        incoming.push(b"body").unwrap();
        let event = Event {
            input: Input::Kept {
                payload: incoming.keep().unwrap(),
                name: "body".into(),
                size: 4,
            },
            ..Event::new(Trigger::Http, "k")
        };
        service.submit("f", event).unwrap();
        let all = Filter {
            limit: 10_000,
            ..Filter::default()
        };
        let jobs = service.journal.jobs(&all).unwrap();
        assert_eq!(jobs.len(), 601);
        let (last, ended) = jobs.split_last().unwrap();
        for job in ended {
            let outcome = Outcome::default();
            let cancelled = JobState::Cancelled;
            service
                .journal
                .finish(&job.id, cancelled, &outcome, Timestamp(10))
                .unwrap();
        }
        let log = folder.path().join(Config::log("f", &last.id, 1));
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "x").unwrap();
        std::fs::create_dir_all(service.config.results().join(&last.id)).unwrap();
        service.journal.queue(&last.id, Timestamp(11)).unwrap();
        service.journal.start(&last.id, Timestamp(11)).unwrap();

        let mut walk = Walk::default();
        let keep = service.config.keep_jobs.as_micros() as i64;
        let mut run = |now: i64| {
            let mut steps = 1;
            while service.tidy(&mut walk, Timestamp(now)).unwrap() {
                steps += 1;
                assert!(steps < 100);
            }
            (steps, service.journal.jobs(&all).unwrap().len())
        };
        assert_eq!(run(keep + 10), (1, 601), "not yet");
        let (steps, left) = run(keep + 20);
        assert!(steps >= 3 && left == 1, "{steps} {left}");
        assert!(log.exists() && service.payloads.size() == 4);
        let failed = JobState::Failed;
        service
            .journal
            .finish(&last.id, failed, &Outcome::default(), Timestamp(12))
            .unwrap();
        assert_eq!(run(keep + 30).1, 0);
        assert!(!log.exists() && !service.config.results().join(&last.id).exists());
        assert_eq!(service.payloads.size(), 0);

        // The files are still there, and known.
        service.submit_file(&file(&storage, "b/in/7")).unwrap();
        assert_eq!(run(keep + 40).1, 0);
        // One that is gone is forgotten, so that one like it is new.
        let seven = file(&storage, "b/in/7");
        std::fs::rename(storage.join("b/in/7"), storage.join("b/in/.away")).unwrap();
        run(keep + 50);
        std::fs::rename(storage.join("b/in/.away"), storage.join("b/in/7")).unwrap();
        let again = service.submit("f", Event::from(&seven)).unwrap();
        assert!(matches!(again, Submitted::New(_)));
        let known = service
            .submit("f", Event::from(&file(&storage, "b/in/8")))
            .unwrap();
        assert_eq!(known, Submitted::Known(None));
    }
}
