//! The link to the servers goes down while functions use them.

mod phases;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rgpu_system::faas::Gpu;
use rgpu_system::{Faas, Namespace, Server, ServerOptions, python};

use super::definition;
use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, Place, text};
use crate::workspace_root;
use phases::{Cut, Phases};

const TEXT: &str = include_str!("blackout.md");
const PHASES: [&str; 4] = ["connect", "load", "inference", "output"];
const INPUTS: u32 = 10;
/// Of the shortest clip; each other has one more.
const FRAMES: u32 = 10;
/// Which job is at the phase when the link goes down.
const NTH: usize = 3;
/// Ended jobs before the third server is there.
const BEFORE: usize = 3;
const SERVERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(240);
const TOKEN: &str = "token-of-all-three-servers";

struct Site<'a> {
    bench: &'a Bench<'a>,
    addresses: Vec<String>,
    token_file: PathBuf,
    clips: Vec<PathBuf>,
    environment: Place,
    phases: Phases,
    // Before the namespace that they are in.
    _servers: Vec<Server>,
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let seconds: &[u64] = if bench.quick { &[1] } else { &[1, 5, 15] };
    let site = Site::open(bench)?;
    let mut table = Table::new(
        format!("{INPUTS} inputs"),
        &[
            "phase",
            "link down, s",
            "right answers",
            "attempts beyond one",
            "seconds",
            "jobs on the third server",
        ],
    );
    let mut least = f64::INFINITY;
    for phase in PHASES {
        for &down in seconds {
            at(format!("{down} s in {phase}"));
            let run = site.run(Cut {
                phase,
                nth: NTH,
                time: Duration::from_secs(down),
            })?;
            least = least.min(run.right as f64);
            let cells = [
                down.to_string(),
                run.right.to_string(),
                run.more_attempts.to_string(),
                short(run.seconds),
                run.on_third.to_string(),
            ];
            table.row(phase, cells);
        }
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_least("faas.blackout_ok", least, "answers", f64::from(INPUTS));
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "blackout",
        title: "A link that is down",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// What came of ten inputs.
struct Run {
    right: usize,
    more_attempts: usize,
    seconds: f64,
    on_third: usize,
}

impl<'a> Site<'a> {
    fn open(bench: &'a Bench<'a>) -> Result<Site<'a>> {
        let folder = bench.new_folder()?;
        let cable = Namespace::new().context("no network namespace: it needs root and iproute2")?;
        let cable = Arc::new(cable);
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..SERVERS {
            let options = ServerOptions {
                config: Some(format!(
                    "[[tenant]]\nname = \"faas\"\ntoken = \"{TOKEN}\"\n"
                )),
                environment: vec![("SOFTGPU_THREADS".into(), "1".into())],
                namespace: Some(cable.clone()),
                ..ServerOptions::default()
            };
            let place = folder.join(number.to_string());
            std::fs::create_dir_all(&place)?;
            let server = Server::start(bench.programs, &place, &options)?;
            addresses.push(server.daemon.address("tcp")?.to_owned());
            servers.push(server);
        }
        let token_file = folder.join("token");
        std::fs::write(&token_file, TOKEN)?;
        let frames: Vec<u32> = (FRAMES..FRAMES + INPUTS).collect();
        let clips = python::clips(&bench.python, &folder.join("clips"), &frames)?;
        let network = python::network(bench.programs, &bench.python, &folder)?;
        let phases = Phases::listen(cable)?;
        let mut environment = python::variables(&bench.python, Some(&network));
        let echo = workspace_root().join("examples/echo");
        let phased = workspace_root().join("bench/workflow/phased.py");
        environment.extend([
            ("ECHO_HOME".into(), text(&echo)),
            ("PHASED".into(), text(&phased)),
            ("RGPU_PHASES".into(), phases.address.to_string()),
        ]);
        Ok(Site {
            bench,
            addresses,
            token_file,
            clips,
            environment,
            phases,
            _servers: servers,
        })
    }

    fn gpu(&self, servers: usize) -> Gpu<'_> {
        Gpu::Servers(&self.addresses[..servers], &self.token_file)
    }

    fn run(&self, cut: Cut) -> Result<Run> {
        let programs = self.bench.programs;
        let folder = self.bench.new_folder()?;
        let gpu = self.gpu(SERVERS - 1);
        let mut faas = Faas::start(programs, &folder, gpu, &self.environment)?;
        faas.apply(programs, &definition("blackout.yaml"))?;
        self.phases.expect(cut);
        let begun = Instant::now();
        let names = faas.drop_files("phased", &self.clips)?;
        until_ended(&faas, BEFORE)?;
        faas.change_gpu(self.gpu(SERVERS))?;
        let (mut right, mut more_attempts) = (0, 0);
        let mut jobs = Vec::new();
        for name in &names {
            let job = faas.job_of("phased", name, PATIENCE)?;
            let job = faas.wait(job.id(), PATIENCE)?;
            if job.state() != "SUCCEEDED" {
                eprintln!("  {name}: {} {}", job.state(), job.text("reason"));
            }
            jobs.push(job);
        }
        let seconds = begun.elapsed().as_secs_f64();
        for (clip, job) in self.clips.iter().zip(&jobs) {
            let attempts = job.0["attempt"].as_u64().unwrap_or_default() as usize;
            more_attempts += attempts.saturating_sub(1);
            match self.check(&faas, clip) {
                Ok(()) => right += 1,
                Err(error) => eprintln!("  {}: {error:#}", clip.display()),
            }
        }
        let devices = self.phases.devices()?;
        let on_third = devices.get(&(SERVERS - 1).to_string()).copied();
        let on_third = on_third.unwrap_or_default();
        ensure!(on_third > 0, "no job used the third server: {devices:?}");
        Ok(Run {
            right,
            more_attempts,
            seconds,
            on_third,
        })
    }

    fn check(&self, faas: &Faas, clip: &Path) -> Result<()> {
        let stem = clip.file_stem().context("a clip's name")?;
        let answer = faas.output("phased").join(stem).with_extension("json");
        ensure!(answer.is_file(), "no answer");
        python::check(&self.bench.python, clip, &answer).map(drop)
    }
}

/// Waits until so many jobs have ended.
fn until_ended(faas: &Faas, count: usize) -> Result<()> {
    let begun = Instant::now();
    let path =
        format!("/jobs?function=phased&state=SUCCEEDED,FAILED&min={count}&limit=100&wait=20");
    loop {
        let (status, text) = faas.get(&path)?;
        ensure!(status == 200, "GET {path}: {status} {text}");
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let ended = answer["jobs"].as_array().map_or(0, Vec::len);
        if ended >= count {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{ended} jobs have ended, not {count}\n{}",
            faas.daemon.log_text()
        );
    }
}
