//! The process in the pod: fetches the attempt's files, runs its script, hands back its output. A runner that is away for a while is waited for.
//!
//! It is the container's first process, so that all that the script has left ends before the outputs are read. The image need have nothing but
//! what the script needs: the program comes with its own loader and libraries ([`install`]).

mod child;
mod client;
mod install;
mod outlet;

pub use client::Address;
pub use install::install;

use crate::archive::{self, Bounds};
use crate::desk::reports_alone;
use crate::pipe;
use crate::protocol::{MAX_WORK, OUTPUT, Report, STATS, Started, WORK, Work};
use child::Process;
use client::{CallError, Client};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use outlet::Outlet;
use rgpu_beneath as beneath;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// What the program is called where it is brought to.
pub const NAME: &str = "rgpu-faas";
/// The loader beside it.
pub const LOADER: &str = "ld.so";

/// The exit status where the runner was not reached in time, and where it no longer wants the attempt.
const GAVE_UP: u8 = 75;
const GONE: u8 = 76;
const NOT_STARTED: u8 = 127;
/// How long a pause in a body may be.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_SECRET: u64 = 1 << 20;
/// How often what a failed script says of itself is sent again.
const REPORT_TRIES: u32 = 3;
/// Folders that a script finds.
const FOLDERS: [&str; 3] = ["input", OUTPUT, "tmp"];

/// `rgpu-faas agent`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Copies this program, with its loader and libraries, into a folder.
    Install { folder: PathBuf },
    /// Runs one attempt.
    Run(Run),
}

/// What a pod's description says.
#[derive(clap::Args)]
pub struct Run {
    /// The runner: http://HOST[:PORT].
    #[arg(long)]
    url: String,
    /// The attempt's name.
    #[arg(long)]
    attempt: String,
    /// The attempt's folder.
    #[arg(long)]
    folder: PathBuf,
    /// The folder of the attempt's secrets.
    #[arg(long)]
    secrets: PathBuf,
    /// Seconds that the runner may be away, all in all.
    #[arg(long)]
    patience: u64,
}

/// What `rgpu-faas agent …` does; its exit status is the script's.
pub fn main(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Install { folder } => {
            install(&folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let code = runtime.block_on(attend(run));
            // Threads that still read a pipe that somebody holds are not waited for.
            runtime.shutdown_background();
            code
        }
    }
}

/// Why an attempt cannot go on.
enum Lost {
    /// The runner does not want it any more.
    Gone(String),
    /// The runner was not reached in time.
    Late(String),
    /// Something here does not work.
    Broken(String),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Lost {
        Lost::Broken(error.to_string())
    }
}

async fn attend(run: Run) -> Result<ExitCode, String> {
    match attempt(&run).await {
        Ok(report) => Ok(ExitCode::from(status(&report))),
        Err(Lost::Gone(why)) => {
            eprintln!("rgpu-faas agent: the runner no longer wants this attempt: {why}");
            Ok(ExitCode::from(GONE))
        }
        Err(Lost::Late(why)) => {
            eprintln!(
                "rgpu-faas agent: the runner at {} was not reached: {why}",
                run.url
            );
            Ok(ExitCode::from(GAVE_UP))
        }
        Err(Lost::Broken(why)) => Err(why),
    }
}

