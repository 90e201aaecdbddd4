//! When a schedule is due: cron expressions in a time zone, and `every 5m`.

use crate::error::quote;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use croner::{Cron, errors::CronError};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use std::cmp::Ordering;
use std::fmt;

/// Characters of an expression, and of a time zone's name.
const LIMIT: usize = 128;
const LONGEST: i64 = 366 * 86_400;

/// Due times, to the second.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Cron(Box<Cron>, TimeZone),
    /// Each time this many seconds have gone by since 1970: known without a memory, and the same on every machine.
    Every(i64),
}

/// Why something is no schedule, and what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "{0} is no schedule ({1}); write five fields as in \"30 6 * * MON-FRI\", six with seconds in front, @hourly, @daily, @weekly, @monthly, @yearly, or \"every 5m\""
    )]
    Cron(String, String),
    #[error(
        "{0} is no interval; write a whole number and s, m, h or d, from 1s to 366d, as in \"every 5m\""
    )]
    Interval(String),
    #[error("{0} is no time zone of the IANA database; write one as in Europe/Madrid, or UTC")]
    Zone(String),
    #[error(
        "{0} has a time zone, {1}, which makes no difference to an interval; leave it out, or write a cron expression"
    )]
    ZoneOfInterval(String, String),
    #[error("{0} is never due")]
    Never(String),
}

impl Schedule {
    /// `zone` is a name of the IANA database; without it, UTC. (The database is the one this program was built with.)
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Schedule, ScheduleError> {
        let text = text.trim();
        let rule = match text.strip_prefix("every ").or(text.strip_prefix("@every ")) {
            Some(interval) => match zone {
                None | Some("UTC") => Rule::Every(
                    seconds(interval.trim()).ok_or_else(|| ScheduleError::Interval(quote(text)))?,
                ),
                Some(zone) => return Err(ScheduleError::ZoneOfInterval(quote(text), quote(zone))),
            },
            None => Rule::Cron(Box::new(cron(text)?), time_zone(zone)?),
        };
        let schedule = Schedule {
            text: text.to_owned(),
            rule,
        };
        // A 30th of February is found out now, and not by waiting for it.
        let some_day = Timestamp::constant(1_767_225_600, 0);
        match schedule.next_after(some_day) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(quote(text))),
        }
    }

    /// The first due time after `time`. None: there is none before the year 5000.
    ///
    /// Where clocks are set forward, a time of day that does not exist is due right after the gap, and repetitions
    /// within it fall out; where they are set back, a time of day is due once and repetitions go on.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(step) => {
                let steps = whole_second(time)?.as_second().div_euclid(*step) + 1;
                Timestamp::from_second(steps.checked_mul(*step)?).ok()
            }
            Rule::Cron(cron, zone) => {
                let from = Local::new(whole_second(time)?, zone);
                cron.find_next_occurrence(&from, false)
                    .ok()
                    .map(|due| due.at)
            }
        }
    }

    /// The last due time that is not after `time`.
    pub fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(step) => {
                let steps = whole_second(time)?.as_second().div_euclid(*step);
                Timestamp::from_second(steps.checked_mul(*step)?).ok()
            }
            Rule::Cron(cron, zone) => {
                let from = Local::new(whole_second(time)?, zone);
                cron.find_previous_occurrence(&from, true)
                    .ok()
                    .map(|due| due.at)
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.rule {
            Rule::Cron(_, zone) => write!(f, " ({})", zone.iana_name().unwrap_or("UTC")),
            Rule::Every(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

fn cron(text: &str) -> Result<Cron, ScheduleError> {
    let wrong = |why: String| ScheduleError::Cron(quote(text), why);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" \t*/,-#?@+".contains(&byte);
    if text.len() > LIMIT {
        return Err(wrong(format!(
            "it has {} bytes; at most {LIMIT} are taken",
            text.len()
        )));
    }
    if !text.bytes().all(known) {
        return Err(wrong(
            "it has other characters than letters, digits and */,-#?@+".into(),
        ));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    parser.parse(text).map_err(|error| wrong(error.to_string()))
}

fn time_zone(name: Option<&str>) -> Result<TimeZone, ScheduleError> {
    let Some(name) = name.filter(|name| *name != "UTC") else {
        return Ok(TimeZone::UTC);
    };
    let unknown = || ScheduleError::Zone(quote(name));
    if name.len() > LIMIT {
        return Err(unknown());
    }
    TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())
}

/// Seconds of `90s`, `5m`, `2h` or `1d`.
fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (1..=LONGEST).contains(&seconds).then_some(seconds)
}

/// The beginning of its second.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    let nanos = time.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(i64::try_from(nanos).ok()?).ok()
}

/// An instant and the zone whose clocks are looked at: croner's own support is for another version of jiff.
#[derive(Clone)]
struct Local<'a> {
    at: Timestamp,
    zone: &'a TimeZone,
    civil: DateTime,
}

impl<'a> Local<'a> {
    fn new(at: Timestamp, zone: &'a TimeZone) -> Local<'a> {
        let civil = zone.to_datetime(at);
        Local { at, zone, civil }
    }
}

impl CronDateTime for Local<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let part = |value: i8| u32::from(value.unsigned_abs());
        let civil = self.civil;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(
                i32::from(civil.year()),
                part(civil.month()),
                part(civil.day()),
            ),
            CivilTime::from_parts_unchecked(
                part(civil.hour()),
                part(civil.minute()),
                part(civil.second()),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.civil.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |value: u32| i8::try_from(value).map_err(|_| CronError::InvalidDate);
        let datetime = DateTime::new(
            i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        )
        .map_err(|_| CronError::InvalidDate)?;
        let instant = self.zone.to_ambiguous_timestamp(datetime);
        let local = |at: Result<Timestamp, jiff::Error>| {
            let at = at.map_err(|_| CronError::InvalidTime)?;
            Ok(Local::new(at, self.zone))
        };
        Ok(match instant.offset() {
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(local(instant.unambiguous())?)
            }
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(local(instant.earlier())?, local(instant.later())?)
            }
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = self
            .at
            .checked_add(SignedDuration::from_secs(seconds))
            .ok()?;
        Some(Local::new(at, self.zone))
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
