//! Bytes from the server, taken apart into replies: each goes to the memory of the one who waits for it, without a copy where it is long.

use std::sync::atomic::Ordering;

use rgpu_proto::compressed;
use rgpu_proto::frame::{HEADER_LEN, Header, MAX_BODY, Print};
use rgpu_transport::{Interest, Pipe, Progress};

use super::{Lost, Verdict, Wire, lock};

/// A place in a waiting caller's memory.
pub(super) struct Place {
    pub(super) at: *mut u8,
    pub(super) len: usize,
}

// SAFETY: the caller that owns the memory keeps it until `Wire::wait` has given its ticket back: it is there, or on its way there.
unsafe impl Send for Place {}

impl Place {
    /// For a reply that has nothing for it.
    pub(super) fn none() -> Place {
        Place {
            at: std::ptr::dangling_mut(),
            len: 0,
        }
    }
}

pub(super) enum Bulk {
    None,
    Exact(Place),
    Collect(Vec<u8>),
    /// So many bytes that nobody wants any more.
    Discard(usize),
}

pub(super) struct Pending {
    pub(super) fixed: Place,
    pub(super) bulk: Bulk,
    /// Nobody waits for it.
    pub(super) lands: bool,
    /// Its body may come compressed.
    pub(super) may_compress: bool,
}

impl Pending {
    /// A reply that says only how it went.
    pub(super) fn verdict() -> Pending {
        Pending {
            fixed: Place::none(),
            bulk: Bulk::None,
            lands: false,
            may_compress: false,
        }
    }
}

pub(super) struct Done {
    pub(super) verdict: Verdict,
    pub(super) collected: Option<Vec<u8>>,
}

/// The reply that who reads waits for: nobody else looks for it.
pub(super) struct Own {
    pub(super) seq: u64,
    pub(super) done: Option<Done>,
}

/// A body on its way in.
struct Body {
    seq: u64,
    lands: bool,
    /// No reply: for the program's stdout.
    prints: Option<Print>,
    verdict: Verdict,
    fixed: Place,
    fixed_filled: usize,
    bulk: Bulk,
    bulk_filled: usize,
    /// What has come of it, if it comes compressed.
    packed: Option<Vec<u8>>,
    left: usize,
}

pub struct Reader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    body: Option<Body>,
}

const BUFFER: usize = 32 << 10;

impl Reader {
    pub fn new(leftover: Vec<u8>) -> Reader {
        let mut buffer = vec![0; BUFFER.max(leftover.len())].into_boxed_slice();
        buffer[..leftover.len()].copy_from_slice(&leftover);
        Reader {
            buffer,
            start: 0,
            end: leftover.len(),
            body: None,
        }
    }

    pub(super) fn abandon(&mut self, seq: u64) {
        if self.body.as_ref().is_some_and(|body| body.seq == seq) {
            self.body = None;
        }
    }

    /// Reads until at least one reply is whole, or for who waits for none, until nothing is there.
    pub(super) fn read(
        &mut self,
        wire: &Wire,
        pipe: &Pipe,
        mut waits: Option<&mut Own>,
    ) -> Result<(), Lost> {
        let broken = |error: std::io::Error| Lost::Broken(error.to_string());
        loop {
            if self.digest(wire, waits.as_deref_mut())? {
                return Ok(());
            }
            let progress = match self.direct_place() {
                Some((at, len)) => {
                    // SAFETY: the place belongs to a caller that is blocked in `Wire::wait`; `len` bytes of it are left.
                    let place = unsafe { std::slice::from_raw_parts_mut(at, len) };
                    let progress = pipe.try_read(place).map_err(broken)?;
                    if let (Progress::Bytes(count), Some(body)) = (progress, &mut self.body) {
                        body.bulk_filled += count;
                        body.left -= count;
                    }
                    progress
                }
                None => {
                    if self.start == self.end {
                        (self.start, self.end) = (0, 0);
                    } else if self.end == self.buffer.len() {
                        self.buffer.copy_within(self.start..self.end, 0);
                        (self.start, self.end) = (0, self.end - self.start);
                    }
                    let progress = pipe
                        .try_read(&mut self.buffer[self.end..])
                        .map_err(broken)?;
                    if let Progress::Bytes(count) = progress {
                        self.end += count;
                    }
                    progress
                }
            };
            match progress {
                Progress::Bytes(_) => {}
                Progress::Closed => {
                    return Err(Lost::Broken("the server closed the connection".into()));
                }
                Progress::WouldBlock if waits.is_none() => return Ok(()),
                Progress::WouldBlock => {
                    wire.control.wait_for(pipe, Interest::Read, None)?;
                }
            }
        }
    }

