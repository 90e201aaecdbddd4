//! `rgpu-k8s`: offers shares of remote GPUs to a node's kubelet.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use rgpu_k8s::config::Config;
use rgpu_k8s::http::HttpPool;
use rgpu_k8s::install::install;
use rgpu_k8s::serve::{Options, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Offers shares of remote GPUs as devices to the kubelet of a node that has none.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the device plugin, until SIGTERM.
    Serve(Serve),
    /// Checks a configuration file.
    Check { file: PathBuf },
    /// Puts the client library where pods find it.
    Install {
        /// Folders with what is to be put there.
        #[arg(long, required = true)]
        from: Vec<PathBuf>,
        /// Where to: `library` of the configuration.
        #[arg(long, default_value = "/opt/rgpu/lib")]
        to: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// What is offered, and of which servers (TOML).
    #[arg(
        long,
        env = "RGPU_K8S_CONFIG",
        default_value = "/etc/rgpu-k8s/config.toml"
    )]
    config: PathBuf,
    /// The node's name.
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The folder with kubelet's socket for plugins.
    #[arg(long, default_value = "/var/lib/kubelet/device-plugins")]
    device_plugins: PathBuf,
    /// Kubelet's socket that tells which pods have which devices.
    #[arg(long, default_value = "/var/lib/kubelet/pod-resources/kubelet.sock")]
    pod_resources: PathBuf,
    /// Folder for what must outlast the plugin.
    #[arg(long, default_value = "/var/lib/rgpu-k8s")]
    state: PathBuf,
    /// Folder for what pods get as files, on tmpfs.
    #[arg(long, default_value = "/run/rgpu-k8s")]
    handout: PathBuf,
    /// Log lines as JSON.
    #[arg(long, env = "RGPU_K8S_LOG_JSON")]
    log_json: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => run(arguments),
        Command::Check { file } => Config::read(&file).map(drop).map_err(Into::into),
        Command::Install { from, to } => from.iter().try_for_each(|from| {
            let changed = install(from, &to)?;
            writeln!(std::io::stdout(), "{}: {changed} changed", to.display())?;
            Ok(())
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rgpu-k8s: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Serve) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RGPU_K8S_LOG")
        .unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_json {
        true => log.json().init(),
        false => log.with_ansi(false).init(),
    }
    let config = Config::read(&arguments.config)?;
    anyhow::ensure!(
        !arguments.node.is_empty() && arguments.node.len() <= 253,
        "--node: the node's name has 1 to 253 characters"
    );
    let options = Options {
        node: arguments.node,
        device_plugins: arguments.device_plugins,
        pod_resources: arguments.pod_resources,
        state: arguments.state,
        handout: arguments.handout,
    };
    let resources: Vec<String> = config
        .profiles
        .iter()
        .map(|profile| profile.resource.clone())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = stop.send(true);
        });
        let pool = |server: &rgpu_k8s::config::Server| {
            HttpPool::new(server.admin.clone(), server.token_file.clone())
        };
        serve(config, options, pool, stopped, || {
            let line = serde_json::json!({ "ready": true, "resources": resources, "pid": std::process::id() });
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()
        })
        .await
        .context("the device plugin")
    })
}
