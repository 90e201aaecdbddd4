//! A device of one block of memory: compiles PTX text, holds buffers, runs blocks.

use std::os::fd::AsFd;
use std::sync::Arc;

use softgpu_engine::{
    AddressSpace, CheckLevel, Fault, LaunchContext, Outcome, Program, interpreter,
};

pub const SIZE: u64 = 64 << 20;

pub struct Machine {
    pub space: AddressSpace,
    pub program: Arc<dyn Program>,
    pub globals: Vec<u64>,
    next: u64,
}

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
            space,
            program: program.clone(),
            globals: Vec::new(),
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
        }
        machine
    }

    fn room(&mut self, size: u64, align: u64) -> u64 {
        let at = self.next.next_multiple_of(align.max(256));
        self.next = at + size;
        assert!(self.next <= self.space.base() + SIZE);
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
        budget: u64,
        turns: u64,
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
            print: None,
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
            1 << 20,
            10_000,
        ) {
            Ok(true) => {}
            Ok(false) => panic!("{kernel} does not come to an end"),
            Err(fault) => panic!("{fault}"),
        }
    }
}

pub const HEAD: &str = ".version 8.0\n.target sm_86\n.address_size 64\n";

/// A kernel `k(out, a, b, c)` of 8-byte parameters in which each thread has its index in %i and its value's address in
/// the four %p registers, values of `width` bytes; `body` computes %o from them.
pub fn elementwise(declare: &str, load: &str, store: &str, width: u32, body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 po, .param .u64 pa, .param .u64 pb, .param .u64 pc)
{{
.reg .b32 %i; .reg .b64 %w, %po, %pa, %pb, %pc; .reg .pred %q, %q2;
{declare}
ld.param.u64 %po, [po]; ld.param.u64 %pa, [pa]; ld.param.u64 %pb, [pb]; ld.param.u64 %pc, [pc];
mov.u32 %i, %tid.x;
mov.u32 %w_, %ctaid.x;
mov.u32 %n_, %ntid.x;
mad.lo.u32 %i, %w_, %n_, %i;
mul.wide.u32 %w, %i, {width};
add.u64 %pa, %pa, %w; add.u64 %pb, %pb, %w; add.u64 %pc, %pc, %w;
{load}
{body}
mul.wide.u32 %w, %i, 8;
add.u64 %po, %po, %w;
{store}
ret;
}}"
    )
    .replace(".reg .b32 %i;", ".reg .b32 %i, %w_, %n_;")
}
