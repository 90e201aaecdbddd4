//! The session's second connection: bodies of large commands come by it ahead of the commands, and bodies of large replies go by it, so that what
//! is small does not stand in line behind them. A thread reads it and another writes it; both are bounded.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rgpu_proto::frame::{BulkHeader, Header, MAX_BODY};
use rgpu_transport::{Interest, Pipe, Progress};
use zerocopy::{FromBytes, IntoBytes};

use crate::threads::spawn;

/// Bytes of bodies that may wait for their commands: another thread's small command waits for the copies ahead of it. Beyond them the client is
/// kept waiting.
const HELD: usize = 4 << 20;
/// Bytes of replies that may wait to be sent.
const OWED: usize = 32 << 20;
/// Where a command waits for its body, others are read for it; a client that sends so much and not that has broken the protocol.
const MOST: usize = 128 << 20;
/// Room is made for a body as it arrives.
const STEP: usize = 1 << 20;

#[derive(Default)]
struct State {
    attached: bool,
    /// Why nothing more comes or goes.
    ended: Option<String>,
    bodies: HashMap<u64, Vec<u8>>,
    held: usize,
    /// The body that a command waits for.
    wanted: Option<u64>,
    replies: VecDeque<(Header, Vec<u8>)>,
    owed: usize,
}

#[derive(Default)]
pub struct Lane {
    state: Mutex<State>,
    /// For whoever waits for anything of the state.
    changed: Condvar,
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the client's connection. There is one in a session: a later one is closed.
    pub fn attach(self: &Arc<Lane>, pipe: Pipe) -> io::Result<()> {
        {
            let mut state = self.state();
            if state.attached || state.ended.is_some() {
                return Ok(());
            }
            state.attached = true;
        }
        let pipe = Arc::new(pipe);
        let (lane, from) = (self.clone(), pipe.clone());
        spawn("bulk-in", move || {
            let why = match lane.receive(&from) {
                Ok(()) => "the client closed it".to_owned(),
                Err(error) => error.to_string(),
            };
            lane.end(why);
        })?;
        let lane = self.clone();
        spawn("bulk-out", move || {
            if let Err(error) = lane.send(&pipe) {
                lane.end(error.to_string());
            }
            // So that the client does not wait for what does not come.
            let _ = pipe.shutdown();
        })?;
        Ok(())
    }

    fn end(&self, why: String) {
        self.state().ended.get_or_insert(why);
        self.changed.notify_all();
    }

    /// The session is over: nobody waits any more.
    pub fn close(&self) {
        self.end("the session is over".into());
    }

    /// The body of this number, once it is here. The error says why it never will be.
    pub fn take(&self, number: u64) -> Result<Vec<u8>, String> {
        let mut state = self.state();
        loop {
            if let Some(body) = state.bodies.remove(&number) {
                state.held -= body.len();
                self.changed.notify_all();
                return Ok(body);
            }
            if let Some(why) = &state.ended {
                return Err(format!(
                    "the body of a command has not come by the bulk connection: {why}"
                ));
            }
            if state.wanted.replace(number) != Some(number) {
                self.changed.notify_all();
            }
            state = self.wait(state);
        }
    }

    /// Sends a reply, by and by; waits while many are to be sent. The client may have asked for it before its connection has come here.
    pub fn reply(&self, header: Header, body: Vec<u8>) -> Result<(), String> {
        let mut state = self.state();
        while state.ended.is_none() && state.owed > 0 && state.owed + body.len() > OWED {
            state = self.wait(state);
        }
        match &state.ended {
            Some(why) => Err(format!("the bulk connection is gone: {why}")),
            None => {
                state.owed += body.len();
                state.replies.push_back((header, body));
                self.changed.notify_all();
                Ok(())
            }
        }
    }

