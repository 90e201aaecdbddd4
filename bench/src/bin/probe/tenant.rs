//! One of several clients that share a device, for `cargo xtask bench sharing`: it runs kernels of known work in some pattern, and says when they
//! ended as it saw it. Times are milliseconds from the moment at which all clients begin.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::busy::{Busy, Work, until};
use crate::driver::{Handle, call};
use crate::hoard;
use crate::{Measured, number};

/// So many kernels under way at once, at most.
const MOST: usize = 1024;

struct Tenant {
    busy: Busy,
    began: Instant,
    ends_after: Duration,
}

impl Tenant {
    /// Ready, and the time has come.
    fn new(work: Work, at: f64, seconds: f64) -> Result<Tenant> {
        let mut busy = Busy::new(work)?;
        busy.launch()?;
        busy.wait()?;
        sleep(until(at)?);
        Ok(Tenant {
            busy,
            began: Instant::now(),
            ends_after: Duration::from_secs_f64(seconds),
        })
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.ends_after
    }
}

fn list(times: &[f64]) -> Value {
    times.iter().map(|time| number(*time)).collect()
}

/// A part of each period, in milliseconds.
#[derive(Clone, Copy)]
pub struct Window {
    pub period: f64,
    pub from: f64,
    pub to: f64,
}

impl Window {
    const ALWAYS: Window = Window {
        period: 1.0,
        from: 0.0,
        to: 1.0,
    };

    /// How long until it is open.
    fn opens_in(self, now: f64) -> f64 {
        let at = now % self.period;
        match (self.from..self.to).contains(&at) {
            true => 0.0,
            false => (self.from - at).rem_euclid(self.period),
        }
    }
}

/// Always `depth` kernels under way, while the window is open: `ends` of each.
pub fn batch(work: Work, at: f64, seconds: f64, depth: usize, window: Window) -> Result<Measured> {
    ensure!((1..=MOST).contains(&depth), "a depth from 1 to {MOST}");
    let mut tenant = Tenant::new(work, at, seconds)?;
    let driver = &tenant.busy.driver;
    let mut events: Vec<Handle> = Vec::new();
    for _ in 0..depth {
        let mut event = std::ptr::null_mut();
        call!(driver.cuEventCreate(&mut event, 2))?;
        events.push(event);
    }
    let (mut launched, mut ends) = (0, Vec::new());
    let mut waited = 0;
    while !tenant.is_over() {
        let closed = window.opens_in(tenant.now());
        if launched - waited == depth || (closed > 0.0 && launched > waited) {
            let driver = &tenant.busy.driver;
            call!(driver.cuEventSynchronize(events[waited % depth]))?;
            ends.push(tenant.now());
            waited += 1;
            continue;
        }
        if closed > 0.0 {
            sleep(Duration::from_secs_f64(closed / 1000.0));
            continue;
        }
        let event = events[launched % depth];
        tenant.busy.launch()?;
        let driver = &tenant.busy.driver;
        call!(driver.cuEventRecord(event, tenant.busy.stream))?;
        launched += 1;
    }
    let mut measured = Measured::new();
    measured.insert("ends".into(), list(&ends));
    Ok(measured)
}

/// Jobs of so many kernels, waited for, with pauses between them: `begins` and `ends` of each.
pub fn jobs(work: Work, at: f64, seconds: f64, kernels: usize, pause_ms: f64) -> Result<Measured> {
    let mut tenant = Tenant::new(work, at, seconds)?;
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    while !tenant.is_over() {
        begins.push(tenant.now());
        for _ in 0..kernels {
            tenant.busy.launch()?;
        }
        tenant.busy.wait()?;
        ends.push(tenant.now());
        // Not in step with anybody: pauses differ by up to a third, always the same ones.
        let step = (begins.len() * 7 % 11) as f64 / 11.0;
        sleep(Duration::from_secs_f64(
            pause_ms / 1000.0 * (5.0 / 6.0 + step / 3.0),
        ));
    }
    let mut measured = Measured::new();
    measured.insert("begins".into(), list(&begins));
    measured.insert("ends".into(), list(&ends));
    Ok(measured)
}

/// So many jobs as of [`jobs`] with equal pauses: `end` of the last.
pub fn rounds(
    work: Work,
    at: f64,
    count: usize,
    kernels: usize,
    pause_ms: f64,
) -> Result<Measured> {
    let mut tenant = Tenant::new(work, at, 0.0)?;
    for _ in 0..count {
        for _ in 0..kernels {
            tenant.busy.launch()?;
        }
        tenant.busy.wait()?;
        sleep(Duration::from_secs_f64(pause_ms / 1000.0));
    }
    let mut measured = Measured::new();
    measured.insert("end".into(), number(tenant.now()));
    Ok(measured)
}

/// The words behind `tenant WORK AT`.
pub fn measure(work: &str, at: &str, words: &[&str]) -> Result<Measured> {
    let (work, at): (Work, f64) = (work.parse()?, at.parse()?);
    match *words {
        ["batch", seconds, depth] => batch(
            work,
            at,
            seconds.parse()?,
            depth.parse()?,
            Window::ALWAYS,
        ),
        ["batch", seconds, depth, period, from, to] => {
            let window = Window {
                period: period.parse()?,
                from: from.parse()?,
                to: to.parse()?,
            };
            ensure!(
                0.0 <= window.from && window.from < window.to && window.to <= window.period,
                "a window within its period"
            );
            batch(work, at, seconds.parse()?, depth.parse()?, window)
        }
        ["jobs", seconds, kernels, pause] => {
            jobs(work, at, seconds.parse()?, kernels.parse()?, pause.parse()?)
        }
        ["rounds", count, kernels, pause] => {
            rounds(work, at, count.parse()?, kernels.parse()?, pause.parse()?)
        }
        ["hoard", mib, phases, kernels, pause, seed] => hoard::measure(&hoard::Plan {
            rounds: match work {
                Work::Rounds(rounds) => rounds,
                Work::Nanoseconds(_) => bail!("a hoard's kernels have rounds"),
            },
            at,
            mib: mib.parse()?,
            phases: phases.parse()?,
            kernels: kernels.parse()?,
            pause_ms: pause.parse()?,
            seed: seed.parse()?,
        }),
        _ => None.context(
            "tenant ROUNDS|NANOSECONDSns AT batch SECONDS DEPTH [PERIOD_MS FROM_MS TO_MS] | jobs SECONDS KERNELS PAUSE_MS | rounds COUNT KERNELS PAUSE_MS | \
             hoard MIB PHASES KERNELS PAUSE_MS SEED",
        ),
    }
}
