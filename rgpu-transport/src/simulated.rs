//! A far or slow link in place of a near one, to measure by: what is written carries its time, and the reader gets it when it would have come.
//! Between processes of one machine, whose clock they share. Delay, line rate, and losses as TCP mends them; not its congestion control.
//!
//! The kernel of a test machine may have no netem, and a relay between two sockets adds half of a short delay by itself.

use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::pipe::Progress;

/// The variable that both ends read.
const VARIABLE: &str = "RGPU_SIMULATE";
/// Bytes of one packet, each of which may be lost.
const PACKET: usize = 1448;
/// Most bytes behind one time.
const MOST: usize = 64 << 10;
const HEAD: usize = 12;
/// Longest delay.
const LONGEST: u64 = 10_000_000;

/// What the link is like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Bits a second; `None`: as fast as the real one.
    pub rate: Option<f64>,
    /// Share of the packets that are lost, and come when they have been sent again.
    pub loss: f64,
    /// Of the losses.
    pub seed: u64,
}

impl Link {
    /// `delay_us=100,rate_mbit=1000,loss=0.01,seed=1`; what is left out is none. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Link, String> {
        let mut link = Link {
            delay: Duration::ZERO,
            rate: None,
            loss: 0.0,
            seed: 1,
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let bad =
                || format!("{VARIABLE}: {part} is none of delay_us=…, rate_mbit=…, loss=…, seed=…");
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            let number = value.parse::<f64>().ok().filter(|number| *number >= 0.0);
            let number = number.ok_or_else(bad)?;
            match name {
                "delay_us" if number <= LONGEST as f64 => {
                    link.delay = Duration::from_nanos((number * 1e3) as u64);
                }
                "rate_mbit" if number > 0.0 && number.is_finite() => link.rate = Some(number * 1e6),
                "loss" if number < 1.0 => link.loss = number,
                "seed" => link.seed = value.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        Ok(link)
    }

    /// What the environment asks for. Both ends must be given the same.
    pub fn from_environment() -> Result<Option<Link>, String> {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        match text.is_empty() {
            true => Ok(None),
            false => Link::parse(&text).map(Some),
        }
    }
}

/// When what was sent comes.
#[derive(Debug)]
struct Line {
    link: Link,
    random: u64,
    /// When the line has carried what is before, and when that has been handed on; nanoseconds.
    free: u64,
    last: u64,
}

/// When a part comes: at the latest, and where its last packet is lost, if another comes behind it soon enough to show that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    latest: u64,
    followed: u64,
}

impl Line {
    fn due(&mut self, sent: u64, bytes: usize) -> Due {
        let carrying = self.link.rate.map_or(0.0, |rate| bytes as f64 * 8e9 / rate);
        self.free = self.free.max(sent).saturating_add(carrying as u64);
        let delay = self.link.delay.as_nanos() as u64;
        // The sender learns of a loss after a round trip, by what came behind; of one with nothing behind it after two, when it asks.
        let (mut late, mut tail) = (0, 0);
        if self.link.loss > 0.0 {
            let packets = bytes.div_ceil(PACKET);
            for packet in 1..=packets {
                if self.random() < self.link.loss {
                    (late, tail) = (2, if packet == packets { 2 } else { 0 });
                }
            }
        }
        let at = |late: u64| self.last.max(self.free.saturating_add(delay * (1 + late)));
        Due {
            latest: at(late + tail),
            followed: at(late),
        }
    }

    /// What was sent at this time comes behind what was sent at that, soon enough for the sender to hear of a loss by it.
    fn follows(&self, sent: u64, behind: u64) -> bool {
        sent.saturating_sub(behind) < 2 * self.link.delay.as_nanos() as u64
    }

