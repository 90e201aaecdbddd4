//! What the server counts against what the device holds.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Server, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{self, Bench, Place, Said};

const TEXT: &str = include_str!("ledger.md");
const TOKENS: [&str; 2] = ["token-of-tenant-number-0", "token-of-tenant-number-1"];
const CONFIG: &str = r#"
[[profile]]
name = "part"
memory_mib = 192
[[tenant]]
name = "t0"
token = "token-of-tenant-number-0"
profile = "part"
[[tenant]]
name = "t1"
token = "token-of-tenant-number-1"
profile = "part"
"#;
/// The tenant and the vGPU of each client.
const CLIENTS: [(usize, &str); 3] = [(0, "both"), (0, "both"), (1, "alone")];

/// A program of the probe's that answers by lines.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn start(bench: &Bench<'_>, words: &[&str], place: Place, loud: bool) -> Result<Talk> {
        let mut command = Command::new(&bench.probe);
        clean(&mut command)
            .args(words)
            .envs(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !loud {
            command.stderr(Stdio::null());
        }
        let mut child = command.spawn()?;
        Ok(Talk {
            input: child.stdin.take().context("stdin")?,
            output: BufReader::new(child.stdout.take().context("stdout")?),
            child,
        })
    }

    /// The next line; `None` at the end.
    fn hear(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok((!line.is_empty()).then_some(line))
    }

    fn say(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.input, "{line}")?)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Books<'a> {
    bench: &'a Bench<'a>,
    server: Server,
    look: Talk,
    worst: f64,
}

impl<'a> Books<'a> {
    fn open(bench: &'a Bench<'a>) -> Result<Books<'a>> {
        let options = ServerOptions {
            config: Some(CONFIG.into()),
            environment: vec![("SOFTGPU_MEMORY".into(), "512MiB".into())],
            ..ServerOptions::default()
        };
        let server = Server::start(bench.programs, &bench.new_folder()?, &options)?;
        let mut place = direct(bench.programs, &server.home)?;
        place.push(("SOFTGPU_MEMORY".into(), "512MiB".into()));
        let address = server.daemon.address("unix")?.to_owned();
        let words = ["ledger", "look", &address, TOKENS[0], TOKENS[1]];
        let look = Talk::start(bench, &words, place, true)?;
        Ok(Books {
            bench,
            server,
            look,
            worst: 0.0,
        })
    }

    fn client(&self, of: (usize, &str), seed: u64, steps: u64, every: u64) -> Result<Talk> {
        let mut place = self.server.client(self.bench.programs, "shm")?;
        place.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        place.push(("RGPU_TOKEN".into(), TOKENS[of.0].into()));
        place.push(("RGPU_VGPU".into(), of.1.into()));
        let words = [seed, steps, every].map(|number| number.to_string());
        let words = ["ledger", "work", &words[0], &words[1], &words[2]];
        // Of one that is killed nobody wants to read.
        Talk::start(self.bench, &words, place, every < steps)
    }

    /// Compares; what is held then, in bytes.
    fn compare(&mut self, sessions: usize) -> Result<f64> {
        self.look.say(&sessions.to_string())?;
        let line = self.look.hear()?.context("nobody looks any more")?;
        let said = Said::parse(&line)?;
        ensure!(
            said.get("sessions")? == sessions as f64,
            "there are not {sessions} sessions: {line}"
        );
        let error = said.get("error")?;
        if error > 0.0 {
            eprintln!("  counted is not held: {line}");
        }
        self.worst = self.worst.max(error);
        said.get("held")
    }
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let (steps, every, kills): (u64, u64, u64) = match bench.quick {
        true => (2_000, 200, 8),
        false => (33_334, 500, 60),
    };
    let seed = tools::seed()?;
    let mut books = Books::open(bench)?;
    let mut clients = Vec::new();
    for (number, of) in (0..).zip(CLIENTS) {
        clients.push(books.client(of, seed + number, steps, every)?);
    }
    let (mut compared, mut held, mut most) = (0.0, 0.0, 0_f64);
    // One pause more than there are: when all has been given back.
    for round in 0..=steps / every {
        at(format!("step {} of {steps}", round * every));
        for client in &mut clients {
            client.hear()?.context("a client has failed")?;
        }
        held = books.compare(clients.len())?;
        most = most.max(held);
        compared += 1.0;
        for client in &mut clients {
            client.say("go")?;
        }
    }
    let left = held;
    drop(clients);
    let mut table = Table::new("Counted against held", &["operations", "value"]);
    let all = steps as f64 * CLIENTS.len() as f64;
    table.row("operations", [short(all)]);
    table.row("comparisons", [short(compared)]);
    let mib = f64::from(1 << 20);
    table.row("MiB held at most", [short(most / mib)]);
    table.row("bytes held at the end", [short(left)]);
    killed(&mut books, seed, kills, at)?;
    table.row("workers killed", [short(kills as f64)]);
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("sharing.ledger_error_bytes", books.worst, "bytes", 0.0);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "ledger",
        title: "Memory, counted and held",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// Kills workers while they are at it, beside one of the same vGPU that stays.
fn killed(books: &mut Books<'_>, seed: u64, kills: u64, at: &dyn Fn(String)) -> Result<()> {
    const STEPS: u64 = 1_000_000;
    let mut stays = books.client(CLIENTS[0], seed, 400, 300)?;
    stays.hear()?.context("a client has failed")?;
    let keeper = books.server.workers();
    for kill in 0..kills {
        at(format!("kill {} of {kills}", kill + 1));
        let mut client = books.client(CLIENTS[1], seed + kill, STEPS, STEPS)?;
        let worker = loop {
            let workers = books.server.workers();
            if let Some(found) = workers.into_iter().find(|it| !keeper.contains(it)) {
                break found;
            }
            ensure!(client.child.try_wait()?.is_none(), "a client has failed");
            std::thread::sleep(Duration::from_millis(1));
        };
        // Somewhere in its first few hundred steps, another place each time.
        let delay = seed.wrapping_add(kill).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        std::thread::sleep(Duration::from_micros(delay * 8));
        let pid = Pid::from_raw(worker as i32).context("a worker")?;
        kill_process(pid, Signal::KILL).context("the worker is gone already")?;
        books.compare(1)?;
    }
    Ok(())
}
