//! Which commands go compressed. On a far link small bodies do, since each packet less is one less that can be lost, and on a slow one large bodies, if that
//! is faster: both are measured. What does not get smaller is tried less and less.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::compressed::{self, Attempts, LEAST};
use rgpu_proto::handshake::VERSION_5;
use rgpu_transport::Pipe;

use crate::stats::Stats;
use crate::trace;

/// Whether to do it (RGPU_COMPRESS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Where it is measured to help.
    Auto,
    /// Whatever gets smaller by it, over a network.
    On,
    Off,
}

/// Round trips of a far link are not shorter; to compress takes some tens of microseconds.
const FAR: Duration = Duration::from_millis(2);
/// So many waits are looked at before a link is called far: the first ones may have been for something else.
const LOOKS: u32 = 3;
/// From here on it is the line's rate that counts.
const LARGE: usize = 256 << 10;
/// A line that takes its bytes faster is not slower than compressing them; nanoseconds a byte.
const SLOW: f64 = 4.0;
/// Of so many large bodies one goes the slower way, to see whether it still is.
const AGAIN: u32 = 32;

/// What has been seen of the link and the bodies, and what follows from it.
#[derive(Debug, Default)]
struct Policy {
    always: bool,
    /// Whether large bodies may go compressed.
    is_rated: bool,
    waits: u32,
    is_near: bool,
    attempts: Attempts,
    /// Nanoseconds a byte that large bodies take, as they are and compressed.
    plain: Option<f64>,
    packed: Option<f64>,
    choices: u32,
}

impl Policy {
    /// A reply has come after this time.
    fn waited(&mut self, took: Duration) {
        self.waits = self.waits.saturating_add(1);
        self.is_near |= took < FAR;
    }

    /// Whether to try it with a body of so many bytes.
    fn tries(&mut self, bytes: usize) -> bool {
        let pays = match bytes {
            _ if self.always => true,
            LARGE.. => self.is_rated && self.is_faster_packed(),
            _ => self.is_far(),
        };
        pays && self.attempts.is_due()
    }

    fn is_far(&self) -> bool {
        self.waits >= LOOKS && !self.is_near
    }

    /// Whether the server is to try it with a reply of so many bytes. How fast those of a large one come does not show here.
    fn asks(&self, bytes: usize) -> bool {
        self.always || bytes < LARGE && self.is_far()
    }

    /// A large body has been compressed, if so, and handed to the system.
    fn wrote(&mut self, bytes: usize, took: Duration, packed: bool) {
        let pace = took.as_nanos() as f64 / bytes as f64;
        let known = match packed {
            true => &mut self.packed,
            false => &mut self.plain,
        };
        *known = Some(known.map_or(pace, |known| known + (pace - known) / 4.0));
    }

    fn is_faster_packed(&mut self) -> bool {
        let Some(plain) = self.plain.filter(|plain| *plain >= SLOW) else {
            return false;
        };
        let is_faster = self.packed.is_none_or(|packed| packed < plain);
        self.choices = (self.choices + 1) % AGAIN;
        is_faster != (self.choices == 0)
    }
}

/// A command's body as it goes.
pub struct Packed {
    pub body: Vec<u8>,
    took: Duration,
}

/// Of one session's commands.
pub struct Compression {
    policy: Option<Mutex<Policy>>,
    /// Whether it is still open how far the link is.
    measures: AtomicBool,
    is_rated: bool,
    stats: Arc<Stats>,
}

impl Compression {
    /// `data`: the session's first connection, of this version of the protocol. `is_elsewhere`: the server is on another machine, for all that is known.
    pub fn new(
        setting: Setting,
        data: &Pipe,
        version: u16,
        is_elsewhere: bool,
        stats: Arc<Stats>,
    ) -> Compression {
        let by_network = data.capabilities().kind.is_network();
        let may = by_network && version >= VERSION_5 && setting != Setting::Off;
        let is_rated = may && (is_elsewhere || data.is_simulated());
        let policy = Policy {
            always: setting == Setting::On,
            is_rated,
            ..Policy::default()
        };
        Compression {
            policy: may.then(|| Mutex::new(policy)),
            measures: AtomicBool::new(may && setting == Setting::Auto),
            is_rated,
            stats,
        }
    }

