use crate::common::*;
use softgpu_cuda::abi::LaunchConfig;

#[test]
fn parameters_by_pointers_and_packed() {
    let program = Program::new();
    let mixed = program.function("mixed");
    let out = upload(&[0u32]);
    let (a, b, c) = (200u8, 60_000u16, 1_000_000u32);
    let pointers = [
        std::ptr::from_ref(&a) as u64,
        std::ptr::from_ref(&out) as u64,
        std::ptr::from_ref(&b) as u64,
        std::ptr::from_ref(&c) as u64,
    ];
    ok(cuLaunchKernel(
        mixed,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        0,
        In::of_slice(&pointers),
        In::null(),
    ));
    assert_eq!(download::<u32>(out, 1), [1_060_200]);

    let info = |index| {
        let (mut offset, mut size) = (0, 0);
        let result = cuFuncGetParamInfo(mixed, index, Out::of(&mut offset), Out::of(&mut size));
        (result, offset, size)
    };
    assert_eq!(
        [0, 1, 2, 3].map(info),
        [(0, 0, 1), (0, 8, 8), (0, 16, 2), (0, 20, 4)]
    );
    assert_eq!(info(4).0, INVALID_VALUE);

    let mut packed = [0u8; 24];
    packed[0] = 1;
    packed[8..16].copy_from_slice(&out.to_le_bytes());
    packed[16..18].copy_from_slice(&2u16.to_le_bytes());
    packed[20..24].copy_from_slice(&3u32.to_le_bytes());
    let run = |size: usize| {
        let extra = [
            1,
            packed.as_ptr() as u64,
            2,
            std::ptr::from_ref(&size) as u64,
            0,
        ];
        cuLaunchKernel(
            mixed,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            0,
            In::null(),
            In::of_slice(&extra),
        )
    };
    ok(run(24));
    assert_eq!(download::<u32>(out, 1), [6]);
    assert_eq!(run(23), INVALID_VALUE);
    assert_eq!(
        cuLaunchKernel(mixed, 1, 1, 1, 1, 1, 1, 0, 0, In::null(), In::null()),
        INVALID_VALUE
    );
}

#[test]
fn grids_cover_every_thread_once() {
    let program = Program::new();
    let count = 300 * 128;
    let at = upload(&vec![5u32; count]);
    let add = program.function("add");
    ok(launch(add, 300, 128, &[at, 2]));
    ok(launch(add, 300, 128, &[at, 3]));
    assert!(download::<u32>(at, count).iter().all(|&n| n == 10));
}

#[test]
fn impossible_launches_are_refused() {
    let program = Program::new();
    let add = program.function("add");
    let at = upload(&[0u32; 64]);
    let values = [at, 1];
    let pointers: Vec<u64> = values
        .iter()
        .map(|value| std::ptr::from_ref(value) as u64)
        .collect();
    let shape = |grid: [u32; 3], block: [u32; 3], shared: u32| {
        let [gx, gy, gz] = grid;
        let [bx, by, bz] = block;
        cuLaunchKernel(
            add,
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            shared,
            0,
            In::of_slice(&pointers),
            In::null(),
        )
    };
    for grid in [
        [0, 1, 1],
        [1, 0, 1],
        [1, 1, 0],
        [1 << 31, 1, 1],
        [1, 65_536, 1],
        [1, 1, 65_536],
    ] {
        assert_eq!(shape(grid, [1, 1, 1], 0), INVALID_VALUE, "{grid:?}");
    }
    for block in [
        [0, 1, 1],
        [1025, 1, 1],
        [1, 1, 65],
        [32, 32, 2],
        [u32::MAX, u32::MAX, 1],
    ] {
        assert_eq!(shape([1, 1, 1], block, 0), INVALID_VALUE, "{block:?}");
    }
    assert_eq!(shape([1, 1, 1], [1, 1, 1], 49_153), INVALID_VALUE);
    assert_eq!(launch(program.module, 1, 1, &values), INVALID_HANDLE);
    assert_eq!(launch(0, 1, 1, &values), INVALID_HANDLE);
    assert_eq!(launch_in(add, 1, 1, add, &values), INVALID_HANDLE);
    assert_eq!(
        launch(program.function("bounded"), 1, 65, &values),
        INVALID_VALUE
    );
    ok(cuCtxSynchronize());
    assert_eq!(download::<u32>(at, 2), [0, 0]);
    // Launching with another context's function.
    let other: u64 = get(|out| cuCtxCreate_v2(out, 0, 0));
    assert_eq!(launch(add, 1, 1, &values), INVALID_HANDLE);
    ok(cuCtxDestroy_v2(other));
}