    /// From 0 to 1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The part that is being written.
#[derive(Debug, Default)]
struct Out {
    head: [u8; HEAD],
    head_left: usize,
    left: usize,
}

/// The part that is being read.
#[derive(Debug)]
struct In {
    head: [u8; HEAD],
    have: usize,
    left: usize,
    sent: u64,
    due: Due,
    /// Nothing is behind it that shows its loss.
    is_tail: bool,
    line: Line,
}

impl In {
    /// `None`: a part has begun; else what kept it from that.
    fn begin(
        &mut self,
        read: &mut impl FnMut(&mut [u8]) -> io::Result<Progress>,
    ) -> io::Result<Option<Progress>> {
        while self.left == 0 {
            match read(&mut self.head[self.have..])? {
                Progress::Bytes(count) => self.have += count,
                Progress::Closed if self.have > 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                other => return Ok(Some(other)),
            }
            if self.have < HEAD {
                continue;
            }
            self.have = 0;
            let [len @ .., _, _, _, _, _, _, _, _] = self.head;
            let [_, _, _, _, sent @ ..] = self.head;
            let len = u32::from_le_bytes(len) as usize;
            if !(1..=MOST).contains(&len) {
                let why = format!("the peer simulates no link: it must have the same {VARIABLE}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            self.left = len;
            self.sent = u64::from_le_bytes(sent);
            self.due = self.line.due(self.sent, len);
            self.is_tail = false;
        }
        Ok(None)
    }

    /// Whether the part's time has come. `peek` shows what the socket has.
    fn is_due(&mut self, now: u64, peek: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Due { latest, followed } = self.due;
        if now >= latest {
            return true;
        }
        if now < followed {
            return false;
        }
        let mut there = vec![0; self.left + HEAD];
        let count = peek(&mut there);
        let next = there[..count].get(self.left + 4..self.left + HEAD);
        let next = next.and_then(|sent| sent.first_chunk());
        let is_followed =
            next.is_some_and(|sent| self.line.follows(u64::from_le_bytes(*sent), self.sent));
        if is_followed {
            self.due.latest = followed;
        }
        self.is_tail = !is_followed;
        is_followed
    }
}

#[derive(Debug)]
pub(crate) struct Simulated {
    out: Mutex<Out>,
    incoming: Mutex<In>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds of the machine's clock.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Simulated {
    pub fn new(link: Link) -> Simulated {
        let line = Line {
            link,
            random: link.seed,
            free: 0,
            last: 0,
        };
        Simulated {
            out: Mutex::default(),
            incoming: Mutex::new(In {
                head: [0; HEAD],
                have: 0,
                left: 0,
                sent: 0,
                due: Due::default(),
                is_tail: false,
                line,
            }),
        }
    }

    /// Writes by `write`. What is offered is written on until it is whole, as who writes frames does.
    pub fn write(
        &self,
        slices: &[IoSlice<'_>],
        now: u64,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<Progress>,
    ) -> io::Result<Progress> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Ok(Progress::Bytes(0));
        }
        let mut out = lock(&self.out);
        if out.left == 0 {
            out.left = offered.min(MOST);
            let len = out.left as u32;
            out.head[..4].copy_from_slice(&len.to_le_bytes());
            out.head[4..].copy_from_slice(&now.to_le_bytes());
            out.head_left = HEAD;
        }
        let (head, mut room) = (out.head, out.left);
        let mut parts = vec![IoSlice::new(&head[HEAD - out.head_left..])];
        for slice in slices {
            let part = &slice[..slice.len().min(room)];
            room -= part.len();
            parts.push(IoSlice::new(part));
        }
        let Progress::Bytes(count) = write(&parts)? else {
            return Ok(Progress::WouldBlock);
        };
        let of_head = count.min(out.head_left);
        out.head_left -= of_head;
        out.left -= count - of_head;
        Ok(match count - of_head {
            0 => Progress::WouldBlock,
            bytes => Progress::Bytes(bytes),
        })
    }

    /// Reads by `read` what has come by now.
    pub fn read(
        &self,
        buffer: &mut [u8],
        now: impl Fn() -> u64,
        mut read: impl FnMut(&mut [u8]) -> io::Result<Progress>,
        peek: impl FnOnce(&mut [u8]) -> usize,
    ) -> io::Result<Progress> {
        let mut incoming = lock(&self.incoming);
        if let Some(other) = incoming.begin(&mut read)? {
            return Ok(other);
        }
        if !incoming.is_due(now(), peek) {
            return Ok(Progress::WouldBlock);
        }
        incoming.line.last = incoming.due.latest;
        let most = buffer.len().min(incoming.left);
        let progress = read(&mut buffer[..most])?;
        if let Progress::Bytes(count) = progress {
            incoming.left -= count;
        }
        Ok(progress)
    }

    /// Takes in what says when the next bytes come, if it is here.
    pub fn begin(&self, mut read: impl FnMut(&mut [u8]) -> io::Result<Progress>) -> io::Result<()> {
        lock(&self.incoming).begin(&mut read).map(drop)
    }

    /// How long from now until what has begun to come may be read, or at least asked for, since only who reads sees what is behind it; `None`: now, or the
    /// next is not here yet.
    pub fn until(&self, now: u64) -> Option<Duration> {
        let incoming = lock(&self.incoming);
        let Due { latest, followed } = incoming.due;
        let due = if incoming.is_tail { latest } else { followed };
        let left = due.saturating_sub(now);
        (incoming.left > 0 && left > 0).then(|| Duration::from_nanos(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Simulated::new(Link::parse(text).unwrap())
            .incoming
            .into_inner()
            .unwrap()
            .line
    }

    #[test]
    fn a_link_is_described_in_words_that_are_checked() {
        let link = Link::parse("delay_us=100,rate_mbit=1000,loss=0.01,seed=7").unwrap();
        assert_eq!(link.delay, Duration::from_micros(100));
        assert_eq!((link.rate, link.loss, link.seed), (Some(1e9), 0.01, 7));
        for bad in [
            "delay",
            "delay_us=-1",
            "delay_us=x",
            "loss=1",
            "rate_mbit=0",
            "speed=1",
            "loss=NaN",
        ] {
            let error = Link::parse(bad).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn bytes_come_after_the_delay_and_the_time_on_the_line() {
        let mut near = line("delay_us=100");
        assert_eq!(near.due(1_000, 1 << 20).latest, 101_000);
        // 1250 bytes take 10 us at 1 Gbit/s, and those behind wait for the line.
        let mut slow = line("delay_us=100,rate_mbit=1000");
        assert_eq!(slow.due(0, 1250).latest, 110_000);
        assert_eq!(slow.due(0, 1250).latest, 120_000);
        assert_eq!(slow.due(1_000_000, 1250).latest, 1_110_000);
    }

    #[test]
    fn as_many_packets_are_lost_as_was_asked_for_and_nothing_overtakes() {
        let mut lossy = line("delay_us=1000,loss=0.01,seed=3");
        let (mut late, mut last) = (0, 0);
        for number in 0..100_000 {
            let sent = number * 10_000_000;
            let Due { latest, followed } = lossy.due(sent, 100);
            assert!(followed >= last && latest >= followed);
            (last, lossy.last) = (latest, latest);
            late += u64::from(latest > sent + 1_000_000);
        }
        assert!((900..1100).contains(&late), "{late} of 100000 at 1 %");
    }

    /// A socket that takes and gives one byte at a time, and none every other time.
    #[test]
    fn parts_survive_a_wire_that_takes_them_apart() {
        let wire = std::cell::RefCell::new(std::collections::VecDeque::new());
        let mut turns = 0;
        let simulated = Simulated::new(Link::parse("delay_us=1").unwrap());
        let sent: Vec<u8> = (0..200_u8).collect();
        let mut offered = &sent[..];
        let mut got = Vec::new();
        while got.len() < sent.len() {
            turns += 1;
            if !offered.is_empty() {
                let write = |parts: &[IoSlice<'_>]| {
                    let first = parts.iter().flat_map(|part| part.iter()).next();
                    if turns % 2 == 0 {
                        return Ok(Progress::WouldBlock);
                    }
                    wire.borrow_mut().extend(first);
                    Ok(Progress::Bytes(1))
                };
                let (first, second) = offered.split_at(offered.len() / 2);
                let parts = [IoSlice::new(first), IoSlice::new(second)];
                if let Progress::Bytes(count) = simulated.write(&parts, turns, write).unwrap() {
                    offered = &offered[count..];
                }
            }
            let read = |buffer: &mut [u8]| match wire.borrow_mut().pop_front() {
                Some(byte) => {
                    buffer[0] = byte;
                    Ok(Progress::Bytes(1))
                }
                None => Ok(Progress::WouldBlock),
            };
            let mut part = [0; 7];
            if let Progress::Bytes(count) =
                simulated.read(&mut part, || u64::MAX, read, |_| 0).unwrap()
            {
                got.extend_from_slice(&part[..count]);
            }
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn what_has_come_is_not_read_before_its_time() {
        let simulated = Simulated::new(Link::parse("delay_us=1000").unwrap());
        let mut bytes = Vec::new();
        let sent = simulated.write(&[IoSlice::new(b"abc")], 500, |parts| {
            bytes = parts.iter().flat_map(|part| part.to_vec()).collect();
            Ok(Progress::Bytes(bytes.len()))
        });
        assert_eq!(sent.unwrap(), Progress::Bytes(3));
        let mut at = 0;
        let mut read = |buffer: &mut [u8]| {
            let count = buffer.len().min(bytes.len() - at);
            buffer[..count].copy_from_slice(&bytes[at..at + count]);
            at += count;
            Ok(Progress::Bytes(count))
        };
        let mut buffer = [0; 8];
        let early = simulated.read(&mut buffer, || 1_000_499, &mut read, |_| 0);
        assert_eq!(early.unwrap(), Progress::WouldBlock);
        assert_eq!(simulated.until(1_000_499), Some(Duration::from_nanos(1)));
        assert_eq!(simulated.until(1_000_500), None);
        let read = simulated.read(&mut buffer, || 1_000_500, &mut read, |_| 0);
        assert_eq!(read.unwrap(), Progress::Bytes(3));
        assert_eq!(&buffer[..3], b"abc");
    }

    #[test]
    fn what_comes_behind_a_lost_packet_shows_the_loss() {
        let simulated = Simulated::new(Link::parse("delay_us=1000,loss=0.999,seed=1").unwrap());
        let mut incoming = simulated.incoming.lock().unwrap();
        let part = |sent: u64| [&5_u32.to_le_bytes()[..], &sent.to_le_bytes(), &[7; 5]].concat();
        let mut first = part(0).into_iter();
        let mut read = |buffer: &mut [u8]| {
            buffer.fill_with(|| first.next().unwrap());
            Ok(Progress::Bytes(buffer.len()))
        };
        assert!(incoming.begin(&mut read).unwrap().is_none());
        let due = incoming.due;
        assert_eq!((due.followed, due.latest), (3_000_000, 5_000_000));
        // The rest of this part, and the next one.
        let behind = |sent: u64| {
            move |place: &mut [u8]| {
                let there = [&[7; 5][..], &part(sent)].concat();
                let count = place.len().min(there.len());
                place[..count].copy_from_slice(&there[..count]);
                count
            }
        };
        assert!(!incoming.is_due(2_999_999, behind(1)));
        drop(incoming);
        let until = |now| simulated.until(now).map(|left| left.as_nanos() as u64);
        assert_eq!(until(2_999_999), Some(1));
        assert_eq!(until(3_000_000), None, "time to look at what is behind");
        let mut incoming = simulated.incoming.lock().unwrap();
        assert!(!incoming.is_due(3_000_000, |_| 0));
        assert!(!incoming.is_due(3_000_000, behind(2_000_000)));
        drop(incoming);
        assert_eq!(until(3_000_000), Some(2_000_000), "it was the last");
        let mut incoming = simulated.incoming.lock().unwrap();
        assert!(incoming.is_due(3_000_000, behind(1_999_999)));
        incoming.due = due;
        assert!(incoming.is_due(5_000_000, |_| 0));
    }

    #[test]
    fn a_peer_without_the_link_is_told_apart() {
        let simulated = Simulated::new(Link::parse("delay_us=1").unwrap());
        let garbage = |buffer: &mut [u8]| {
            buffer.fill(0xff);
            Ok(Progress::Bytes(buffer.len()))
        };
        let error = simulated.read(&mut [0; 8], now, garbage, |_| 0);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
