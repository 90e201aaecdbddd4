//! Where jobs are, which wait for a word to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rgpu_system::Namespace;

/// How long a job may take to say its line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cable is out when the `nth` job comes to the phase, for so long.
#[derive(Clone, Copy)]
pub struct Cut {
    pub phase: &'static str,
    pub nth: usize,
    pub time: Duration,
}

/// What was heard of a run.
#[derive(Default)]
struct Heard {
    cut: Option<Cut>,
    /// Jobs that have come to the phase.
    came: BTreeSet<String>,
    /// Jobs of each device, by its place in the list.
    devices: BTreeMap<String, BTreeSet<String>>,
    done: bool,
    failed: bool,
}

/// Hears the functions, and pulls the cable.
pub struct Phases {
    pub address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Phases {
    pub fn listen(cable: Arc<Namespace>) -> Result<Phases> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (heard, ends) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let (hearing, ending) = (heard.clone(), ends.clone());
        let accept = move || {
            for stream in listener.incoming().flatten() {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                let (heard, cable) = (hearing.clone(), cable.clone());
                // A job that is gone meanwhile is started again.
                std::thread::spawn(move || answer(stream, &heard, &cable));
            }
        };
        Ok(Phases {
            address,
            heard,
            ends,
            thread: Some(std::thread::spawn(accept)),
        })
    }

    /// From now on, this is what happens.
    pub fn expect(&self, cut: Cut) {
        *lock(&self.heard) = Heard {
            cut: Some(cut),
            ..Heard::default()
        };
    }

    /// How many jobs have used each device of the list, by its place; the cable must have been out, and be in again.
    pub fn devices(&self) -> Result<BTreeMap<String, usize>> {
        let heard = lock(&self.heard);
        ensure!(
            heard.done,
            "no job came to the phase: the link was never down"
        );
        ensure!(!heard.failed, "the cable cannot be moved");
        let devices = heard.devices.iter();
        Ok(devices
            .map(|(device, jobs)| (device.clone(), jobs.len()))
            .collect())
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, heard: &Mutex<Heard>, cable: &Namespace) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut word = || words.next().map(str::to_owned).context("a short line");
    let (phase, job, device) = (word()?, word()?, word()?);
    let cut = {
        let mut heard = lock(heard);
        let jobs = heard.devices.entry(device).or_default();
        jobs.insert(job.clone());
        let wanted = heard.cut.filter(|cut| cut.phase == phase);
        let cut = wanted.filter(|cut| heard.came.insert(job) && heard.came.len() == cut.nth);
        if cut.is_some() && !cable.cable(false) {
            heard.failed = true;
        }
        cut
    };
    let told = stream.write_all(b"go\n");
    if let Some(cut) = cut {
        std::thread::sleep(cut.time);
        let plugged = cable.cable(true);
        let mut heard = lock(heard);
        heard.done = true;
        heard.failed |= !plugged;
    }
    Ok(told?)
}