#[test]
fn shared_memory_as_asked_for() {
    let program = Program::new();
    let neighbour = program.function("neighbour");
    let at = upload(&[0u32; 64]);
    let pointer = [std::ptr::from_ref(&at) as u64];
    let run = |shared| {
        cuLaunchKernel(
            neighbour,
            1,
            1,
            1,
            64,
            1,
            1,
            shared,
            0,
            In::of_slice(&pointer),
            In::null(),
        )
    };
    ok(run(256));
    let expected: Vec<u32> = (0..64).map(|i| (i + 1) % 64).collect();
    assert_eq!(download::<u32>(at, 64), expected);
    assert_eq!(run(64 << 10), INVALID_VALUE);
    ok(cuFuncSetAttribute(neighbour, 8, 64 << 10));
    assert_eq!(get(|out| cuFuncGetAttribute(out, 8, neighbour)), 64 << 10);
    ok(run(64 << 10));
    ok(cuCtxSynchronize());
    assert_eq!(cuFuncSetAttribute(neighbour, 8, 100 << 10), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(neighbour, 8, -1), INVALID_VALUE);
}

#[test]
fn launch_with_a_configuration() {
    let program = Program::new();
    let at = upload(&[1u32; 8]);
    let values = [at, 4u64];
    let pointers: Vec<u64> = values
        .iter()
        .map(|value| std::ptr::from_ref(value) as u64)
        .collect();
    let config = LaunchConfig {
        grid: [2, 1, 1],
        block: [4, 1, 1],
        shared: 0,
        stream: 0,
        attributes: 0,
        attribute_count: 0,
    };
    let add = program.function("add");
    ok(cuLaunchKernelEx(
        In::of(&config),
        add,
        In::of_slice(&pointers),
        In::null(),
    ));
    assert_eq!(download::<u32>(at, 8), [5; 8]);
}

#[test]
fn blocks_that_wait_for_each_other_all_run() {
    let program = Program::new();
    let meet = program.function("meet");
    let at = upload(&[0u32; 2]);
    let values = [at, 40u64];
    let pointers: Vec<u64> = values
        .iter()
        .map(|value| std::ptr::from_ref(value) as u64)
        .collect();
    ok(cuLaunchCooperativeKernel(
        meet,
        40,
        1,
        1,
        32,
        1,
        1,
        0,
        0,
        In::of_slice(&pointers),
    ));
    // 40 blocks of 32 threads arrive; 40 is reached by the first of them.
    assert_eq!(download::<u32>(at, 2), [1280, 1280]);
    assert_eq!(
        cuLaunchCooperativeKernel(meet, 1 << 20, 1, 1, 32, 1, 1, 0, 0, In::of_slice(&pointers)),
        720
    );
}

/// A grid's barrier as cooperative_groups.h has it, and as libcudadevrt's callers ask for it: each round, all blocks count.
const ROUNDS: &str = r#"
.version 7.0
.target sm_70
.address_size 64
.extern .func (.param .b64 handle) cudaCGGetIntrinsicHandle(.param .b32 scope);
.extern .func (.param .b32 error) cudaCGSynchronizeGrid(.param .b64 handle, .param .b32 flags);

