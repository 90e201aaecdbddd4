//! A session's second connection, where a network is between: bodies of large commands and replies go by it, so that other threads' small calls do not
//! stand in line behind them. It is made when a second thread has come to CUDA and something large is to be copied.

use std::sync::{Mutex, OnceLock};

use rgpu_proto::handshake::{Hello, Purpose, SessionSecret, VERSION_4};
use rgpu_transport::{Endpoint, Pipe, greet};

use crate::greeting::CONNECT;
use crate::wire::Reader;
use crate::{log, process, thread};

/// Less than this goes by the one connection with everything else.
pub const LEAST: usize = 256 << 10;

pub struct Lane {
    pub pipe: Pipe,
    /// The last body's number; whoever holds it writes.
    pub writer: Mutex<u64>,
    pub reader: Mutex<Reader>,
}

/// Where it leads to, and whether it is there.
pub struct Connection {
    endpoint: Endpoint,
    /// Of the process's sessions.
    session: usize,
    purpose: Option<Purpose>,
    lane: OnceLock<Option<Lane>>,
}

impl Connection {
    /// `data`: the session's first connection, of this version of the protocol.
    pub fn new(
        endpoint: Endpoint,
        data: &Pipe,
        version: u16,
        session: usize,
        (served_as, secret): (u64, SessionSecret),
    ) -> Connection {
        let by_network = data.capabilities().kind.is_network();
        let purpose = (by_network && version >= VERSION_4).then_some(Purpose::Bulk {
            session: served_as,
            secret,
        });
        Connection {
            endpoint,
            session,
            purpose,
            lane: OnceLock::new(),
        }
    }

    /// The connection for a body of so many bytes, if it goes by one of its own.
    pub fn lane(&self, bytes: usize) -> Option<&Lane> {
        if bytes < LEAST {
            return None;
        }
        let purpose = self.purpose.as_ref()?;
        if !thread::are_many() {
            return None;
        }
        self.lane.get_or_init(|| self.connect(purpose)).as_ref()
    }

    /// That which there is already.
    pub fn existing(&self) -> Option<&Lane> {
        self.lane.get()?.as_ref()
    }

    fn connect(&self, purpose: &Purpose) -> Option<Lane> {
        match greet(&self.endpoint, &Hello::about(purpose.clone()), CONNECT) {
            Ok(greeted) if greeted.leftover.is_empty() => {
                let mut pipe = greeted.pipe;
                // The first connection has said what is wrong with what is asked for.
                let _ = pipe.simulate_as_asked();
                // A system that cannot do that keeps more.
                let _ = pipe.keep_little_unsent();
                process::remember_bulk(self.session, &pipe);
                Some(Lane {
                    pipe,
                    writer: Mutex::new(0),
                    reader: Mutex::new(Reader::new(Vec::new())),
                })
            }
            Ok(_) => None,
            Err(error) => {
                log::info(|| format!("{error}; large copies go by the session's one connection"));
                None
            }
        }
    }
}
