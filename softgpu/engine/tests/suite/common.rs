//! A device of one block of memory: compiles PTX text, holds buffers, runs blocks.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use softgpu_engine::texture::{self, Opaque, Sampler, Surface, Texture};
use softgpu_engine::{
    AddressSpace, CheckLevel, Fault, Heap, LaunchContext, Outcome, Program, interpreter,
};

pub const SIZE: u64 = 64 << 20;

pub struct Machine {
    pub space: AddressSpace,
    pub program: Arc<dyn Program>,
    pub globals: Vec<u64>,
    pub heap: Heap,
    pub objects: Objects,
    next: u64,
}

/// Textures, samplers and surfaces by their handles.
#[derive(Default)]
pub struct Objects {
    pub textures: HashMap<u64, Arc<Texture>>,
    pub samplers: HashMap<u64, Sampler>,
    pub surfaces: HashMap<u64, Arc<Surface>>,
}

impl texture::Objects for Objects {
    fn texture(&self, handle: u64) -> Option<Arc<Texture>> {
        self.textures.get(&handle).cloned()
    }

    fn sampler(&self, handle: u64) -> Option<Sampler> {
        let own = self.samplers.get(&handle).copied();
        own.or_else(|| self.textures.get(&handle).map(|texture| texture.sampler))
    }

    fn surface(&self, handle: u64) -> Option<Arc<Surface>> {
        self.surfaces.get(&handle).cloned()
    }

    fn is(&self, handle: u64, kind: Opaque) -> bool {
        match kind {
            Opaque::Texture => self.textures.contains_key(&handle),
            Opaque::Sampler => self.samplers.contains_key(&handle),
            Opaque::Surface => self.surfaces.contains_key(&handle),
        }
    }
}

/// Bytes of the heap, at the end of the memory.
pub const HEAP: u64 = 1 << 20;