    /// Where the next bytes can go without a copy: an exact sink that wants many of them while the buffer is empty.
    fn direct_place(&self) -> Option<(*mut u8, usize)> {
        let body = self.body.as_ref()?;
        let Bulk::Exact(place) = &body.bulk else {
            return None;
        };
        if body.packed.is_some()
            || self.start != self.end
            || body.fixed_filled < body.fixed.len
            || body.left < BUFFER / 4
        {
            return None;
        }
        // SAFETY: `digest` has checked that the body fits the place.
        Some((unsafe { place.at.add(body.bulk_filled) }, body.left))
    }

    /// Works through the buffer. True if a reply became whole.
    fn digest(&mut self, wire: &Wire, mut own: Option<&mut Own>) -> Result<bool, Lost> {
        let mut completed = false;
        loop {
            if self.body.is_none() {
                let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<HEADER_LEN>()
                else {
                    return Ok(completed);
                };
                let header =
                    Header::parse(bytes).map_err(|error| Lost::Broken(error.to_string()))?;
                if header.is_session_end() {
                    let len = header.len.get() as usize;
                    let have = &self.buffer[self.start + HEADER_LEN..self.end];
                    if have.len() < len.min(BUFFER / 2) {
                        return Ok(completed);
                    }
                    let reason = String::from_utf8_lossy(&have[..len.min(have.len())]).into_owned();
                    return Err(Lost::Ended {
                        result: header.status.get(),
                        reason,
                    });
                }
                self.start += HEADER_LEN;
                self.body = Some(self.begin(wire, &header)?);
            }
            let Some(body) = &mut self.body else {
                return Ok(completed);
            };
            let take = body.left.min(self.end - self.start);
            body.accept(&self.buffer[self.start..self.start + take]);
            self.start += take;
            if body.left > 0 {
                return Ok(completed);
            }
            if let Some(mut body) = self.body.take() {
                body.unpack(wire)?;
                let collected = match body.bulk {
                    Bulk::Collect(bytes) => Some(bytes),
                    _ => None,
                };
                if let Some(on) = body.prints {
                    let mut printed = lock(&wire.printed);
                    printed.push((on, collected.unwrap_or_default()));
                    wire.prints.store(true, Ordering::Relaxed);
                    continue;
                }
                completed = true;
                if body.lands {
                    // Its error, if it has one, also comes as that of every command that nobody waits for.
                    lock(&wire.replies).landings.remove(&body.seq);
                    continue;
                }
                let done = Done {
                    verdict: body.verdict,
                    collected,
                };
                match own.as_deref_mut().filter(|own| own.seq == body.seq) {
                    Some(own) => own.done = Some(done),
                    None => drop(lock(&wire.replies).done.insert(body.seq, done)),
                }
            }
        }
    }

