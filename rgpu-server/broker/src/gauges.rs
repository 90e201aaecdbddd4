//! What is known of the devices. The daemon loads no driver: a worker that only watches tells it, and runs while somebody asks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rgpu_proto::control::{self, Assign, Decoder, Priority};
use rgpu_proto::handshake::{
    Answer, ClientHandshake, Hello, Purpose, SessionSecret, VERSION_MAX, Welcome,
};
use rgpu_proto::monitor::{Question, Sample};
use rgpu_proto::snapshot::DeviceSnapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::watch_devices;
use crate::listen::Stream;
use crate::server::Server;

/// How old an answer may be that is given again.
const FRESH: Duration = Duration::from_secs(1);
/// How long one who asks waits for a new answer; the worker may be starting, which takes longer.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How long the worker stays when nobody asks any more.
const IDLE: Duration = Duration::from_secs(90);
/// How long the worker may take: to load its driver, and to answer.
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);
/// Before one that has failed is followed by another.
const PAUSE: Duration = Duration::from_secs(10);

/// The devices as they were told last.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub devices: Vec<DeviceSnapshot>,
    pub sample: Sample,
}

#[derive(Default)]
pub struct Gauges {
    known: RefCell<Known>,
    at: Cell<Option<Instant>>,
    wanted: Cell<Option<Instant>>,
    ask: Notify,
    told: Notify,
    /// Times that the worker failed.
    pub errors: Cell<u64>,
}

impl Gauges {
    /// What is known, new if that can be had soon.
    pub async fn look(&self) -> Known {
        let until = Instant::now() + PATIENCE;
        self.wanted.set(Some(Instant::now()));
        while self.at.get().is_none_or(|at| at.elapsed() > FRESH) {
            let told = self.told.notified();
            self.ask.notify_one();
            if timeout_at(until, told).await.is_err() {
                break;
            }
        }
        self.known.borrow().clone()
    }

    /// For one who looks at the devices; none until a worker has told of them.
    pub fn with_devices<T>(&self, look: impl FnOnce(&[DeviceSnapshot]) -> T) -> T {
        look(&self.known.borrow().devices)
    }

    /// Version of the host's GPU driver; empty where there is none.
    pub fn host_driver(&self) -> String {
        self.known.borrow().sample.host_driver.clone()
    }

    fn is_wanted(&self) -> bool {
        self.wanted.get().is_some_and(|at| at.elapsed() < IDLE)
    }
}

/// Has a worker while somebody asks. Ends never.
pub async fn watch_over(server: Rc<Server>) {
    loop {
        server.gauges.ask.notified().await;
        // While sessions are ending they may be watched.
        if server.stopping() && server.sessions.borrow().is_empty() {
            return;
        }
        if let Err(error) = session(&server).await {
            tracing::warn!(error = format!("{error:#}"), "the devices cannot be asked");
            let errors = &server.gauges.errors;
            errors.set(errors.get() + 1);
            sleep(PAUSE).await;
        }
    }
}

async fn session(server: &Rc<Server>) -> Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut hello = Hello::about(Purpose::Monitor);
    hello.client.program = "rgpud".into();
    let number = server.next_id();
    let assign = Assign {
        session: number,
        // Nobody shows it: there is no control connection.
        secret: SessionSecret::new([0; 16]),
        // No tenant's.
        tenant: String::new(),
        memory_limit: None,
        share_percent: None,
        vgpu: number,
        devices: Vec::new(),
        weight: 100,
        cap_percent: None,
        burst_ms: 0,
        priority: Priority::default(),
        kernel_time_limit_ms: None,
        host_memory_limit: None,
        overcommit: false,
        version: VERSION_MAX,
        hello: hello.clone(),
        leftover: Vec::new(),
        relayed: false,
        keep: 0,
        time_sharing: false,
        user: None,
    };
    // Whatever ends first: our end of the pair goes with the conversation, and the worker with it.
    let worker = watch_devices(server, &assign, Stream::Unix(theirs));
    let talk = async {
        let result = talk(&server.gauges, ours, &hello).await;
        result.map_err(|error| error.context("the worker that watches"))
    };
    let (report, talked) = tokio::join!(worker, talk);
    match talked {
        Err(error) if !server.stopping() => Err(error.context(report.end.reason)),
        _ => Ok(()),
    }
}

async fn talk(gauges: &Gauges, mut socket: UnixStream, hello: &Hello) -> Result<()> {
    let welcome = timeout(START, welcome(&mut socket, hello)).await??;
    gauges.known.borrow_mut().devices = welcome.snapshot.devices;
    let question = control::encode(&Question::Sample)?;
    let mut decoder = Decoder::<Sample>::new();
    while gauges.is_wanted() {
        socket.write_all(&question).await?;
        let sample = timeout(ANSWER, sample(&mut socket, &mut decoder)).await??;
        gauges.known.borrow_mut().sample = sample;
        gauges.at.set(Some(Instant::now()));
        gauges.told.notify_waiters();
        // Not at all while nobody asks, and not more often than answers age.
        sleep(FRESH / 2).await;
        let _ = timeout(IDLE, gauges.ask.notified()).await;
    }
    Ok(())
}

async fn welcome(socket: &mut UnixStream, hello: &Hello) -> Result<Welcome> {
    let mut handshake = ClientHandshake::new(hello)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let most = handshake.needed().min(buffer.len());
        let count = socket.read(&mut buffer[..most]).await?;
        if count == 0 {
            bail!("it has ended before it said what there is");
        }
        match handshake.push(&buffer[..count])? {
            Some((_, Answer::Welcome(welcome))) => return Ok(*welcome),
            Some((_, Answer::Refused(refused))) => bail!("refused: {refused}"),
            Some(_) => bail!("an answer that does not fit"),
            None => {}
        }
    }
}

async fn sample(socket: &mut UnixStream, decoder: &mut Decoder<Sample>) -> Result<Sample> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(sample) = decoder.pull().context("its answer")? {
            if !sample.is_sound() {
                bail!("its answer breaks a bound");
            }
            return Ok(sample);
        }
        match socket.read(&mut buffer).await? {
            0 => bail!("it has ended"),
            count => decoder.push(&buffer[..count]),
        }
    }
}
