//! What all parts use: the programs, the probe, the null device, and servers over it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::far::Far;
use rgpu_system::{Programs, Server, ServerOptions, python};
use serde_json::Value;

use crate::bench::link::Link;
use crate::bench::machine::Machine;
use crate::workspace_root;

/// The transports that the probe has a bare exchange of.
pub const SCHEMES: [&str; 3] = ["shm", "unix", "tcp"];

/// Variables of a program.
pub type Place = Vec<(String, String)>;

/// What the probe has said.
pub struct Said(Value);

impl Said {
    pub fn parse(text: &str) -> Result<Said> {
        let last = text.lines().last().unwrap_or_default();
        let value = serde_json::from_str(last).with_context(|| format!("not JSON: {text}"))?;
        Ok(Said(value))
    }

    pub fn get(&self, name: &str) -> Result<f64> {
        self.0[name]
            .as_f64()
            .with_context(|| format!("no {name} in {}", self.0))
    }

    /// Numbers, in their order.
    pub fn list(&self, name: &str) -> Result<Vec<f64>> {
        let list = self.0[name].as_array().into_iter().flatten();
        let numbers: Option<Vec<f64>> = list.map(Value::as_f64).collect();
        ensure!(self.0[name].is_array(), "no list {name} in what was said");
        numbers.with_context(|| format!("{name} is no list of numbers"))
    }

    /// In alphabetical order.
    pub fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        let object = self.0.as_object().into_iter().flatten();
        object.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
    }
}

pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub python: PathBuf,
    pub probe: PathBuf,
    /// The null device's libcuda.so.1, alone in its folder.
    pub null: PathBuf,
    pub folder: Folder,
    pub machine: Machine,
    pub quick: bool,
    folders: Cell<u32>,
}

/// The probe and the null device, as releases; returns where they lie.
pub fn build() -> Result<PathBuf> {
    let mut command = crate::cargo();
    command
        .current_dir(workspace_root())
        .args(["build", "--release", "--bin", "probe"])
        .args(["-p", "rgpu-bench", "-p", "rgpu-nulldev", "--lib"]);
    python::run(&mut command, "cargo build")?;
    Ok(workspace_root().join("target/release"))
}

impl<'a> Bench<'a> {
    pub fn new(programs: &'a Programs, python: PathBuf, built: &Path, quick: bool) -> Result<Self> {
        let folder = Folder::new("rgpu-bench-")?;
        let null = folder.path().join("null");
        std::fs::create_dir_all(&null)?;
        for name in ["libcuda.so.1", "libcuda.so"] {
            std::os::unix::fs::symlink(built.join("librgpu_nulldev.so"), null.join(name))?;
        }
        Ok(Bench {
            programs,
            python,
            probe: built.join("probe"),
            null,
            folder,
            machine: Machine::look()?,
            quick,
            folders: Cell::new(0),
        })
    }

    /// A new folder of its own; its path is short.
    pub fn new_folder(&self) -> Result<PathBuf> {
        let number = self.folders.get() + 1;
        self.folders.set(number);
        let folder = self.folder.path().join(number.to_string());
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    pub fn probe(&self, arguments: &[&str], place: &[(String, String)]) -> Result<Said> {
        let mut command = Command::new(&self.probe);
        clean(&mut command)
            .args(arguments)
            .envs(place.iter().cloned());
        Said::parse(&python::run(&mut command, "the probe")?)
    }

    /// Loads the null device itself.
    pub fn directly(&self) -> Place {
        vec![("LD_LIBRARY_PATH".into(), text(&self.null))]
    }

    /// A server over the null device, with these variables, at the end of this link.
    pub fn server(&self, environment: Place, link: Link) -> Result<Remote<'_>> {
        let driver = Some(self.null.join("libcuda.so.1"));
        self.server_over(driver, environment, link)
    }

    /// A server over a driver; without one, over softgpu.
    pub fn server_over(
        &self,
        driver: Option<PathBuf>,
        mut environment: Place,
        link: Link,
    ) -> Result<Remote<'_>> {
        environment.extend(link.variable());
        let options = ServerOptions {
            driver,
            environment,
            ..ServerOptions::default()
        };
        let server = Server::start(self.programs, &self.new_folder()?, &options)?;
        Ok(Remote {
            programs: self.programs,
            server,
            link,
        })
    }
}

/// A server and the link to it.
pub struct Remote<'a> {
    programs: &'a Programs,
    pub server: Server,
    link: Link,
}

impl Remote<'_> {
    /// What a program needs to use it by this transport.
    pub fn by(&self, transport: &str) -> Result<Place> {
        let mut place = self.server.client(self.programs, transport)?;
        place.extend(self.link.variable());
        Ok(place)
    }

    /// By QUIC, through a relay that makes the link of loopback as long as it lives.
    pub fn by_datagrams(&self) -> Result<(Place, Option<Far>)> {
        let mut place = self.server.client(self.programs, "quic")?;
        if self.link.rtt_us == 0 {
            return Ok((place, None));
        }
        let address = self.server.daemon.address("quic")?.strip_prefix("quic://");
        let (server, pin) = address
            .and_then(|address| address.split_once('?'))
            .context("the server's address has no pin")?;
        let far = Far::to(server.parse()?, self.link.way())?;
        for (name, value) in &mut place {
            if name == "RGPU_SERVERS" {
                *value = format!("quic://{}?{pin}", far.address);
            }
        }
        Ok((place, Some(far)))
    }
}

/// What a random run is repeated with: this variable's number, or else another one each time, which is said.
pub fn seed() -> Result<u64> {
    const SEED: &str = "RGPU_SEED";
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().context(SEED)?,
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
    };
    eprintln!("  {SEED}={seed}");
    Ok(seed)
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A value that has to be there in order to be compared.
pub fn known(value: f64, what: &str) -> Result<f64> {
    ensure!(value.is_finite(), "{what} is not known");
    Ok(value)
}
