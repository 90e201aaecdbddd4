//! From an event to the first thing that its job does, at a steady rate of events.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rgpu_system::faas::Gpu;
use rgpu_system::{Faas, Job};
use serde_json::Value;

use super::arrival::now;
use super::definition;
use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Plot, Section, Shape, Table, short};
use crate::bench::sharing::quantile;
use crate::bench::tools::Bench;

/// Events a second.
const RATE: u32 = 20;
/// Before what counts: programs come into memory.
const FIRST: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A function that says when it began, and what its events are to take.
struct Kind {
    part: &'static str,
    title: &'static str,
    text: &'static str,
    function: &'static str,
    /// What its jobs come to.
    end: &'static str,
    /// Name, which quantile, target in milliseconds.
    figures: &'static [(&'static str, f64, f64)],
}

const COLD: Kind = Kind {
    part: "start",
    title: "From an event to its process",
    text: include_str!("start.md"),
    function: "start",
    end: "process",
    figures: &[
        ("faas.start_p50_ms", 0.5, 20.0),
        ("faas.start_p99_ms", 0.99, 100.0),
    ],
};

const WARM: Kind = Kind {
    part: "entry",
    title: "From an event to its handler",
    text: include_str!("entry.md"),
    function: "entry",
    end: "handler",
    figures: &[("faas.warm_entry_p50_ms", 0.5, 30.0)],
};

#[derive(Clone, Copy)]
enum Way {
    /// A file is renamed into the input folder.
    File,
    /// The function is called, asynchronously.
    Call,
}

struct Event {
    /// Its file's.
    name: String,
    /// Seconds since 1970.
    at: f64,
    /// What a call has been told.
    job: Option<String>,
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    COLD.measure(bench, figures, at)
}

pub fn warm(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    WARM.measure(bench, figures, at)
}

impl Kind {
    fn measure(
        &self,
        bench: &Bench<'_>,
        figures: &mut Figures,
        at: &dyn Fn(String),
    ) -> Result<Section> {
        let count = if bench.quick { 100 } else { 600 };
        let faas = Faas::start(bench.programs, &bench.new_folder()?, Gpu::None, &[])?;
        faas.apply(
            bench.programs,
            &definition(&format!("{}.yaml", self.function)),
        )?;
        std::fs::create_dir_all(faas.input(self.function))?;
        let mut table = Table::new(
            format!("Milliseconds of {count} events, {RATE} a second"),
            &["", "median", "p90", "p99", "most"],
        );
        let placement = bench.machine.anywhere();
        let mut series = Vec::new();
        for (way, name, suffix) in [(Way::File, "file", ""), (Way::Call, "call", ".call")] {
            at(format!("events by {name}"));
            self.send(&faas, way, &format!("first-{name}"), FIRST)?;
            let events = self.send(&faas, way, name, count)?;
            let mut times: [Vec<f64>; 4] = Default::default();
            for (event, job) in &events {
                for (stage, time) in times.iter_mut().zip(self.stages(&faas, event, job)?) {
                    stage.push(time);
                }
            }
            let stages = [
                "event to journal".to_owned(),
                "journal to STARTING".to_owned(),
                format!("STARTING to {}", self.end),
                format!("event to {}", self.end),
            ];
            for (stage, values) in stages.iter().zip(&times) {
                let cells = [0.5, 0.9, 0.99, 1.0].map(|part| short(quantile(values.clone(), part)));
                table.row(format!("{name}: {stage}"), cells);
            }
            let [.., whole] = times;
            for (figure, part, target) in self.figures {
                let value = quantile(whole.clone(), *part);
                let figure = Figure::at_most(&format!("{figure}{suffix}"), value, "ms", *target);
                figures.add(figure.placed(&placement));
            }
            let points = (1..=99).map(|percent| {
                let part = f64::from(percent) / 100.0;
                (quantile(whole.clone(), part), f64::from(percent))
            });
            series.push((name.to_owned(), points.collect()));
        }
        Ok(Section {
            name: self.part,
            title: self.title,
            text: self.text,
            placement,
            tables: vec![table],
            plots: vec![Plot {
                file: self.part,
                title: format!("{}, {RATE} events a second", self.title),
                x: "milliseconds",
                y: "percent of events",
                shape: Shape::Lines {
                    logarithmic: false,
                    series,
                },
            }],
        })
    }

    /// Sends events at the rate, whether or not the runner keeps up; each with its job when that has ended.
    fn send(&self, faas: &Faas, way: Way, prefix: &str, count: usize) -> Result<Vec<(Event, Job)>> {
        let begun = Instant::now();
        let mut events = Vec::new();
        for number in 0..count {
            let due = begun + Duration::from_secs(1) / RATE * number as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            events.push(self.happen(faas, way, format!("{prefix}-{number}"))?);
        }
        let ended = |event: Event| {
            let id = match &event.job {
                Some(id) => id.clone(),
                None => faas
                    .job_of(self.function, &event.name, PATIENCE)?
                    .id()
                    .to_owned(),
            };
            let job = faas.wait(&id, PATIENCE)?;
            ensure!(
                job.state() == "SUCCEEDED",
                "{}: {}\n{}",
                event.name,
                job.0,
                faas.log(&job)
            );
            Ok((event, job))
        };
        events.into_iter().map(ended).collect()
    }

    fn happen(&self, faas: &Faas, way: Way, name: String) -> Result<Event> {
        match way {
            Way::File => {
                let folder = faas.input(self.function);
                let hidden = folder.join(format!(".{name}.part"));
                std::fs::write(&hidden, &name)?;
                let at = now()?;
                std::fs::rename(hidden, folder.join(&name))?;
                Ok(Event {
                    name,
                    at,
                    job: None,
                })
            }
            Way::Call => {
                let path = format!("/job/{}?filename={name}", self.function);
                let at = now()?;
                let (status, text) = faas.api.post(&path, &[], name.as_bytes())?;
                ensure!(status == 201, "POST {path}: {status} {text}");
                let answer: Value = serde_json::from_str(&text)?;
                let job = answer["id"].as_str().context("a job without a name")?;
                Ok(Event {
                    name,
                    at,
                    job: Some(job.to_owned()),
                })
            }
        }
    }

    /// Milliseconds from the event to the journal, on to STARTING, on to what the job says; and from the event to that.
    fn stages(&self, faas: &Faas, event: &Event, job: &Job) -> Result<[f64; 4]> {
        let time = |field: &str| {
            job.time(field)
                .with_context(|| format!("no {field} in {}", job.0))
        };
        let (submitted, starting) = (time("t_submitted")?, time("t_start")?);
        let file = faas
            .output(self.function)
            .join(format!("{}.began", event.name));
        let said = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let began = said.trim().parse::<f64>().context("no time")? / 1e9;
        ensure!(
            began > event.at,
            "{} began before its event happened",
            event.name
        );
        let seconds = [
            submitted - event.at,
            starting - submitted,
            began - starting,
            began - event.at,
        ];
        Ok(seconds.map(|seconds| 1000.0 * seconds))
    }
}