impl Machine {
    pub fn new(ptx: &str) -> Machine {
        let module = match softgpu_ptx::parse(ptx) {
            Ok(module) => module,
            Err(error) => panic!("{error}\n{ptx}"),
        };
        let program = interpreter().compile(&module).unwrap();
        let space = AddressSpace::reserve(0x2100_0000_0000, 1 << 36).unwrap();
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, SIZE).unwrap();
        space.map(space.base(), SIZE, memory.as_fd(), 0).unwrap();
        let mut machine = Machine {
            next: space.base(),
            heap: Heap::new(space.base() + SIZE - HEAP, HEAP),
            space,
            program: program.clone(),
            globals: Vec::new(),
            objects: Objects::default(),
        };
        let placed: Vec<u64> = program
            .globals()
            .iter()
            .map(|global| machine.room(global.size, global.align))
            .collect();
        machine.globals = placed;
        for (at, &address) in machine.globals.clone().iter().enumerate() {
            let image = program.initial_image(at, &machine.globals);
            machine.write_bytes(address, &image);
            if let Some((Opaque::Sampler, sampler)) = program.globals()[at].opaque {
                machine.objects.samplers.insert(address, sampler);
            }
        }
        machine
    }

    /// Address of a variable of the module.
    pub fn global(&self, name: &str) -> u64 {
        let globals = self.program.globals();
        let at = globals.iter().position(|global| global.name == name);
        self.globals[at.expect("the variable is there")]
    }

    fn room(&mut self, size: u64, align: u64) -> u64 {
        let at = self.next.next_multiple_of(align.max(256));
        self.next = at + size;
        assert!(self.next <= self.space.base() + SIZE - HEAP);
        at
    }

    pub fn write_bytes(&self, address: u64, bytes: &[u8]) {
        assert!(self.space.check(address, bytes.len() as u64));
        // SAFETY: the range is resident, and no kernel runs now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }

    pub fn buffer<T: Copy>(&mut self, values: &[T]) -> u64 {
        let size = size_of_val(values) as u64;
        let address = self.room(size, 256);
        // SAFETY: plain values as bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size as usize) };
        self.write_bytes(address, bytes);
        address
    }

    pub fn read<T: Copy>(&self, address: u64, count: usize) -> Vec<T> {
        assert!(self.space.check(address, (count * size_of::<T>()) as u64));
        // SAFETY: the range is resident, and no kernel runs now.
        (0..count)
            .map(|at| unsafe { std::ptr::read_volatile((address as *const T).add(at)) })
            .collect()
    }

    /// Run all blocks, taking turns of `budget` instructions, in gangs as the engine likes them.
    pub fn launch_with(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        params: &[u64],
        (budget, turns): (u64, u64),
    ) -> Result<bool, Fault> {
        let index = self
            .program
            .kernels()
            .iter()
            .position(|info| info.name == kernel)
            .expect("the kernel is there");
        if let Err(error) = self.program.prepare(index) {
            panic!("{error}");
        }
        let params: Vec<u8> = params
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let launch = LaunchContext {
            kernel: index,
            grid,
            block,
            dynamic_shared: shared,
            params: &params,
            globals: &self.globals,
            memory: &self.space,
            check: CheckLevel::Pages,
            heap: Some(&self.heap),
            workspace: 0,
            print: None,
            objects: Some(&self.objects),
        };
        let mut all = Vec::new();
        for z in 0..grid[2] {
            for y in 0..grid[1] {
                for x in 0..grid[0] {
                    all.push([x, y, z]);
                }
            }
        }
        let gang = self.program.gang(&launch);
        let mut running: Vec<_> = all
            .chunks(gang)
            .map(|blocks| self.program.start_blocks(&launch, blocks))
            .collect();
        for _ in 0..turns {
            let mut left = Vec::new();
            for mut block in running {
                match block.run(budget) {
                    Outcome::Done => {}
                    Outcome::Yielded => left.push(block),
                    Outcome::Fault(fault) => return Err(fault),
                }
            }
            running = left;
            if running.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn launch(&self, kernel: &str, grid: u32, block: u32, params: &[u64]) {
        match self.launch_with(
            kernel,
            [grid, 1, 1],
            [block, 1, 1],
            0,
            params,
            (1 << 20, 10_000),
        ) {
            Ok(true) => {}
            Ok(false) => panic!("{kernel} does not come to an end"),
            Err(fault) => panic!("{fault}"),
        }
    }
}

pub const HEAD: &str = ".version 8.0\n.target sm_86\n.address_size 64\n";

/// Random numbers from a printed seed, with the values at which arithmetic goes wrong mixed in.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn value(&mut self, width: u32) -> u64 {
        let edges32 = [
            0,
            1,
            2,
            31,
            32,
            33,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            0xffff_ffff,
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x0080_0000,
            0x0040_0000,
            0x8000_0007,
            0x7f7f_ffff,
            0x4b00_0001,
            0x3effffff,
            0x40200000,
            0x5f00_0000,
        ];
        let edges64 = [
            0,
            1,
            63,
            64,
            65,
            i64::MAX as u64,
            i64::MIN as u64,
            u64::MAX,
            1f64.to_bits(),
            (-1f64).to_bits(),
            f64::INFINITY.to_bits(),
            f64::NEG_INFINITY.to_bits(),
            f64::NAN.to_bits(),
            f64::MIN_POSITIVE.to_bits(),
            5,
            f64::MAX.to_bits(),
            2.5f64.to_bits(),
            0x4340_0000_0000_0001,
        ];
        let edges16 = [
            0, 1, 15, 16, 0x7fff, 0x8000, 0xffff, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x0400,
            0x03ff, 0x7bff,
        ];
        let pick = self.next();
        let random = self.next();
        match (pick % 3, width) {
            (0, 2) => edges16[random as usize % edges16.len()],
            (0, 4) => edges32[random as usize % edges32.len()],
            (0, _) => edges64[random as usize % edges64.len()],
            // Floats of everyday size, and small integers.
            (1, 4) => {
                u64::from(((random as i32 as f32) / 65536.0).to_bits())
                    & if random >> 40 & 1 != 0 { 0x3f } else { !0 }
            }
            (1, 8) => {
                ((random as i64 as f64) / 65536.0).to_bits()
                    & if random & 1 != 0 { 0x7f } else { !0 }
            }
            (_, 2) => random & 0xffff,
            (_, 4) => random & 0xffff_ffff,
            _ => random,
        }
    }
}

