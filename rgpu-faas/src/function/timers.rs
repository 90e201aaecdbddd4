//! When a function runs by the clock.

use crate::fdl::{Fault, RawSchedule, RawSchedules, nearest};
use rgpu_faas_events::{Missed, Schedule, Timer, Timestamp};
use serde::Serialize;
use serde_saphyr::{Location, Spanned};

/// Schedules of one function, at most.
const MOST: usize = 64;

/// One of a function's schedules. Two that are equal are the same timer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Timetable {
    /// A cron expression, or `every 5m`.
    pub schedule: String,
    /// Of the IANA database; None: UTC.
    pub zone: Option<String>,
    /// What is to be done about due times at which nothing ran: `once` or `skip`.
    pub missed: &'static str,
}

impl Timetable {
    /// What tells it from the function's others, and from what it was before it was changed.
    pub fn text(&self) -> String {
        let zone = self.zone.as_deref().unwrap_or("UTC");
        format!("{} ({zone}, {})", self.schedule, self.missed)
    }

    /// The timer, whose due times up to `handled` are done. None for what cannot be: it was checked.
    pub fn timer(&self, name: &str, handled: Timestamp) -> Option<Timer> {
        let schedule = Schedule::parse(&self.schedule, self.zone.as_deref()).ok()?;
        let missed = match self.missed {
            "skip" => Missed::Skip,
            _ => Missed::Once,
        };
        Some(Timer::new(name, schedule, missed, handled))
    }
}

pub(super) fn check(raw: Option<Spanned<RawSchedules>>) -> Result<Vec<Timetable>, Fault> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    let whole = raw.referenced;
    if raw.value.0.len() > MOST {
        return Err(Fault(whole, format!("more than {MOST} schedules")));
    }
    let mut all = Vec::new();
    for one in raw.value.0 {
        let place = match one.referenced == Location::UNKNOWN {
            true => whole,
            false => one.referenced,
        };
        let timetable = check_one(one.value, place)?;
        if all.contains(&timetable) {
            return Err(Fault(place, "the same schedule stands here twice".into()));
        }
        all.push(timetable);
    }
    Ok(all)
}

fn check_one(raw: RawSchedule, place: Location) -> Result<Timetable, Fault> {
    let (text, at, zone, missed) = match raw {
        RawSchedule::Text(text) => (text, place, None, None),
        RawSchedule::Fields(fields) => {
            let (text, at) = match (fields.cron, fields.every) {
                (Some(cron), None) => (cron.value, cron.referenced),
                (None, Some(every)) => (format!("every {}", every.value), every.referenced),
                _ => {
                    return Err(Fault(
                        place,
                        "a schedule has either cron, as in \"30 6 * * MON-FRI\", or every, as in 5m"
                            .into(),
                    ));
                }
            };
            (text, at, fields.zone, fields.missed)
        }
    };
    let zone_at = zone.as_ref().map_or(at, |zone| zone.referenced);
    let zone = zone.map(|zone| zone.value);
    Schedule::parse(&text, zone.as_deref()).map_err(|error| {
        use rgpu_faas_events::ScheduleError::{Zone, ZoneOfInterval};
        let at = match error {
            Zone(_) | ZoneOfInterval(..) => zone_at,
            _ => at,
        };
        Fault(at, error.to_string())
    })?;
    let missed = match missed.as_ref().map(|missed| missed.value.as_str()) {
        None | Some("once") => "once",
        Some("skip") => "skip",
        Some(other) => {
            let near = nearest(other, &["once", "skip"]).unwrap_or("once");
            let at = missed.map_or(at, |missed| missed.referenced);
            let message = format!(
                "missed is once (one run for all that were missed) or skip (none); did you mean {near}?"
            );
            return Err(Fault(at, message));
        }
    };
    Ok(Timetable {
        schedule: text.trim().to_owned(),
        zone: zone.filter(|zone| zone != "UTC"),
        missed,
    })
}