    /// Matches a reply with who waits for it, and its length with what was asked for.
    fn begin(&mut self, wire: &Wire, header: &Header) -> Result<Body, Lost> {
        if let Some(on) = header.prints() {
            return Ok(Body::printed(on, header.len.get() as usize));
        }
        let seq = header.seq.get();
        let pending = lock(&wire.replies).pending.remove(&seq);
        let Some(pending) = pending.filter(|_| header.is_reply()) else {
            return Err(Lost::Broken(format!(
                "the server answered command {seq}, which waits for no answer"
            )));
        };
        let left = header.len.get() as usize;
        let status = header.status.get();
        let room = match &pending.bulk {
            Bulk::None => 0,
            Bulk::Exact(place) => place.len,
            Bulk::Discard(len) => *len,
            Bulk::Collect(_) => MAX_BODY as usize,
        };
        // One that is compressed is shorter, and all there.
        let is_compressed = header.is_compressed();
        if is_compressed && (!pending.may_compress || status != 0) {
            return Err(Lost::Broken(format!(
                "the server's answer to command {seq} is compressed, which was not asked for"
            )));
        }
        let fits = left <= pending.fixed.len + room;
        let whole = is_compressed
            || match &pending.bulk {
                Bulk::None | Bulk::Exact(_) | Bulk::Discard(_) => left == pending.fixed.len + room,
                Bulk::Collect(_) => left >= pending.fixed.len,
            };
        if !fits || (status == 0 && !whole) {
            return Err(Lost::Broken(format!(
                "the server's answer to command {seq} has {left} bytes, which do not fit it"
            )));
        }
        Ok(Body {
            seq,
            lands: pending.lands,
            prints: None,
            verdict: Verdict {
                status,
                deferred: header.aux.get() as u32,
                collected: 0,
            },
            fixed: pending.fixed,
            fixed_filled: 0,
            bulk: pending.bulk,
            bulk_filled: 0,
            packed: is_compressed.then(|| Vec::with_capacity(left)),
            left,
        })
    }
}

impl Body {
    fn printed(on: Print, left: usize) -> Body {
        Body {
            seq: 0,
            lands: false,
            prints: Some(on),
            verdict: Verdict {
                status: 0,
                deferred: 0,
                collected: 0,
            },
            fixed: Place::none(),
            fixed_filled: 0,
            bulk: Bulk::Collect(Vec::new()),
            bulk_filled: 0,
            packed: None,
            left,
        }
    }

    /// Puts what has come compressed where it belongs.
    fn unpack(&mut self, wire: &Wire) -> Result<(), Lost> {
        let Some(packed) = self.packed.take() else {
            return Ok(());
        };
        let seq = self.seq;
        let broken =
            |what: &str| Lost::Broken(format!("the server's answer to command {seq}: {what}"));
        let whole = compressed::decompress(&packed).map_err(|error| broken(&error.to_string()))?;
        let room = match &self.bulk {
            Bulk::Exact(place) => place.len,
            Bulk::Discard(len) => *len,
            Bulk::None | Bulk::Collect(_) => 0,
        };
        if whole.len() != self.fixed.len + room {
            return Err(broken("its compressed bytes do not fit it"));
        }
        wire.compression.unpacked(whole.len(), packed.len());
        self.left = whole.len();
        self.accept(&whole);
        Ok(())
    }

    fn accept(&mut self, bytes: &[u8]) {
        if let Some(packed) = &mut self.packed {
            packed.extend_from_slice(bytes);
            self.left -= bytes.len();
            return;
        }
        let head = (self.fixed.len - self.fixed_filled).min(bytes.len());
        // SAFETY: at most what is left of the fixed place of a caller that is blocked in `Wire::wait`.
        unsafe {
            self.fixed
                .at
                .add(self.fixed_filled)
                .copy_from_nonoverlapping(bytes.as_ptr(), head)
        };
        self.fixed_filled += head;
        let rest = &bytes[head..];
        match &mut self.bulk {
            Bulk::None | Bulk::Discard(_) => {}
            Bulk::Exact(place) => {
                // SAFETY: `begin` has checked that the whole body fits; the caller is blocked in `Wire::wait`.
                unsafe {
                    place
                        .at
                        .add(self.bulk_filled)
                        .copy_from_nonoverlapping(rest.as_ptr(), rest.len())
                };
            }
            Bulk::Collect(vec) => vec.extend_from_slice(rest),
        }
        self.bulk_filled += rest.len();
        self.left -= bytes.len();
    }
}
