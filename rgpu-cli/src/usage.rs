//! `rgpu usage`: what the server's accounts say, as a table or for programs.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rgpu_http::encoded;
use serde_json::Value;

use crate::admin::{AdminTarget, Client};

/// Rows that one answer brings, and answers that are put together.
const ROWS: usize = 10_000;
const ANSWERS: usize = 100;

#[derive(Args)]
pub struct Usage {
    #[command(flatten)]
    target: AdminTarget,
    /// What is listed
    #[arg(value_enum, default_value_t = What::Sums)]
    what: What,
    /// From this time on, UTC: 2026-12-31, 2026-12-31T18:00:00Z, or seconds since 1970
    #[arg(long, conflicts_with = "last")]
    from: Option<String>,
    /// To before this time; now without it
    #[arg(long, conflicts_with = "last")]
    to: Option<String>,
    /// The last so many minutes, hours, days or weeks: 90m, 24h, 7d, 2w (24h without it)
    #[arg(long, value_parser = seconds)]
    last: Option<u64>,
    /// What is told apart: tenant, function, profile, device, session, job, and one of 5min, hour, day
    #[arg(long, default_value = "tenant")]
    by: String,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only this function's
    #[arg(long)]
    function: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Use, added up
    Sums,
    /// Sessions' records, the newest first
    Sessions,
    /// Sessions that hold memory and do nothing
    Idle,
    /// Alerts that were raised
    Alerts,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// A length of time as people write it.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?}: write a number and m, h, d or w, as in 24h");
    let (number, unit) =
        text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..=315_360_000) => Ok(seconds),
        _ => Err(format!("{text:?}: from a minute to ten years")),
    }
}

impl Usage {
    pub fn run(&self) -> Result<ExitCode> {
        let client = self.target.client()?;
        let text = match self.format {
            Format::Csv => self.csv(&client)?,
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&self.all(&client)?)?),
            Format::Table => {
                let answer = self.all(&client)?;
                self.table(&answer)
            }
        };
        use std::io::Write;
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Path and parameters, without those that say which part of the answer is wanted.
    fn path(&self) -> Result<String> {
        let (path, has_time) = match self.what {
            What::Sums => ("/v1/usage", true),
            What::Sessions => ("/v1/usage/sessions", true),
            What::Idle => ("/v1/usage/idle", false),
            What::Alerts => ("/v1/usage/alerts", false),
        };
        let mut params = vec![("tenant", self.tenant.clone())];
        if has_time {
            let from = match self.last {
                Some(seconds) => {
                    let since = std::time::UNIX_EPOCH.elapsed().context("the clock")?;
                    Some(since.as_secs().saturating_sub(seconds).to_string())
                }
                None => self.from.clone(),
            };
            params.extend([("from", from), ("to", self.to.clone())]);
            params.push(("function", self.function.clone()));
        } else {
            let is_given = self.last.is_some() || self.from.is_some() || self.to.is_some();
            ensure!(
                !is_given && self.function.is_none(),
                "--from, --to, --last and --function are for sums and sessions"
            );
        }
        if self.what == What::Sums {
            params.push(("group_by", Some(self.by.clone())));
        }
        let given = params
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
        let given: Vec<String> = given.collect();
        Ok(format!("{path}?{}", given.join("&")))
    }

    /// The parameter that names the next part of an answer.
    fn next(&self) -> Option<&'static str> {
        match self.what {
            What::Sums => Some("offset"),
            What::Sessions | What::Alerts => Some("before"),
            What::Idle => None,
        }
    }

    /// The whole answer, its parts put together.
    fn all(&self, client: &Client) -> Result<Value> {
        let path = self.path()?;
        let Some(name) = self.next() else {
            return client.get(&path);
        };
        let mut whole: Value = client.get(&format!("{path}&limit={ROWS}"))?;
        for _ in 1..ANSWERS {
            let Some(next) = whole["next"].as_i64() else {
                return Ok(whole);
            };
            let mut more: Value = client.get(&format!("{path}&limit={ROWS}&{name}={next}"))?;
            whole["next"] = more["next"].take();
            if let (Some(rows), Some(more)) =
                (whole["rows"].as_array_mut(), more["rows"].as_array_mut())
            {
                rows.append(more);
            }
        }
        bail!("more than {} rows: ask about less", ROWS * ANSWERS)
    }

    fn csv(&self, client: &Client) -> Result<String> {
        let path = format!("{}&format=csv", self.path()?);
        let Some(name) = self.next() else {
            return client.text(&path);
        };
        let mut whole = client.text(&format!("{path}&limit={ROWS}"))?;
        let mut lines = whole.lines().count();
        for number in 1..ANSWERS {
            // Names have no line breaks in them.
            if lines <= ROWS {
                return Ok(whole);
            }
            let next = match self.what {
                What::Sums => (ROWS * number).to_string(),
                // The first column is the record's number.
                _ => {
                    let last = whole.lines().last().unwrap_or_default();
                    last.split(',').next().unwrap_or_default().to_owned()
                }
            };
            let more = client.text(&format!("{path}&limit={ROWS}&{name}={next}"))?;
            lines = more.lines().count();
            whole.push_str(more.split_once('\n').map_or("", |(_, rows)| rows));
        }
        bail!("more than {} rows: ask about less", ROWS * ANSWERS)
    }

    fn table(&self, answer: &Value) -> String {
        let rows = answer["rows"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if rows.is_empty() {
            return match self.what {
                What::Sums | What::Sessions => "nothing in this time\n".into(),
                What::Idle => format!(
                    "no session holds memory and has done nothing for {} s\n",
                    answer["seconds"]
                ),
                What::Alerts => "no alert\n".into(),
            };
        }
        let mut columns: Vec<&Column> = COLUMNS
            .iter()
            .filter(|it| it.of.contains(&self.what))
            .collect();
        // What is not told apart, and what nobody has, is no column.
        columns.retain(|column| {
            rows.iter()
                .any(|row| !matches!(&row[column.field], Value::Null) && row[column.field] != "")
        });
        let head = columns
            .iter()
            .map(|column| column.heading.to_owned())
            .collect();
        let mut lines: Vec<Vec<String>> = vec![head];
        lines.extend(rows.iter().map(|row| {
            columns
                .iter()
                .map(|column| column.cell(&row[column.field]))
                .collect()
        }));
        laid_out(&lines, &columns)
    }
}

