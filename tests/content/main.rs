//! What has been sent is not sent again: between sessions of one tenant, across a restart, and never between tenants.

mod disk;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::stats::Stats;
use rgpu_system::{Programs, Server, ServerOptions, c, python};

/// One run of `tests/c/content.c`.
#[derive(Clone, Copy)]
struct Run {
    weights: u64,
    weights_kib: u64,
    frames: (u64, u64),
    content: &'static str,
    scheme: &'static str,
    tenant: &'static str,
}

/// Three pieces and a part of one.
const START: Run = Run {
    weights: 1,
    weights_kib: 3300,
    frames: (1, 0),
    content: "on",
    scheme: "tcp",
    tenant: "one",
};

/// What the daemon's log says once for each session that may leave something, when that is done.
const LEAVES: &str = "a session leaves";
/// Far beyond what the end of a session takes.
const PATIENCE: Duration = Duration::from_secs(120);

struct Bed {
    programs: Programs,
    folder: Folder,
    program: PathBuf,
}

fn token(tenant: &str) -> String {
    format!("a-token-of-the-tenant-{tenant}")
}

impl Bed {
    fn new() -> Result<Bed> {
        let folder = Folder::new("rgpu-content-")?;
        Ok(Bed {
            programs: Programs::for_tests()?,
            program: c::compile(folder.path(), "content")?,
            folder,
        })
    }

    fn server(&self, arguments: &[&str]) -> Result<Server> {
        let tenants = ["one", "two", "six"].map(|name| {
            let token = token(name);
            format!("[[tenant]]\nname = \"{name}\"\ntoken = \"{token}\"\n")
        });
        let options = ServerOptions {
            config: Some(tenants.concat()),
            arguments: arguments.iter().map(|word| (*word).into()).collect(),
            environment: vec![("RGPUD_LOG".into(), "debug".into())],
            ..ServerOptions::default()
        };
        Server::start(&self.programs, self.folder.path(), &options)
    }

    /// What the client counted, and the microseconds of its start. What the session leaves is there when this returns.
    fn timed(&self, server: &Server, run: &Run) -> Result<(Stats, u64)> {
        let left = || server.daemon.log_text().matches(LEAVES).count();
        let before = left();
        let stats = tempfile::NamedTempFile::new_in(self.folder.path())?;
        let mut command = Command::new(&self.program);
        let (seed, frames) = run.frames;
        let numbers = [run.weights, run.weights_kib, seed, frames];
        clean(&mut command)
            .args(numbers.map(|number| number.to_string()))
            .envs(server.client(&self.programs, run.scheme)?)
            .env_remove("RGPU_TOKEN_FILE")
            .env("RGPU_TOKEN", token(run.tenant))
            .env("RGPU_CONTENT", run.content)
            .env("RGPU_STATS", stats.path());
        let said = python::run(&mut command, "the function failed")?;
        let (right, micros) = said.split_once(' ').context("no answer")?;
        ensure!(right == "right", "{said}");
        let deadline = Instant::now() + PATIENCE;
        while run.content != "off" && left() == before {
            ensure!(Instant::now() < deadline, "the session never ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let stats = serde_json::from_str(&std::fs::read_to_string(stats.path())?)?;
        Ok((Stats::parse(&stats)?, micros.parse()?))
    }

    fn run(&self, server: &Server, run: &Run) -> Result<Stats> {
        Ok(self.timed(server, run)?.0)
    }
}

/// Bytes to the server that are more than commands take.
fn sends_weights(stats: &Stats) -> bool {
    stats.bytes_out > 3 << 20
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![path],
        })
        .collect()
}

#[test]
fn a_second_start_sends_next_to_nothing_and_waits_for_no_load() -> Result<()> {
    let bed = Bed::new()?;
    let server = bed.server(&[])?;
    let first = bed.run(&server, &START)?;
    ensure!(sends_weights(&first) && first.modules() == 1, "{first:?}");
    for _ in 0..3 {
        let again = bed.run(&server, &START)?;
        let (now, then) = (again.bytes_out, first.bytes_out);
        ensure!(100 * now <= then, "{now} of {then} bytes");
        ensure!(again.modules() == 0, "{again:?}");
    }
    Ok(())
}

#[test]
fn within_one_host_code_is_known_and_copies_go_as_they_are() -> Result<()> {
    let bed = Bed::new()?;
    let server = bed.server(&[])?;
    for scheme in ["unix", "shm"] {
        let run = Run {
            content: "auto",
            scheme,
            tenant: if scheme == "unix" { "one" } else { "two" },
            ..START
        };
        let first = bed.run(&server, &run)?;
        let again = bed.run(&server, &run)?;
        ensure!((first.modules(), again.modules()) == (1, 0), "{again:?}");
        let commands = first.bytes_out.abs_diff(again.bytes_out);
        ensure!(commands < 4096, "{first:?} {again:?}");
    }
    Ok(())
}

