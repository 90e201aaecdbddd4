//! The control connection, by which a client learns of its session's end while the data connection says nothing: a worker that
//! was ended, and a server whose machine is gone. A data connection that waits for an acknowledgement notices the latter only
//! when the system gives up on it, after a quarter of an hour; this one is idle, and an idle one is asked every few seconds.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::control::{ControlEvent, Decoder};
use rgpu_transport::{Interest, Pipe, Progress, Ready};

use crate::wire::Lost;

/// Between the two connections' news of one event: the reason on this one, the end on the other.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub struct Control {
    pipe: Option<Pipe>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    decoder: Decoder<ControlEvent>,
    /// Nothing more comes.
    silent: bool,
    /// The session is over: CUresult, reason, and when that was heard.
    over: Option<(u32, String, Instant)>,
}

impl Control {
    /// `leftover`: bytes that came behind the greeting.
    pub fn new(pipe: Pipe, leftover: &[u8]) -> Control {
        let mut heard = Heard::default();
        heard.decoder.push(leftover);
        Control {
            pipe: Some(pipe),
            heard: Mutex::new(heard),
        }
    }

    /// For a session that could not attach it: only the data connection tells.
    pub fn absent() -> Control {
        Control {
            pipe: None,
            heard: Mutex::default(),
        }
    }

    pub fn pipe(&self) -> Option<&Pipe> {
        self.pipe.as_ref()
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
            let (silent, over) = {
                let heard = self.heard();
                (heard.silent, heard.over.as_ref().map(|over| over.2))
            };
            let beside = self.pipe.as_ref().filter(|_| !silent);
            let give_up = over.map(|since| since + LAST_WORDS);
            let deadline = [look, give_up].into_iter().flatten().min();
            let ready = data
                .wait_beside(interest, beside, deadline)
                .map_err(|error| Lost::Broken(error.to_string()))?;
            if ready.read || ready.write {
                // What is under way on it came before the end.
                return Ok(ready);
            }
            if ready.beside {
                self.listen()?;
            } else if give_up.is_none_or(|give_up| Instant::now() < give_up) {
                return Ok(ready);
            } else {
                return Err(Lost::Broken("the session has ended".into()));
            }
        }
    }

    /// Takes in what is there.
    fn listen(&self) -> Result<(), Lost> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let mut heard = self.heard();
        let mut buffer = [0; 2048];
        while !heard.silent {
            match heard.decoder.pull() {
                Ok(Some(ControlEvent::Ended { result, reason })) => {
                    heard.over = Some((result, reason, Instant::now()));
                    heard.silent = true;
                    break;
                }
                Ok(None) => {}
                Err(_) => {
                    heard.silent = true;
                    break;
                }
            }
            match pipe.try_read(&mut buffer) {
                Ok(Progress::Bytes(count)) => heard.decoder.push(&buffer[..count]),
                Ok(Progress::WouldBlock) => return Ok(()),
                // The broker is gone; whether the worker is too, the data connection tells.
                Ok(Progress::Closed) => heard.silent = true,
                Err(error) => {
                    heard.silent = true;
                    if error.kind() != ErrorKind::ConnectionReset {
                        return Err(Lost::Broken(format!("{error} (control connection)")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Why the session is over, as CUresult and in words; waits a moment for them.
    pub fn last_words(&self) -> Option<(u32, String)> {
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            let ended = self.listen().is_err();
            {
                let heard = self.heard();
                if let Some((result, reason, _)) = &heard.over {
                    return Some((*result, reason.clone()));
                }
                if ended || heard.silent {
                    return None;
                }
            }
            let pipe = self.pipe.as_ref()?;
            if pipe.wait(Interest::Read, Some(deadline)).ok()?.timed_out() {
                return None;
            }
        }
    }
}