.visible .entry rounds(.param .u64 out, .param .u32 times)
{
    .reg .pred %p;
    .reg .b32 %a, %b, %left, %seen, %error;
    .reg .b64 %out, %handle;
    ld.param.u64 %out, [out];
    ld.param.u32 %left, [times];
    {
        .param .b32 scope;
        .param .b64 handle;
        st.param.b32 [scope], 1;
        call (handle), cudaCGGetIntrinsicHandle, (scope);
        ld.param.b64 %handle, [handle];
    }
    mov.u32 %seen, 0;
again:
    atom.global.add.u32 %a, [%out], 1;
    {
        .param .b64 handle;
        .param .b32 flags, error;
        st.param.b64 [handle], %handle;
        st.param.b32 [flags], 0;
        call (error), cudaCGSynchronizeGrid, (handle, flags);
        ld.param.b32 %error, [error];
    }
    // Nobody may count on before all have looked.
    ld.volatile.global.u32 %a, [%out];
    {
        .param .b64 handle;
        .param .b32 flags, error;
        st.param.b64 [handle], %handle;
        st.param.b32 [flags], 0;
        call (error), cudaCGSynchronizeGrid, (handle, flags);
        ld.param.b32 %b, [error];
    }
    or.b32 %error, %error, %b;
    // Threads so far: nctaid * 64 for each round.
    add.u32 %seen, %seen, 1;
    mov.u32 %b, %nctaid.x;
    mul.lo.u32 %b, %b, 64;
    mul.lo.u32 %b, %b, %seen;
    setp.ne.u32 %p, %a, %b;
    @%p atom.global.add.u32 %a, [%out+4], 1;
    setp.ne.u32 %p, %error, 0;
    @%p atom.global.add.u32 %a, [%out+8], 1;
    sub.u32 %left, %left, 1;
    setp.gt.u32 %p, %left, 0;
    @%p bra again;
    ret;
}
"#;

#[test]
fn all_blocks_of_a_cooperative_launch_meet() {
    let _context = Program::new();
    let module = get(|out| cuModuleLoadData(out, c(&text(ROUNDS)).cast()));
    let rounds = get(|out| cuModuleGetFunction(out, module, c(&text("rounds"))));
    let run = |blocks: u32, cooperative: bool| {
        let at = upload(&[0u32; 3]);
        let values = [at, 3u64];
        let pointers: Vec<u64> = values
            .iter()
            .map(|value| std::ptr::from_ref(value) as u64)
            .collect();
        let params = In::of_slice(&pointers);
        ok(if cooperative {
            cuLaunchCooperativeKernel(rounds, blocks, 1, 1, 64, 1, 1, 0, 0, params)
        } else {
            cuLaunchKernel(rounds, blocks, 1, 1, 64, 1, 1, 0, 0, params, In::null())
        });
        download::<u32>(at, 3)
    };
    // (threads times rounds, who has seen another number, who got an error)
    for blocks in [1, 7, 20] {
        assert_eq!(run(blocks, true), [blocks * 64 * 3, 0, 0]);
    }
    // Of an ordinary launch there is no grid to wait for.
    assert_eq!(run(1, false)[2], 3 * 64);
}

#[test]
fn kernels_wait_for_others_in_other_streams() {
    let program = Program::new();
    let streams = [0, 0].map(|_| get(|out| cuStreamCreate(out, 1)));
    let at = upload(&[0u32; 2]);
    // With as many waiting kernels as threads, the one that they wait for still gets its turn.
    ok(launch_in(
        program.function("wait"),
        4,
        64,
        streams[0],
        &[at, at + 4],
    ));
    assert_eq!(cuStreamQuery(streams[0]), NOT_READY);
    ok(launch_in(
        program.function("add"),
        1,
        1,
        streams[1],
        &[at, 9],
    ));
    ok(cuStreamSynchronize(streams[0]));
    ok(cuStreamQuery(streams[0]));
    assert_eq!(download::<u32>(at, 2), [9, 9]);
}

#[test]
fn kernels_allocate_from_a_heap() {
    let program = Program::new();
    ok(cuCtxSetLimit(2, 1 << 20));
    let (take, give) = (program.function("take"), program.function("give"));
    let out = upload(&[0u64]);
    let taken: Vec<u64> = [100u64, 4096, 1 << 19]
        .into_iter()
        .map(|bytes| {
            ok(launch_in(take, 1, 1, 0, &[out, bytes, bytes + 7]));
            download(out, 1)[0]
        })
        .collect();
    assert!(
        taken
            .iter()
            .all(|&address| address != 0 && address % 16 == 0)
    );
    // There is not as much as that left.
    ok(launch_in(take, 1, 1, 0, &[out, 1 << 19, 0]));
    assert_eq!(download::<u64>(out, 1), [0]);
    // What one launch allocated, another one finds and frees.
    for (address, bytes) in taken.into_iter().zip([100u64, 4096, 1 << 19]) {
        ok(launch_in(give, 1, 1, 0, &[out, bytes, address]));
        assert_eq!(download::<u32>(out, 1), [bytes as u32 + 7]);
    }
    ok(launch_in(take, 1, 1, 0, &[out, 1 << 20, 0]));
    assert_ne!(download::<u64>(out, 1), [0]);
}
