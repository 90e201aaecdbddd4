//! One of several clients that keep a device busy with kernels of known work.

use std::ffi::c_void;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use crate::driver::{Driver, Handle, call};
use crate::{Measured, micros, middle, number};

/// Adds as often as it is told to; the sum goes where no compiler can do without it.
const PTX: &std::ffi::CStr = c".version 6.5\n.target sm_50\n.address_size 64\n\
.visible .entry busy(.param .u64 place, .param .u32 rounds) {\n\
.reg .pred %p; .reg .b32 %i, %n, %s; .reg .b64 %a;\n\
ld.param.u64 %a, [place]; ld.param.u32 %n, [rounds]; mov.u32 %i, 0; mov.u32 %s, 1;\n\
again: mad.lo.u32 %s, %s, 1664525, %i; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %n; @%p bra again;\n\
st.global.u32 [%a], %s; ret; }\n";
/// Kernels under way before a client waits, so that the device has work while the client is told of what is done.
const DEPTH: usize = 4;

pub struct Busy {
    pub driver: Driver,
    kernel: Handle,
    pub stream: Handle,
    place: u64,
    rounds: u32,
}

impl Busy {
    pub fn new(rounds: u32) -> Result<Busy> {
        let driver = Driver::ready()?;
        Ok(Busy {
            kernel: driver.kernel(PTX, c"busy")?,
            stream: driver.stream()?,
            place: driver.allocate(4)?,
            rounds,
            driver,
        })
    }

    pub fn launch(&mut self) -> Result<()> {
        let (place, rounds): (*mut c_void, *mut c_void) =
            ((&raw mut self.place).cast(), (&raw mut self.rounds).cast());
        self.driver
            .launch(self.kernel, self.stream, &mut [place, rounds])
    }

    pub fn wait(&self) -> Result<()> {
        let driver = &self.driver;
        call!(driver.cuStreamSynchronize(self.stream))
    }
}

/// How many rounds a kernel of `millis` has on this device.
pub fn calibrate(millis: f64) -> Result<Measured> {
    let mut busy = Busy::new(1)?;
    let mut time = |rounds: u32| -> Result<f64> {
        busy.rounds = rounds;
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
    let mut busy = Busy::new(rounds)?;
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
