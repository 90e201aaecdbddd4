//! A session's worker process: started for one connection, told what to serve, watched until it is gone.

use std::ffi::OsString;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rgpu_content::store::Owner;
use rgpu_proto::control::{self, Assign, Decoder, FromWorker, ToWorker, Usage};
use rgpu_proto::handshake::{Purpose, RefusalCode, refusal};
use rgpu_worker::Page;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cgroups::Group;
use crate::contents::Recalled;
use crate::isolation::User;
use crate::lend;
use crate::listen::Stream;
use crate::process::{Child, Process};
use crate::server::{End, Server};

/// How long a worker that was asked to end, or that has said its last, may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a worker may take to load its driver and welcome the client; a first cuInit on a large host takes some seconds.
const START: Duration = Duration::from_secs(60);

/// How often it is looked for the rest of a message that was cut.
const LOOK: Duration = Duration::from_millis(1);

/// What there is to say about a session when it is over.
pub struct Report {
    pub end: End,
    pub usage: Usage,
    pub seconds: f64,
}

/// What the rest of the daemon may want of a worker.
pub struct Wishes {
    /// That it is given what earlier sessions of its function have left, and leaves something itself.
    pub content: Option<Owner>,
    /// That the session ends.
    pub stop: watch::Receiver<Option<End>>,
    /// That it tells what it uses.
    pub ask: Rc<Notify>,
    /// That it lends something.
    pub lend: mpsc::Receiver<lend::Request>,
    /// That it counts what it holds with the other sessions of its vGPU, in this row.
    pub page: Option<Row>,
}

/// Runs a session from start to end. The worker is gone when this returns.
pub async fn run(server: &Server, assign: &Assign, stream: Stream, wishes: Wishes) -> Report {
    let started = Instant::now();
    let recalled = match wishes.content {
        Some(owner) => {
            let ending = |owner| server.is_leaving(owner);
            server.contents.recall(owner, ending).await
        }
        None => Recalled::default(),
    };
    let mut assign = Assign {
        keep: recalled.keep,
        ..assign.clone()
    };
    let page = wishes.page.clone();
    match start(server, &mut assign, &recalled, page.as_ref(), stream) {
        Ok(worker) => {
            server.tally.borrow_mut().workers_started += 1;
            watch(server, &assign, worker, recalled, wishes, started).await
        }
        Err(error) => {
            tracing::error!(session = assign.session, %error, "no worker");
            server.contents.ended(recalled, &[], None);
            Report {
                end: End {
                    result: 999,
                    reason: format!("the server cannot start a worker: {error}"),
                },
                usage: Usage::default(),
                seconds: started.elapsed().as_secs_f64(),
            }
        }
    }
}

