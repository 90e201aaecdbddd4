//! `cargo xtask test --kube`: the device plugin, and the function runner over it, on the cluster that KUBECONFIG names, with an `rgpud` over softgpu on this machine.

mod faas;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgpu_system::Programs;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{Daemon, clean};
use serde_json::{Value, json};

use crate::progress::step;
use crate::workspace_root;

/// What the cluster is like.
#[derive(clap::Args)]
pub struct Options {
    /// Image of containers/Containerfile.k8s, as nodes have it
    #[arg(long, default_value = "rgpu-k8s:latest", requires = "kube")]
    kube_plugin_image: String,
    /// Image with glibc and /bin/sh for pods, as nodes have it or can get it
    #[arg(
        long,
        default_value = "docker.io/library/debian:12-slim",
        requires = "kube"
    )]
    kube_image: String,
    /// This machine's address for nodes
    #[arg(long, default_value = "127.0.0.1", requires = "kube")]
    kube_host: String,
    /// Image of containers/Containerfile.faas, as nodes have it
    #[arg(long, default_value = "rgpu-faas:latest", requires = "kube")]
    kube_faas_image: String,
    /// Command that restarts the kubelet of the node; without it that is not tried
    #[arg(long, requires = "kube")]
    kube_restart: Option<String>,
}

const NAMESPACE: &str = "rgpu-test";
const RESOURCE: &str = "rgpu.io/vgpu-test";
/// Shares that the server has, and devices that each node offers: more, so that the server must refuse.
const SHARES: usize = 2;
const DEVICES: usize = 4;
/// How long a step may take; images may have to be fetched.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(500);
const TOKEN: &str = "token-of-the-device-plugin";

/// Runs everything; returns how many tests passed.
pub fn test(programs: &Programs, options: &Options) -> Result<u64> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "--kube needs a cluster: set KUBECONFIG"
    );
    let folder = Folder::new("rgpu-kube")?;
    let server = Server::start(programs, folder.path(), &options.kube_host)?;
    let program = rgpu_system::c::compile(folder.path(), "session")?;
    let cluster = Cluster { options, server };
    cluster.clear()?;
    let result = cluster.run(programs, folder.path(), &program);
    if result.is_err() {
        eprintln!("{}", cluster.state());
    }
    cluster.clear()?;
    result
}

/// `rgpud`, with an administration.
struct Server {
    daemon: Daemon,
    admin: String,
}

impl Server {
    fn start(programs: &Programs, folder: &Path, host: &str) -> Result<Server> {
        let config = folder.join("rgpud.toml");
        std::fs::write(
            &config,
            format!(
                "[[profile]]\nname = \"small\"\nmemory_mib = 256\n\n[[tenant]]\nname = \"cluster\"\ntoken = \"{TOKEN}\"\nprofile = \"small\"\nvgpus = {SHARES}\n"
            ),
        )?;
        let home = folder.join("softgpu");
        std::fs::create_dir_all(&home)?;
        let mut command = Command::new(programs.bin("rgpud"));
        command
            .arg("--driver")
            .arg(programs.softgpu_lib().join("libcuda.so.1"))
            .args(["--listen", &format!("tcp://{host}:0")])
            .args(["--admin", &format!("tcp://{host}:0")])
            .arg("--config")
            .arg(&config);
        clean(&mut command).env("SOFTGPU_HOME", &home);
        let daemon = Daemon::start("rgpud", command, &folder.join("rgpud.log"))?;
        let admin = daemon.ready["admin"]
            .as_str()
            .and_then(|admin| admin.strip_prefix("tcp://"))
            .map(|address| format!("http://{address}"))
            .context("rgpud does not say where its administration is")?;
        Ok(Server { daemon, admin })
    }

