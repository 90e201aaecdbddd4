//! Takes and gives back memory at random.

use std::ffi::CString;
use std::io::Write;
use std::ptr::{null, null_mut};

use anyhow::{Context, Result, bail};

use super::PAUSED;
use super::driver::{Access, AllocNode, ArrayDescriptor, DEVICE, Driver, Properties};
use super::random::Random;
use crate::driver::Handle;

const OUT_OF_MEMORY: i32 = 2;
const MIB: usize = 1 << 20;
/// Unit of physical memory.
const GRANULE: usize = 2 * MIB;
/// Things that are held at once: then as many are given back as are taken.
const MOST: usize = 48;

/// Something that holds memory.
enum Thing {
    Linear(u64),
    Pooled(u64),
    Array(Handle),
    Mipmapped(Handle),
    Physical { handle: u64, at: u64, bytes: usize },
    Module(Handle),
    Library(Handle),
    Graph { graph: Handle, executable: Handle },
    Context(Handle),
}

struct Worker {
    driver: Driver,
    context: Handle,
    stream: Handle,
    pool: Handle,
    random: Random,
    things: Vec<Thing>,
    refused: u64,
}

/// A call that may find no memory; then it is `None`.
macro_rules! perhaps {
    ($self:ident.$name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: every pointer is to a place of ours that lives longer than the call.
        match unsafe { ($self.driver.$name)($($argument),*) } {
            0 => {}
            OUT_OF_MEMORY => {
                $self.refused += 1;
                return Ok(None);
            }
            code => bail!(concat!(stringify!($name), ": CUDA error {}"), code),
        }
    };
}

/// One that must succeed; but it may be the first to tell that there was no memory for one that nobody waited for.
macro_rules! must {
    ($self:ident.$name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: as above.
        match unsafe { ($self.driver.$name)($($argument),*) } {
            0 => {}
            OUT_OF_MEMORY => $self.refused += 1,
            code => bail!(concat!(stringify!($name), ": CUDA error {}"), code),
        }
    };
}

/// Code with a variable of so many bytes.
fn code(bytes: usize) -> CString {
    let text = format!(
        ".version 6.5\n.target sm_50\n.address_size 64\n.visible .global .align 4 .b8 memory[{bytes}];\n.visible .entry nothing() {{ ret; }}\n"
    );
    CString::new(text).unwrap_or_default()
}

impl Worker {
    fn take(&mut self) -> Result<Option<Thing>> {
        Ok(match self.random.below(11) {
            0 | 1 => {
                let most = if self.random.below(4) == 0 {
                    24 * MIB
                } else {
                    MIB
                };
                let (mut at, bytes) = (0, self.random.size(most));
                perhaps!(self.cuMemAlloc_v2(&mut at, bytes));
                Some(Thing::Linear(at))
            }
            2 => {
                let (mut at, mut pitch) = (0, 0);
                let (width, height) = (self.random.size(4096), self.random.size(1024));
                perhaps!(self.cuMemAllocPitch_v2(&mut at, &mut pitch, width, height, 4));
                Some(Thing::Linear(at))
            }
            3 => {
                let (mut at, bytes) = (0, self.random.size(8 * MIB));
                perhaps!(self.cuMemAllocManaged(&mut at, bytes, 1));
                Some(Thing::Linear(at))
            }
            4 => {
                let (mut at, bytes) = (0, self.random.size(8 * MIB));
                perhaps!(self.cuMemAllocAsync(&mut at, bytes, self.stream));
                Some(Thing::Pooled(at))
            }
            5 => {
                let mut array = null_mut();
                let descriptor = self.descriptor();
                perhaps!(self.cuArray3DCreate_v2(&mut array, &descriptor));
                Some(Thing::Array(array))
            }
            6 => {
                let mut array = null_mut();
                let descriptor = self.descriptor();
                perhaps!(self.cuMipmappedArrayCreate(&mut array, &descriptor, 3));
                Some(Thing::Mipmapped(array))
            }
            7 => self.physical()?,
            8 => {
                let (mut module, bytes) = (null_mut(), self.random.size(4 * MIB));
                let code = code(bytes);
                perhaps!(self.cuModuleLoadData(&mut module, code.as_ptr()));
                Some(Thing::Module(module))
            }
            9 => self.graph()?,
            _ if self.random.below(4) == 0 => {
                let mut context = null_mut();
                perhaps!(self.cuCtxCreate_v2(&mut context, 0, 0));
                let mut at = 0;
                // It goes with its context.
                // SAFETY: a place for the address.
                let taken = unsafe { (self.driver.cuMemAlloc_v2)(&mut at, self.random.size(MIB)) };
                self.refused += u64::from(taken == OUT_OF_MEMORY);
                must!(self.cuCtxSetCurrent(self.context));
                Some(Thing::Context(context))
            }
            _ => self.library()?,
        })
    }

