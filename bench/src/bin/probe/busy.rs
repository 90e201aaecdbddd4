//! One of several clients that keep a device busy with kernels of known work.

use std::ffi::c_void;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use crate::driver::{Driver, Handle, call};
use crate::{Measured, micros, middle, number};

/// `busy` adds as often as it is told to; the sum goes where no compiler can do without it. `last` adds until so many nanoseconds of the device have
/// passed, and tells how often it could.
const PTX: &std::ffi::CStr = c".version 6.5\n.target sm_50\n.address_size 64\n\
.visible .entry busy(.param .u64 place, .param .u32 rounds) {\n\
.reg .pred %p; .reg .b32 %i, %n, %s; .reg .b64 %a;\n\
ld.param.u64 %a, [place]; ld.param.u32 %n, [rounds]; mov.u32 %i, 0; mov.u32 %s, 1;\n\
again: mad.lo.u32 %s, %s, 1664525, %i; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %n; @%p bra again;\n\
st.global.u32 [%a], %s; ret; }\n\
.visible .entry last(.param .u64 place, .param .u32 nanoseconds) {\n\
.reg .pred %p; .reg .b32 %n, %s; .reg .b64 %a, %b, %e, %w;\n\
ld.param.u64 %a, [place]; ld.param.u32 %n, [nanoseconds]; cvt.u64.u32 %w, %n; mov.u64 %b, %globaltimer; mov.u32 %s, 0;\n\
again: add.u32 %s, %s, 1; mov.u64 %e, %globaltimer; sub.u64 %e, %e, %b; setp.lt.u64 %p, %e, %w; @%p bra again;\n\
st.global.u32 [%a], %s; ret; }\n";
/// Kernels under way before a client waits, so that the device has work while the client is told of what is done.
const DEPTH: usize = 4;

/// What one kernel does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    Rounds(u32),
    /// However fast the device is at that moment.
    Nanoseconds(u32),
}

impl FromStr for Work {
    type Err = anyhow::Error;

    /// `1000` rounds, or `1000ns`.
    fn from_str(text: &str) -> Result<Work> {
        Ok(match text.strip_suffix("ns") {
            Some(nanoseconds) => Work::Nanoseconds(nanoseconds.parse()?),
            None => Work::Rounds(text.parse()?),
        })
    }
}

pub struct Busy {
    pub driver: Driver,
    kernel: Handle,
    pub stream: Handle,
    place: u64,
    amount: u32,
}

impl Busy {
    pub fn new(work: Work) -> Result<Busy> {
        let driver = Driver::ready()?;
        let (kernel, amount) = match work {
            Work::Rounds(rounds) => (c"busy", rounds),
            Work::Nanoseconds(nanoseconds) => (c"last", nanoseconds),
        };
        Ok(Busy {
            kernel: driver.kernel(PTX, kernel)?,
            stream: driver.stream()?,
            place: driver.allocate(4)?,
            amount,
            driver,
        })
    }

    pub fn launch(&mut self) -> Result<()> {
        let (place, amount): (*mut c_void, *mut c_void) =
            ((&raw mut self.place).cast(), (&raw mut self.amount).cast());
        self.driver
            .launch(self.kernel, self.stream, &mut [place, amount])
    }

    pub fn wait(&self) -> Result<()> {
        let driver = &self.driver;
        call!(driver.cuStreamSynchronize(self.stream))
    }
}

/// How many rounds a kernel of `millis` has on this device.
pub fn calibrate(millis: f64) -> Result<Measured> {
    let mut busy = Busy::new(Work::Rounds(1))?;
    let mut time = |rounds: u32| -> Result<f64> {
        busy.amount = rounds;
        let mut times = Vec::new();
        for _ in 0..7 {
            let began = Instant::now();
            busy.launch()?;
            busy.wait()?;
            times.push(micros(began.elapsed()));
        }
        Ok(middle(times))
    };
    // What a launch costs is in both.
    let (few, many) = (10_000, 110_000);
    let each = (time(many)? - time(few)?) / f64::from(many - few);
    let mut measured = Measured::new();
    measured.insert(
        "rounds".into(),
        number((1000.0 * millis / each.max(1e-6)).round().max(1.0)),
    );
    Ok(measured)
}

/// The time that is left until the moment `at`, in seconds since 1970.
pub fn until(at: f64) -> Result<Duration> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at);
    at.duration_since(SystemTime::now())
        .context("the client was not ready in time")
}

/// Kernels that ended within `seconds` from the moment `at` (seconds since 1970), at which all clients begin.
pub fn count(rounds: u32, at: f64, seconds: f64) -> Result<Measured> {
    let mut busy = Busy::new(Work::Rounds(rounds))?;
    busy.launch()?;
    busy.wait()?;
    std::thread::sleep(until(at)?);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut ended = 0.0;
    loop {
        for _ in 0..DEPTH {
            busy.launch()?;
        }
        busy.wait()?;
        if Instant::now() > until {
            break;
        }
        ended += DEPTH as f64;
    }
    let mut measured = Measured::new();
    measured.insert("kernels".into(), number(ended));
    Ok(measured)
}
