//! `rgpu-faas`: functions that files and calls trigger, on GPUs that are elsewhere.

use anyhow::{Context, bail, ensure};
use clap::{Args, CommandFactory, Parser, Subcommand};
use rgpu_faas::config::{Config, Gpu};
use rgpu_faas::function::{Known, StorageProviders};
use rgpu_faas::runner::engine::{Choice, Pull};
use rgpu_faas::{apply, function, kubernetes_options, serve, service, units};
use rgpu_http::{Credential, Method, Request, Server};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Runs functions that files and calls trigger, each with a share of a remote GPU.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watches folders, takes calls, runs jobs, serves the REST API, until SIGTERM.
    Serve(Box<Serve>),
    /// Registers the functions of a definition file with a running server.
    Apply {
        /// The definition, YAML.
        file: PathBuf,
        /// Where the server's API is: http://HOST:PORT or unix:///PATH.
        #[arg(long, env = "RGPU_FAAS_ENDPOINT")]
        endpoint: String,
        /// The API's token.
        #[arg(long, env = "RGPU_FAAS_TOKEN", hide_env_values = true)]
        token: Option<String>,
    },
    /// Checks a definition file.
    Check { file: PathBuf },
    /// Makes a line for the users file of `serve --access`: the password is the first line of the input.
    User {
        /// 1 to 64 of a-z A-Z 0-9 . _ - @ +
        name: String,
        /// administrator, user or viewer.
        #[arg(long, default_value = "user")]
        role: rgpu_faas_access::Role,
    },
    /// Writes man pages and shell completions below a folder; when a release is made.
    #[command(hide = true)]
    Pages { share: PathBuf },
    /// Runs one job, or one instance of a warm function; started by `serve`.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        warm: bool,
    },
    /// Works in a pod for `serve --engine kubernetes`.
    #[command(hide = true, subcommand)]
    Agent(rgpu_faas_kubernetes::agent::Command),
}