    /// Of an array that may have levels.
    fn descriptor(&mut self) -> ArrayDescriptor {
        let side = |random: &mut Random| 4 + random.below(250);
        const UNSIGNED_INT8: u32 = 1;
        ArrayDescriptor {
            size: [side(&mut self.random), side(&mut self.random), 0],
            format: UNSIGNED_INT8,
            channels: 1 << self.random.below(3),
            flags: 0,
        }
    }

    fn physical(&mut self) -> Result<Option<Thing>> {
        const PINNED: i32 = 1;
        const READ_WRITE: i32 = 3;
        let bytes = GRANULE * (1 + self.random.below(4));
        let properties = Properties {
            kind: PINNED,
            handles: 0,
            location: DEVICE,
            security: null_mut(),
            flags: 0,
        };
        let (mut handle, mut at) = (0, 0);
        perhaps!(self.cuMemCreate(&mut handle, bytes, &properties, 0));
        must!(self.cuMemAddressReserve(&mut at, bytes, 0, 0, 0));
        must!(self.cuMemMap(at, bytes, 0, handle, 0));
        let access = Access {
            location: DEVICE,
            flags: READ_WRITE,
        };
        must!(self.cuMemSetAccess(at, bytes, &access, 1));
        Ok(Some(Thing::Physical { handle, at, bytes }))
    }

    fn library(&mut self) -> Result<Option<Thing>> {
        let (mut library, bytes) = (null_mut(), self.random.size(2 * MIB));
        let code = code(bytes);
        let (names, values) = (null_mut(), null_mut());
        perhaps!(self.cuLibraryLoadData(
            &mut library,
            code.as_ptr(),
            names,
            values,
            0,
            null_mut(),
            null_mut(),
            0
        ));
        let (mut at, mut size) = (0, 0);
        // Its variables are in a context once they are asked for.
        // SAFETY: places for both, and a name that ends.
        let code = unsafe {
            (self.driver.cuLibraryGetGlobal)(&mut at, &mut size, library, c"memory".as_ptr())
        };
        match code {
            0 => {}
            OUT_OF_MEMORY => self.refused += 1,
            code => bail!("cuLibraryGetGlobal: CUDA error {code}"),
        }
        Ok(Some(Thing::Library(library)))
    }