/// Watches over a worker that has its session, until it is gone.
pub async fn watch(
    server: &Server,
    assign: &Assign,
    worker: Worker,
    recalled: Recalled,
    wishes: Wishes,
    started: Instant,
) -> Report {
    let mut usage = Usage::default();
    let mut left = Some(recalled);
    let end = watch_over(server, assign, worker, &mut usage, &mut left, wishes).await;
    if let Some(recalled) = left {
        server.contents.ended(recalled, &[], None);
    }
    if let Some(state) = &server.state {
        state.forget(assign.session);
    }
    Report {
        end,
        usage,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// A page, and a session's place in it.
type Row = (Rc<Page>, u32);

pub struct Worker {
    pub process: Process,
    pub socket: UnixStream,
    /// The client's connection, kept until the client has its welcome: if none comes, it is told why.
    pub client: Option<OwnedFd>,
    /// Its control group, where there is one. An earlier daemon's stays for a later one to remove.
    pub group: Option<Group>,
    /// Who it is, where that is not the daemon's own user.
    pub user: Option<User>,
}

/// Takes a worker that is ready, or execs one, and hands the connection over.
fn start(
    server: &Server,
    assign: &mut Assign,
    recalled: &Recalled,
    page: Option<&Row>,
    stream: Stream,
) -> anyhow::Result<Worker> {
    let client = stream.into_fd()?;
    let user = server.isolation.user_for(&assign.tenant);
    let started = user.and_then(|user| {
        assign.user = user.as_ref().map(|user| user.number);
        let worker = assigned(server, assign, recalled, page, client.as_fd())?;
        Ok((worker, user))
    });
    match started {
        Ok(((child, socket, group), user)) => Ok(Worker {
            process: Process::Child(child),
            socket,
            group,
            client: Some(client),
            user,
        }),
        Err(error) => {
            let text = format!("the server cannot start a worker: {error:#}");
            turn_away(client, RefusalCode::Internal, text);
            Err(error)
        }
    }
}

fn assigned(
    server: &Server,
    assign: &Assign,
    recalled: &Recalled,
    page: Option<&Row>,
    client: BorrowedFd<'_>,
) -> anyhow::Result<(Child, UnixStream, Option<Group>)> {
    let (child, socket, group) = told_of_it(server, assign, recalled, page, client)?;
    socket.set_nonblocking(true)?;
    Ok((child, UnixStream::from_std(socket)?, group))
}

fn told_of_it(
    server: &Server,
    assign: &Assign,
    recalled: &Recalled,
    page: Option<&Row>,
    client: BorrowedFd<'_>,
) -> anyhow::Result<Told> {
    let (kind, uuid) = server.view(assign.devices.first().copied());
    let row = page.map_or(0, |(_, row)| *row);
    let wanted: Vec<_> = wanted(&assign.hello.environment).collect();
    // What CUDA reads at cuInit only a new one can have.
    if wanted.is_empty() && assign.hello.purpose == Purpose::Data {
        while let Some(ready) = server.pool.take(kind, server.settings.ready_workers) {
            // One that dies at this moment has not been told, and is no loss.
            let outlives = server.outlives(assign, recalled.owner, row, ready.pid());
            if let Ok(told) = ready.assign(assign, outlives, recalled, page, client)? {
                return Ok(told);
            }
        }
    }
    // Of one that has ended already, what it said is still to be read.
    let fresh = Fresh::exec(server, &wanted, uuid.as_deref())?;
    let outlives = server.outlives(assign, recalled.owner, row, fresh.pid());
    let (Ok(told) | Err(told)) = fresh.assign(assign, outlives, recalled, page, client)?;
    Ok(told)
}

/// Tells a client that has no welcome yet. It is not waited for: the answer fits its empty socket buffer.
fn turn_away(client: OwnedFd, code: RefusalCode, text: String) {
    if let Ok(pipe) = rgpu_transport::Pipe::from_fd(client) {
        let _ = pipe.try_write_vectored(&[IoSlice::new(&refusal(code, text))]);
        let _ = pipe.shutdown_write();
    }
}

type Told = (Child, std::os::unix::net::UnixStream, Option<Group>);

/// A process that has not heard of a session. It is killed when this is dropped.
pub struct Fresh {
    child: Child,
    socket: std::os::unix::net::UnixStream,
    group: Option<Group>,
}

impl Fresh {
    fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has loaded its driver, or will not.
    pub fn has_spoken(&self) -> bool {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&self.socket, &mut [0; 1][..], flags).is_ok()
    }

    pub fn if_alive(mut self) -> Option<Fresh> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// `device`: the only one that it sees, by its UUID.
    pub fn exec(
        server: &Server,
        environment: &[(&str, &str)],
        device: Option<&str>,
    ) -> anyhow::Result<Fresh> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let settings = &server.settings;
        let program = match &settings.worker_program {
            Some(program) => program.clone(),
            // The file that runs now, even if an upgrade has put another in its place.
            None => PathBuf::from("/proc/self/exe"),
        };
        let mut command = Command::new(program);
        command
            .arg0("rgpud")
            .arg("worker")
            .arg("--driver")
            .arg(&settings.driver)
            .env_clear()
            .envs(environment.iter().copied())
            .envs(inherited())
            // What the daemon itself sees is told by UUIDs, so this goes over its own.
            .envs(device.map(|uuid| ("CUDA_VISIBLE_DEVICES", uuid)))
            // One session's few threads need no more; each arena costs address space and idle pages.
            .env("MALLOC_ARENA_MAX", "2")
            .stdout(Stdio::null())
            .process_group(0);
        let group = server.isolation.apply(&mut command)?;
        // No other descriptor: whatever has to be done between fork and exec makes the child begin as a copy of a large process.
        let child = server.spawner.spawn(command, theirs.into())?;
        Ok(Fresh {
            child: Child::new(child)?,
            socket: ours,
            group,
        })
    }

    /// Looks at what it has said so far, which stays there for who takes it; until `found` finds something in that.
    pub async fn peek<T>(&self, found: impl Fn(&[u8]) -> Option<T>) -> anyhow::Result<T> {
        const MOST: usize = 64 << 10;
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let mut buffer = vec![0; MOST];
        let mut seen = 0;
        let found = loop {
            socket.readable().await?;
            let peek = || {
                let flags = rustix::net::RecvFlags::PEEK;
                let peeked = rustix::net::recv(&socket, buffer.as_mut_slice(), flags);
                Ok(peeked.map(|(count, _)| count)?)
            };
            match socket.try_io(Interest::READABLE, peek) {
                Ok(0) => anyhow::bail!("the worker has ended; its log says why"),
                Ok(count) if count > seen => seen = count,
                // The rest of it is on its way, and what is here stays readable.
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(found) = found(&buffer[..seen]) {
                break found;
            }
            anyhow::ensure!(seen < MOST, "the worker says too much ahead of its session");
        };
        drop(socket);
        self.socket.set_nonblocking(false)?;
        Ok(found)
    }

    /// Tells it of its session, and what it need not be sent. An error within: it has ended.
    fn assign(
        self,
        assign: &Assign,
        outlives: Option<(ToWorker, OwnedFd)>,
        recalled: &Recalled,
        page: Option<&Row>,
        client: BorrowedFd<'_>,
    ) -> anyhow::Result<Result<Told, Told>> {
        let Fresh {
            child,
            socket,
            group,
        } = self;
        let outlives = outlives
            .as_ref()
            .map(|(message, listener)| (message.clone(), listener.as_fd()));
        let content = recalled.segments.iter().map(|(number, segment)| {
            let number = *number;
            (ToWorker::Content { number }, segment.file())
        });
        let page = page.map(|(page, row)| (ToWorker::Ledger { row: *row }, page.file()));
        let session = ToWorker::Assign(Box::new(assign.clone()));
        // The messages fit the socket's buffer: nothing has been sent before them.
        let before = content.chain(page).chain(outlives);
        for (message, beside) in before.chain([(session, client)]) {
            let message = control::encode(&message)?;
            let mut sent = 0;
            while sent < message.len() {
                let beside = (sent == 0).then_some(beside);
                match rgpu_transport::send_with_fd(socket.as_fd(), &message[sent..], beside) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Ok(Err((child, socket, group)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Ok((child, socket, group)))
    }
}

/// What a client may say about how CUDA behaves in its worker. A list of what is harmless, since CUDA has variables that name files to write
/// (CUDA_COREDUMP_FILE, CUDA_CACHE_PATH) and libraries to load (CUDA_INJECTION64_PATH).
fn wanted(environment: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    const NAMES: &[&str] = &[
        "CUDA_AUTO_BOOST",
        "CUDA_DEVICE_MAX_CONNECTIONS",
        "CUDA_DEVICE_MAX_COPY_CONNECTIONS",
        "CUDA_DISABLE_PTX_JIT",
        "CUDA_FORCE_PTX_JIT",
        "CUDA_LAUNCH_BLOCKING",
        "CUDA_MODULE_DATA_LOADING",
        "CUDA_MODULE_LOADING",
        "CUDA_SCALE_LAUNCH_QUEUES",
    ];
    environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| NAMES.contains(name))
}

/// What a worker's driver may need of the daemon's own environment; it goes over what the client wants.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: &[&str] = &[
        "PATH",
        "HOME",
        "LD_LIBRARY_PATH",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "RGPUD_LOG",
        "RGPU_SIMULATE",
        "RUST_BACKTRACE",
    ];
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            NAMES.contains(&name)
                || ["CUDA_", "SOFTGPU_", "NVIDIA_"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        })
    })
}