    fn receive(&self, pipe: &Pipe) -> io::Result<()> {
        loop {
            let mut header = [0; size_of::<BulkHeader>()];
            if !pipe.read_all(&mut header)? {
                return Ok(());
            }
            let BulkHeader { number, len } = BulkHeader::read_from_bytes(&header)
                .map_err(|error| io::Error::other(error.to_string()))?;
            if len.get() > MAX_BODY {
                let why = format!("a body of {len} bytes; the limit is {MAX_BODY}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            let len = len.get() as usize;
            {
                let mut state = self.state();
                while state.ended.is_none()
                    && state.wanted.is_none()
                    && state.held > 0
                    && state.held + len > HELD
                {
                    state = self.wait(state);
                }
                if state.ended.is_some() {
                    return Ok(());
                }
                if state.held + len > MOST {
                    return Err(io::Error::other("bodies of which no command speaks"));
                }
            }
            let mut body = Vec::new();
            while body.len() < len {
                let at = body.len();
                body.resize(len.min(at + STEP), 0);
                if !pipe.read_all(&mut body[at..])? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let mut state = self.state();
            if state.bodies.contains_key(&number.get()) {
                return Err(io::Error::other("a second body of one number"));
            }
            state.held += len;
            state.bodies.insert(number.get(), body);
            // From here on no more is read than may be held, however long the command takes to come for it.
            state.wanted = state.wanted.filter(|wanted| *wanted != number.get());
            self.changed.notify_all();
        }
    }

    fn send(&self, pipe: &Pipe) -> io::Result<()> {
        loop {
            let (header, body) = {
                let mut state = self.state();
                loop {
                    if let Some(reply) = state.replies.pop_front() {
                        break reply;
                    }
                    if state.ended.is_some() {
                        return Ok(());
                    }
                    state = self.wait(state);
                }
            };
            let whole = header.as_bytes().len() + body.len();
            let mut sent = 0;
            while sent < whole {
                let head = &header.as_bytes()[sent.min(header.as_bytes().len())..];
                let tail = &body[sent.saturating_sub(header.as_bytes().len())..];
                match pipe.try_write_vectored(&[IoSlice::new(head), IoSlice::new(tail)])? {
                    Progress::Bytes(count) => sent += count,
                    _ => drop(pipe.wait(Interest::Write, None)?),
                }
            }
            self.state().owed -= body.len();
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn lane() -> (Arc<Lane>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lane = Arc::<Lane>::default();
        lane.attach(Pipe::from_fd(theirs.into()).unwrap()).unwrap();
        (lane, ours)
    }

    fn body(number: u64, len: u32) -> Vec<u8> {
        let header = BulkHeader {
            number: number.into(),
            len: len.into(),
        };
        let bytes = vec![number as u8; len as usize];
        [header.as_bytes(), &bytes[..]].concat()
    }

    #[test]
    fn bodies_are_had_by_their_numbers_in_any_order() {
        let (lane, mut client) = lane();
        client
            .write_all(&[body(1, 3), body(2, 0), body(7, 5)].concat())
            .unwrap();
        assert_eq!(lane.take(7).unwrap(), [7; 5]);
        assert_eq!(lane.take(1).unwrap(), [1; 3]);
        assert_eq!(lane.take(2).unwrap(), []);
        assert_eq!(lane.state().held, 0);
        drop(client);
        let error = lane.take(3).unwrap_err();
        assert!(error.contains("the client closed it"), "{error}");
    }

    /// What a command waits for is behind more than is held otherwise.
    #[test]
    fn a_wanted_body_is_read_though_many_are_held() {
        let (lane, mut client) = lane();
        let part = 8 << 20;
        let writer = std::thread::spawn(move || {
            for number in 1..=6 {
                client.write_all(&body(number, part)).unwrap();
            }
            client
        });
        assert_eq!(lane.take(6).unwrap().len(), part as usize);
        assert!(lane.state().held <= 5 * part as usize);
        let mut client = writer.join().unwrap();
        // Nothing that is held is asked for: no more is read than may be held.
        client.set_nonblocking(true).unwrap();
        for number in 7.. {
            if client.write_all(&body(number, part)).is_err() {
                break;
            }
            assert!(number < 20, "all of it is taken");
        }
        assert!(lane.state().held <= 5 * part as usize);
    }

    #[test]
    fn a_client_that_never_sends_what_it_has_announced_is_ended() {
        let (lane, mut client) = lane();
        let writer = std::thread::spawn(move || {
            for number in 1.. {
                if client.write_all(&body(number, 8 << 20)).is_err() {
                    return;
                }
            }
        });
        let error = lane.take(u64::MAX).unwrap_err();
        assert!(error.contains("no command speaks"), "{error}");
        writer.join().unwrap();
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_connection() {
        let too_long = BulkHeader {
            number: 1.into(),
            len: (MAX_BODY + 1).into(),
        };
        let cases = [
            (too_long.as_bytes().to_vec(), "the limit"),
            ([body(1, 1), body(1, 1)].concat(), "a second body"),
            (body(5, 9)[..14].to_vec(), "the body"),
        ];
        for (bytes, expected) in cases {
            let (lane, mut client) = lane();
            client.write_all(&bytes).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let error = lane.take(9).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn replies_go_out_in_order_and_a_client_that_does_not_read_is_waited_for() {
        let (lane, mut client) = lane();
        let sender = lane.clone();
        let part = 8 << 20;
        let replies = std::thread::spawn(move || {
            for seq in 1..=9 {
                let header = Header::reply(1, 1, seq, 0, 0, part);
                sender.reply(header, vec![seq as u8; part]).unwrap();
            }
        });
        let mut header = [0; size_of::<Header>()];
        for seq in 1..=9 {
            client.read_exact(&mut header).unwrap();
            assert!(lane.state().owed <= OWED);
            let parsed = Header::parse(&header).unwrap();
            assert_eq!((parsed.seq.get(), parsed.len.get()), (seq, part as u32));
            let mut bytes = vec![0; part];
            client.read_exact(&mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == seq as u8));
        }
        replies.join().unwrap();
        drop(client);
        // Its end is seen by the thread that reads.
        assert!(lane.take(1).is_err());
        let header = Header::reply(1, 1, 10, 0, 0, 0);
        assert!(lane.reply(header, Vec::new()).is_err());
    }

    #[test]
    fn a_reply_may_be_owed_before_the_connection_comes() {
        let lane = Arc::<Lane>::default();
        lane.reply(Header::reply(1, 1, 5, 0, 0, 0), Vec::new())
            .unwrap();
        let (mut client, theirs) = UnixStream::pair().unwrap();
        lane.attach(Pipe::from_fd(theirs.into()).unwrap()).unwrap();
        let mut header = [0; size_of::<Header>()];
        client.read_exact(&mut header).unwrap();
        assert_eq!(Header::parse(&header).unwrap().seq.get(), 5);
    }

    #[test]
    fn without_a_connection_nothing_waits_after_the_end() {
        let lane = Arc::<Lane>::default();
        let waiting = lane.clone();
        let taken = std::thread::spawn(move || waiting.take(1));
        lane.close();
        assert!(taken.join().unwrap().is_err());
        let header = Header::reply(1, 1, 1, 0, 0, 0);
        assert!(lane.reply(header, Vec::new()).is_err());
    }
}
