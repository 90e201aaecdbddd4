//! A session's worker process: started for one connection, told what to serve, watched until it is gone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rgpu_proto::control::{self, Assign, Decoder, FromWorker, ToWorker, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::listen::Stream;
use crate::server::End;
use crate::settings::Settings;

/// The worker's socket to the broker.
const CONTROL_FD: i32 = 3;
/// How long a worker that was asked to end, or that has said its last, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to say about a session when it is over.
pub struct Report {
    pub end: End,
    pub usage: Usage,
    pub seconds: f64,
}

/// Runs a session from start to end. The worker is gone when this returns.
pub async fn run(
    settings: &Settings,
    assign: Assign,
    stream: Stream,
    stop: watch::Receiver<Option<End>>,
) -> Report {
    let started = Instant::now();
    let mut usage = Usage::default();
    let end = match start(settings, &assign, stream) {
        Ok((child, socket)) => watch_over(child, socket, &mut usage, stop).await,
        Err(error) => {
            tracing::error!(session = assign.session, %error, "no worker");
            End {
                result: 999,
                reason: format!("the server cannot start a worker: {error}"),
            }
        }
    };
    Report {
        end,
        usage,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Execs a worker and hands the connection over; the broker's own copy is closed with `stream`.
fn start(
    settings: &Settings,
    assign: &Assign,
    stream: Stream,
) -> anyhow::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("worker")
        .arg("--driver")
        .arg(&settings.driver)
        .env_clear()
        .envs(inherited())
        .envs(
            assign
                .hello
                .environment
                .iter()
                .filter(|(name, _)| name.starts_with("CUDA_"))
                .cloned(),
        )
        // One session's few threads need no more; each arena costs address space and idle pages.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let theirs = OwnedFd::from(theirs);
    let fd = theirs.as_raw_fd();
    // SAFETY: only dup2 and fcntl, which are async-signal-safe, on a descriptor that lives until spawn has returned.
    unsafe {
        command.pre_exec(move || {
            if fd == CONTROL_FD {
                return if libc::fcntl(fd, libc::F_SETFD, 0) < 0 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                };
            }
            if libc::dup2(fd, CONTROL_FD) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    drop(theirs);
    let socket = stream.into_fd()?;
    // The message fits the socket's buffer: nothing has been sent before it.
    let message = control::encode(&ToWorker::Assign(Box::new(assign.clone())))?;
    let mut sent = 0;
    while sent < message.len() {
        let beside = (sent == 0).then_some(socket.as_fd());
        sent += rgpu_transport::send_with_fd(ours.as_fd(), &message[sent..], beside)?;
    }
    ours.set_nonblocking(true)?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// What a worker's driver may need of the daemon's own environment.
fn inherited() -> impl Iterator<Item = (String, String)> {
    const NAMES: &[&str] = &[
        "PATH",
        "HOME",
        "LD_LIBRARY_PATH",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "RGPUD_LOG",
        "RUST_BACKTRACE",
    ];
    std::env::vars().filter(|(name, _)| {
        NAMES.contains(&name.as_str())
            || name.starts_with("SOFTGPU_")
            || name.starts_with("NVIDIA_")
    })
}

async fn watch_over(
    mut child: Child,
    mut socket: UnixStream,
    usage: &mut Usage,
    mut stop: watch::Receiver<Option<End>>,
) -> End {
    let mut decoder = Decoder::<FromWorker>::new();
    let mut buffer = [0; 4096];
    let mut said = None;
    let mut asked = None;
    loop {
        tokio::select! {
            read = socket.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(count) => decoder.push(&buffer[..count]),
            },
            changed = stop.changed(), if asked.is_none() => {
                let end = stop.borrow().clone();
                if let (Ok(()), Some(end)) = (changed, end) {
                    if let Ok(bytes) = control::encode(&ToWorker::End { result: end.result, reason: end.reason.clone() }) {
                        let _ = socket.write_all(&bytes).await;
                    }
                    asked = Some(end);
                    // The worker closes its socket when it is done; one that does not is killed below.
                    let _ = tokio::time::timeout(PATIENCE, drain(&mut socket)).await;
                    break;
                }
            }
        }
        loop {
            match decoder.pull() {
                Ok(Some(FromWorker::Usage(now))) => *usage = now,
                Ok(Some(FromWorker::Ended { result, reason })) => {
                    said = Some(End { result, reason })
                }
                Ok(Some(FromWorker::Ready | FromWorker::Started)) => {}
                Ok(None) => break,
                Err(error) => {
                    said = Some(End {
                        result: 999,
                        reason: format!("the worker's messages cannot be read: {error}"),
                    });
                    break;
                }
            }
        }
    }
    let status = match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            let _ = child.kill().await;
            None
        }
    };
    asked.or(said).unwrap_or_else(|| unsaid(status))
}

async fn drain(socket: &mut UnixStream) {
    let mut buffer = [0; 1024];
    while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
}

/// The end of a worker that left without a word.
fn unsaid(status: Option<ExitStatus>) -> End {
    use std::os::unix::process::ExitStatusExt;
    let reason = match status {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("the worker was killed by signal {signal}"),
            (None, Some(code)) => format!(
                "the worker ended unexpectedly with exit code {code}; the server's log says more"
            ),
            (None, None) => "the worker ended unexpectedly".to_owned(),
        },
        None => "the worker did not end and was killed".to_owned(),
    };
    End { result: 46, reason }
}