async fn watch_over(
    server: &Server,
    assign: &Assign,
    worker: Worker,
    usage: &mut Usage,
    recalled: &mut Option<Recalled>,
    wishes: Wishes,
) -> End {
    let Wishes {
        mut stop,
        ask,
        mut lend,
        ..
    } = wishes;
    let Worker {
        mut process,
        mut socket,
        mut client,
        // Until the worker is gone.
        group: _group,
        user: _user,
    } = worker;
    // It holds nothing when this returns.
    let profile = {
        let sessions = server.sessions.borrow();
        let of_session = sessions.get(&assign.session);
        of_session.map_or_else(String::new, |it| it.about.profile.clone())
    };
    let (_membership, mut leases) = server.leases.enter(assign, &profile);
    let (_stay, mut moves) = server.residency.enter(assign, client.is_none());
    let mut decoder = Decoder::<FromWorker>::new();
    let mut buffer = [0; 4096];
    let mut beside = None;
    let mut said = None;
    let mut asked = None;
    // One that has been adopted has had its start.
    let mut ready = client.is_none();
    let mut deadline = (!ready).then(|| Instant::now() + START);
    let mut patience = PATIENCE;
    loop {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = hear(&socket, &mut buffer) => match read {
                Ok((0, _)) | Err(_) => break,
                Ok((count, descriptor)) => {
                    decoder.push(&buffer[..count]);
                    beside = descriptor.or(beside);
                }
            },
            Some(end) = told(&mut stop), if asked.is_none() => {
                asked = Some(end);
                deadline = Some(Instant::now() + PATIENCE);
                if let Some(end) = &asked {
                    say_end(&mut socket, end).await;
                }
            },
            () = ask.notified(), if asked.is_none() => say(&mut socket, &ToWorker::Report).await,
            Some(message) = leases.recv(), if asked.is_none() => say(&mut socket, &message).await,
            Some((message, file)) = moves.recv(), if asked.is_none() => {
                say_with(&mut socket, &message, file).await;
            },
            Some(request) = lend.recv(), if asked.is_none() => {
                say_with(&mut socket, &request.message, Some(request.socket)).await;
            },
            () = late => {
                if asked.is_none() && said.is_none() {
                    said = Some(End {
                        result: 46,
                        reason: format!("the worker was not ready within {} s", START.as_secs()),
                    });
                }
                // It has had its time.
                patience = Duration::ZERO;
                break;
            }
        }
        loop {
            match decoder.pull() {
                Ok(Some(FromWorker::Usage(now))) => {
                    server.used(assign.session, &now);
                    *usage = now;
                }
                Ok(Some(FromWorker::Neighbours)) => {
                    let sessions = server.neighbours(&assign.tenant, &assign.devices).await;
                    say(&mut socket, &ToWorker::Neighbours(sessions)).await;
                }
                Ok(Some(FromWorker::Sharing)) => {
                    let sharing = server.sharing(&assign.tenant);
                    say(&mut socket, &ToWorker::Sharing(sharing)).await;
                }
                Ok(Some(FromWorker::Devices(devices))) => {
                    if assign.devices.is_empty() || devices.len() > 1 {
                        server.know_devices(&devices);
                    }
                }
                Ok(Some(FromWorker::Borrow {
                    number,
                    session,
                    secret,
                })) => {
                    let (borrower, tenant) = (assign.session, &assign.tenant);
                    let lender = server.borrow(borrower, tenant, session, secret).await;
                    let message = ToWorker::Lender {
                        number,
                        found: lender.is_some(),
                    };
                    say_with(&mut socket, &message, lender).await;
                }
                Ok(Some(FromWorker::Left { used, kept })) => {
                    let left = beside.take().filter(|_| kept);
                    if let Some(recalled) = recalled.take() {
                        server.contents.ended(recalled, &used, left);
                    }
                    server.has_left(assign.session);
                    server.contents.changed.notify_waiters();
                }
                Ok(Some(FromWorker::Ended { result, reason })) => {
                    said = Some(End { result, reason });
                    deadline = Some(Instant::now() + PATIENCE);
                }
                Ok(Some(FromWorker::Want { device })) => {
                    server.leases.want(assign.session, device);
                }
                Ok(Some(FromWorker::Yielded {
                    device,
                    used_us,
                    wants,
                })) => {
                    let used = Duration::from_micros(used_us);
                    server.leases.yielded(assign.session, device, used, wants);
                }
                Ok(Some(
                    message @ (FromWorker::NeedRoom { .. }
                    | FromWorker::GaveRoom { .. }
                    | FromWorker::Beside { .. }
                    | FromWorker::Away { .. }
                    | FromWorker::Stays { .. }
                    | FromWorker::Back
                    | FromWorker::Holds { .. }),
                )) => server.residency.hear(assign.session, &message),
                Ok(Some(FromWorker::Ready)) => {
                    ready = true;
                    server.tally.borrow_mut().driver_failure = None;
                }
                Ok(Some(FromWorker::Started)) => {
                    client = None;
                    if assign.hello.purpose == Purpose::Data {
                        server.begun.notify_one();
                    }
                    if asked.is_none() && said.is_none() {
                        deadline = None;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    said = Some(End {
                        result: 999,
                        reason: format!("the worker's messages cannot be read: {error}"),
                    });
                    // Nothing that follows can be understood.
                    deadline = Some(Instant::now());
                    break;
                }
            }
        }
    }
    let status = match timeout(patience, process.wait()).await {
        Ok(Some(status)) => Gone::With(status),
        Ok(None) => Gone::Somehow,
        Err(_) => {
            process.kill().await;
            Gone::Killed
        }
    };
    if matches!(status, Gone::Killed) || (asked.is_none() && said.is_none()) {
        server.tally.borrow_mut().workers_lost += 1;
    }
    let was_asked = asked.is_some();
    let end = asked.or(said).unwrap_or_else(|| unsaid(status));
    if !ready && !was_asked {
        server.tally.borrow_mut().driver_failure = Some(end.reason.clone());
    }
    if let Some(client) = client {
        let code = if ready {
            RefusalCode::Internal
        } else {
            RefusalCode::NoDriver
        };
        turn_away(client, code, format!("no session: {}", end.reason));
    }
    end
}