#[test]
fn other_content_is_sent_and_what_turns_it_off_does() -> Result<()> {
    let bed = Bed::new()?;
    let server = bed.server(&[])?;
    bed.run(&server, &START)?;
    let other = Run {
        weights: 2,
        ..START
    };
    let stats = bed.run(&server, &other)?;
    ensure!(sends_weights(&stats) && stats.modules() == 0, "{stats:?}");
    let off = Run {
        content: "off",
        ..START
    };
    let stats = bed.run(&server, &off)?;
    ensure!(sends_weights(&stats) && stats.modules() == 1, "{stats:?}");
    drop(server);
    let server = bed.server(&["--cache-memory", "0"])?;
    for _ in 0..2 {
        let stats = bed.run(&server, &START)?;
        ensure!(sends_weights(&stats) && stats.modules() == 1, "{stats:?}");
    }
    Ok(())
}

#[test]
fn frames_do_not_wash_out_the_weights() -> Result<()> {
    let bed = Bed::new()?;
    // Twelve MiB of frames in each session, where sixteen are kept.
    let server = bed.server(&["--cache-memory", "16"])?;
    let frames = |seed: u64| Run {
        frames: (1000 * seed, 768),
        ..START
    };
    bed.run(&server, &frames(1))?;
    let all = START.weights_kib << 10;
    for seed in 2..6 {
        let stats = bed.run(&server, &frames(seed))?;
        let frames = 768 << 14;
        let beside = stats.bytes_out - frames;
        ensure!(beside < all / 4, "{beside} bytes beside the frames");
    }
    Ok(())
}

/// Whether another tenant has sent the same shows in nothing: the same commands go, with the same bytes.
#[test]
fn nothing_is_known_of_another_tenants_content() -> Result<()> {
    let bed = Bed::new()?;
    let server = bed.server(&[])?;
    let of = |tenant, weights| Run {
        tenant,
        weights,
        ..START
    };
    for _ in 0..2 {
        bed.run(&server, &of("one", 1))?;
    }
    // What one has, and what nobody has.
    let theirs = bed.run(&server, &of("two", 1))?;
    let fresh = bed.run(&server, &of("six", 2))?;
    let seen = |stats: &Stats| (stats.calls, stats.waits_by_call.clone(), stats.bytes_out);
    ensure!(seen(&theirs) == seen(&fresh), "{theirs:?} {fresh:?}");
    // The welcome's numbers are of other lengths.
    let answers = theirs.bytes_in.abs_diff(fresh.bytes_in);
    ensure!(answers < 16, "{theirs:?} {fresh:?}");
    Ok(())
}

/// For people, who look at the figures: starts of a tenant with content that another tenant has, and with content that nobody has.
#[test]
#[ignore = "takes times, which other work on the machine moves"]
fn times_do_not_tell_of_another_tenants_content() -> Result<()> {
    let bed = Bed::new()?;
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    println!("seed {seed}");
    let (mut theirs, mut fresh) = (Vec::new(), Vec::new());
    for round in 0..30 {
        let server = bed.server(&[])?;
        let weights = seed + 2 * round;
        let of = |tenant, weights| Run {
            tenant,
            weights,
            ..START
        };
        bed.run(&server, &of("one", weights))?;
        let mut both = [
            ("two", weights, &mut theirs),
            ("six", weights + 1, &mut fresh),
        ];
        // Which comes first must not be what is measured.
        if (seed ^ round).is_multiple_of(2) {
            both.reverse();
        }
        for (tenant, weights, times) in both {
            times.push(bed.timed(&server, &of(tenant, weights))?.1);
        }
    }
    // Mann and Whitney's: how often one of a pair is the faster, against what chance makes of it.
    let faster = theirs.iter().flat_map(|a| {
        fresh
            .iter()
            .map(move |b| (a < b) as u64 as f64 + (a == b) as u64 as f64 / 2.0)
    });
    let (u, n) = (faster.sum::<f64>(), theirs.len() as f64);
    let z = (u - n * n / 2.0) / (n * n * (2.0 * n + 1.0) / 12.0).sqrt();
    theirs.sort_unstable();
    fresh.sort_unstable();
    let middle = theirs.len() / 2;
    println!(
        "median of another's {} us, of nobody's {} us, z {z:.2}",
        theirs[middle], fresh[middle]
    );
    ensure!(z.abs() < 3.3, "one in a thousand by chance");
    Ok(())
}