    fn graph(&mut self) -> Result<Option<Thing>> {
        const PINNED: i32 = 1;
        let (mut graph, mut executable) = (null_mut(), null_mut());
        must!(self.cuGraphCreate(&mut graph, 0));
        let (mut taken, mut given) = (null_mut(), null_mut());
        let mut params = AllocNode {
            kind: PINNED,
            handles: 0,
            location: DEVICE,
            security: null_mut(),
            most: 0,
            usage: 0,
            reserved: [0; 54],
            access: null(),
            accesses: 0,
            bytes: self.random.size(4 * MIB),
            address: 0,
        };
        // SAFETY: places and a structure that live longer than the call.
        let made = unsafe {
            (self.driver.cuGraphAddMemAllocNode)(&mut taken, graph, null(), 0, &mut params)
        };
        match made {
            0 => {}
            OUT_OF_MEMORY => {
                self.refused += 1;
                must!(self.cuGraphDestroy(graph));
                return Ok(None);
            }
            code => bail!("cuGraphAddMemAllocNode: CUDA error {code}"),
        }
        let address = params.address;
        must!(self.cuGraphAddMemFreeNode(&mut given, graph, &taken, 1, address));
        must!(self.cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        if self.random.below(2) == 0 {
            must!(self.cuGraphLaunch(executable, self.stream));
        }
        Ok(Some(Thing::Graph { graph, executable }))
    }

    fn give(&mut self, thing: Thing) -> Result<()> {
        match thing {
            Thing::Linear(at) => must!(self.cuMemFree_v2(at)),
            Thing::Pooled(at) => must!(self.cuMemFreeAsync(at, self.stream)),
            Thing::Array(array) => must!(self.cuArrayDestroy(array)),
            Thing::Mipmapped(array) => must!(self.cuMipmappedArrayDestroy(array)),
            Thing::Physical { handle, at, bytes } => {
                must!(self.cuMemUnmap(at, bytes));
                must!(self.cuMemRelease(handle));
                must!(self.cuMemAddressFree(at, bytes));
            }
            Thing::Module(module) => must!(self.cuModuleUnload(module)),
            Thing::Library(library) => must!(self.cuLibraryUnload(library)),
            Thing::Graph { graph, executable } => {
                must!(self.cuStreamSynchronize(self.stream));
                must!(self.cuGraphExecDestroy(executable));
                must!(self.cuGraphDestroy(graph));
            }
            Thing::Context(context) => {
                must!(self.cuCtxDestroy_v2(context));
                must!(self.cuCtxSetCurrent(self.context));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let full = self.things.len() >= MOST;
        match self.random.below(if full { 2 } else { 4 }) {
            0 | 1 if !self.things.is_empty() => {
                let at = self.random.below(self.things.len());
                let thing = self.things.swap_remove(at);
                self.give(thing)?;
            }
            _ => {
                let taken = self.take()?;
                self.things.extend(taken);
            }
        }
        if self.random.below(64) == 0 {
            must!(self.cuStreamSynchronize(self.stream));
            must!(self.cuMemPoolTrimTo(self.pool, 0));
        }
        Ok(())
    }

    fn pause(&mut self, done: usize) -> Result<()> {
        must!(self.cuCtxSynchronize());
        let mut out = std::io::stdout();
        writeln!(out, "{PAUSED} {done} {}", self.refused)?;
        out.flush()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "nobody wants it to go on");
        Ok(())
    }
}

/// So many steps, with a pause after each `every`; at last all is given back, and there is one more.
pub fn work(seed: u64, steps: usize, every: usize) -> Result<()> {
    let driver = Driver::load()?;
    let (mut context, mut stream, mut pool) = (null_mut(), null_mut(), null_mut());
    // SAFETY: places of ours.
    unsafe {
        crate::driver::check((driver.cuInit)(0))?;
        crate::driver::check((driver.cuCtxCreate_v2)(&mut context, 0, 0))?;
        crate::driver::check((driver.cuStreamCreate)(&mut stream, 1))?;
        crate::driver::check((driver.cuDeviceGetDefaultMemPool)(&mut pool, 0))?;
    }
    let mut worker = Worker {
        driver,
        context,
        stream,
        pool,
        random: Random::new(seed),
        things: Vec::new(),
        refused: 0,
    };
    for done in 1..=steps {
        let step = worker.step();
        step.with_context(|| format!("seed {seed}, step {done}"))?;
        if done % every == 0 {
            worker.pause(done)?;
        }
    }
    for thing in std::mem::take(&mut worker.things) {
        worker
            .give(thing)
            .with_context(|| format!("seed {seed}, at the end"))?;
    }
    worker.pause(steps)
}
