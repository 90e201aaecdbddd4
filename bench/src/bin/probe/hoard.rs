//! One of several functions that together have more memory than their device, for `cargo xtask bench sharing`: it fills its memory, works on it in phases
//! with pauses between them, and looks at the end whether all of it is as it must be, where it was.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::busy::until;
use crate::driver::{Driver, Handle, call};
use crate::{Measured, number};

/// `fill`: each thread four words; `work`: one more in a word, after so many rounds.
const PTX: &CStr = c".version 6.5\n.target sm_50\n.address_size 64\n\
.visible .entry fill(.param .u64 base, .param .u32 seed) {\n\
.reg .b32 %b, %n, %t, %i, %v, %k; .reg .b64 %a, %o;\n\
ld.param.u64 %a, [base]; ld.param.u32 %k, [seed]; mov.u32 %b, %ctaid.x; mov.u32 %n, %ntid.x; mov.u32 %t, %tid.x;\n\
mad.lo.u32 %i, %b, %n, %t; mad.lo.u32 %v, %i, 1664525, %k; mul.wide.u32 %o, %i, 16; add.u64 %a, %a, %o;\n\
st.global.v4.u32 [%a], {%v, %i, %k, %v}; ret; }\n\
.visible .entry work(.param .u64 place, .param .u32 rounds) {\n\
.reg .pred %p; .reg .b32 %i, %n, %s, %w; .reg .b64 %a;\n\
ld.param.u64 %a, [place]; ld.param.u32 %n, [rounds]; mov.u32 %i, 0; mov.u32 %s, 1;\n\
again: mad.lo.u32 %s, %s, 1664525, %i; add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %n; @%p bra again;\n\
ld.global.u32 %w, [%a]; and.b32 %s, %s, 0; add.u32 %w, %w, 1; add.u32 %w, %w, %s; st.global.u32 [%a], %w; ret; }\n";
/// Bytes that a thread fills, and threads of a block.
const GROUP: usize = 16;
const THREADS: usize = 256;
/// Bytes that are looked at together.
const PIECE: usize = 4 << 20;

pub struct Plan {
    pub rounds: u32,
    pub at: f64,
    pub mib: usize,
    pub phases: usize,
    /// Of a phase.
    pub kernels: usize,
    pub pause_ms: f64,
    pub seed: u32,
}

struct Hoard {
    driver: Driver,
    work: Handle,
    stream: Handle,
    base: u64,
    bytes: usize,
    /// How often a kernel has added to the first word of a group.
    added: HashMap<usize, u32>,
}

impl Hoard {
    fn fill(&mut self, fill: Handle, mut seed: u32) -> Result<()> {
        let driver = &self.driver;
        let (base, seed): (*mut c_void, *mut c_void) =
            ((&raw mut self.base).cast(), (&raw mut seed).cast());
        let blocks = u32::try_from(self.bytes / GROUP / THREADS)?;
        call!(driver.cuLaunchKernel(
            fill,
            blocks,
            1,
            1,
            THREADS as u32,
            1,
            1,
            0,
            self.stream,
            [base, seed].as_mut_ptr(),
            null_mut()
        ))?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let driver = &self.driver;
        call!(driver.cuStreamSynchronize(self.stream))
    }

    /// One kernel, at another place each time.
    fn step(&mut self, number: usize, mut rounds: u32) -> Result<()> {
        let group = number.wrapping_mul(40_503) % (self.bytes / GROUP);
        let mut place = self.base + (group * GROUP) as u64;
        *self.added.entry(group).or_default() += 1;
        let (place, rounds): (*mut c_void, *mut c_void) =
            ((&raw mut place).cast(), (&raw mut rounds).cast());
        self.driver
            .launch(self.work, self.stream, &mut [place, rounds])
    }

    /// Every word of it.
    fn check(&self, seed: u32) -> Result<()> {
        let driver = &self.driver;
        let mut piece = vec![0_u32; PIECE / 4];
        for from in (0..self.bytes).step_by(PIECE) {
            let len = PIECE.min(self.bytes - from);
            let source = self.base + from as u64;
            call!(driver.cuMemcpyDtoH_v2(piece.as_mut_ptr().cast(), source, len))?;
            for (at, words) in piece[..len / 4].chunks_exact(GROUP / 4).enumerate() {
                let group = from / GROUP + at;
                let number = group as u32;
                let value = number.wrapping_mul(1_664_525).wrapping_add(seed);
                let added = self.added.get(&group).copied().unwrap_or(0);
                let expected = [value.wrapping_add(added), number, seed, value];
                ensure!(
                    words == expected,
                    "at {:#x}: {words:x?}, and not {expected:x?}",
                    self.base + (group * GROUP) as u64
                );
            }
        }
        Ok(())
    }
}

/// `end`: milliseconds from the moment at which all begin until all is done and looked at.
pub fn measure(plan: &Plan) -> Result<Measured> {
    let driver = Driver::ready()?;
    let [fill, work] = [c"fill", c"work"].map(|name| driver.kernel(PTX, name));
    let mut hoard = Hoard {
        work: work?,
        stream: driver.stream()?,
        base: 0,
        bytes: plan.mib << 20,
        added: HashMap::new(),
        driver,
    };
    sleep(until(plan.at)?);
    let began = Instant::now();
    hoard.base = hoard.driver.allocate(hoard.bytes)?;
    hoard.fill(fill?, plan.seed)?;
    for phase in 0..plan.phases {
        for kernel in 0..plan.kernels {
            hoard.step(phase * plan.kernels + kernel, plan.rounds)?;
        }
        hoard.wait()?;
        sleep(Duration::from_secs_f64(plan.pause_ms / 1000.0));
    }
    hoard.check(plan.seed).context("wrong contents")?;
    let mut measured = Measured::new();
    let end = began.elapsed().as_secs_f64() * 1000.0;
    measured.insert("end".into(), number(end));
    Ok(measured)
}