/// The container's exit status, as a shell would have it.
fn status(report: &Report) -> u8 {
    let code = match (report.exit_code, report.signal) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(NOT_STARTED),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

async fn attempt(run: &Run) -> Result<Report, Lost> {
    // Asked for first, so that a request to end is never missed: the first process of a container gets no signal without a handler.
    let mut terminate = signal(SignalKind::terminate())?;
    let secrets = beneath::root(&run.secrets)?;
    let token = read_small(&secrets, crate::spec::TOKEN)?;
    let token =
        String::from_utf8(token).map_err(|_| Lost::Broken("the token is no text".into()))?;
    let deadline = Instant::now() + Duration::from_secs(run.patience);
    let client =
        Client::new(&run.url, &run.attempt, token.trim(), deadline).map_err(Lost::Broken)?;
    let folder = Arc::new(beneath::root(&run.folder)?);

    let fetched = tokio::select! {
        fetched = fetch(&client, &folder) => fetched?,
        _ = terminate.recv() => return Err(Lost::Gone("kubelet ends the pod".into())),
    };
    let environment = environment(&fetched, &secrets)?;
    let mut report = match Process::start(&fetched, environment, &run.folder) {
        Ok((process, output)) => {
            let outlet = Outlet::begin(fetched.log_limit, output);
            run_through(process, &outlet, &client, &mut terminate).await?
        }
        Err(error) => {
            let program = fetched.argv.first().map(|it| it.to_string_lossy());
            let program = program.unwrap_or_default();
            Report {
                not_started: Some(format!("cannot start {program}: {error}")),
                ..Report::default()
            }
        }
    };
    hand_back(&client, &folder, &mut report).await?;
    Ok(report)
}

/// Follows the script to its end, while the runner is told of its start and its output.
async fn run_through(
    process: Process,
    outlet: &Outlet,
    client: &Client,
    terminate: &mut Signal,
) -> Result<Report, Lost> {
    let started = Started { pid: process.pid() };
    // While the script runs only one answer matters: that the attempt is no longer wanted.
    let unwanted = async {
        let told = client.post_json("started", &started).await;
        let sent = match told {
            Ok(()) => outlet.send(client, true).await,
            error => error,
        };
        match sent {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    };
    let (mut report, lost) = process.watch(terminate, unwanted).await?;
    outlet.close().await;
    match lost {
        None => {}
        Some(CallError::Stop) => report.terminated = true,
        Some(lost) => return Err(lost.into()),
    }
    // Again, where the script was faster than the answer.
    client.post_json("started", &started).await?;
    outlet.send(client, false).await?;
    report.tail = outlet.recent();
    Ok(report)
}

impl From<CallError> for Lost {
    fn from(error: CallError) -> Lost {
        match error {
            CallError::Gone(why) => Lost::Gone(why),
            CallError::Late(why) => Lost::Late(why),
            CallError::Refused(why) => Lost::Broken(why),
            CallError::Stop => Lost::Gone("the script is to end".into()),
        }
    }
}

fn read_small(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    // Kubelet lays secrets as links into a folder of its own, which no script can write.
    let path = PathBuf::from(format!(
        "/proc/self/fd/{}/{name}",
        std::os::fd::AsRawFd::as_raw_fd(folder)
    ));
    let mut value = Vec::new();
    std::fs::File::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("secret {name}: {error}")))?
        .take(MAX_SECRET)
        .read_to_end(&mut value)?;
    Ok(value)
}

/// What the script has beyond the container's own variables.
fn environment(work: &Work, secrets: &OwnedFd) -> io::Result<Vec<(OsString, OsString)>> {
    let mut variables = work.environment.clone();
    for name in &work.secrets {
        variables.push((name.into(), OsString::from_vec(read_small(secrets, name)?)));
    }
    if std::env::var_os("LANG").is_none() {
        variables.insert(0, ("LANG".into(), "C.UTF-8".into()));
    }
    Ok(variables)
}

