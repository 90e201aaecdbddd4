//! Texture and surface objects, in kernels as compilers write them.

use crate::arrays::{create, shape, whole};
use crate::common::*;
use softgpu_cuda::abi::{Memcpy3d, ResourceDesc, ResourceViewDesc, TextureDesc};

const U8: u32 = 1;
pub const U32: u32 = 3;
const S32: u32 = 10;
pub const F32: u32 = 0x20;
const LAYERED: u32 = 1;
pub const SURFACE: u32 = 2;
pub const NORMALIZED: u32 = 2;
const AS_INTEGER: u32 = 1;
const LAUNCH_FAILED: u32 = 719;

pub fn program() -> Program {
    Program::of(include_str!("textures.ptx"))
}

pub fn array(handle: u64) -> ResourceDesc {
    ResourceDesc {
        kind: 0,
        object: handle,
        ..ResourceDesc::default()
    }
}

pub fn clamped() -> TextureDesc {
    TextureDesc {
        address: [1; 3],
        ..TextureDesc::default()
    }
}

pub fn object(resource: &ResourceDesc, sampling: &TextureDesc) -> u64 {
    get(|out| cuTexObjectCreate(out, In::of(resource), In::of(sampling), In::null()))
}

pub fn float(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// An array of 8 by 4 floats, 10 * y + x.
pub fn plane(flags: u32) -> u64 {
    let plane = create(shape([8, 4, 0], F32, 1, flags));
    let values: Vec<f32> = (0..32).map(|at| (at / 8 * 10 + at % 8) as f32).collect();
    ok(whole(plane, values.as_ptr() as u64, [32, 4, 1], true));
    plane
}

#[test]
fn objects_are_sampled() {
    let program = program();
    let plane = plane(0);
    let out = alloc(16 * 8 * 4);
    let look = program.function("look");
    let run = |texture: u64, sx: f32, sy: f32| {
        ok(launch(look, 8, 16, &[out, texture, float(sx), float(sy)]));
        download::<f32>(out, 128)
    };
    // The nearest texel, at half a texel's distance.
    let nearest = object(&array(plane), &clamped());
    for (at, got) in run(nearest, 0.5, 0.5).into_iter().enumerate() {
        assert_eq!(got, (at / 16 / 2 * 10 + at % 16 / 2) as f32);
    }
    // Between texels: a plane is its own interpolation, but at the edges.
    let linear = TextureDesc {
        filter: 1,
        flags: NORMALIZED,
        ..clamped()
    };
    let smooth = object(&array(plane), &linear);
    for (at, got) in run(smooth, 1.0 / 16.0, 1.0 / 8.0).into_iter().enumerate() {
        let place = |n: usize, last: f32| ((n as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, last);
        let wanted = 10.0 * place(at / 16, 3.0) + place(at % 16, 7.0);
        assert!((got - wanted).abs() < 1e-4, "{at}: {got}, not {wanted}");
    }
    // Beyond it, the image again, or a border.
    let repeat = TextureDesc {
        address: [0; 3],
        flags: NORMALIZED,
        ..clamped()
    };
    for (at, got) in run(object(&array(plane), &repeat), 1.0 / 8.0, 1.0 / 4.0)
        .into_iter()
        .enumerate()
    {
        assert_eq!(got, (at / 16 % 4 * 10 + at % 8) as f32);
    }
    let border = TextureDesc {
        address: [3; 3],
        border: [77.0, 0.0, 0.0, 0.0],
        ..clamped()
    };
    for (at, got) in run(object(&array(plane), &border), 1.0, 1.0)
        .into_iter()
        .enumerate()
    {
        let (x, y) = (at % 16, at / 16);
        let wanted = if x < 8 && y < 4 {
            (10 * y + x) as f32
        } else {
            77.0
        };
        assert_eq!(got, wanted);
    }
    // What was described is told again.
    assert_eq!(
        get(|out| cuTexObjectGetResourceDesc(out, smooth)),
        array(plane)
    );
    assert_eq!(get(|out| cuTexObjectGetTextureDesc(out, smooth)), linear);
    let view = cuTexObjectGetResourceViewDesc(Out::of(&mut ResourceViewDesc::default()), smooth);
    assert_eq!(view, INVALID_VALUE);
    ok(cuTexObjectDestroy(smooth));
    assert_eq!(cuTexObjectDestroy(smooth), INVALID_HANDLE);
}

#[test]
fn memory_is_a_texture() {
    let program = program();
    let values: Vec<i32> = (0..400).map(|n| n * 3 - 100).collect();
    let memory = upload(&values);
    let linear = ResourceDesc {
        kind: 2,
        object: memory,
        format: S32,
        channels: 4,
        size: 1600,
        ..ResourceDesc::default()
    };
    let out = alloc(128 * 16);
    let texture = object(&linear, &clamped());
    let first = u64::from(-8i32 as u32);
    ok(launch(
        program.function("fetch"),
        2,
        64,
        &[out, texture, first],
    ));
    for (at, got) in download::<[i32; 4]>(out, 128).into_iter().enumerate() {
        // Outside of linear memory there is nothing.
        let inside = (8..108).contains(&at);
        let wanted = match inside {
            true => [0, 1, 2, 3].map(|part| values[(at - 8) * 4 + part]),
            false => [0; 4],
        };
        assert_eq!(got, wanted, "{at}");
    }
    let rows: Vec<f32> = (0..16 * 6).map(|n| n as f32).collect();
    let memory = upload(&rows);
    let pitched = ResourceDesc {
        kind: 3,
        object: memory,
        format: F32,
        channels: 1,
        size: 10,
        height: 6,
        pitch: 64,
        ..ResourceDesc::default()
    };
    let texture = object(&pitched, &clamped());
    let arguments = [out, texture, float(1.0), float(1.0)];
    ok(launch(program.function("look"), 8, 12, &arguments));
    for (at, got) in download::<f32>(out, 96).into_iter().enumerate() {
        let (x, y) = ((at % 12).min(9), (at / 12).min(5));
        assert_eq!(got, (16 * y + x) as f32);
    }
    let bad = |change: &dyn Fn(&mut ResourceDesc)| {
        let mut resource = pitched;
        change(&mut resource);
        let (out, sampling) = (Out::of(&mut 0), clamped());
        cuTexObjectCreate(out, In::of(&resource), In::of(&sampling), In::null())
    };
    assert_eq!(bad(&|r| r.object += 4), INVALID_VALUE);
    assert_eq!(bad(&|r| r.pitch = 40), INVALID_VALUE);
    assert_eq!(bad(&|r| r.pitch = 32), INVALID_VALUE);
    assert_eq!(bad(&|r| r.height = 7), INVALID_VALUE);
    assert_eq!(bad(&|r| r.height = 0), INVALID_VALUE);
    assert_eq!(bad(&|r| r.size = usize::MAX), INVALID_VALUE);
    assert_eq!(bad(&|r| r.channels = 3), INVALID_VALUE);
    assert_eq!(bad(&|r| r.flags = 1), INVALID_VALUE);
    assert_eq!(bad(&|r| r.kind = 4), INVALID_VALUE);
    assert_eq!(bad(&|r| (r.kind, r.object) = (0, 3)), INVALID_HANDLE);
    assert_eq!(
        bad(&|r| r.object = rows.as_ptr() as u64 / 512 * 512),
        INVALID_VALUE
    );
}

#[test]
fn fractions_and_views() {
    let program = program();
    let layers = create(shape([4, 2, 3], U8, 4, LAYERED));
    let bytes: Vec<u8> = (0..96).collect();
    ok(whole(layers, bytes.as_ptr() as u64, [16, 2, 3], true));
    let out = alloc(32);
    let look = program.function("look");
    let run = |texture: u64| {
        ok(launch(look, 2, 4, &[out, texture, float(1.0), float(1.0)]));
        download::<u32>(out, 8)
    };
    let (fractions, integers) = (
        clamped(),
        TextureDesc {
            flags: AS_INTEGER,
            ..clamped()
        },
    );
    let got = run(object(&array(layers), &fractions));
    let wanted: Vec<u32> = (0..8)
        .map(|at| (4.0 * at as f32 / 255.0).to_bits())
        .collect();
    assert_eq!(got, wanted);
    let got = run(object(&array(layers), &integers));
    assert_eq!(got, (0..8).map(|at| 4 * at).collect::<Vec<u32>>());
    // The second and third layer, as words: the first of them is what a plain lookup finds.
    let view = ResourceViewDesc {
        format: 13,
        width: 4,
        height: 2,
        first_layer: 1,
        last_layer: 2,
        ..ResourceViewDesc::default()
    };
    let texture = get(|out| {
        cuTexObjectCreate(
            out,
            In::of(&array(layers)),
            In::of(&integers),
            In::of(&view),
        )
    });
    let wanted = |at: u32| u32::from_le_bytes([0, 1, 2, 3].map(|part| (32 + 4 * at + part) as u8));
    assert_eq!(run(texture), (0..8).map(wanted).collect::<Vec<u32>>());
    assert_eq!(
        get(|out| cuTexObjectGetResourceViewDesc(out, texture)),
        view
    );
    let bad = |change: &dyn Fn(&mut ResourceViewDesc)| {
        let mut view = view;
        change(&mut view);
        let resource = array(layers);
        cuTexObjectCreate(
            Out::of(&mut 0),
            In::of(&resource),
            In::of(&integers),
            In::of(&view),
        )
    };
    assert_eq!(bad(&|v| v.last_layer = 3), INVALID_VALUE);
    assert_eq!(bad(&|v| v.first_level = 1), INVALID_VALUE);
    assert_eq!(bad(&|v| v.format = 1), INVALID_VALUE);
    assert_eq!(bad(&|v| v.format = 99), INVALID_VALUE);
    assert_eq!(name(bad(&|v| v.format = 30)), "CUDA_ERROR_NOT_SUPPORTED");
    let wrong = |sampling: TextureDesc| {
        let resource = array(layers);
        cuTexObjectCreate(
            Out::of(&mut 0),
            In::of(&resource),
            In::of(&sampling),
            In::null(),
        )
    };
    assert_eq!(
        wrong(TextureDesc {
            address: [1, 4, 1],
            ..clamped()
        }),
        INVALID_VALUE
    );
    assert_eq!(
        wrong(TextureDesc {
            filter: 2,
            ..clamped()
        }),
        INVALID_VALUE
    );
    assert_eq!(
        wrong(TextureDesc {
            flags: 0x100,
            ..clamped()
        }),
        INVALID_VALUE
    );
    ok(wrong(TextureDesc {
        filter: 1,
        ..fractions
    }));
}

#[test]
fn levels_of_detail() {
    let program = program();
    let descriptor = shape([16, 16, 0], F32, 1, 0);
    let mipmapped: u64 = get(|out| cuMipmappedArrayCreate(out, In::of(&descriptor), 4));
    for level in 0..4 {
        let array: u64 = get(|out| cuMipmappedArrayGetLevel(out, mipmapped, level));
        let size = 16 >> level;
        let values = vec![100.0 * level as f32; size * size];
        ok(whole(
            array,
            values.as_ptr() as u64,
            [size * 4, size, 1],
            true,
        ));
    }
    let resource = ResourceDesc {
        kind: 1,
        object: mipmapped,
        ..ResourceDesc::default()
    };
    let sampling = TextureDesc {
        flags: NORMALIZED,
        mipmap_filter: 1,
        max_level: 2.5,
        ..clamped()
    };
    let out = alloc(64);
    let run = |texture: u64| {
        let arguments = [out, texture, float(0.25)];
        ok(launch(program.function("levels"), 1, 16, &arguments));
        download::<f32>(out, 16)
    };
    for (at, got) in run(object(&resource, &sampling)).into_iter().enumerate() {
        assert_eq!(got, (25.0 * at as f32).min(250.0));
    }
    let view = ResourceViewDesc {
        width: 8,
        height: 8,
        first_level: 1,
        last_level: 2,
        ..ResourceViewDesc::default()
    };
    let texture =
        get(|out| cuTexObjectCreate(out, In::of(&resource), In::of(&sampling), In::of(&view)));
    for (at, got) in run(texture).into_iter().enumerate() {
        assert_eq!(got, 100.0 + (25.0 * at as f32).min(100.0));
    }
}

#[test]
fn surfaces_are_read_and_written() {
    let program = program();
    let (from, to) = (
        create(shape([10, 6, 0], U8, 4, SURFACE)),
        create(shape([10, 6, 0], U8, 4, SURFACE)),
    );
    let bytes: Vec<u8> = (0..240).collect();
    ok(whole(from, bytes.as_ptr() as u64, [40, 6, 1], true));
    ok(whole(to, [9u8; 240].as_ptr() as u64, [40, 6, 1], true));
    let surface = |handle| get(|out| cuSurfObjectCreate(out, In::of(&array(handle))));
    let (source, target): (u64, u64) = (surface(from), surface(to));
    assert_eq!(
        get(|out| cuSurfObjectGetResourceDesc(out, source)),
        array(from)
    );
    // More threads and blocks than texels: those outside do nothing.
    ok(launch(program.function("invert"), 8, 32, &[target, source]));
    let mut got = vec![0u8; 240];
    ok(whole(to, got.as_mut_ptr() as u64, [40, 6, 1], false));
    assert!(got.iter().zip(&bytes).all(|(got, from)| *got == 255 - from));
    ok(cuSurfObjectDestroy(target));
    assert_eq!(cuSurfObjectDestroy(target), INVALID_HANDLE);
    let plain = create(shape([10, 6, 0], U8, 4, 0));
    let result = cuSurfObjectCreate(Out::of(&mut 0), In::of(&array(plain)));
    assert_eq!(result, INVALID_VALUE);
    let mipmapped = ResourceDesc {
        kind: 1,
        ..array(from)
    };
    let result = cuSurfObjectCreate(Out::of(&mut 0), In::of(&mipmapped));
    assert_eq!(result, INVALID_VALUE);
}

#[test]
fn copies_of_arrays_are_in_stream_order() {
    let program = program();
    let surface = create(shape([8, 4, 0], U32, 1, SURFACE));
    let name = text("canvas");
    let canvas: u64 = get(|out| cuModuleGetSurfRef(out, program.module, c(&name)));
    ok(cuSurfRefSetArray(canvas, surface, 0));
    let pinned: u64 = get(|out| cuMemHostAlloc(out, 4096, 0));
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let paint = program.function("paint");
    let copy_out = |at: u64| {
        let params = Memcpy3d {
            src_type: 3,
            src_array: surface,
            dst_type: 1,
            dst_host: at,
            width: 32,
            height: 4,
            depth: 1,
            ..Memcpy3d::default()
        };
        ok(cuMemcpy3DAsync_v2(In::of(&params), stream));
    };
    for round in 0..8 {
        ok(launch_in(paint, 4, 8, stream, &[round * 7]));
        copy_out(pinned + round * 128);
    }
    ok(cuStreamSynchronize(stream));
    let check = |rounds: std::ops::Range<u64>, first: u64| {
        for round in rounds {
            for at in 0..32 {
                // SAFETY: the driver gave these bytes, and nothing runs.
                let got = unsafe { ((pinned + round * 128) as *const u32).add(at).read() };
                let wanted = at as u32 / 8 * 1000 + at as u32 % 8 + (first + round * 7) as u32;
                assert_eq!(got, wanted, "round {round}");
            }
        }
    };
    check(0..8, 0);
    // The same in a graph, whose nodes tell of the array.
    ok(cuStreamBeginCapture_v2(stream, 0));
    for round in 0..2 {
        ok(launch_in(paint, 4, 8, stream, &[100 + round * 7]));
        copy_out(pinned + round * 128);
    }
    let graph: u64 = get(|out| cuStreamEndCapture(stream, out));
    let mut nodes = [0u64; 4];
    let mut count = 4usize;
    ok(cuGraphGetNodes(
        graph,
        Out::of(&mut nodes[0]),
        Out::of(&mut count),
    ));
    assert_eq!(count, 4);
    let params: Memcpy3d = get(|out| cuGraphMemcpyNodeGetParams(nodes[1], out));
    assert_eq!((params.src_type, params.src_array), (3, surface));
    let executable: u64 = get(|out| cuGraphInstantiateWithFlags(out, graph, 0));
    ok(cuGraphLaunch(executable, stream));
    ok(cuStreamSynchronize(stream));
    check(0..2, 100);
    // A row, from pageable memory that changes at once, behind a kernel that waits.
    let line = create(shape([256, 0, 0], U8, 1, 0));
    let mut row = [3u8; 256];
    ok(launch_in(paint, 4, 8, stream, &[0]));
    ok(cuMemcpyHtoAAsync_v2(
        line,
        0,
        row.as_ptr() as u64,
        256,
        stream,
    ));
    row.fill(4);
    ok(cuMemcpyAtoHAsync_v2(pinned, line, 0, 256, stream));
    ok(cuStreamSynchronize(stream));
    // SAFETY: as above.
    let got = unsafe { (pinned as *const [u8; 256]).read() };
    assert!(got == [3; 256] && row == [4; 256]);
}

#[test]
fn bad_handles_end_the_launch() {
    let program = program();
    let out = alloc(128);
    let texture = object(&array(plane(0)), &clamped());
    ok(cuTexObjectDestroy(texture));
    let arguments = [out, texture, float(1.0), float(1.0)];
    ok(launch(program.function("look"), 1, 8, &arguments));
    assert_eq!(cuCtxSynchronize(), LAUNCH_FAILED);
    assert_eq!(cuMemAlloc_v2(Out::of(&mut 0), 8), LAUNCH_FAILED);
}

#[test]
fn unbound_references_and_freed_arrays() {
    let program = self::program();
    let out = alloc(128);
    let look = program.function("look_by_name");
    ok(launch(look, 1, 8, &[out, float(1.0), float(1.0)]));
    assert_eq!(cuCtxSynchronize(), LAUNCH_FAILED);
    let program = self::program();
    let large = create(shape([4096, 1024, 0], F32, 1, 0));
    let texture = object(&array(large), &clamped());
    ok(cuArrayDestroy(large));
    let out = alloc(128);
    let arguments = [out, texture, float(1.0), float(1.0)];
    ok(launch(program.function("look"), 1, 8, &arguments));
    assert_eq!(name(cuCtxSynchronize()), "CUDA_ERROR_ILLEGAL_ADDRESS");
}

#[test]
fn limits_are_told() {
    init();
    let attribute = |number| get(|out| cuDeviceGetAttribute(out, number, 0));
    let wanted = [
        (14, 512),
        (21, 131_072),
        (22, 131_072),
        (23, 65_536),
        (26, 16_384),
        (29, 2048),
        (43, 2048),
        (44, 1),
        (51, 32),
        (54, 2046),
        (60, 16_384),
        (69, 1 << 28),
        (72, 2_097_120),
        (77, 32_768),
    ];
    for (number, value) in wanted {
        assert_eq!(attribute(number), value, "{number}");
    }
    assert_eq!(
        get(|out| cuDeviceGetTexture1DLinearMaxWidth(out, F32, 4, 0)),
        1 << 28
    );
}