/// What the broker wants to end the session for, once it does.
pub async fn told(stop: &mut watch::Receiver<Option<End>>) -> Option<End> {
    stop.wait_for(Option::is_some).await.ok()?.clone()
}

async fn say_end(socket: &mut UnixStream, end: &End) {
    let message = ToWorker::End {
        result: end.result,
        reason: control::reason(end.reason.clone()),
    };
    say(socket, &message).await;
}

/// Some bytes, and the descriptor that has come with them.
pub async fn hear(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> std::io::Result<(usize, Option<OwnedFd>)> {
    loop {
        socket.readable().await?;
        let read = || rgpu_transport::receive_with_fd(socket.as_fd(), buffer);
        match socket.try_io(Interest::READABLE, read) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// A worker that does not read is not waited for; it is killed later.
async fn say(socket: &mut UnixStream, message: &ToWorker) {
    if let Ok(bytes) = control::encode(message) {
        let _ = timeout(PATIENCE, socket.write_all(&bytes)).await;
    }
}

/// The same, with a descriptor where the message carries one.
async fn say_with(socket: &mut UnixStream, message: &ToWorker, descriptor: Option<OwnedFd>) {
    match descriptor {
        Some(descriptor) => {
            let _ = timeout(PATIENCE, lend::say(socket, message, &descriptor)).await;
        }
        None => say(socket, message).await,
    }
}

/// How a worker's process has ended.
enum Gone {
    With(ExitStatus),
    Somehow,
    Killed,
}

/// The end of a worker that left without a word.
fn unsaid(gone: Gone) -> End {
    use std::os::unix::process::ExitStatusExt;
    let reason = match gone {
        Gone::With(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("the worker was killed by signal {signal}"),
            (None, Some(code)) => format!(
                "the worker ended unexpectedly with exit code {code}; the server's log says more"
            ),
            (None, None) => "the worker ended unexpectedly".to_owned(),
        },
        Gone::Somehow => "the worker ended unexpectedly; the server's log may say more".to_owned(),
        Gone::Killed => "the worker did not end and was killed".to_owned(),
    };
    End { result: 46, reason }
}
