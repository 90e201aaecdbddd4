//! `rgpu-faas`, its folders and its REST API.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::daemon::{Daemon, Server, clean};
use crate::programs::Programs;
use crate::python;

/// Longer waits are repeated, so that a daemon that has died is noticed.
const ONE_WAIT: Duration = Duration::from_secs(20);

pub struct Faas {
    pub daemon: Daemon,
    pub data: PathBuf,
    /// What its callers have.
    pub api: Api,
    launch: Launch,
}

/// The REST API, for as many threads as like.
#[derive(Clone)]
pub struct Api {
    endpoint: String,
    agent: ureq::Agent,
}

/// Where a runner's functions find their GPU.
pub enum Gpu<'a> {
    /// On this server, by `tcp` or `unix`.
    Remote(&'a Server, &'a str),
    /// On the devices of this list of servers, which take the token in this file.
    Servers(&'a [String], &'a Path),
    /// On softgpu in the functions' own processes, with these variables.
    Direct(&'a [(String, String)]),
    /// One job at a time has the device of the libcuda.so.1 in this folder, and the others queue.
    Exclusive(&'a Path),
    /// Nowhere.
    None,
}

/// The runner's options, and its variables.
type Options = (Vec<OsString>, Vec<(String, String)>);

impl Gpu<'_> {
    fn options(&self, programs: &Programs) -> Result<Options> {
        let direct = |folder: &Path| {
            let mut value = OsString::from("direct:");
            value.push(folder);
            vec!["--gpu".into(), value]
        };
        let by_servers = |list: &[String], token_file: &Path| {
            let servers = list.iter().flat_map(|url| ["--server".into(), url.into()]);
            servers
                .chain(["--token-file".into(), token_file.into()])
                .collect::<Vec<OsString>>()
        };
        Ok(match self {
            Gpu::Remote(server, scheme) => {
                let list = [server.daemon.address(scheme)?.to_owned()];
                (by_servers(&list, &server.token_file), Vec::new())
            }
            Gpu::Servers(list, token_file) => (by_servers(list, token_file), Vec::new()),
            Gpu::Direct(variables) => (direct(&programs.softgpu_lib()), variables.to_vec()),
            Gpu::Exclusive(folder) => {
                let mut options = direct(folder);
                options.extend(["--max-jobs".into(), "1".into()]);
                (options, Vec::new())
            }
            Gpu::None => (vec!["--gpu".into(), "none".into()], Vec::new()),
        })
    }
}

/// What a runner is started with, and started with again.
struct Launch {
    programs: Programs,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    options: Vec<OsString>,
    variables: Vec<(String, String)>,
}

impl Launch {
    fn start(&self, data: &Path, listen: &str) -> Result<Daemon> {
        let mut command = Command::new(self.programs.bin("rgpu-faas"));
        clean(&mut command);
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", listen, "--grace", "1s"])
            // Their Python is in `.cache/`, and stands on one that may be anywhere.
            .args(["--engine", "process"])
            .args(&self.options)
            .args(&self.arguments)
            .envs(self.variables.iter().cloned());
        for (name, value) in &self.environment {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        Daemon::start("rgpu-faas", command, &data.join("runner.log"))
    }
}

impl Api {
    /// GET; the status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.endpoint))
            .call()
            .with_context(|| format!("GET {path}"))?;
        let body = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), body))
    }

    /// POST; the status and the body.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(u16, String)> {
        let mut request = self.agent.post(format!("{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body).with_context(|| format!("POST {path}"))?;
        let body = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), body))
    }
}

impl Faas {
    /// Starts a runner whose data is `folder/faas`; `environment` goes to every function.
    pub fn start(
        programs: &Programs,
        folder: &Path,
        gpu: Gpu<'_>,
        environment: &[(String, String)],
    ) -> Result<Faas> {
        Faas::start_with(programs, folder, gpu, environment, &[])
    }

