//! Points in time: wall-clock microseconds in UTC for people, monotonic ones for durations.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since 1970 in UTC; it may jump.
    pub wall: i64,
    /// Microseconds since the machine's start. Only differences count, and not across a restart of the machine.
    pub monotonic: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        use rustix::time::{ClockId, Timespec, clock_gettime};
        let micros = |time: Timespec| time.tv_sec * SECOND + time.tv_nsec / 1000;
        Now {
            wall: micros(clock_gettime(ClockId::Realtime)),
            // With the time in which the machine slept: memory is held then too.
            monotonic: micros(clock_gettime(ClockId::Boottime)).max(0) as u64,
        }
    }
}

/// The start of the span of `length` microseconds that `at` is in.
pub fn floor(at: i64, length: i64) -> i64 {
    at.div_euclid(length) * length
}

/// The end of that span, or `at` where one ends there.
pub fn ceil(at: i64, length: i64) -> i64 {
    floor(at.saturating_add(length - 1), length)
}

/// A date (its midnight in UTC), a time by RFC 3339, or seconds since 1970; in microseconds.
pub fn parse(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let wrong = || {
        format!("{text:?} is no time: write 2026-12-31, 2026-12-31T18:00:00Z or seconds since 1970")
    };
    let at = if let Ok(seconds) = text.parse::<i64>() {
        Timestamp::from_second(seconds).map_err(|_| wrong())?
    } else if text.len() <= "2026-12-31".len() {
        let date = text.parse::<Date>().map_err(|_| wrong())?;
        let midnight = date.at(0, 0, 0, 0);
        TimeZone::UTC.to_timestamp(midnight).map_err(|_| wrong())?
    } else {
        text.parse().map_err(|_| wrong())?
    };
    Ok(at.as_microsecond())
}

/// By RFC 3339, in UTC, to the second; with microseconds where there are any.
pub fn text(at: i64) -> String {
    match Timestamp::from_microsecond(at) {
        Ok(at) => at.to_string(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2025-01-01T00:00:00Z", 1_735_689_600),
            ("2025-01-01T01:00:00+01:00", 1_735_689_600),
            ("1735689600", 1_735_689_600),
        ] {
            assert_eq!(parse(text), Ok(seconds * SECOND), "{text}");
        }
        assert_eq!(super::text(1_735_689_600 * SECOND), "2025-01-01T00:00:00Z");
        for wrong in [
            "",
            "yesterday",
            "2025-02-30",
            "2025-01-01T00:00:00",
            "99999999999999999",
            "-1e9",
            "2025-13-01",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_have_starts_and_ends() {
        assert_eq!(floor(HOUR + 1, HOUR), HOUR);
        assert_eq!(floor(-1, HOUR), -HOUR);
        assert_eq!((ceil(HOUR, HOUR), ceil(HOUR + 1, HOUR)), (HOUR, 2 * HOUR));
        assert!(ceil(i64::MAX, HOUR) > 0);
    }
}
