//! Schedules: functions that run by the clock.
//!
//! How far each timer has come is in the journal, changed in the step that makes its job. So a crash makes no job twice, and what was due
//! while nothing ran is found at the next start.

use crate::event::{Event, Trigger};
use crate::function::{Function, Timetable};
use crate::journal::{JournalError, NewJob, Submitted};
use crate::registry::Entry;
use crate::service::{Service, ServiceError};
use crate::time::Timestamp;
use rgpu_faas_events::{self as events, Kind, Outcome, Timer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Clocks are set, and machines sleep, without telling: the time is looked at this often.
const LOOK: Duration = Duration::from_secs(30);
/// When the journal cannot be written.
const AGAIN: Duration = Duration::from_secs(1);

/// (function, timetable).
type Name = (String, String);

/// Makes jobs of schedules, until told to stop.
pub async fn run(service: Arc<Service>, mut stopping: watch::Receiver<bool>) {
    let mut changes = service.changed.subscribe();
    let mut timers = HashMap::new();
    let mut is_new = true;
    loop {
        let (working, mut theirs) = (service.clone(), std::mem::take(&mut timers));
        let work = move || {
            let mut done = Ok(LOOK);
            if is_new {
                done = follow(&working, &mut theirs).map(|()| LOOK);
            }
            (done.and_then(|_| due(&working, &mut theirs)), theirs)
        };
        let wait = match tokio::task::spawn_blocking(work).await {
            Ok((Ok(wait), back)) => {
                (timers, is_new) = (back, false);
                wait
            }
            Ok((Err(error), _)) => {
                tracing::error!(%error, "schedules cannot be seen to; trying again in 1 s");
                // They are read again from the journal.
                is_new = true;
                AGAIN
            }
            Err(error) => {
                tracing::error!(%error, "schedules are seen to no more");
                return;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => is_new |= changed.is_ok(),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Takes the timers of functions as they are now. One that is new begins now; one that was changed is a new one.
fn follow(service: &Service, timers: &mut HashMap<Name, Timer>) -> Result<(), ServiceError> {
    let kept = service.journal.timers()?;
    let now = Timestamp::now();
    let mut wanted = HashMap::new();
    for entry in service.registry.all() {
        let function = &entry.function;
        let texts: Vec<String> = function.timetables.iter().map(Timetable::text).collect();
        service.journal.keep_timers(&function.name, &texts)?;
        for (timetable, text) in function.timetables.iter().zip(texts) {
            let name = (function.name.clone(), text);
            let handled = match kept.get(&name) {
                Some(handled) => *handled,
                None => {
                    // Kept at once, so that what is due while nothing runs counts from now.
                    let (function, timer) = (&name.0, &name.1);
                    service.journal.tick(function, timer, now, None, now)?;
                    now
                }
            };
            if let Some(timer) = timer(function, timetable, handled) {
                wanted.insert(name, timer);
            }
        }
    }
    *timers = wanted;
    Ok(())
}

/// The timer of a function, called after it; where it has several, by their order.
fn timer(function: &Function, timetable: &Timetable, handled: Timestamp) -> Option<Timer> {
    let at = function.timetables.iter().position(|it| it == timetable)?;
    let name = match function.timetables.len() {
        1 => function.name.clone(),
        _ => format!("{}/{}", function.name, at + 1),
    };
    timetable.timer(&name, moment(handled))
}

fn moment(time: Timestamp) -> events::Timestamp {
    events::Timestamp::from_microsecond(time.0).unwrap_or(events::Timestamp::UNIX_EPOCH)
}

/// Makes the jobs that are due; how long until the next is.
fn due(service: &Service, timers: &mut HashMap<Name, Timer>) -> Result<Duration, ServiceError> {
    let mut wait = LOOK;
    for ((function, text), timer) in timers.iter_mut() {
        let Some(entry) = service.registry.get(function) else {
            continue;
        };
        let now = Timestamp::now();
        let (mut polled, before) = (timer.clone(), timer.handled());
        let outcome = polled.poll(moment(now));
        if polled.handled() != before {
            let handled = Timestamp(polled.handled().as_microsecond());
            run_once(service, &entry, text, handled, outcome)?;
            // Only now: what could not be kept is due again.
            *timer = polled;
        }
        if let Some(next) = timer.next() {
            // A little later, so that the clock does not say that it is a moment before.
            let until = Timestamp(next.as_microsecond().saturating_add(1000)).since(now);
            wait = wait.min(until);
        }
    }
    Ok(wait)
}

fn run_once(
    service: &Service,
    entry: &Entry,
    timer: &str,
    handled: Timestamp,
    outcome: Option<Outcome>,
) -> Result<(), ServiceError> {
    let function = &entry.function;
    let now = Timestamp::now();
    let event = match outcome {
        Some(Outcome::Occurrence(occurrence)) => {
            if let Kind::Tick(tick) = &occurrence.kind
                && tick.missed > 0
            {
                tracing::warn!(function = %function.name, missed = tick.missed, "this run of the schedule stands for others that were missed");
            }
            let identity = occurrence.identity.map(|it| it.as_str().to_owned());
            Some(Event {
                text: occurrence.event,
                owner: entry.owner.clone(),
                time: Timestamp(occurrence.time.as_microsecond()),
                ..Event::new(Trigger::Schedule, identity.unwrap_or_default())
            })
        }
        Some(Outcome::Ignored(ignored)) => {
            tracing::warn!(function = %function.name, "{}", ignored.why);
            None
        }
        Some(Outcome::Refused(_)) | None => None,
    };
    let id = crate::id::new().map_err(JournalError::from)?;
    let job = event.as_ref().map(|event| NewJob {
        priority: function.priority,
        ..NewJob::new(&id, &function.name, event)
    });
    let submitted = service
        .journal
        .tick(&function.name, timer, handled, job.as_ref(), now)?;
    if let Some(Submitted::New(job)) = submitted {
        tracing::info!(%job, function = %function.name, trigger = "schedule", "submitted");
        service.submitted(&function.name)?;
    }
    Ok(())
}

/// A function's schedules with when each is due next, to be shown.
pub fn describe(
    service: &Service,
    function: &Function,
) -> Result<Vec<serde_json::Value>, JournalError> {
    if function.timetables.is_empty() {
        return Ok(Vec::new());
    }
    let kept = service.journal.timers()?;
    let shown = function.timetables.iter().map(|timetable| {
        let name = (function.name.clone(), timetable.text());
        let handled = kept.get(&name).copied().unwrap_or_else(Timestamp::now);
        let next = timer(function, timetable, handled).and_then(|timer| timer.next());
        let next = next.map(|next| Timestamp(next.as_microsecond()).rfc3339());
        let mut value = serde_json::json!(timetable);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("next".into(), serde_json::json!(next));
        }
        value
    });
    Ok(shown.collect())
}