/// Fetches the attempt's files, until they are here whole.
async fn fetch(client: &Client, folder: &Arc<OwnedFd>) -> Result<Work, Lost> {
    let mut pauses = client.pauses();
    loop {
        let stream = client.open("bundle").await?;
        let (sender, reader) = pipe::to_thread();
        let into = folder.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            // What an earlier try has brought.
            for (name, _) in beneath::list(&*into)? {
                beneath::remove(&into, Path::new(&name))?;
            }
            let bounds = Bounds {
                bytes: u64::MAX,
                entries: 1_000_000,
            };
            archive::unpack(reader, &into, bounds, |_| true)
        });
        let body = stream.into_body().into_data_stream();
        let (unpacked, ()) = tokio::join!(unpacked, pipe::forward(body, sender, PATIENCE));
        match unpacked.map_err(io::Error::from)? {
            Ok(()) => break,
            Err(archive::UnpackError::Io(error)) => pauses.pause(&error.to_string()).await?,
            Err(error) => return Err(Lost::Broken(format!("the attempt's files: {error}"))),
        }
    }
    let mut text = Vec::new();
    beneath::open(&**folder, Path::new(WORK))?
        .take(MAX_WORK)
        .read_to_end(&mut text)?;
    beneath::remove(folder, Path::new(WORK))?;
    for name in FOLDERS {
        beneath::make_folder(&**folder, Path::new(name))?;
    }
    serde_json::from_slice(&text).map_err(|error| Lost::Broken(format!("{WORK}: {error}")))
}

/// Sends the outputs and the report, until the runner has them.
async fn hand_back(
    client: &Client,
    folder: &Arc<OwnedFd>,
    report: &mut Report,
) -> Result<(), Lost> {
    let mut pauses = client.pauses();
    if report.not_started.is_some() {
        return Ok(client.post_json("ended", report).await?);
    }
    let paths: Vec<String> = match report.is_success() {
        true => vec![OUTPUT.into(), STATS.into()],
        // What is not published need not travel.
        false => reports_alone().into(),
    };
    for tried in 0.. {
        let why = match upload(client, folder, &paths).await {
            Ok(skipped) => {
                report.skipped = skipped;
                break;
            }
            Err(Upload::Files(error)) => {
                report.outputs_error = Some(error.to_string());
                break;
            }
            Err(Upload::Call(CallError::Refused(why))) => {
                report.outputs_error = Some(why);
                break;
            }
            Err(Upload::Call(error @ (CallError::Gone(_) | CallError::Stop))) => {
                return Err(error.into());
            }
            Err(Upload::Call(CallError::Late(why))) => why,
        };
        if !report.is_success() && tried >= REPORT_TRIES {
            break;
        }
        // Where the runner has refused the outputs, and its words were lost with the connection, it takes the report without them.
        if report.is_success() && client.try_json("ended", report).await? {
            return Ok(());
        }
        pauses.pause(&why).await?;
    }
    Ok(client.post_json("ended", report).await?)
}

enum Upload {
    /// A file here cannot be read.
    Files(io::Error),
    Call(CallError),
}

/// Sends an archive once; what was left out of it.
async fn upload(
    client: &Client,
    folder: &Arc<OwnedFd>,
    paths: &[String],
) -> Result<Vec<String>, Upload> {
    let (writer, stream) = pipe::to_task();
    let (from, paths) = (folder.clone(), paths.to_vec());
    let packing = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(writer);
        let mut pack = || -> io::Result<Vec<String>> {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let skipped = archive::pack(&from, &paths, &mut archive)?;
            archive.finish()?;
            io::Write::flush(archive.get_mut())?;
            Ok(skipped)
        };
        let packed = pack();
        if let Err(error) = &packed
            && let Ok(writer) = archive.into_inner()
        {
            writer.fail(io::Error::new(error.kind(), "a file could not be read"));
        }
        packed
    });
    let body = StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync();
    let sent = client.once(Method::PUT, "outputs", body, None).await;
    let packed = packing.await.map_err(io::Error::from).and_then(|it| it);
    match (packed, sent) {
        // The reader went away: the answer says why.
        (Err(error), Err(why)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Upload::Call(why))
        }
        (Err(error), _) => Err(Upload::Files(error)),
        (Ok(skipped), Ok(_)) => Ok(skipped),
        (Ok(_), Err(why)) => Err(Upload::Call(why)),
    }
}

fn full(bytes: Vec<u8>) -> client::Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