/// Compare `body`, which computes %o from %a, %b and %c, with `expected`, bit for bit, for many values: once by all
/// threads, once by those only for which a branch was taken. Widths in bytes, of operands and result.
pub fn compare(body: &str, widths: (u32, u32), expected: impl Fn(u64, u64, u64) -> u64) {
    let seed = 0x9e37_79b9_7f4a_7c15 ^ body.len() as u64;
    let mut random = Random(seed);
    let (wide, out) = (widths.0 * 8, widths.1 * 8);
    for every in [true, false] {
        let skip = if every {
            ""
        } else {
            "and.b32 %t, %i, 3; setp.eq.u32 %q, %t, 1; @%q bra SKIP;"
        };
        let ptx = format!(
            "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pa, .param .u64 pb, .param .u64 pc)
{{
.reg .b32 %i, %t, %n; .reg .b64 %w, %po, %pa, %pb, %pc; .reg .pred %q, %p, %p1; .reg .b{wide} %a, %b, %c; .reg .b{out} %o;
.reg .b16 %h<4>; .reg .b32 %r<4>; .reg .b64 %d<4>;
ld.param.u64 %po, [po]; ld.param.u64 %pa, [pa]; ld.param.u64 %pb, [pb]; ld.param.u64 %pc, [pc];
mov.u32 %i, %tid.x; mov.u32 %t, %ctaid.x; mov.u32 %n, %ntid.x;
mad.lo.u32 %i, %t, %n, %i;
{skip}
mul.wide.u32 %w, %i, {};
add.u64 %pa, %pa, %w; add.u64 %pb, %pb, %w; add.u64 %pc, %pc, %w;
ld.global.b{wide} %a, [%pa]; ld.global.b{wide} %b, [%pb]; ld.global.b{wide} %c, [%pc];
{body}
mul.wide.u32 %w, %i, {};
add.u64 %po, %po, %w;
st.global.b{out} [%po], %o;
SKIP: ret;
}}",
            widths.0, widths.1
        );
        let mut machine = Machine::new(&ptx);
        const THREADS: u32 = 250;
        const BLOCKS: u32 = 16;
        let n = (THREADS * BLOCKS) as usize;
        let mut inputs = Vec::new();
        let mut addresses = vec![machine.buffer(&vec![0xa5u8; n * widths.1 as usize])];
        for _ in 0..3 {
            let values: Vec<u64> = (0..n).map(|_| random.value(widths.0)).collect();
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes()[..widths.0 as usize].to_vec())
                .collect();
            addresses.push(machine.buffer(&bytes));
            inputs.push(values);
        }
        machine.launch("k", BLOCKS, THREADS, &addresses);
        let bytes = machine.read::<u8>(addresses[0], n * widths.1 as usize);
        for i in 0..n {
            let mut value = [0; 8];
            value[..widths.1 as usize]
                .copy_from_slice(&bytes[i * widths.1 as usize..][..widths.1 as usize]);
            let got = u64::from_le_bytes(value);
            let (a, b, c) = (inputs[0][i], inputs[1][i], inputs[2][i]);
            let mask = u64::MAX >> (64 - out);
            let wanted = if every || i % 4 != 1 {
                expected(a, b, c)
            } else {
                0xa5a5_a5a5_a5a5_a5a5
            } & mask;
            assert_eq!(
                got, wanted,
                "{body}: a {a:#x} b {b:#x} c {c:#x}: got {got:#x}, wanted {wanted:#x}, seed {seed}"
            );
        }
    }
}
