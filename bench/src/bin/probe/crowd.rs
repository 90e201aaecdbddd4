//! Many sessions of one process that are let in and do nothing, and how long each of some more takes to be let in beside them. They are clients by their
//! bytes alone: a thousand of the library would measure the library.

use std::io::{IoSlice, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgpu_proto::handshake::{
    AddressWindow, Answer, ClientHandshake, ClientInfo, Hello, Purpose, Token, VgpuRequest,
};
use rgpu_transport::{Endpoint, Interest, Pipe, Progress};
use serde_json::{Value, json};

use crate::number;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the library has its first window, and its bytes.
const WINDOW: AddressWindow = AddressWindow {
    base: 0x2080_0000_0000,
    len: 128 << 30,
};

/// Both connections of a session.
struct Session {
    _data: Pipe,
    _control: Pipe,
}

fn hello(purpose: Purpose, token: &str) -> Hello {
    Hello {
        purpose,
        token: Token::new(token),
        client: ClientInfo {
            pid: std::process::id(),
            program: "probe".into(),
            host: "here".into(),
        },
        vgpu: VgpuRequest::default(),
        windows: vec![WINDOW],
        environment: Vec::new(),
        rings: true,
        reuse: Default::default(),
        group: String::new(),
    }
}

fn greet(address: &Endpoint, hello: &Hello) -> Result<(Pipe, Answer)> {
    let pipe = Pipe::connect(address, PATIENCE)?;
    let mut handshake = ClientHandshake::new(hello)?;
    let greeting = handshake.output().to_vec();
    let written = pipe.try_write_vectored(&[IoSlice::new(&greeting)])?;
    ensure!(
        matches!(written, Progress::Bytes(count) if count == greeting.len()),
        "a greeting fits its socket"
    );
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.try_read(&mut buffer)? {
            Progress::Bytes(count) => match handshake.push(&buffer[..count])? {
                Some((_, Answer::Refused(refused))) => bail!("{refused}"),
                Some((_, answer)) => return Ok((pipe, answer)),
                None => {}
            },
            Progress::WouldBlock => {
                let ready = pipe.wait(Interest::Read, Some(deadline))?;
                ensure!(!ready.timed_out(), "no answer within {PATIENCE:?}");
            }
            Progress::Closed => bail!("closed without an answer"),
        }
    }
}

/// A session, and the milliseconds from its connection to its welcome.
fn begin(address: &Endpoint, token: &str) -> Result<(Session, f64)> {
    let began = Instant::now();
    let (data, answer) = greet(address, &hello(Purpose::Data, token))?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let Answer::Welcome(welcome) = answer else {
        bail!("no welcome: {answer:?}");
    };
    let purpose = Purpose::Control {
        session: welcome.session,
        secret: welcome.secret,
    };
    let (control, _) = greet(address, &hello(purpose, token))?;
    let session = Session {
        _data: data,
        _control: control,
    };
    Ok((session, took))
}

/// Opens so many sessions, then so many more one after another, each of which ends at once. Says how long they took, and holds the first until its
/// standard input ends.
pub fn hold(sessions: usize, more: usize) -> Result<()> {
    let address = std::env::var("RGPU_SERVERS").context("RGPU_SERVERS")?;
    let address = Endpoint::parse(&address)?;
    let token = match std::env::var("RGPU_TOKEN_FILE") {
        Ok(file) => std::fs::read_to_string(file)?,
        Err(_) => std::env::var("RGPU_TOKEN").context("RGPU_TOKEN")?,
    };
    let token = token.trim();
    let mut held = Vec::with_capacity(sessions);
    let mut first = Vec::with_capacity(sessions);
    for number in 0..sessions {
        let (session, took) = begin(&address, token).with_context(|| format!("number {number}"))?;
        held.push(session);
        first.push(took);
    }
    let beside: Vec<f64> = (0..more)
        .map(|_| Ok(begin(&address, token)?.1))
        .collect::<Result<_>>()?;
    let list = |values: Vec<f64>| -> Value { values.into_iter().map(number).collect() };
    println!("{}", json!({"first": list(first), "beside": list(beside)}));
    std::io::stdout().flush()?;
    let mut end = Vec::new();
    std::io::stdin().read_to_end(&mut end)?;
    Ok(())
}