#[derive(Args)]
struct Serve {
    /// The folder that holds the storage, the journal and the logs.
    #[arg(long, env = "RGPU_FAAS_DATA")]
    data: PathBuf,
    /// Addresses of the API: tcp://HOST:PORT (port 0: any free one) or unix:///PATH.
    #[arg(long, default_value = "tcp://127.0.0.1:0")]
    listen: Vec<String>,
    /// Definition files to register.
    #[arg(long)]
    function: Vec<PathBuf>,
    /// GPU servers (rgpud) for the functions: tcp://HOST:PORT or unix:///PATH.
    #[arg(long, env = "RGPU_SERVERS", value_delimiter = ',')]
    server: Vec<String>,
    /// The file with the GPU servers' token.
    #[arg(long, env = "RGPU_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The folder of the client's libcuda.so.1 [default: lib/rgpu beside bin].
    #[arg(long)]
    client_lib: Option<PathBuf>,
    /// `direct:DIR` gives functions the libcuda.so.1 in DIR instead of remote GPUs, and passes SOFTGPU_* on; `none` gives none.
    #[arg(long, conflicts_with = "server")]
    gpu: Option<String>,
    /// NAME=VALUE for every function (a function's own variables win).
    #[arg(long = "env")]
    variables: Vec<String>,
    /// What callers of the API must show; without it only loopback addresses are served, and only this user may change things.
    #[arg(long, env = "RGPU_FAAS_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that says who may do what: users, issuers of tokens, sessions (docs/faas-access.md).
    #[arg(long, env = "RGPU_FAAS_ACCESS")]
    access: Option<PathBuf>,
    /// Jobs that run at the same time, of all functions together.
    #[arg(long, default_value_t = 64)]
    max_jobs: usize,
    /// How long running jobs may go on after SIGTERM.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    grace: Duration,
    /// Output kept of each attempt.
    #[arg(long, default_value = "1Mi", value_parser = units::bytes)]
    log_limit: u64,
    /// How long a file must have been left alone before it is taken (one that is renamed in is taken at once).
    #[arg(long, default_value = "100ms", value_parser = units::duration)]
    settle: Duration,
    /// How often folders are scanned even without a notification.
    #[arg(long, default_value = "60s", value_parser = units::duration)]
    rescan: Duration,
    /// NAME=FILE: the GPU servers' token for a vGPU profile that functions may ask for by name.
    #[arg(long = "profile")]
    profiles: Vec<String>,
    /// Jobs, with their logs, are removed so long after their end; 0 never.
    #[arg(long, default_value = "30d", value_parser = units::duration)]
    keep_jobs: Duration,
    /// The largest body of a call.
    #[arg(long, default_value = "64Mi", value_parser = units::bytes)]
    max_body: u64,
    /// All bodies that are kept for jobs, together.
    #[arg(long, default_value = "4Gi", value_parser = units::bytes)]
    max_payloads: u64,
    /// The largest result of a synchronous call, of all its files together.
    #[arg(long, default_value = "64Mi", value_parser = units::bytes)]
    max_result: u64,
    /// A file with `storage_providers` that definitions may name, so that they need no credentials.
    #[arg(long)]
    storage: Option<PathBuf>,
    /// The largest input that is fetched from another store.
    #[arg(long, default_value = "16Gi", value_parser = units::bytes)]
    max_input: u64,
    /// How long a job tries to publish its outputs in a store that does not answer, before its attempt fails.
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    store_patience: Duration,
    /// How long a synchronous call waits for its job, unless it says.
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    run_timeout: Duration,
    /// Where jobs run unless their function says; auto: in a sandbox where bubblewrap works, else as plain processes.
    #[arg(long, value_enum, default_value_t)]
    engine: Choice,
    /// Lets functions leave the sandbox that jobs run in: those that say `engine: process`.
    #[arg(long)]
    allow_process: bool,
    /// podman's program [default: the one in PATH].
    #[arg(long)]
    podman: Option<PathBuf>,
    /// When podman fetches a function's image.
    #[arg(long, value_enum, default_value_t)]
    pull: Pull,
    /// A file or folder of this machine that every sandbox and container shows, read-only; repeatable.
    #[arg(long = "sandbox-read")]
    sandbox_reads: Vec<PathBuf>,
    #[command(flatten)]
    kubernetes: kubernetes_options::Arguments,
    /// The GPU server's administration (rgpud --admin), whose accounts the page shows: http://HOST:PORT or unix:///PATH.
    #[arg(long, env = "RGPU_ADMIN")]
    usage_url: Option<String>,
    /// The file with a token for it.
    #[arg(long, requires = "usage_url")]
    usage_token_file: Option<PathBuf>,
    /// Log lines as JSON.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => run_serve(*arguments),
        Command::Apply {
            file,
            endpoint,
            token,
        } => run_apply(&file, &endpoint, token.as_deref()),
        Command::Check { file } => run_check(&file),
        Command::User { name, role } => run_user(&name, role),
        Command::Pages { share } => {
            cli_pages::write(Arguments::command(), &share).map_err(Into::into)
        }
        Command::Supervise { warm: false } => rgpu_faas::runner::supervise::supervise(),
        Command::Supervise { warm: true } => rgpu_faas::warm::supervise::supervise(),
        Command::Agent(command) => match rgpu_faas_kubernetes::agent::main(command) {
            Ok(code) => return code,
            Err(error) => Err(anyhow::Error::msg(error)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rgpu-faas: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_serve(arguments: Serve) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RGPU_FAAS_LOG")
        .unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if arguments.log_json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
    let token = arguments.token.as_deref().unwrap_or_default();
    ensure!(
        !token.contains(char::is_control),
        "--token has control characters in it, which no request can carry"
    );
    let kubernetes = arguments.kubernetes.settings(&arguments.data)?;
    let options = serve::Options {
        kubernetes,
        listen: arguments.listen.clone(),
        functions: arguments.function.clone(),
        token: arguments.token.clone().filter(|token| !token.is_empty()),
        access: arguments.access.clone(),
    };
    let config = configure(arguments)?;
    // Jobs are processes; the runner itself has little to do.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve::serve(config, options, |listen, page| {
        let mut line =
            serde_json::json!({ "ready": true, "listen": listen, "pid": std::process::id() });
        if let Some(page) = page {
            line["page"] = page.into();
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }))
}

fn configure(arguments: Serve) -> anyhow::Result<Config> {
    std::fs::create_dir_all(&arguments.data)
        .with_context(|| format!("cannot make {}", arguments.data.display()))?;
    if arguments.max_jobs == 0 {
        bail!("--max-jobs 0: no job could ever run; give 1 or more");
    }
    let supervisor = std::env::current_exe().context("cannot find this program")?;
    let gpu = choose_gpu(&arguments, &supervisor)?;
    let mut variables = Vec::new();
    for pair in &arguments.variables {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                if function::RESERVED_VARIABLES.contains(&name) {
                    bail!("--env {name}: the runner sets this variable itself");
                }
                variables.push((name.into(), value.into()));
            }
            _ => bail!("--env {pair:?}: write NAME=VALUE"),
        }
    }
    Ok(Config {
        data: arguments.data.canonicalize()?,
        gpu,
        variables,
        max_jobs: arguments.max_jobs,
        grace: arguments.grace,
        log_limit: arguments.log_limit,
        settle: arguments.settle,
        rescan: arguments.rescan.max(Duration::from_secs(1)),
        profiles: profiles(&arguments.profiles)?,
        keep_jobs: arguments.keep_jobs,
        max_body: arguments.max_body,
        max_payloads: arguments.max_payloads,
        max_result: arguments.max_result,
        traces: rgpu_otlp::is_asked_for(),
        usage_url: arguments.usage_url,
        usage_token_file: arguments.usage_token_file,
        run_timeout: arguments.run_timeout,
        engine: arguments.engine,
        allow_process: arguments.allow_process,
        podman: arguments
            .podman
            .as_deref()
            .map(std::path::absolute)
            .transpose()?,
        pull: arguments.pull,
        sandbox_reads: shown(&arguments.sandbox_reads)?,
        has_users: arguments.access.is_some(),
        storage_providers: storage_providers(arguments.storage.as_deref())?,
        max_input: arguments.max_input,
        store_patience: arguments.store_patience,
        supervisor,
    })
}