    /// The leases that live, by their ids.
    fn leases(&self) -> Result<Vec<String>> {
        let mut answer = ureq::get(format!("{}/v1/leases", self.admin))
            .header("authorization", format!("Bearer {TOKEN}"))
            .call()?;
        let list: Value = answer.body_mut().read_json()?;
        let leases = list["leases"].as_array().context("no list of leases")?;
        let ids = leases.iter().filter_map(|lease| lease["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }
}

struct Cluster<'a> {
    options: &'a Options,
    server: Server,
}

impl Cluster<'_> {
    fn run(&self, programs: &Programs, folder: &Path, program: &Path) -> Result<u64> {
        let mut passed = 0;
        let mut check = |what: &str, work: &dyn Fn() -> Result<()>| {
            step(what, |_| work())?;
            passed += 1;
            Ok::<(), anyhow::Error>(())
        };
        check(
            "kube: the plugin registers, and nodes offer its devices",
            &|| {
                self.install(program)?;
                until("the nodes offer no devices", || {
                    Ok(self.allocatable()? == DEVICES * self.nodes()?)
                })
            },
        )?;
        check(
            "kube: an unmodified program runs a kernel, and sees its profile's memory",
            &|| {
                self.pod("one", "(echo compute; echo memory) | /program/session", 1)?;
                let phase = self.ended("one")?;
                let log = kubectl(&["-n", NAMESPACE, "logs", "one"])?;
                ensure!(phase == "Succeeded", "{phase}: {log}");
                ensure!(log.contains("compute 0") && log.contains(" 256\n"), "{log}");
                until("the lease stays", || Ok(self.server.leases()?.is_empty()))
            },
        )?;
        check("kube: no secret among a pod's variables", &|| {
            self.hold("held")?;
            let variables = kubectl(&["-n", NAMESPACE, "exec", "held", "--", "env"])?;
            let token = kubectl(&[
                "-n",
                NAMESPACE,
                "exec",
                "held",
                "--",
                "cat",
                "/run/rgpu/token",
            ])?;
            ensure!(token.trim().len() >= 16 && !variables.contains(token.trim()));
            Ok(())
        })?;
        check(
            "kube: a pod too many is refused at admission, with the server's words",
            &|| {
                self.hold("second")?;
                self.pod("third", "true", 1)?;
                until("the third pod does not fail", || {
                    Ok(self.field("third", "{.status.reason}")? == "UnexpectedAdmissionError")
                })?;
                let message = self.field("third", "{.status.message}")?;
                ensure!(message.contains("no vGPU of profile small"), "{message}");
                ensure!(self.server.leases()?.len() == SHARES);
                Ok(())
            },
        )?;
        let held = self.server.leases()?;
        check(
            "kube: a plugin that ends is followed by one that takes the leases up",
            &|| {
                kubectl(&[
                    "-n",
                    NAMESPACE,
                    "delete",
                    "pod",
                    "-l",
                    "app.kubernetes.io/name=rgpu-k8s",
                ])?;
                self.rolled_out()?;
                until("the nodes offer no devices", || {
                    Ok(self.allocatable()? == DEVICES * self.nodes()?)
                })?;
                self.lives("held")?;
                ensure!(self.server.leases()? == held, "the leases are others");
                Ok(())
            },
        )?;
        if let Some(restart) = &self.options.kube_restart {
            check(
                "kube: a kubelet that begins anew is registered with again, and pods keep their leases",
                &|| {
                    let status = Command::new("sh").args(["-c", restart]).status()?;
                    ensure!(status.success(), "{restart}: {status}");
                    until("the nodes offer no devices", || {
                        Ok(self.allocatable()? == DEVICES * self.nodes()?)
                    })?;
                    self.lives("held")?;
                    ensure!(self.server.leases()? == held, "the leases are others");
                    Ok(())
                },
            )?;
        }
        check("kube: a pod's end is its lease's", &|| {
            kubectl(&["-n", NAMESPACE, "delete", "pod", "held", "--grace-period=1"])?;
            until("the lease stays", || {
                Ok(self.server.leases()?.len() == SHARES - 1)
            })?;
            // And another pod gets what it had.
            self.pod("next", "(echo compute) | /program/session", 1)?;
            let phase = self.ended("next")?;
            ensure!(
                phase == "Succeeded",
                "{phase}: {}",
                kubectl(&["-n", NAMESPACE, "logs", "next"])?
            );
            Ok(())
        })?;
        faas::run(programs, self.options, folder, program, &mut check)?;
        Ok(passed)
    }

    /// The plain manifest, for the test: its own names, and this server.
    fn install(&self, program: &Path) -> Result<()> {
        kubectl(&["create", "namespace", NAMESPACE])?;
        kubectl(&[
            "-n",
            NAMESPACE,
            "create",
            "secret",
            "generic",
            "rgpu-k8s-tokens",
            &format!("--from-literal=gpu1={TOKEN}"),
        ])?;
        let file = format!("--from-file=session={}", program.display());
        kubectl(&["-n", NAMESPACE, "create", "configmap", "program", &file])?;
        let manifest = workspace_root().join("containers/k8s/rgpu-k8s.yaml");
        let mut text = std::fs::read_to_string(manifest)?;
        let address = self.server.daemon.address("tcp")?;
        let serve = "args: [\"serve\", \"--config\", \"/etc/rgpu-k8s/config/config.toml\"";
        for (from, to) in [
            ("namespace: rgpu\n", format!("namespace: {NAMESPACE}\n")),
            ("image: rgpu-k8s:latest", format!("image: {}", self.options.kube_plugin_image)),
            ("hostNetwork: false", "hostNetwork: true".into()),
            ("\"http://gpu1:7071\"", format!("\"{}\"", self.server.admin)),
            ("\"tcp://gpu1:7070\"", format!("\"{address}\"")),
            ("    [[server]]", "    poll_seconds = 1\n    grace_seconds = 20\n    library = \"/opt/rgpu/lib\"\n\n    [[server]]".into()),
            ("\"rgpu.io/vgpu\"", format!("\"{RESOURCE}\"")),
            ("devices = 8", format!("devices = {DEVICES}")),
            (serve, format!("{serve}, \"--handout\", \"/run/rgpu-k8s\"")),
            // Beside an installation that may be there.
            ("/opt/rgpu/lib", "/opt/rgpu-test/lib".into()),
            ("/run/rgpu-k8s", "/run/rgpu-k8s-test".into()),
            ("path: /var/lib/rgpu-k8s", "path: /var/lib/rgpu-k8s-test".into()),
        ] {
            ensure!(text.contains(from), "the manifest has changed: there is no {from:?}");
            text = text.replace(from, &to);
        }
        apply(&text)?;
        self.rolled_out()
    }

    fn rolled_out(&self) -> Result<()> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "daemonset/rgpu-k8s",
            &timeout,
        ])
        .map(drop)
    }

    fn nodes(&self) -> Result<usize> {
        let set = kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "daemonset",
            "rgpu-k8s",
            "-o",
            "jsonpath={.status.desiredNumberScheduled}",
        ])?;
        set.trim().parse().context("the daemon set has no nodes")
    }

    /// Devices of all nodes.
    fn allocatable(&self) -> Result<usize> {
        let name = RESOURCE.replace('.', "\\.");
        let path = format!("jsonpath={{.items[*].status.allocatable.{name}}}");
        let counts = kubectl(&["get", "nodes", "-o", &path])?;
        Ok(counts
            .split_whitespace()
            .filter_map(|count| count.parse::<usize>().ok())
            .sum())
    }

    /// A pod with this many devices that runs a line of shell.
    fn pod(&self, name: &str, line: &str, devices: usize) -> Result<()> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "restartPolicy": "Never",
                "hostNetwork": true,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main",
                    "image": self.options.kube_image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-c", line],
                    "resources": { "limits": { RESOURCE: devices.to_string() } },
                    "securityContext": { "runAsUser": 1000, "allowPrivilegeEscalation": false },
                    "volumeMounts": [{ "name": "program", "mountPath": "/program" }],
                }],
                "volumes": [{ "name": "program", "configMap": { "name": "program", "defaultMode": 0o555 } }],
            },
        });
        apply(&pod.to_string())
    }

    /// A pod that has a session for as long as it lives.
    fn hold(&self, name: &str) -> Result<()> {
        self.pod(
            name,
            "(echo compute; exec sleep 3600) | exec /program/session",
            1,
        )?;
        until("the pod has no session", || {
            Ok(
                kubectl(&["-n", NAMESPACE, "logs", name])
                    .is_ok_and(|log| log.contains("compute 0")),
            )
        })
    }

    fn lives(&self, name: &str) -> Result<()> {
        let phase = self.field(name, "{.status.phase}")?;
        ensure!(phase == "Running", "pod {name} is {phase}");
        Ok(())
    }

    fn ended(&self, name: &str) -> Result<String> {
        let is_over = |phase: &str| ["Succeeded", "Failed"].contains(&phase);
        until("the pod does not end", || {
            Ok(is_over(&self.field(name, "{.status.phase}")?))
        })?;
        self.field(name, "{.status.phase}")
    }

    fn field(&self, pod: &str, path: &str) -> Result<String> {
        kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "pod",
            pod,
            "-o",
            &format!("jsonpath={path}"),
        ])
    }

    /// What there is to know when something has failed.
    fn state(&self) -> String {
        let questions: [&[&str]; 3] = [
            &["-n", NAMESPACE, "get", "pods", "-o", "wide"],
            &["-n", NAMESPACE, "logs", "daemonset/rgpu-k8s", "--tail=50"],
            &["-n", NAMESPACE, "get", "events"],
        ];
        let answers = questions
            .map(|question| kubectl(question).unwrap_or_else(|error| format!("{error:#}\n")));
        format!(
            "{}rgpud:\n{}",
            answers.concat(),
            self.server.daemon.log_text()
        )
    }

    /// Takes away what this test has made, or an earlier one.
    fn clear(&self) -> Result<()> {
        kubectl(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .map(drop)
    }
}

fn until(otherwise: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > end {
            bail!("{otherwise}, in {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn apply(text: &str) -> Result<()> {
    let mut child = Command::new("kubectl")
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("kubectl does not run")?;
    child
        .stdin
        .take()
        .context("no input")?
        .write_all(text.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "kubectl apply: {status}");
    Ok(())
}

fn kubectl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("kubectl does not run")?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
