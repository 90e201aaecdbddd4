//! Jobs: listed, read, ended, done again.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use rgpu_http::{Request, encoded};
use serde_json::{Value, json};

use super::apply::{pretty, print};
use super::words::{cell, lasting, plain, table};
use super::{Asking, Output};

#[derive(Args)]
pub struct Jobs {
    #[command(flatten)]
    asking: Asking,
    /// Show this one
    #[arg(conflicts_with_all = ["function", "state"])]
    job: Option<String>,
    /// Of this function
    #[arg(long)]
    function: Option<String>,
    /// In one of these states: SUBMITTED, QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, CANCELLED
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

impl Jobs {
    pub fn run(&self) -> Result<ExitCode> {
        let client = self.asking.target.client()?;
        if let Some(job) = &self.job {
            let job = client.get(&format!("/jobs/{}", encoded(job)))?;
            return match self.asking.output {
                Output::Json => print(&pretty(&job)?),
                Output::Text => print(&described(&job)),
            };
        }
        let mut path = format!("/jobs?limit={}", self.limit);
        if let Some(function) = &self.function {
            path.push_str(&format!("&function={}", encoded(function)));
        }
        if !self.state.is_empty() {
            path.push_str(&format!("&state={}", encoded(&self.state.join(","))));
        }
        let answer = client.get(&path)?;
        if self.asking.output == Output::Json {
            return print(&pretty(&answer)?);
        }
        let heading = ["job", "function", "state", "attempt", "age", "ran", "input"];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        for job in answer["jobs"].as_array().context("the answer is no list")? {
            lines.push(vec![
                cell(&job["id"]),
                cell(&job["function"]),
                cell(&job["state"]),
                cell(&job["attempt"]),
                ago(&job["t_submitted"]),
                ran(job),
                cell(&job["input"]),
            ]);
        }
        print(&table(&lines))
    }
}

/// How long a job's script ran, or has run.
fn ran(job: &Value) -> String {
    let Some(begin) = job["t_running"].as_f64() else {
        return String::new();
    };
    let end = job["t_end"].as_f64().unwrap_or_else(now);
    lasting(end - begin)
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |it| it.as_secs_f64())
}

/// How long ago a time is, given in seconds since 1970.
pub fn ago(time: &Value) -> String {
    time.as_f64()
        .map_or_else(String::new, |time| lasting(now() - time))
}

fn described(job: &Value) -> String {
    let mut lines = Vec::new();
    let fields = [
        "id",
        "function",
        "version",
        "state",
        "reason",
        "input",
        "owner",
        "trigger",
        "device",
        "attempt",
        "exit_code",
        "signal",
        "parent",
        "group",
        "replaced_by",
    ];
    for field in fields {
        let text = cell(&job[field]);
        if !text.is_empty() {
            lines.push(vec![field.to_owned(), text]);
        }
    }
    lines.push(vec!["age".into(), ago(&job["t_submitted"])]);
    lines.push(vec!["ran".into(), ran(job)]);
    let outputs = job["outputs"].as_array().into_iter().flatten();
    lines.extend(outputs.map(|key| vec!["output".into(), cell(key)]));
    table(&lines)
}

/// The job's function is the runner's to say.
pub fn logs(asking: &Asking, job: &str, follow: bool, attempt: Option<u32>) -> Result<ExitCode> {
    let client = asking.target.client()?;
    let function = client.get(&format!("/jobs/{}", encoded(job)))?;
    let function = function["function"]
        .as_str()
        .context("the job has no function")?;
    let mut query = Vec::new();
    if let Some(attempt) = attempt {
        query.push(format!("attempt={attempt}"));
    }
    if follow {
        query.push("follow=true".into());
    }
    let path = format!(
        "/system/logs/{}/{}?{}",
        encoded(function),
        encoded(job),
        query.join("&")
    );
    let mut stream = client.open(Request::get(path))?;
    let mut out = std::io::stdout();
    let is_terminal = std::io::IsTerminal::is_terminal(&out);
    while let Some(piece) = stream.piece()? {
        match is_terminal {
            true => out.write_all(plain(&String::from_utf8_lossy(&piece)).as_bytes())?,
            false => out.write_all(&piece)?,
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn cancel(asking: &Asking, jobs: &[String]) -> Result<ExitCode> {
    let client = asking.target.client()?;
    let mut answers = Vec::new();
    for job in jobs {
        let answer = client
            .post(&format!("/jobs/{}/cancel", encoded(job)))
            .with_context(|| job.clone())?;
        if asking.output == Output::Text {
            let words = match answer["state"].as_str() {
                Some("CANCELLED") => "cancelled",
                _ => "is being ended",
            };
            eprintln!("{job} {words}");
        }
        answers.push(answer);
    }
    said(asking, &json!(answers))
}

pub fn replay(asking: &Asking, jobs: &[String], function: Option<&str>) -> Result<ExitCode> {
    let client = asking.target.client()?;
    if let Some(function) = function {
        let path = format!("/system/dead-letter/replay?function={}", encoded(function));
        let answer = client.post(&path)?;
        for (old, new) in answer["replayed"].as_object().into_iter().flatten() {
            if asking.output == Output::Text {
                print(&format!("{old} {}\n", cell(new)))?;
            }
        }
        return said(asking, &answer);
    }
    let mut answers = Vec::new();
    for job in jobs {
        let path = format!("/system/dead-letter/{}/replay", encoded(job));
        let answer = client.post(&path).with_context(|| job.clone())?;
        if asking.output == Output::Text {
            print(&format!("{job} {}\n", cell(&answer["id"])))?;
        }
        answers.push(answer);
    }
    said(asking, &json!(answers))
}

fn said(asking: &Asking, answer: &Value) -> Result<ExitCode> {
    if asking.output == Output::Json {
        print(&pretty(answer)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
