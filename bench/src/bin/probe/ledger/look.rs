//! Looks from both sides: at the device through its own driver, and at the server as one who watches.

use std::io::BufRead;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rgpu_proto::control::{self, Decoder};
use rgpu_proto::handshake::{Answer, Hello, Purpose, Token};
use rgpu_proto::monitor::{Question, Sample};
use rgpu_transport::{Endpoint, Interest, Pipe, Progress, greet};

use super::driver::Driver;
use crate::driver::call;

const PATIENCE: Duration = Duration::from_secs(20);
/// What has been given back may still be on its way: so long is waited until both agree.
const SETTLED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(10);

struct Watch {
    pipe: Pipe,
}

impl Watch {
    fn connect(endpoint: &Endpoint, token: &str) -> Result<Watch> {
        let hello = Hello {
            token: Token::new(token),
            ..Hello::about(Purpose::Monitor)
        };
        let greeted = greet(endpoint, &hello, PATIENCE)?;
        let Answer::Welcome(_) = greeted.answer else {
            bail!("no welcome")
        };
        Ok(Watch { pipe: greeted.pipe })
    }

    /// Bytes that the sessions of the tenant hold, as the server counts them; and how many sessions there are.
    fn counted(&self) -> Result<(u64, usize)> {
        let deadline = Instant::now() + PATIENCE;
        let question = control::encode(&Question::Sample)?;
        self.pipe.write_all(&question, deadline)?;
        let mut decoder = Decoder::<Sample>::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some(sample) = decoder.pull()? {
                let sessions = sample.sessions.iter();
                let bytes = sessions.flat_map(|it| &it.memory).sum();
                return Ok((bytes, sample.sessions.len()));
            }
            match self.pipe.try_read(&mut buffer)? {
                Progress::Bytes(count) => decoder.push(&buffer[..count]),
                Progress::WouldBlock => {
                    self.pipe.wait(Interest::Read, Some(deadline))?;
                }
                Progress::Closed => bail!("the server has closed"),
            }
        }
    }
}

/// For each line of the input one of the output: how many bytes are counted, held, and between them, and of how many sessions. `tokens`: of each tenant.
pub fn look(server: &str, tokens: &[&str]) -> Result<()> {
    let endpoint = Endpoint::parse(server)?;
    let watches: Result<Vec<Watch>> = tokens
        .iter()
        .map(|token| Watch::connect(&endpoint, token))
        .collect();
    let watches = watches?;
    let driver = Driver::load()?;
    call!(driver.cuInit(0))?;
    let mut context = null_mut();
    call!(driver.cuCtxCreate_v2(&mut context, 0, 0))?;
    let once = || -> Result<(u64, u64, usize)> {
        let (mut counted, mut sessions) = (0, 0);
        for watch in &watches {
            let (bytes, count) = watch.counted()?;
            (counted, sessions) = (counted + bytes, sessions + count);
        }
        let (mut free, mut total) = (0, 0);
        call!(driver.cuMemGetInfo_v2(&mut free, &mut total))?;
        Ok((counted, (total - free) as u64, sessions))
    };
    for line in std::io::stdin().lock().lines() {
        // What must be there for the answer to count.
        let wanted: usize = line?.trim().parse().context("how many sessions?")?;
        let until = Instant::now() + SETTLED;
        let (counted, held, sessions) = loop {
            let (counted, held, sessions) = once()?;
            let settled = counted == held && sessions == wanted;
            if settled || Instant::now() > until {
                break (counted, held, sessions);
            }
            std::thread::sleep(AGAIN);
        };
        let error = counted.abs_diff(held);
        println!(
            "{}",
            serde_json::json!({"counted": counted, "held": held, "error": error, "sessions": sessions})
        );
    }
    Ok(())
}
