//! Events, and kills among them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rgpu_system::Faas;
use rgpu_system::faas::{Api, Gpu};

use super::events::{Event, Kind};
use super::journal::{Journal, Moment};
use super::published::Published;
use super::tally::{Tally, tally};
use crate::bench::faas::definition;
use crate::bench::tools::Bench;

/// Events that have no end yet, at most: so many that the runner is never idle.
const WINDOW: usize = 256;
/// How long a job is waited for that is in the state which a kill is aimed at.
const AIM: Duration = Duration::from_secs(20);
/// How long nothing may end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at everything but the aim.
const LOOK: Duration = Duration::from_millis(3);
const FUNCTIONS: [&str; 3] = ["copies", "fails", "waits"];

pub struct Plan {
    pub events: usize,
    pub kills: usize,
    /// Kills at each moment, at least.
    pub of_each: usize,
    pub seed: u64,
}

impl Plan {
    /// What the kills are aimed at, in their order.
    fn moments(&self, random: &mut fastrand::Rng) -> VecDeque<Moment> {
        let all = Moment::ALL.into_iter().cycle();
        let mut moments: Vec<Moment> = all.take(self.kills).collect();
        random.shuffle(&mut moments);
        moments.into()
    }
}

pub struct Kill {
    pub moment: Moment,
    /// That were there, or had just come there.
    pub jobs: u64,
    /// From the kill to the next runner's readiness.
    pub ready_ms: f64,
}

pub struct Done {
    pub kills: Vec<Kill>,
    pub tally: Tally,
    pub calls: usize,
    pub more_attempts: u64,
    /// With a runner.
    pub seconds: f64,
    /// Of what attempts have put aside.
    pub left: usize,
}

pub struct Storm<'a> {
    plan: &'a Plan,
    faas: Faas,
    journal: Journal,
    published: Published,
    random: fastrand::Rng,
    events: Vec<Event>,
    sent: usize,
    /// To the thread that calls.
    calls: Sender<Event>,
    caller: JoinHandle<Result<()>>,
    /// Jobs whose end this runner has been asked for.
    asked: HashSet<String>,
    without_runner: Duration,
}

