//! The thread that moves the session's memory. Nothing else does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::control::FromWorker;

use super::{Away, Inner, LONG, LOOK, Part, Phase, Request, Swap};
use crate::calls::memory;
use crate::charge::Changing;
use crate::memory_map::Range;

/// Bytes that are copied at once: what a processor's cache holds.
const PIECE: usize = 1 << 20;
/// How often it is looked whether the device has done what it was given.
const LOOK_DEVICE: Duration = Duration::from_millis(1);
/// After a driver has not given what there was room for, and nobody is there to make more.
const PAUSE: Duration = Duration::from_millis(100);

const RELAXED: u32 = 2;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Driver(#[from] CudaError),
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Why memory does not leave.
enum Stays {
    /// For now.
    AtWork,
    /// For a while.
    Stuck,
}

/// Why memory does not come back.
enum Missing {
    /// The driver does not give as much now.
    Room,
    /// It never will be there again.
    Lost(String),
}

impl Swap {
    /// Moves memory until the session is over, or cannot go on, for the reason that is returned.
    pub fn run(&self) -> Option<String> {
        let mut mode = RELAXED;
        // SAFETY: the mode is read and written. A copy would break a capture of another thread's otherwise.
        let _ = unsafe { driver_call!(self.driver.cuThreadExchangeStreamCaptureMode(&mut mode)) };
        // Since when somebody waits for the memory; and whether the log says so.
        let mut waiting: Option<(Instant, bool)> = None;
        let mut inner = self.inner();
        loop {
            if inner.over {
                return None;
            }
            if let Some(request) = inner.request.take() {
                drop(inner);
                self.put_away(request);
                inner = self.inner();
                continue;
            }
            if inner.phase != Phase::Away || !inner.wanted {
                waiting = None;
                let woken = self.news.wait(inner);
                inner = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (since, is_said) = waiting.get_or_insert((Instant::now(), false));
            if since.elapsed() > LONG && !std::mem::replace(is_said, true) {
                let mib = inner.bytes_away() >> 20;
                tracing::warn!(mib, "the session waits for room for its memory");
            }
            self.help_itself(&mut inner);
            let needs = inner.bytes_away();
            if inner.spare >= needs {
                inner.phase = Phase::Coming;
                drop(inner);
                let back = self.come_back();
                inner = self.inner();
                match back {
                    Ok(()) => continue,
                    Err(Missing::Lost(why)) => return Some(why),
                    Err(Missing::Room) => self.is_not_given(&mut inner, needs),
                }
            } else if inner.asked == 0 {
                let spare = std::mem::take(&mut inner.spare);
                self.give_back(&mut inner, spare);
                self.ask(&mut inner, needs, false);
            }
            let woken = self.news.wait_timeout(inner, LOOK.max(PAUSE));
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The driver did not give what there was room for.
    fn is_not_given(&self, inner: &mut Inner, needs: u64) {
        inner.phase = Phase::Away;
        let spare = std::mem::take(&mut inner.spare);
        self.give_back(inner, spare);
        self.ask(inner, needs.max(spare), true);
    }

    // Away.

    fn put_away(&self, request: Request) {
        if let Err(stays) = self.try_put_away(request) {
            let mut inner = self.inner();
            if matches!(inner.phase, Phase::Closing(_) | Phase::Going) {
                inner.phase = Phase::Here;
            }
            let stuck = matches!(stays, Stays::Stuck);
            self.tell(&mut inner, &FromWorker::Stays { stuck });
            drop(inner);
            self.changed.notify_all();
        }
    }

    fn try_put_away(&self, request: Request) -> Result<(), Stays> {
        let began = self.close_calls(request.idle)?;
        self.settle(began)?;
        let _moving = self.still();
        {
            let mut inner = self.inner();
            if inner.phase != Phase::Closing(began) {
                // Somebody did not wait, and is at work.
                return Err(Stays::AtWork);
            }
            inner.phase = Phase::Going;
        }
        let _changing = Changing::begin(self.memory.clone());
        let ranges = self.memory().begin_away();
        match self.write_out(&request.file, &ranges) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "the session's memory stays on its device: it cannot be written elsewhere");
                self.are_here(&ranges);
                return Err(Stays::Stuck);
            }
        }
        let (mut parts, mut offset) = (BTreeMap::new(), 0);
        for range in ranges {
            let Range { address, bytes } = range;
            // SAFETY: one whole mapping of this session's, which nothing uses: no call and no work is under way. Its handle was released when it was mapped.
            match unsafe { driver_call!(self.driver.cuMemUnmap(address, bytes as usize)) } {
                Ok(()) => _ = parts.insert(address, Part { bytes, offset }),
                Err(error) => {
                    tracing::warn!(%error, "a mapping does not leave its device");
                    self.are_here(&[range]);
                }
            }
            offset += bytes;
        }
        if parts.is_empty() {
            return Err(Stays::Stuck);
        }
        self.is_away(request, parts, began);
        Ok(())
    }

    /// Lets no call begin, and waits for those under way.
    fn close_calls(&self, idle: Duration) -> Result<Instant, Stays> {
        let began = Instant::now();
        let mut inner = self.inner();
        let is_idle = inner.users == 0 && inner.left.elapsed() >= idle;
        if inner.phase != Phase::Here || !(idle.is_zero() || (is_idle && self.gates.rests())) {
            return Err(Stays::AtWork);
        }
        if inner.stays || self.handles.is_capturing() {
            return Err(Stays::Stuck);
        }
        inner.phase = Phase::Closing(began);
        while inner.users > 0 {
            if inner.over || began.elapsed() >= self.kept_back() {
                return Err(Stays::Stuck);
            }
            let woken = self.news.wait_timeout(inner, LOOK);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
            if inner.phase != Phase::Closing(began) {
                return Err(Stays::AtWork);
            }
        }
        // One that has ended just now may have changed that.
        match inner.stays || self.handles.is_capturing() {
            true => Err(Stays::Stuck),
            false => Ok(began),
        }
    }

    /// Waits until the device has done what it was given. What may not end is not waited for.
    fn settle(&self, began: Instant) -> Result<(), Stays> {
        while !self.gates.rests() {
            if began.elapsed() >= self.kept_back() {
                return Err(Stays::Stuck);
            }
            std::thread::sleep(LOOK_DEVICE);
        }
        // Streams that have been destroyed are not followed, and may have something to do all the same.
        let contexts = self.handles.contexts();
        for context in &contexts {
            if self.inner().phase != Phase::Closing(began) {
                return Err(Stays::AtWork);
            }
            // SAFETY: contexts end in calls, of which none is under way.
            let done = unsafe {
                driver_call!(self.driver.cuCtxSetCurrent(*context))
                    .and_then(|()| driver_call!(self.driver.cuCtxSynchronize()))
            };
            // One with a sticky error has no memory that could be read.
            done.map_err(|_| Stays::Stuck)?;
        }
        match contexts.is_empty() {
            // Without one nothing can be copied.
            true => Err(Stays::Stuck),
            false => Ok(()),
        }
    }

    fn are_here(&self, ranges: &[Range]) {
        let mut memory = self.memory();
        for range in ranges {
            memory.is_here(range.address);
        }
    }

    /// One behind the other.
    fn write_out(&self, file: &File, ranges: &[Range]) -> Result<(), Failed> {
        let all: u64 = ranges.iter().map(|range| range.bytes).sum();
        if all > file.metadata()?.len() {
            return Err(io::Error::other("there is more of it than was asked to leave").into());
        }
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        for (address, len) in pieces(ranges) {
            let piece = &mut buffer[..len];
            // SAFETY: the buffer has that many bytes; mapped memory of this session's.
            unsafe {
                driver_call!(
                    self.driver
                        .cuMemcpyDtoH_v2(piece.as_mut_ptr().cast(), address, len)
                )
            }?;
            file.write_all_at(piece, offset)?;
            offset += len as u64;
        }
        Ok(())
    }

    fn is_away(&self, request: Request, parts: BTreeMap<u64, Part>, began: Instant) {
        let moved: u64 = parts.values().map(|part| part.bytes).sum();
        self.memory().ledger.left_device(0, moved);
        let mut inner = self.inner();
        inner.away = Some(Away {
            file: request.file,
            on_disk: request.on_disk,
            parts,
        });
        inner.phase = Phase::Away;
        inner.wanted = false;
        let spare = std::mem::take(&mut inner.spare);
        inner.room = inner.room.saturating_sub(moved + spare);
        if inner.asked > 0 {
            // The broker reckons the same.
            inner.asked += moved;
        }
        self.tell(&mut inner, &FromWorker::Away { moved, spare });
        drop(inner);
        self.changed.notify_all();
        let millis = began.elapsed().as_millis() as u64;
        let (mib, on_disk) = (moved >> 20, request.on_disk);
        tracing::debug!(mib, on_disk, millis, "the session's memory is away");
    }

    // Back.

    fn come_back(&self) -> Result<(), Missing> {
        let began = Instant::now();
        let _moving = self.still();
        let _changing = Changing::begin(self.memory.clone());
        let (file, parts) = {
            let inner = self.inner();
            let Some(away) = &inner.away else {
                return Err(lost("it is nowhere"));
            };
            let parts: Vec<(u64, Part)> = away.parts.iter().map(|(at, it)| (*at, *it)).collect();
            (away.file.try_clone().map_err(lost)?, parts)
        };
        let context = self.handles.contexts().into_iter().next();
        if let Some(context) = context {
            // SAFETY: contexts end in calls, of which none is under way.
            unsafe { driver_call!(self.driver.cuCtxSetCurrent(context)) }.map_err(lost)?;
        }
        for (number, (address, part)) in parts.iter().enumerate() {
            let range = Range {
                address: *address,
                bytes: part.bytes,
            };
            if let Err(error) = memory::map(&self.driver, 0, range) {
                self.unmap(&parts[..number]);
                return Err(match error {
                    CudaError::OUT_OF_MEMORY => Missing::Room,
                    error => lost(error),
                });
            }
        }
        self.read_in(&file, &parts).map_err(lost)?;
        let moved: u64 = parts.iter().map(|(_, part)| part.bytes).sum();
        {
            let mut memory = self.memory();
            for (address, _) in &parts {
                memory.is_here(*address);
            }
            memory.ledger.is_back(0, moved);
        }
        let mut inner = self.inner();
        inner.away = None;
        inner.wanted = false;
        inner.spare = inner.spare.saturating_sub(moved);
        inner.phase = Phase::Here;
        inner.left = Instant::now();
        self.tell(&mut inner, &FromWorker::Back);
        drop(inner);
        self.changed.notify_all();
        let (mib, millis) = (moved >> 20, began.elapsed().as_millis() as u64);
        tracing::debug!(mib, millis, "the session's memory is back");
        Ok(())
    }

    fn unmap(&self, parts: &[(u64, Part)]) {
        for (address, part) in parts {
            // SAFETY: mapped just now, and nobody uses it.
            let unmapped =
                unsafe { driver_call!(self.driver.cuMemUnmap(*address, part.bytes as usize)) };
            if let Err(error) = unmapped {
                tracing::warn!(%error, "a mapping does not leave its device");
            }
        }
    }

    fn read_in(&self, file: &File, parts: &[(u64, Part)]) -> Result<(), Failed> {
        let mut buffer = vec![0; PIECE];
        for (address, part) in parts {
            let range = Range {
                address: *address,
                bytes: part.bytes,
            };
            let mut offset = part.offset;
            for (address, len) in pieces(&[range]) {
                let piece = &mut buffer[..len];
                file.read_exact_at(piece, offset)?;
                // SAFETY: the buffer has that many bytes; mapped memory of this session's.
                unsafe {
                    driver_call!(
                        self.driver
                            .cuMemcpyHtoD_v2(address, piece.as_ptr().cast(), len)
                    )
                }?;
                offset += len as u64;
            }
        }
        // A synchronous copy has read its source when it returns; the rest may be on its way.
        // SAFETY: no arguments.
        unsafe { driver_call!(self.driver.cuCtxSynchronize()) }?;
        Ok(())
    }
}

fn lost(why: impl std::fmt::Display) -> Missing {
    Missing::Lost(format!("its memory cannot come back: {why}"))
}

/// Addresses and lengths of what is copied at once.
fn pieces(ranges: &[Range]) -> impl Iterator<Item = (u64, usize)> {
    ranges.iter().flat_map(|range| {
        let Range { address, bytes } = *range;
        (0..bytes).step_by(PIECE).map(move |offset| {
            let len = (bytes - offset).min(PIECE as u64);
            (address + offset, len as usize)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_what_is_moved() {
        let piece = PIECE as u64;
        let range = |address, bytes| Range { address, bytes };
        let all: Vec<_> = pieces(&[range(0, 2 * piece + 5), range(piece * 8, piece)]).collect();
        let expected = [
            (0, PIECE),
            (piece, PIECE),
            (2 * piece, 5),
            (8 * piece, PIECE),
        ];
        assert_eq!(all, expected);
    }
}
