//! A client, byte by byte.

use std::io::IoSlice;
use std::time::Instant;

use rgpu_proto::control::{ControlEvent, Decoder};
use rgpu_proto::handshake::{
    Answer, ClientHandshake, ClientInfo, Hello, Purpose, Refused, SessionSecret, Token,
    VgpuRequest, Welcome,
};
use rgpu_transport::{Endpoint, Interest, Pipe, Progress};

use crate::daemon::{PATIENCE, TOKEN};
use crate::worker::ECHO;

pub fn hello() -> Hello {
    Hello {
        purpose: Purpose::Data,
        token: Token::new(TOKEN),
        client: ClientInfo {
            pid: 1,
            program: "test".into(),
            host: "here".into(),
        },
        vgpu: VgpuRequest::default(),
        windows: Vec::new(),
        environment: Vec::new(),
        rings: false,
        reuse: Default::default(),
        group: String::new(),
    }
}

/// A connection that was let in.
pub struct Client {
    pub pipe: Pipe,
    pending: Vec<u8>,
}

pub struct Session {
    pub data: Client,
    pub welcome: Welcome,
    pub control: Option<Client>,
}

/// Connects and greets; `behind` follows the greeting in the same write.
pub fn greet(
    endpoint: &Endpoint,
    hello: &Hello,
    behind: &[u8],
) -> Result<(Client, Answer), Refused> {
    let pipe = Pipe::connect(endpoint, PATIENCE).unwrap();
    let mut handshake = ClientHandshake::new(hello).unwrap();
    let mut client = Client::new(pipe);
    client.write(&[handshake.output(), behind].concat());
    loop {
        let bytes = client.some();
        assert!(!bytes.is_empty(), "closed without an answer");
        match handshake.push(&bytes).unwrap() {
            Some((_, Answer::Refused(refused))) => return Err(refused),
            Some((_, answer)) => {
                client.pending = handshake.into_leftover();
                return Ok((client, answer));
            }
            None => {}
        }
    }
}

pub fn attach(endpoint: &Endpoint, session: u64, secret: SessionSecret) -> Result<Client, Refused> {
    let hello = Hello {
        purpose: Purpose::Control { session, secret },
        token: Token::default(),
        ..hello()
    };
    let (client, answer) = greet(endpoint, &hello, b"")?;
    assert_eq!(answer, Answer::Attached);
    Ok(client)
}

pub fn begin(endpoint: &Endpoint, hello: &Hello) -> Result<Session, Refused> {
    let (data, answer) = greet(endpoint, hello, b"")?;
    let Answer::Welcome(welcome) = answer else {
        panic!("{answer:?}")
    };
    let control = attach(endpoint, welcome.session, welcome.secret)?;
    Ok(Session {
        data,
        welcome: *welcome,
        control: Some(control),
    })
}

impl Client {
    pub fn new(pipe: Pipe) -> Client {
        Client {
            pipe,
            pending: Vec::new(),
        }
    }

    pub fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self
                .pipe
                .try_write_vectored(&[IoSlice::new(bytes)])
                .unwrap()
            {
                Progress::Bytes(count) => bytes = &bytes[count..],
                _ => self.wait(Interest::Write),
            }
        }
    }

    fn wait(&self, interest: Interest) {
        let ready = self
            .pipe
            .wait(interest, Some(Instant::now() + PATIENCE))
            .unwrap();
        assert!(!ready.timed_out(), "nothing within {PATIENCE:?}");
    }

    /// Some bytes; none at the end, of whatever kind.
    pub fn some(&mut self) -> Vec<u8> {
        if !self.pending.is_empty() {
            return std::mem::take(&mut self.pending);
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.pipe.try_read(&mut buffer) {
                Ok(Progress::Bytes(count)) => return buffer[..count].to_vec(),
                Ok(Progress::WouldBlock) => self.wait(Interest::Read),
                Ok(Progress::Closed) | Err(_) => return Vec::new(),
            }
        }
    }

    pub fn until_nul(&mut self) -> String {
        let mut bytes = Vec::new();
        while bytes.last() != Some(&0) {
            let more = self.some();
            assert!(!more.is_empty(), "closed");
            bytes.extend(more);
        }
        bytes.pop();
        String::from_utf8(bytes).unwrap()
    }

    /// The worker still answers.
    pub fn echoes(&mut self) {
        self.write(&[ECHO]);
        assert_eq!(self.some(), [ECHO]);
    }

    pub fn is_closed(&mut self) {
        assert!(self.some().is_empty());
    }

    /// The event of a control connection, which is its last.
    pub fn ended(&mut self) -> (u32, String) {
        let mut decoder = Decoder::<ControlEvent>::new();
        loop {
            if let Some(ControlEvent::Ended { result, reason }) = decoder.pull().unwrap() {
                self.is_closed();
                return (result, reason);
            }
            let bytes = self.some();
            assert!(!bytes.is_empty(), "closed without an event");
            decoder.push(&bytes);
        }
    }
}

impl Session {
    pub fn ended(&mut self) -> (u32, String) {
        self.control.as_mut().unwrap().ended()
    }

    /// The worker's process id.
    pub fn worker(&self) -> u32 {
        self.welcome.server.parse().unwrap()
    }
}

/// True while a process exists, a zombie included.
pub fn lives(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
