//! A server whose tenants have different terms, and their clients.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use rgpu_system::daemon::clean;
use rgpu_system::{Server, ServerOptions};

use crate::bench::tools::{Bench, Place, Said};

/// How long clients may take to be ready, and each client more.
const READY: Duration = Duration::from_millis(2000);
const EACH: Duration = Duration::from_millis(250);
/// Threads of the software device: the clients and the server need a core too.
const THREADS: &str = "1";

/// What a tenant's profile says of device time.
#[derive(Clone, Copy)]
pub struct Terms {
    pub weight: u32,
    pub cap_percent: Option<u32>,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            weight: 100,
            cap_percent: None,
        }
    }
}

/// What one client does: the tenant's number, what its kernels do, rounds or nanoseconds (`1000ns`), and the probe's words.
pub struct Client {
    pub tenant: usize,
    pub work: String,
    pub words: Vec<String>,
}

impl Client {
    pub fn new(tenant: usize, work: impl ToString, words: &[&str]) -> Client {
        Client {
            tenant,
            work: work.to_string(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    /// As many kernels under way as keep the device busy.
    pub fn batch(tenant: usize, rounds: f64, seconds: f64) -> Client {
        Client::new(tenant, rounds, &["batch", &seconds.to_string(), "4"])
    }
}

pub struct House<'a> {
    bench: &'a Bench<'a>,
    server: Server,
    tenants: usize,
}

impl<'a> House<'a> {
    /// A server over softgpu with a tenant for each of these terms.
    pub fn open(bench: &'a Bench<'a>, terms: &[Terms], arguments: &[&str]) -> Result<House<'a>> {
        House::with(bench, config(terms), terms.len(), &[], arguments)
    }

    /// One with so many tenants, whose tokens are [`token`]s; and with variables of the software device's.
    pub fn with(
        bench: &'a Bench<'a>,
        config: String,
        tenants: usize,
        device: &[(&str, String)],
        arguments: &[&str],
    ) -> Result<House<'a>> {
        let threads = ("SOFTGPU_THREADS".to_owned(), THREADS.to_owned());
        let device = device.iter();
        let device = device.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let options = ServerOptions {
            config: Some(config),
            environment: std::iter::once(threads).chain(device).collect(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..ServerOptions::default()
        };
        Ok(House {
            bench,
            server: Server::start(bench.programs, &bench.new_folder()?, &options)?,
            tenants,
        })
    }

    /// The variables of a tenant's programs.
    pub fn place(&self, tenant: usize) -> Result<Place> {
        ensure!(tenant < self.tenants, "no tenant {tenant}");
        let mut place = self.server.client(self.bench.programs, "shm")?;
        place.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        place.push(("RGPU_TOKEN".into(), token(tenant)));
        Ok(place)
    }

    /// Rounds of a kernel that takes so long when nobody else is there.
    pub fn calibrate(&self, millis: f64) -> Result<f64> {
        self.calibrate_of(0, millis)
    }

    /// The same by a tenant who may use the whole device.
    pub fn calibrate_of(&self, tenant: usize, millis: f64) -> Result<f64> {
        let words = ["calibrate", &millis.to_string()];
        let said = self.bench.probe(&words, &self.place(tenant)?)?;
        said.get("rounds")
    }

    /// Runs clients that begin at the same moment; what they say, in their order.
    pub fn run(&self, clients: &[Client]) -> Result<Vec<Said>> {
        let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let begin = (begin + READY + EACH * clients.len() as u32).as_secs_f64();
        let start = |client: &Client| -> Result<Child> {
            let mut command = Command::new(&self.bench.probe);
            clean(&mut command)
                .args(["tenant", &client.work, &begin.to_string()])
                .args(&client.words)
                .envs(self.place(client.tenant)?)
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            Ok(command.spawn()?)
        };
        let started: Result<Vec<Child>> = clients.iter().map(start).collect();
        // All are waited for, whatever one says.
        let said: Vec<Result<Said>> = started?
            .into_iter()
            .map(|client| {
                let output = client.wait_with_output()?;
                ensure!(output.status.success(), "a client failed");
                Said::parse(&String::from_utf8_lossy(&output.stdout))
            })
            .collect();
        said.into_iter().collect()
    }
}

pub fn token(tenant: usize) -> String {
    format!("token-of-tenant-number-{tenant}")
}

/// A profile for each tenant.
fn config(terms: &[Terms]) -> String {
    let mut text = String::new();
    for (at, terms) in terms.iter().enumerate() {
        text += &format!("[[profile]]\nname = \"p{at}\"\nmemory_mib = 64\n");
        // Without time sharing a weight is refused, even the usual one.
        if terms.weight != Terms::default().weight {
            text += &format!("weight = {}\n", terms.weight);
        }
        if let Some(percent) = terms.cap_percent {
            text += &format!("cap = {percent}\n");
        }
        let token = token(at);
        text +=
            &format!("[[tenant]]\nname = \"t{at}\"\ntoken = \"{token}\"\nprofile = \"p{at}\"\n");
    }
    text
}
