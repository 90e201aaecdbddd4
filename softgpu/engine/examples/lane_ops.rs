//! Prints how many lane operations a second one core does: chained FMA, independent FMA, and a copy through memory.

use std::os::fd::AsFd;
use std::time::Instant;

use softgpu_engine::{AddressSpace, CheckLevel, LaunchContext, Outcome, interpreter};

fn kernel(body: &str, per_loop: usize) -> (String, usize) {
    let text = format!(
        ".version 8.0\n.target sm_86\n.address_size 64\n.visible .entry k(.param .u64 o, .param .u32 n)
{{
.reg .f32 %f<20>; .reg .b32 %i, %n, %t; .reg .b64 %o, %w, %u, %s; .reg .pred %p, %q;
ld.param.u64 %o, [o]; ld.param.u32 %n, [n];
mov.u32 %t, %tid.x; mul.wide.u32 %w, %t, 4; mov.u64 %u, %o; add.u64 %o, %o, %w; mul.wide.u32 %w, %t, 16; add.u64 %s, %u, %w; setp.gt.u32 %q, %t, 5;
cvt.rn.f32.u32 %f0, %t; mov.f32 %f1, 0f3F7FFFF0; mov.f32 %f2, 0f3A83126F;
mov.f32 %f3, %f0; mov.f32 %f4, %f0; mov.f32 %f5, %f0; mov.f32 %f6, %f0;
mov.u32 %i, 0;
L:
{body}
add.u32 %i, %i, 1;
setp.lt.u32 %p, %i, %n;
@%p bra L;
add.f32 %f0, %f0, %f3; add.f32 %f0, %f0, %f4; add.f32 %f0, %f0, %f5; add.f32 %f0, %f0, %f6;
st.global.f32 [%o], %f0;
ret;
}}"
    );
    (text, per_loop)
}

fn main() {
    let space = AddressSpace::reserve(0x2100_0000_0000, 1 << 30).expect("an address window");
    let memory =
        rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
    rustix::fs::ftruncate(&memory, 1 << 20).expect("its size");
    space
        .map(space.base(), 1 << 20, memory.as_fd(), 0)
        .expect("its mapping");
    let chained = "fma.rn.f32 %f0, %f0, %f1, %f2;\n".repeat(64);
    let apart: String = (0..16)
        .map(|_| "fma.rn.f32 %f3, %f0, %f1, %f3; fma.rn.f32 %f4, %f0, %f1, %f4; fma.rn.f32 %f5, %f0, %f1, %f5; fma.rn.f32 %f6, %f0, %f1, %f6;\n")
        .collect();
    let memory_ops = "ld.global.f32 %f3, [%o]; st.global.f32 [%o+4096], %f3;\n".repeat(16);
    let strided = "ld.global.f32 %f3, [%s]; ld.global.f32 %f4, [%s+4];\n".repeat(16);
    let uniform = "ld.global.f32 %f3, [%u]; ld.global.f32 %f4, [%u+4];\n".repeat(16);
    let vectors = "ld.global.v4.f32 {%f3, %f4, %f5, %f6}, [%s];\n".repeat(8);
    let guarded = "@%q ld.global.f32 %f3, [%o]; @!%q mov.f32 %f3, 0f00000000;\n".repeat(16);
    let integer = "mad.lo.s32 %i, %t, 0, %i; shl.b32 %t, %t, 1; xor.b32 %t, %t, %n;\n".repeat(16);
    for (name, (text, per_loop)) in [
        ("chained fma", kernel(&chained, 64)),
        ("independent fma", kernel(&apart, 64)),
        ("load and store", kernel(&memory_ops, 32)),
        ("strided load", kernel(&strided, 32)),
        ("uniform load", kernel(&uniform, 32)),
        ("load of four", kernel(&vectors, 32)),
        ("guarded load and move", kernel(&guarded, 32)),
        ("integer", kernel(&integer, 48)),
    ] {
        let module = softgpu_ptx::parse(&text).expect("the benchmark's own text");
        let program = interpreter()
            .compile(&module)
            .expect("the benchmark's own text");
        for threads in [32u32, 128, 256, 1024] {
            let loops = 400_000 * 32 / threads / 4;
            let mut params = space.base().to_le_bytes().to_vec();
            params.extend(loops.to_le_bytes());
            let launch = LaunchContext {
                kernel: 0,
                grid: [64, 1, 1],
                block: [threads, 1, 1],
                dynamic_shared: 0,
                params: &params,
                globals: &[],
                memory: &space,
                check: CheckLevel::Pages,
                heap: None,
                workspace: 0,
                print: None,
                objects: None,
            };
            let blocks: Vec<[u32; 3]> = (0..program.gang(&launch) as u32)
                .map(|x| [x, 0, 0])
                .collect();
            let mut block = program.start_blocks(&launch, &blocks);
            let start = Instant::now();
            while block.run(1 << 24) == Outcome::Yielded {}
            let seconds = start.elapsed().as_secs_f64();
            let operations =
                f64::from(loops) * per_loop as f64 * f64::from(threads) * blocks.len() as f64;
            println!(
                "{name}, {threads} threads x {} blocks: {:.2} G lane-ops/s",
                blocks.len(),
                operations / seconds / 1e9
            );
        }
    }
}