impl<'a> Storm<'a> {
    pub fn start(bench: &Bench<'_>, plan: &'a Plan) -> Result<Storm<'a>> {
        let faas = Faas::start(bench.programs, &bench.new_folder()?, Gpu::None, &[])?;
        for function in FUNCTIONS {
            std::fs::create_dir_all(faas.input(function))?;
            std::fs::create_dir_all(faas.output(function))?;
        }
        let published = Published::watch(&faas.output("copies"))?;
        faas.apply(bench.programs, &definition("killed.yaml"))?;
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let events = (0..plan.events).map(|number| Event::new(number, &mut random));
        let events = events.collect();
        let (calls, to_call) = channel();
        let api = faas.api.clone();
        Ok(Storm {
            plan,
            journal: Journal::open(&faas.data)?,
            published,
            faas,
            random,
            events,
            sent: 0,
            calls,
            caller: std::thread::spawn(move || call_all(&api, &to_call)),
            asked: HashSet::new(),
            without_runner: Duration::ZERO,
        })
    }

    pub fn run(mut self, at: &dyn Fn(String)) -> Result<Done> {
        let mut moments = self.plan.moments(&mut self.random);
        let mut kills = Vec::new();
        let (begun, mut ended, mut moved) = (Instant::now(), 0, Instant::now());
        let mut next = self.pause(0, moments.len());
        while ended < self.events.len() {
            self.feed()?;
            self.cancel()?;
            let now = self.journal.progress()?.1 as usize;
            if now != ended {
                (ended, moved) = (now, Instant::now());
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "{ended} of {} events have ended, and no more do\n{}",
                self.sent,
                self.faas.daemon.log_text()
            );
            if self.caller.is_finished() {
                break;
            }
            if ended >= next
                && let Some(moment) = moments.pop_front()
            {
                at(format!("{ended} events, kill at {}", moment.name()));
                match self.strike(moment)? {
                    Some(kill) => kills.push(kill),
                    None => moments.push_back(moment),
                }
                next = ended + self.pause(ended, moments.len());
                moved = Instant::now();
            }
            std::thread::sleep(LOOK);
        }
        let seconds = (begun.elapsed() - self.without_runner).as_secs_f64();
        self.finish(kills, seconds)
    }

    /// How many more events end before the next kill: by chance, and so that all kills find some.
    fn pause(&mut self, ended: usize, kills: usize) -> usize {
        let mean = (self.events.len() - ended) / (kills + 2);
        self.random.usize(1..=2 * mean.max(1))
    }

    /// Sends events until there are enough on the way.
    fn feed(&mut self) -> Result<()> {
        let ended = self.journal.progress()?.1 as usize;
        while self.sent < self.events.len() && self.sent < ended + WINDOW {
            let event = &self.events[self.sent];
            if event.kind == Kind::Called {
                // Should the thread have ended, its error is told.
                let _ = self.calls.send(event.clone());
            } else {
                let folder = self.faas.input(event.kind.function());
                let hidden = folder.join(format!(".{}.part", event.name));
                std::fs::write(&hidden, &event.content)?;
                std::fs::rename(hidden, folder.join(&event.name))?;
            }
            self.sent += 1;
        }
        Ok(())
    }

    /// Asks for the ends of the jobs that have no other.
    fn cancel(&mut self) -> Result<()> {
        for job in self.journal.running("waits")? {
            if self.asked.contains(&job) {
                continue;
            }
            let path = format!("/jobs/{job}/cancel");
            let (status, text) = self.faas.api.post(&path, &[], b"")?;
            // It may have been put back into the queue meanwhile, or have ended.
            ensure!(
                matches!(status, 200 | 202 | 409),
                "POST {path}: {status} {text}"
            );
            self.asked.insert(job);
        }
        Ok(())
    }

    /// Kills the runner as soon as a job is there, and starts the next. None: none came there, or it was gone again.
    fn strike(&mut self, moment: Moment) -> Result<Option<Kill>> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let since = since.as_micros() as i64;
        let (begun, mut looked) = (Instant::now(), Instant::now());
        while self.journal.count(moment, since)? == 0 {
            if looked.elapsed() > LOOK {
                self.feed()?;
                self.cancel()?;
                looked = Instant::now();
            }
            if begun.elapsed() > AIM {
                return Ok(None);
            }
        }
        let killed = Instant::now();
        self.faas.daemon.kill();
        let jobs = self.journal.count(moment, since)?;
        // Some events come while there is no runner.
        self.feed()?;
        self.faas.start_again()?;
        let ready = killed.elapsed();
        self.without_runner += ready;
        self.asked.clear();
        Ok((jobs > 0).then_some(Kill {
            moment,
            jobs,
            ready_ms: 1000.0 * ready.as_secs_f64(),
        }))
    }

    fn finish(mut self, kills: Vec<Kill>, seconds: f64) -> Result<Done> {
        drop(self.calls);
        let called = self.caller.join();
        called.map_err(|_| anyhow!("the calling thread panicked"))??;
        self.faas.daemon.stop();
        let appeared = self.published.counts()?;
        let (mut published, mut left) = (HashMap::new(), 0);
        for function in FUNCTIONS {
            left += collect(&self.faas.output(function), &mut published)?;
        }
        let rows = self.journal.rows()?;
        let called = self.events.iter();
        let called = called.filter(|event| event.kind == Kind::Called);
        Ok(Done {
            tally: tally(&self.events, &rows, &published, &appeared),
            calls: called.count(),
            more_attempts: rows
                .iter()
                .map(|row| u64::from(row.attempts.saturating_sub(1)))
                .sum(),
            kills,
            seconds,
            left,
        })
    }
}

/// The contents of a folder's files by their names, and how many are hidden.
fn collect(folder: &Path, contents: &mut HashMap<String, String>) -> Result<usize> {
    let mut hidden = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            hidden += 1;
            continue;
        }
        contents.insert(name, std::fs::read_to_string(entry.path())?);
    }
    Ok(hidden)
}

/// Calls functions until nobody sends more; each call again until it is answered.
fn call_all(api: &Api, events: &Receiver<Event>) -> Result<()> {
    for event in events {
        let function = event.kind.function();
        let path = format!("/job/{function}?filename={}", event.name);
        let begun = Instant::now();
        loop {
            let key = [("Idempotency-Key", event.name.as_str())];
            match api.post(&path, &key, event.content.as_bytes()) {
                Ok((200 | 201, _)) => break,
                Ok((status, text)) => bail!("POST {path}: {status} {text}"),
                // No runner is there, or it was killed before it answered.
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error).context("a call is not answered");
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_has_its_kills() {
        let plan = Plan {
            events: 100,
            kills: 50,
            of_each: 5,
            seed: 1,
        };
        let moments = plan.moments(&mut fastrand::Rng::with_seed(plan.seed));
        assert_eq!(moments.len(), plan.kills);
        for moment in Moment::ALL {
            let count = moments.iter().filter(|it| **it == moment).count();
            assert!(count >= plan.of_each, "{moment:?}: {count}");
        }
    }
}
