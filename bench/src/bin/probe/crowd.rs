//! Many sessions of one process that are let in and do nothing, and how long each of some more takes to be let in beside them. They greet as
//! the library does, rings included, and are no more than that: a thousand of the library would measure the library.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rgpu_proto::handshake::{
    AddressWindow, Answer, ClientInfo, Hello, Purpose, Token, VgpuRequest,
};
use rgpu_transport::{Endpoint, Pipe, greet};
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

/// A session, and the milliseconds from its connection to its welcome.
fn begin(address: &Endpoint, token: &str) -> Result<(Session, f64)> {
    let began = Instant::now();
    let data = greet(address, &hello(Purpose::Data, token), PATIENCE)?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let Answer::Welcome(welcome) = data.answer else {
        bail!("no welcome: {:?}", data.answer);
    };
    let purpose = Purpose::Control {
        session: welcome.session,
        secret: welcome.secret,
    };
    let control = greet(address, &hello(purpose, token), PATIENCE)?;
    let session = Session {
        _data: data.pipe,
        _control: control.pipe,
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