fn storage_providers(file: Option<&Path>) -> anyhow::Result<StorageProviders> {
    let Some(file) = file else {
        return Ok(StorageProviders::default());
    };
    let text = service::read_definition(file)?;
    let providers = StorageProviders::parse(&text, &file.display().to_string())?;
    for warning in providers.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(providers)
}

fn profiles(pairs: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut profiles = BTreeMap::new();
    for pair in pairs {
        let (name, file) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .with_context(|| format!("--profile {pair:?}: write NAME=FILE"))?;
        let file = Path::new(file)
            .canonicalize()
            .with_context(|| format!("--profile {pair}"))?;
        if profiles.insert(name.to_owned(), file).is_some() {
            bail!("--profile {name}: named twice");
        }
    }
    Ok(profiles)
}

fn shown(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let real = |path: &PathBuf| {
        path.canonicalize()
            .with_context(|| format!("--sandbox-read {}", path.display()))
    };
    paths.iter().map(real).collect()
}

fn choose_gpu(arguments: &Serve, program: &Path) -> anyhow::Result<Gpu> {
    match arguments.gpu.as_deref() {
        Some("none") => return Ok(Gpu::None),
        Some(direct) => {
            let folder = direct
                .strip_prefix("direct:")
                .with_context(|| format!("--gpu {direct}: write direct:DIR or none"))?;
            let variables: Vec<(OsString, OsString)> = std::env::vars_os()
                .filter(|(name, _)| name.to_string_lossy().starts_with("SOFTGPU_"))
                .collect();
            return Ok(Gpu::Direct {
                library: library_folder(Path::new(folder))?,
                variables,
            });
        }
        None if arguments.server.is_empty() => return Ok(Gpu::None),
        None => {}
    }
    let servers = arguments.server.iter().map(String::as_str);
    rgpu_transport::ServerList::parse(servers).context("--server")?;
    let library = match &arguments.client_lib {
        Some(folder) => library_folder(folder)?,
        None => {
            let beside = program
                .parent()
                .and_then(Path::parent)
                .map(|root| root.join("lib/rgpu"))
                .unwrap_or_default();
            library_folder(&beside).context("say where the client is with --client-lib")?
        }
    };
    let token_file = match &arguments.token_file {
        Some(file) => Some(
            file.canonicalize()
                .with_context(|| format!("--token-file {}", file.display()))?,
        ),
        None => None,
    };
    Ok(Gpu::Remote {
        servers: arguments.server.clone(),
        token_file,
        library,
    })
}

fn library_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("the library folder {}", folder.display()))?;
    if !folder.join("libcuda.so.1").exists() {
        bail!("there is no libcuda.so.1 in {}", folder.display());
    }
    if folder.to_string_lossy().contains(':') {
        bail!(
            "{}: a library folder's path cannot contain a colon",
            folder.display()
        );
    }
    Ok(folder)
}

fn read_file(file: &Path) -> anyhow::Result<Vec<function::Function>> {
    let absolute = std::path::absolute(file)?;
    let text = service::read_definition(&absolute)?;
    let origin = file.display().to_string();
    let functions = function::parse_with(&text, &origin, absolute.parent(), Known::Elsewhere)?;
    for function in &functions {
        for warning in &function.warnings {
            writeln!(std::io::stderr(), "{}: {warning}", function.name)?;
        }
    }
    Ok(functions)
}

fn run_check(file: &Path) -> anyhow::Result<()> {
    for function in read_file(file)? {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&function)?)?;
    }
    Ok(())
}

fn run_user(name: &str, role: rgpu_faas_access::Role) -> anyhow::Result<()> {
    let mut password = String::new();
    // More than any password has is not read.
    std::io::stdin()
        .lock()
        .take(4096)
        .read_line(&mut password)
        .context("cannot read the password from the input")?;
    let password = password.trim_end_matches(['\r', '\n']);
    let line = rgpu_faas_access::user_line(name, role, password).map_err(anyhow::Error::msg)?;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn run_apply(file: &Path, endpoint: &str, token: Option<&str>) -> anyhow::Result<()> {
    let token = token.filter(|token| !token.is_empty());
    let credential = token.map_or(Credential::None, |it| Credential::Token(it.to_owned()));
    let ca_file = std::env::var_os("RGPU_CA_FILE").map(PathBuf::from);
    let server = Server::new(endpoint, &credential, ca_file.as_deref())?;
    for mut function in read_file(file)? {
        apply::inline_script(&mut function)?;
        let request = Request::new(Method::POST, "/system/services")
            .kind("application/yaml")
            .body(apply::definition(&function));
        let answer = server
            .ask(request)
            .context("is `rgpu-faas serve` running there?")?;
        if answer.status != 201 {
            let (name, reason) = (&function.name, answer.reason());
            bail!("{endpoint} refused {name}: {reason}");
        }
        writeln!(std::io::stdout(), "{}", answer.text())?;
    }
    Ok(())
}
