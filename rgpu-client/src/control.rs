//! The control connection, by which a client learns of its session's end while the data connection says nothing: a worker that
//! was ended, and a server whose machine is gone. A data connection that waits for an acknowledgement notices the latter only
//! when the system gives up on it, after a quarter of an hour; this one is idle, and an idle one is asked every few seconds.
//!
//! A broker that is killed leaves its sessions to the next one: where only this connection ends, the session goes on, and whoever waits attaches it again.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::control::{ControlEvent, Decoder};
use rgpu_transport::{Interest, Pipe, Progress, Ready};

use crate::process;
use crate::wire::Lost;
use again::Again;
pub use again::Way;

mod again;

/// Between the two connections' news of one event: the reason on this one, the end on the other.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub struct Control {
    /// None: it cannot be attached again.
    way: Option<Way>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// Open as long as a forked child is to close it.
    pipe: Option<Arc<Pipe>>,
    /// Nothing more comes by it.
    silent: bool,
    decoder: Decoder<ControlEvent>,
    again: Again,
    /// The session is over: CUresult, reason, and when that was heard.
    over: Option<(u32, String, Instant)>,
}

impl Control {
    /// `leftover`: bytes that came behind the greeting.
    pub fn new(pipe: Pipe, leftover: &[u8], way: Option<Way>) -> Control {
        let mut heard = Heard::default();
        heard.attached(Arc::new(pipe), leftover);
        Control {
            way,
            heard: Mutex::new(heard),
        }
    }

    /// For a session that could not attach it: only the data connection tells, unless there is a way to attach it later.
    pub fn absent(way: Option<Way>) -> Control {
        let mut heard = Heard::default();
        if way.is_some() {
            heard.again.begin(Instant::now());
        }
        Control {
            way,
            heard: Mutex::new(heard),
        }
    }

    /// For a forked child to close.
    pub fn remember(&self, number: usize) {
        process::remember_control(number, self.heard().pipe.as_deref());
    }

    pub fn is_attached(&self) -> bool {
        self.heard().speaks().is_some()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `data` is ready, or it is certain that it never will be; at most for `patience`.
    pub fn wait_for(
        &self,
        data: &Pipe,
        interest: Interest,
        patience: Option<Duration>,
    ) -> Result<Ready, Lost> {
        let look = patience.map(|patience| Instant::now() + patience);
        loop {
            let (beside, over, go_on) = self.events();
            let give_up = over.map(|since| since + LAST_WORDS);
            let deadline = [look, give_up, go_on].into_iter().flatten().min();
            let ready = data
                .wait_beside(interest, beside.as_deref(), deadline)
                .map_err(|error| Lost::Broken(error.to_string()))?;
            if ready.read || ready.write {
                // What is under way on it came before the end.
                return Ok(ready);
            }
            if ready.beside {
                self.listen()?;
                continue;
            }
            let has_come = |time: Option<Instant>| time.is_some_and(|time| Instant::now() >= time);
            if has_come(give_up) {
                return Err(Lost::Broken("the session has ended".into()));
            }
            if has_come(look) || !has_come(go_on) {
                return Ok(ready);
            }
        }
    }

    /// What to watch beside the session's data, since when it is over, and when to look again.
    fn events(&self) -> (Option<Arc<Pipe>>, Option<Instant>, Option<Instant>) {
        let mut heard = self.heard();
        if let Some(way) = &self.way
            && heard.again.goes_on()
            && heard.over.is_none()
        {
            if let Some((pipe, leftover)) = heard.again.go_on(way, Instant::now()) {
                heard.attached(pipe, &leftover);
            } else {
                let (beside, go_on) = heard.again.events();
                return (beside, None, go_on);
            }
        }
        let over = heard.over.as_ref().map(|over| over.2);
        (heard.speaks(), over, None)
    }

    /// Takes in what is there.
    fn listen(&self) -> Result<(), Lost> {
        let mut heard = self.heard();
        let mut buffer = [0; 2048];
        while let Some(pipe) = heard.speaks() {
            match pipe.try_read(&mut buffer) {
                Ok(Progress::Bytes(count)) => heard.hear(&buffer[..count]),
                Ok(Progress::WouldBlock) => return Ok(()),
                // The broker is gone; whether the worker is too, the data connection tells.
                Ok(Progress::Closed) => heard.lost(self.way.as_ref()),
                Err(error) => {
                    heard.lost(self.way.as_ref());
                    if error.kind() != ErrorKind::ConnectionReset {
                        return Err(Lost::Broken(format!("{error} (control connection)")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Why the session is over, as CUresult and in words; waits a moment for them. A broker that does not have the session's connection is asked once.
    pub fn last_words(&self) -> Option<(u32, String)> {
        let deadline = Instant::now() + LAST_WORDS;
        let mut ended = self.listen().is_err();
        self.heard().again.hurry(Instant::now());
        loop {
            let (pipe, _, go_on) = self.events();
            if let Some((result, reason, _)) = &self.heard().over {
                return Some((*result, reason.clone()));
            }
            let pipe = pipe.filter(|_| !ended)?;
            let until = go_on.map_or(deadline, |go_on| go_on.min(deadline));
            let ready = pipe.wait(Interest::Read, Some(until)).ok()?;
            if ready.timed_out() && Instant::now() >= deadline {
                return None;
            }
            ended = self.listen().is_err();
        }
    }
}

impl Heard {
    fn attached(&mut self, pipe: Arc<Pipe>, leftover: &[u8]) {
        self.pipe = Some(pipe);
        self.silent = false;
        self.decoder = Decoder::new();
        // No event tells of what came with the answer.
        self.hear(leftover);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        match self.decoder.pull() {
            Ok(Some(ControlEvent::Ended { result, reason })) => {
                self.over = Some((result, reason, Instant::now()));
                self.silent = true;
            }
            Ok(None) => {}
            Err(_) => self.silent = true,
        }
    }

    /// The connection, while something may come by it.
    fn speaks(&self) -> Option<Arc<Pipe>> {
        self.pipe.clone().filter(|_| !self.silent)
    }

    /// The connection has ended without a word.
    fn lost(&mut self, way: Option<&Way>) {
        self.silent = true;
        if let Some(way) = way {
            process::remember_control(way.number, None);
            self.pipe = None;
            self.again.begin(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