/// One of a table.
struct Column {
    heading: &'static str,
    field: &'static str,
    kind: Kind,
    of: &'static [What],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Seconds,
    Bytes,
    Mib,
    GibHours,
    Cost,
}

const fn column(
    heading: &'static str,
    field: &'static str,
    kind: Kind,
    of: &'static [What],
) -> Column {
    Column {
        heading,
        field,
        kind,
        of,
    }
}

const COLUMNS: &[Column] = {
    use What::{Alerts, Idle, Sessions, Sums};
    &[
        column("time", "time", Kind::Word, &[Sums, Alerts]),
        column("session", "session", Kind::Number, &[Sums, Sessions, Idle]),
        column(
            "tenant",
            "tenant",
            Kind::Word,
            &[Sums, Sessions, Idle, Alerts],
        ),
        column("function", "function", Kind::Word, &[Sums, Sessions, Idle]),
        column("profile", "profile", Kind::Word, &[Sums, Sessions, Idle]),
        column("device", "model", Kind::Word, &[Sums, Sessions]),
        column("uuid", "device", Kind::Word, &[Sums]),
        column("job", "job", Kind::Word, &[Sums, Sessions]),
        column("program", "program", Kind::Word, &[Sessions, Idle]),
        column("host", "host", Kind::Word, &[Sessions, Idle]),
        column("start", "start", Kind::Word, &[Sessions]),
        column("sessions", "sessions", Kind::Number, &[Sums]),
        column("lasted", "seconds", Kind::Seconds, &[Sums, Sessions]),
        column("idle", "idle_seconds", Kind::Seconds, &[Idle]),
        column("holds", "held_mib", Kind::Mib, &[Idle]),
        column("GPU", "gpu_seconds", Kind::Seconds, &[Sums, Sessions]),
        column(
            "memory",
            "memory_mib_seconds",
            Kind::GibHours,
            &[Sums, Sessions],
        ),
        column("peak", "peak_mib", Kind::Mib, &[Sums, Sessions]),
        column("received", "bytes_in", Kind::Bytes, &[Sums, Sessions]),
        column("sent", "bytes_out", Kind::Bytes, &[Sums, Sessions]),
        column("calls", "calls", Kind::Number, &[Sums, Sessions]),
        column("launches", "launches", Kind::Number, &[Sums, Sessions]),
        column("cost", "cost", Kind::Cost, &[Sums, Sessions]),
        column("", "currency", Kind::Word, &[Sums, Sessions]),
        column("result", "result", Kind::Number, &[Sessions]),
        column("what", "text", Kind::Word, &[Alerts]),
    ]
};

impl Column {
    fn cell(&self, value: &Value) -> String {
        let number = value.as_f64();
        match (self.kind, number) {
            (_, _) if value.is_null() => String::new(),
            (Kind::Seconds, Some(seconds)) => lasting(seconds),
            (Kind::Bytes, Some(bytes)) => sized(bytes),
            (Kind::Mib, Some(mib)) => sized(mib * f64::from(1 << 20)),
            (Kind::GibHours, Some(mib_seconds)) => {
                format!("{:.3} GiB·h", mib_seconds / 1024.0 / 3600.0)
            }
            (Kind::Cost, Some(cost)) => format!("{cost:.6}"),
            _ => match value.as_str() {
                // Names are clients' words: a terminal must not obey them.
                Some(text) => text
                    .chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                    .collect(),
                None => value.to_string(),
            },
        }
    }
}

fn lasting(seconds: f64) -> String {
    match seconds {
        7200.0.. => format!("{:.1} h", seconds / 3600.0),
        120.0.. => format!("{:.1} min", seconds / 60.0),
        _ => format!("{seconds:.2} s"),
    }
}

fn sized(mut bytes: f64) -> String {
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter();
    let mut unit = units.next();
    while bytes >= 1024.0
        && let Some(next) = units.next()
    {
        bytes /= 1024.0;
        unit = Some(next);
    }
    match unit {
        Some(&"B") | None => format!("{bytes} B"),
        Some(unit) => format!("{bytes:.1} {unit}"),
    }
}

/// In columns, words to the left and numbers to the right.
fn laid_out(lines: &[Vec<String>], columns: &[&Column]) -> String {
    let width = |at: usize| {
        lines
            .iter()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).zip(columns);
        let cells: Vec<String> = cells
            .map(|((cell, &width), column)| match column.kind {
                Kind::Word => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, expected) in [
            ("90m", 5400),
            ("24h", 86_400),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for wrong in ["", "24", "h", "1y", "-1h", "0h", "99999999999999d", "1ü"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_are_for_people() {
        assert_eq!(
            [lasting(1.5), lasting(180.0), lasting(9000.0)],
            ["1.50 s", "3.0 min", "2.5 h"]
        );
        assert_eq!(
            [sized(12.0), sized(1536.0), sized(2e12)],
            ["12 B", "1.5 KiB", "1.8 TiB"]
        );
    }
}
