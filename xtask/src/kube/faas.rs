//! The function runner on the cluster: each job a Kubernetes Job, its GPU by the device plugin that the other tests have installed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::Programs;
use rgpu_system::daemon::{Daemon, clean};
use serde_json::{Value, json};

use super::{NAMESPACE, Options, RESOURCE, kubectl, until};

const TOKEN: &str = "token-of-the-function-runner";
const SECRET: &str = "value-that-nobody-may-see";
/// Where a runner's pods, and the Jobs themselves, are.
const JOBS: [&str; 5] = ["-n", NAMESPACE, "get", "jobs,pods,secrets", "-l"];

/// The functions. A script is more than one line.
fn functions(image: &str) -> Vec<Value> {
    let function = |name: &str, script: &str, more: Value| {
        let mut function = json!({
            "name": name, "image": image, "script": format!("#!/bin/sh\n{script}\n"), "memory": "64Mi", "timeout": "120s",
            "retry": { "attempts": 1 },
            "output": [ { "path": format!("out/{name}") } ],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            function[name] = value.clone();
        }
        function
    };
    vec![
        function(
            "copy",
            "echo \"copying as $JOB_UUID\"\ncp \"$INPUT_FILE_PATH\" \"$TMP_OUTPUT_DIR/copy\"\nprintf '%s' \"$KEY\" >\"$TMP_OUTPUT_DIR/key\"\nln -s /etc/passwd \"$TMP_OUTPUT_DIR/link\"",
            json!({ "environment": { "secrets": { "KEY": "key" } }, "labels": { "team": "tests" } }),
        ),
        function("fail", "echo last words\nexit 3", json!({})),
        function("endless", "echo here\nwhile :; do sleep 1; done", json!({})),
        function(
            "greedy",
            "head -c 300000000 /dev/zero | tail >/dev/null\nexit $?",
            json!({}),
        ),
        function(
            "patient",
            "echo \"again and again\"\nwhile :; do sleep 1; done",
            json!({ "retry": { "attempts": 3, "min_wait": "10ms" } }),
        ),
        function(
            "compute",
            "chmod +x \"$INPUT_FILE_PATH\"\n(echo compute; echo memory) | \"$INPUT_FILE_PATH\" >\"$TMP_OUTPUT_DIR/answer\"",
            json!({ "vgpu": { "profile": "test" } }),
        ),
        function(
            "absent",
            "true",
            json!({ "image": "localhost/rgpu-test/absent:1" }),
        ),
    ]
}

struct Runner<'a> {
    programs: &'a Programs,
    options: &'a Options,
    folder: PathBuf,
    port: u16,
    daemon: Option<Daemon>,
}

/// Does one check, and says its name.
type Check<'a> = &'a mut dyn FnMut(&str, &dyn Fn() -> Result<()>) -> Result<()>;

/// Runs everything; `check` counts.
pub fn run(
    programs: &Programs,
    options: &Options,
    folder: &Path,
    program: &Path,
    check: Check<'_>,
) -> Result<()> {
    let mut runner = Runner::new(programs, options, folder)?;
    runner.start()?;
    let result = runner.check_all(program, check);
    if result.is_err()
        && let Some(daemon) = &runner.daemon
    {
        eprintln!("rgpu-faas:\n{}", daemon.log_text());
    }
    result
}

