//! What a schedule makes of the time that went by, by a clock that may be late, stand still, or jump.

use crate::{Identity, Ignored, Kind, Occurrence, Outcome, Schedule, Tick, json, variable};
use jiff::{SignedDuration, Timestamp};

/// What is to be done about due times that passed while nobody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// One run for all of them.
    #[default]
    Once,
    /// None; a due time that passed no more than a minute ago is not missed.
    Skip,
}

/// How late a run may begin without counting as missed.
const LATE: SignedDuration = SignedDuration::from_mins(1);
/// A clock that goes back less is waited for: what was due has been done, by a clock that was a little fast.
/// After more it was wrong before, and what it had come to says nothing.
const BACK: SignedDuration = SignedDuration::from_hours(1);
/// So many missed due times are counted.
const COUNTED: u32 = 1000;

/// A schedule, and up to when it has been seen to. Ask [`poll`](Self::poll) when [`next`](Self::next) comes, and at least
/// each minute, since clocks are set meanwhile.
#[derive(Clone, Debug)]
pub struct Timer {
    name: String,
    schedule: Schedule,
    missed: Missed,
    handled: Timestamp,
}

impl Timer {
    /// `handled`: what [`handled`](Self::handled) said last, kept with the job that came of it; for a new timer, now.
    /// Due times up to it are done.
    pub fn new(name: &str, schedule: Schedule, missed: Missed, handled: Timestamp) -> Timer {
        Timer {
            name: name.to_owned(),
            schedule,
            missed,
            handled,
        }
    }

    pub fn handled(&self) -> Timestamp {
        self.handled
    }

    /// When it is due next; in the past, if due times have not been seen to.
    pub fn next(&self) -> Option<Timestamp> {
        self.schedule.next_after(self.handled)
    }

    /// What has become due by `now`; due times are done with that. None: nothing.
    ///
    /// A due time has the same identity whenever and wherever it is found, so that a crash between this and the
    /// journal, or a clock that passes it twice, makes no second job.
    pub fn poll(&mut self, now: Timestamp) -> Option<Outcome> {
        if self.handled.duration_since(now) > BACK {
            self.handled = now;
            return None;
        }
        let due = self
            .schedule
            .last_until(now)
            .filter(|due| *due > self.handled)?;
        let missed = self.count_before(due);
        self.handled = due;
        if self.missed == Missed::Skip && now.duration_since(due) > LATE {
            let (count, are) = match missed + 1 {
                1 => ("one due time".to_owned(), "was"),
                many => (format!("{many} due times"), "were"),
            };
            let more = if missed == COUNTED { " or more" } else { "" };
            return Some(Outcome::Ignored(Ignored {
                path: String::new(),
                why: format!(
                    "{count}{more} of {}, the last {due}, {are} missed",
                    self.name
                ),
            }));
        }
        let missed = match self.missed {
            Missed::Once => missed,
            Missed::Skip => 0,
        };
        Some(Outcome::Occurrence(Box::new(self.occurrence(due, missed))))
    }

    /// Due times that are not done and lie before `due`, up to `COUNTED`.
    fn count_before(&self, due: Timestamp) -> u32 {
        let mut count = 0;
        let mut time = self.handled;
        while count < COUNTED {
            match self.schedule.next_after(time) {
                Some(next) if next < due && next > time => time = next,
                _ => break,
            }
            count += 1;
        }
        count
    }

    fn occurrence(&self, due: Timestamp, missed: u32) -> Occurrence {
        let event = format!(
            r#"{{"specversion":"1.0","id":"{due}","source":{},"type":"io.rgpu.schedule.due","time":"{due}","data":{{"schedule":{},"missed":{missed}}}}}"#,
            json::quoted(&format!("/schedules/{}", self.name)),
            json::quoted(&self.schedule.to_string()),
        );
        Occurrence {
            identity: Some(Identity::of(&[
                b"tick",
                self.name.as_bytes(),
                due.to_string().as_bytes(),
            ])),
            time: due,
            kind: Kind::Tick(Tick {
                timer: self.name.clone(),
                due,
                missed,
            }),
            event: variable(event),
            variables: Vec::new(),
        }
    }
}