    /// The same with more arguments of `serve`.
    pub fn start_with(
        programs: &Programs,
        folder: &Path,
        gpu: Gpu<'_>,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> Result<Faas> {
        let data = folder.join("faas");
        std::fs::create_dir_all(&data)?;
        let (options, variables) = gpu.options(programs)?;
        let launch = Launch {
            programs: programs.clone(),
            environment: environment.to_vec(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            options,
            variables,
        };
        let daemon = launch.start(&data, "tcp://127.0.0.1:0")?;
        let endpoint = daemon.address("tcp")?.replacen("tcp://", "http://", 1);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ONE_WAIT * 2))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Faas {
            daemon,
            data,
            api: Api { endpoint, agent },
            launch,
        })
    }

    /// Starts the next runner over the same data, at the same address, in the place of one that has been killed.
    pub fn start_again(&mut self) -> Result<()> {
        let listen = self.daemon.address("tcp")?.to_owned();
        self.daemon = self.launch.start(&self.data, &listen)?;
        Ok(())
    }

    /// Stops the runner in order, and starts the next one with another GPU.
    pub fn change_gpu(&mut self, gpu: Gpu<'_>) -> Result<()> {
        (self.launch.options, self.launch.variables) = gpu.options(&self.launch.programs)?;
        let status = self.daemon.stop();
        ensure!(
            status.is_some_and(|status| status.success()),
            "the runner did not stop in order: {status:?}"
        );
        self.start_again()
    }

    /// Registers a definition as a user does.
    pub fn apply(&self, programs: &Programs, file: &Path) -> Result<()> {
        python::run(
            Command::new(programs.bin("rgpu-faas"))
                .arg("apply")
                .arg(file)
                .args(["--endpoint", &self.api.endpoint]),
            "rgpu-faas apply",
        )?;
        Ok(())
    }

    /// `http://HOST:PORT`
    pub fn endpoint(&self) -> &str {
        &self.api.endpoint
    }

    /// GET; the status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.api.get(path)
    }

    fn json(&self, path: &str) -> Result<Value> {
        let (status, body) = self.get(path)?;
        ensure!((200..300).contains(&status), "GET {path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    pub fn input(&self, function: &str) -> PathBuf {
        self.data.join("storage").join(function).join("in")
    }

    pub fn output(&self, function: &str) -> PathBuf {
        self.data.join("storage").join(function).join("out")
    }

    /// Puts files into a function's input folder, all of them within moments: first beside it, then by rename.
    pub fn drop_files(&self, function: &str, files: &[PathBuf]) -> Result<Vec<String>> {
        let folder = self.input(function);
        std::fs::create_dir_all(&folder)?;
        let mut names = Vec::new();
        for file in files {
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .context("a file without a name")?;
            std::fs::copy(file, folder.join(format!(".{name}.part")))?;
            names.push(name.to_owned());
        }
        for name in &names {
            std::fs::rename(folder.join(format!(".{name}.part")), folder.join(name))?;
        }
        Ok(names)
    }

    /// The job of an input file, as soon as there is one.
    pub fn job_of(&self, function: &str, name: &str, patience: Duration) -> Result<Job> {
        self.job_in_state(function, name, "", patience)
    }

    /// The job of an input file once it is in one of `states` (a comma list; empty: any).
    pub fn job_in_state(
        &self,
        function: &str,
        name: &str,
        states: &str,
        patience: Duration,
    ) -> Result<Job> {
        let states = match states {
            "" => String::new(),
            states => format!("&state={states}"),
        };
        let path = format!("/jobs?function={function}&input={function}/in/{name}{states}&limit=1");
        let deadline = Instant::now() + patience;
        loop {
            let wait = deadline
                .saturating_duration_since(Instant::now())
                .min(ONE_WAIT);
            let answer = self.json(&format!("{path}&min=1&wait={}", wait.as_secs_f64()))?;
            if let Some(job) = answer["jobs"].as_array().and_then(|jobs| jobs.last()) {
                return Ok(Job(job.clone()));
            }
            ensure!(
                Instant::now() < deadline,
                "{name} did not become such a job of {function} within {patience:?}\n{}",
                self.daemon.log_text()
            );
        }
    }

    /// The job once it is final.
    pub fn wait(&self, id: &str, patience: Duration) -> Result<Job> {
        let deadline = Instant::now() + patience;
        loop {
            let wait = deadline
                .saturating_duration_since(Instant::now())
                .min(ONE_WAIT);
            let job = Job(self.json(&format!("/jobs/{id}/wait?timeout={}", wait.as_secs_f64()))?);
            if job.is_final() {
                return Ok(job);
            }
            if Instant::now() >= deadline {
                bail!(
                    "job {id} is {} after {patience:?}\n{}",
                    job.state(),
                    self.log(&job)
                );
            }
        }
    }

    pub fn log(&self, job: &Job) -> String {
        let path = format!("/system/logs/{}/{}", job.text("function"), job.id());
        self.get(&path).map_or_else(
            |error| format!("(no log: {error})"),
            |(_, text)| text.trim().to_owned(),
        )
    }
}

/// A job as the API describes it.
#[derive(Clone, Debug)]
pub struct Job(pub Value);

impl Job {
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }
    pub fn id(&self) -> &str {
        self.text("id")
    }
    pub fn state(&self) -> &str {
        self.text("state")
    }
    pub fn is_final(&self) -> bool {
        matches!(self.state(), "SUCCEEDED" | "FAILED" | "CANCELLED")
    }
    /// Seconds since 1970 of one of the `t_…` fields.
    pub fn time(&self, field: &str) -> Option<f64> {
        self.0[field].as_f64()
    }
    /// Pid of the script while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.0["pid"].as_u64().map(|pid| pid as u32)
    }
    /// Keys of the published files, below the storage folder.
    pub fn outputs(&self) -> Vec<&str> {
        self.0["outputs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }
    /// Seconds of a phase that the script measured.
    pub fn phase(&self, name: &str) -> Option<f64> {
        self.0["phases"]["seconds"][name].as_f64()
    }
}