impl<'a> Runner<'a> {
    fn new(programs: &'a Programs, options: &'a Options, folder: &Path) -> Result<Runner<'a>> {
        let folder = folder.join("faas");
        std::fs::create_dir_all(folder.join("data/secrets"))?;
        std::fs::write(folder.join("data/secrets/key"), SECRET)?;
        // As the other pods of these tests, which need no network of the cluster's.
        std::fs::write(folder.join("pod.yaml"), "spec: { hostNetwork: true }\n")?;
        let free = TcpListener::bind((options.kube_host.as_str(), 0))?;
        Ok(Runner {
            programs,
            options,
            port: free.local_addr()?.port(),
            folder,
            daemon: None,
        })
    }

    fn start(&mut self) -> Result<()> {
        let address = format!("{}:{}", self.options.kube_host, self.port);
        let mut command = Command::new(self.programs.bin("rgpu-faas"));
        command
            .arg("serve")
            .arg("--data")
            .arg(self.folder.join("data"))
            .args(["--listen", &format!("tcp://{address}"), "--token", TOKEN])
            .args([
                "--engine",
                "kubernetes",
                "--kubernetes-namespace",
                NAMESPACE,
            ])
            .args(["--kubernetes-agent-image", &self.options.kube_faas_image])
            .args([
                "--agent-url",
                &format!("http://{address}"),
                "--kubernetes-pod",
            ])
            .arg(self.folder.join("pod.yaml"))
            .args(["--kubernetes-pull", "IfNotPresent", "--grace", "1s"])
            .args(["--kubernetes-resource", &format!("test={RESOURCE}")]);
        clean(&mut command).env(
            "KUBECONFIG",
            std::env::var_os("KUBECONFIG").unwrap_or_default(),
        );
        let log = self.folder.join("rgpu-faas.log");
        self.daemon = Some(Daemon::start("rgpu-faas", command, &log)?);
        Ok(())
    }

    fn check_all(&mut self, program: &Path, check: Check<'_>) -> Result<()> {
        for function in functions(&self.options.kube_image) {
            self.call("POST", "/system/services", function.to_string().as_bytes())?;
        }
        check("kube: a job brings its input and its outputs", &|| {
            let id = self.submit("copy", b"content")?;
            self.is("SUCCEEDED", &id)?;
            ensure!(self.output("copy/copy")? == b"content");
            ensure!(self.output("copy/key")? == SECRET.as_bytes());
            ensure!(!self.stored("copy/link").exists(), "a link was published");
            let log = self.call("GET", &format!("/system/logs/copy/{id}"), b"")?;
            ensure!(log.contains(&format!("copying as {id}")), "{log}");
            self.is_clean()
        })?;
        check("kube: a job that fails says how", &|| {
            let id = self.submit("fail", b"")?;
            let job = self.is("FAILED", &id)?;
            ensure!(job["exit_code"] == 3, "{job}");
            let reason = job["reason"].as_str().unwrap_or_default();
            ensure!(reason.contains("last words"), "{job}");
            self.is_clean()
        })?;
        check("kube: a cancelled job is gone with its pod", &|| {
            let id = self.submit("endless", b"")?;
            self.is("RUNNING", &id)?;
            let all = self.kubectl(&["-o", "yaml"])?;
            ensure!(all.contains(&id) && !all.contains(SECRET), "{all}");
            self.call("POST", &format!("/jobs/{id}/cancel"), b"")?;
            self.is("CANCELLED", &id)?;
            self.is_clean()
        })?;
        check("kube: a job beyond its memory says so", &|| {
            let id = self.submit("greedy", b"")?;
            let job = self.is("FAILED", &id)?;
            let reason = job["reason"].as_str().unwrap_or_default();
            ensure!(reason.contains("memory limit exceeded"), "{job}");
            Ok(())
        })?;
        check(
            "kube: an image that does not come is a reason that is seen",
            &|| {
                let id = self.submit("absent", b"")?;
                until("the job does not say why it waits", || {
                    let job = self.job(&id)?;
                    let reason = job["reason"].as_str().unwrap_or_default();
                    Ok(job["state"] == "FAILED" || reason.contains("localhost/rgpu-test/absent:1"))
                })?;
                self.call("POST", &format!("/jobs/{id}/cancel"), b"")
                    .map(drop)
                    .or(Ok(()))
            },
        )?;
        check(
            "kube: a job computes on a vGPU of the device plugin",
            &|| {
                let id = self.submit("compute", &std::fs::read(program)?)?;
                self.is("SUCCEEDED", &id)?;
                let answer = String::from_utf8(self.output("compute/answer")?)?;
                ensure!(
                    answer.contains("compute 0") && answer.contains(" 256\n"),
                    "{answer}"
                );
                Ok(())
            },
        )?;
        // Needs the runner for itself.
        let id = self.submit("patient", b"")?;
        self.is("RUNNING", &id)?;
        let mut daemon = self.daemon.take().context("no runner")?;
        daemon.kill();
        drop(daemon);
        self.start()?;
        check(
            "kube: after a runner's crash its Jobs are gone, and their jobs run again",
            &|| {
                until("the second attempt does not begin", || {
                    let job = self.job(&id)?;
                    Ok(job["state"] == "RUNNING" && job["attempt"] == 2)
                })?;
                let jobs = kubectl(&[
                    "-n",
                    NAMESPACE,
                    "get",
                    "jobs",
                    "-l",
                    &format!("rgpu.io/job={id}"),
                    "-o",
                    "name",
                ])?;
                ensure!(jobs.lines().count() == 1, "{jobs}");
                self.call("POST", &format!("/jobs/{id}/cancel"), b"")?;
                self.is("CANCELLED", &id)?;
                self.is_clean()
            },
        )
    }

    fn stored(&self, path: &str) -> PathBuf {
        self.folder.join("data/storage/out").join(path)
    }

    fn output(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.stored(path);
        std::fs::read(&file).with_context(|| file.display().to_string())
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<String> {
        let url = format!("http://{}:{}{path}", self.options.kube_host, self.port);
        let token = format!("Bearer {TOKEN}");
        let answer = match method {
            "GET" => ureq::get(url).header("authorization", token).call(),
            _ => ureq::post(url).header("authorization", token).send(body),
        };
        Ok(answer
            .with_context(|| format!("{method} {path}"))?
            .body_mut()
            .read_to_string()?)
    }

    /// The id of a new job.
    fn submit(&self, function: &str, body: &[u8]) -> Result<String> {
        let answer = self.call("POST", &format!("/job/{function}?filename=in"), body)?;
        let answer: Value = serde_json::from_str(&answer)?;
        let id = answer["id"].as_str().or(answer["job"].as_str());
        id.map(str::to_owned)
            .with_context(|| format!("no job: {answer}"))
    }

    fn job(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.call(
            "GET",
            &format!("/jobs/{id}"),
            b"",
        )?)?)
    }

    /// Waits until a job is in this state, or in a final one that is wrong.
    fn is(&self, state: &str, id: &str) -> Result<Value> {
        until(&format!("the job is never {state}"), || {
            let now = self.job(id)?;
            let is_final = ["SUCCEEDED", "FAILED", "CANCELLED"]
                .iter()
                .any(|it| now["state"] == *it);
            Ok(is_final || now["state"] == state)
        })?;
        let job = self.job(id)?;
        ensure!(job["state"] == state, "not {state}: {job}");
        Ok(job)
    }

    fn kubectl(&self, more: &[&str]) -> Result<String> {
        let labels = ["app.kubernetes.io/managed-by=rgpu-faas"];
        kubectl(&[&JOBS[..], &labels[..], more].concat())
    }

    /// Nothing of any job is left.
    fn is_clean(&self) -> Result<()> {
        until("something of a job is left", || {
            Ok(self.kubectl(&["-o", "name"])?.trim().is_empty())
        })
    }
}