    fn policy(&self) -> Option<MutexGuard<'_, Policy>> {
        let policy = self.policy.as_ref()?;
        Some(policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The body that these parts are, if it is to go compressed.
    pub fn pack(&self, args: &[u8], segments: &[&[u8]]) -> Option<Packed> {
        let bytes = args.len() + segments.iter().map(|part| part.len()).sum::<usize>();
        if bytes < LEAST || !self.policy()?.tries(bytes) {
            return None;
        }
        let began = Instant::now();
        let body = compressed::compress(args, segments);
        let took = began.elapsed();
        self.policy()?.attempts.note(body.is_some());
        let body = body?;
        self.stats.compressed(bytes, body.len());
        trace::compressed(bytes, body.len());
        Some(Packed { body, took })
    }

    /// Whether the server may compress a reply of so many bytes.
    pub fn asks(&self, bytes: usize) -> bool {
        bytes >= LEAST && self.policy().is_some_and(|policy| policy.asks(bytes))
    }

    /// A reply's body has come compressed.
    pub fn unpacked(&self, from: usize, to: usize) {
        self.stats.unpacked(from, to);
    }

    /// Whether, and since when, a wait is measured.
    pub fn began(&self) -> Option<Instant> {
        let measures = self.measures.load(Ordering::Relaxed);
        measures.then(Instant::now)
    }

    pub fn waited(&self, began: Option<Instant>) {
        if let (Some(began), Some(mut policy)) = (began, self.policy()) {
            policy.waited(began.elapsed());
            if policy.is_near {
                self.measures.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Writes a body of so many bytes, or what stands for it.
    pub fn write<T, E>(
        &self,
        bytes: usize,
        packed: Option<&Packed>,
        write: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if bytes < LARGE || !self.is_rated {
            return write();
        }
        let began = Instant::now();
        let written = write()?;
        if let Some(mut policy) = self.policy() {
            let packing = packed.map_or(Duration::ZERO, |packed| packed.took);
            policy.wrote(bytes, packing + began.elapsed(), packed.is_some());
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 19_200;
    const MIB: usize = 1 << 20;

    fn after_waits(millis: &[u64]) -> Policy {
        let mut policy = Policy::default();
        for millis in millis {
            policy.waited(Duration::from_millis(*millis));
        }
        policy
    }

    #[test]
    fn a_link_is_far_when_no_wait_was_short() {
        assert!(!after_waits(&[]).tries(FRAME));
        assert!(!after_waits(&[20, 20]).tries(FRAME), "too few to tell");
        assert!(after_waits(&[300, 20, 21]).tries(FRAME));
        assert!(!after_waits(&[20, 20, 20, 1]).tries(FRAME));
        assert!(!after_waits(&[1, 20, 20, 20]).tries(FRAME));
    }

    /// Sends so many bodies over a line; which of them went compressed.
    fn send(policy: &mut Policy, bodies: usize, plain: u64, packed: u64) -> usize {
        let mut count = 0;
        for _ in 0..bodies {
            let packs = policy.tries(MIB);
            if packs {
                policy.attempts.note(true);
                count += 1;
            }
            let millis = if packs { packed } else { plain };
            policy.wrote(MIB, Duration::from_millis(millis), packs);
        }
        count
    }

    #[test]
    fn large_bodies_go_the_faster_way_of_a_slow_line() {
        let rated = || Policy {
            is_rated: true,
            ..after_waits(&[20; 3])
        };
        assert_eq!(send(&mut rated(), 1000, 1, 1), 0, "1 ns a byte is fast");
        let slow = send(&mut rated(), 1000, 9, 5);
        assert!((950..1000).contains(&slow), "{slow}");
        let packing_slower = send(&mut rated(), 1000, 9, 12);
        assert!((1..50).contains(&packing_slower), "{packing_slower}");
        // The line gets fast: what is looked at now and then shows it.
        let mut policy = rated();
        send(&mut policy, 100, 9, 5);
        send(&mut policy, 400, 1, 4);
        assert_eq!(send(&mut policy, 100, 1, 4), 0);
        // And no rate is asked for where the server is on this machine.
        assert_eq!(send(&mut after_waits(&[20; 3]), 100, 9, 5), 0);
    }

    #[test]
    fn on_is_whatever_gets_smaller() {
        let mut policy = Policy {
            always: true,
            ..Policy::default()
        };
        assert!(policy.tries(FRAME) && policy.tries(MIB));
    }
}
