//! CUDA arrays: descriptors, memory, copies.

use crate::common::*;
use softgpu_cuda::abi::{Array3dDescriptor, ArrayDescriptor, Memcpy2d, Memcpy3d};

const U8: u32 = 1;
const S16: u32 = 9;
const U32: u32 = 3;
const F32: u32 = 0x20;
const LAYERED: u32 = 1;
const SURFACE: u32 = 2;
const CUBE: u32 = 4;
const GATHER: u32 = 8;

pub fn shape(size: [usize; 3], format: u32, channels: u32, flags: u32) -> Array3dDescriptor {
    Array3dDescriptor {
        width: size[0],
        height: size[1],
        depth: size[2],
        format,
        channels,
        flags,
    }
}

pub fn create(descriptor: Array3dDescriptor) -> u64 {
    get(|out| cuArray3DCreate_v2(out, In::of(&descriptor)))
}

/// Host memory to or from the whole of an array.
pub fn whole(array: u64, host: u64, size: [usize; 3], into: bool) -> u32 {
    let mut params = Memcpy3d {
        src_type: 1,
        src_host: host,
        dst_type: 3,
        dst_array: array,
        width: size[0],
        height: size[1],
        depth: size[2],
        ..Memcpy3d::default()
    };
    if !into {
        (params.src_type, params.src_array) = (3, array);
        (params.dst_type, params.dst_host) = (1, host);
    }
    cuMemcpy3D_v2(In::of(&params))
}

#[test]
fn every_kind_is_described() {
    let _program = Program::new();
    let sizes = [
        ([100, 0, 0], 0),
        ([100, 50, 0], 0),
        ([100, 50, 0], GATHER | SURFACE),
        ([20, 30, 10], SURFACE),
        ([100, 0, 7], LAYERED),
        ([100, 50, 7], LAYERED | SURFACE),
        ([32, 32, 6], CUBE),
        ([32, 32, 12], CUBE | LAYERED),
    ];
    for (size, flags) in sizes {
        for format in [1, 2, 3, 8, 9, 10, 0x10, 0x20] {
            for channels in [1, 2, 4] {
                let descriptor = shape(size, format, channels, flags);
                let array = create(descriptor);
                let found: Array3dDescriptor = get(|out| cuArray3DGetDescriptor_v2(out, array));
                assert_eq!(found, descriptor);
                let flat: ArrayDescriptor = get(|out| cuArrayGetDescriptor_v2(out, array));
                assert_eq!((flat.width, flat.height), (size[0], size[1]));
                assert_eq!((flat.format, flat.channels), (format, channels));
                ok(cuArrayDestroy(array));
                assert_eq!(cuArrayDestroy(array), INVALID_HANDLE);
            }
        }
    }
    let flat = ArrayDescriptor {
        width: 9,
        height: 4,
        format: F32,
        channels: 1,
    };
    let array: u64 = get(|out| cuArrayCreate_v2(out, In::of(&flat)));
    let found: Array3dDescriptor = get(|out| cuArray3DGetDescriptor_v2(out, array));
    assert_eq!(found, shape([9, 4, 0], F32, 1, 0));
}

#[test]
fn what_cannot_be_is_refused() {
    let _program = Program::new();
    let bad = [
        shape([0, 0, 0], U8, 1, 0),
        shape([8, 0, 0], U8, 3, 0),
        shape([8, 0, 0], 7, 1, 0),
        shape([8, 0, 5], U8, 1, 0),
        shape([8, 8, 0], U8, 1, LAYERED),
        shape([8, 9, 6], U8, 1, CUBE),
        shape([8, 8, 7], U8, 1, CUBE),
        shape([8, 8, 7], U8, 1, CUBE | LAYERED),
        shape([8, 0, 0], U8, 1, GATHER),
        shape([8, 8, 0], U8, 1, 0x1000),
        shape([131_073, 0, 0], U8, 1, 0),
        shape([8, 65_537, 0], U8, 1, 0),
        shape([8, 8, 16_385], U8, 1, 0),
        shape([8, 8, 2049], U8, 1, LAYERED),
        shape([32_769, 0, 0], U8, 1, SURFACE),
        shape([usize::MAX, 0, 0], U8, 1, 0),
    ];
    for descriptor in bad {
        let result = cuArray3DCreate_v2(Out::of(&mut 0), In::of(&descriptor));
        assert_eq!(result, INVALID_VALUE, "{descriptor:?}");
    }
    let refused = [shape([8, 8, 0], 0x91, 4, 0), shape([8, 8, 0], U8, 1, 0x40)];
    for descriptor in refused {
        let result = cuArray3DCreate_v2(Out::of(&mut 0), In::of(&descriptor));
        assert_eq!(name(result), "CUDA_ERROR_NOT_SUPPORTED", "{descriptor:?}");
    }
    let good = shape([8, 0, 0], U8, 1, 0);
    assert_eq!(
        cuArray3DCreate_v2(Out::null(), In::of(&good)),
        INVALID_VALUE
    );
    assert_eq!(
        cuArray3DCreate_v2(Out::of(&mut 0), In::null()),
        INVALID_VALUE
    );
    let found = cuArray3DGetDescriptor_v2(Out::of(&mut Array3dDescriptor::default()), 77);
    assert_eq!(found, INVALID_HANDLE);
    assert_eq!(cuArrayDestroy(0), INVALID_HANDLE);
}

#[test]
fn arrays_take_memory() {
    init();
    let large = shape([16_384, 10_240, 0], U8, 1, 0);
    let second = || cuArray3DCreate_v2(Out::of(&mut 0), In::of(&large));
    let context: u64 = get(|out| cuCtxCreate_v2(out, 0, 1));
    let array = create(large);
    assert_eq!(second(), OUT_OF_MEMORY);
    ok(cuArrayDestroy(array));
    ok(second());
    ok(cuCtxDestroy_v2(context));
    // What a context had is free again, and its handles are gone.
    let context: u64 = get(|out| cuCtxCreate_v2(out, 0, 1));
    let levels: u64 = get(|out| cuMipmappedArrayCreate(out, In::of(&large), 1));
    assert_eq!(second(), OUT_OF_MEMORY);
    ok(cuMipmappedArrayDestroy(levels));
    let array = create(large);
    ok(cuCtxDestroy_v2(context));
    assert_eq!(cuArrayDestroy(array), INVALID_HANDLE);
}

#[test]
fn mipmapped_arrays_have_levels() {
    let _program = Program::new();
    let descriptor = shape([20, 12, 0], F32, 1, 0);
    let mipmapped: u64 = get(|out| cuMipmappedArrayCreate(out, In::of(&descriptor), 99));
    // 20, 10, 5, 2, 1
    for (level, size) in [
        (0, [20, 12]),
        (1, [10, 6]),
        (2, [5, 3]),
        (3, [2, 1]),
        (4, [1, 1]),
    ] {
        let array: u64 = get(|out| cuMipmappedArrayGetLevel(out, mipmapped, level));
        assert_eq!(
            get(|out| cuMipmappedArrayGetLevel(out, mipmapped, level)),
            array
        );
        let found: Array3dDescriptor = get(|out| cuArray3DGetDescriptor_v2(out, array));
        assert_eq!(found, shape([size[0], size[1], 0], F32, 1, 0));
        assert_eq!(cuArrayDestroy(array), INVALID_VALUE);
        // Levels lie apart: each keeps its own values.
        let values = vec![level as f32; size[0] * size[1]];
        ok(whole(
            array,
            values.as_ptr() as u64,
            [size[0] * 4, size[1], 1],
            true,
        ));
    }
    for (level, size) in [
        (0, [20, 12]),
        (1, [10, 6]),
        (2, [5, 3]),
        (3, [2, 1]),
        (4, [1, 1]),
    ] {
        let array: u64 = get(|out| cuMipmappedArrayGetLevel(out, mipmapped, level));
        let mut values = vec![9f32; size[0] * size[1]];
        ok(whole(
            array,
            values.as_mut_ptr() as u64,
            [size[0] * 4, size[1], 1],
            false,
        ));
        assert!(values.iter().all(|&value| value == level as f32));
    }
    let missing = cuMipmappedArrayGetLevel(Out::of(&mut 0), mipmapped, 5);
    assert_eq!(missing, INVALID_VALUE);
    let level: u64 = get(|out| cuMipmappedArrayGetLevel(out, mipmapped, 0));
    ok(cuMipmappedArrayDestroy(mipmapped));
    assert_eq!(cuMipmappedArrayDestroy(mipmapped), INVALID_HANDLE);
    let gone = cuArrayGetDescriptor_v2(Out::of(&mut ArrayDescriptor::default()), level);
    assert_eq!(gone, INVALID_HANDLE);
}

#[test]
fn boxes_go_in_and_out() {
    let _program = Program::new();
    // 6 by 5 by 4 of two shorts.
    let array = create(shape([6, 5, 4], S16, 2, 0));
    let values: Vec<u32> = (0..120).collect();
    ok(whole(array, values.as_ptr() as u64, [24, 5, 4], true));
    // A box of 3 by 2 by 2 texels from (2, 1, 1), to device memory of its own pitch.
    let device = upload(&[u32::MAX; 64]);
    let mut params = Memcpy3d {
        src_type: 3,
        src_array: array,
        src_x: 8,
        src_y: 1,
        src_z: 1,
        dst_type: 2,
        dst_device: device,
        dst_x: 4,
        dst_pitch: 20,
        dst_height: 3,
        width: 12,
        height: 2,
        depth: 2,
        ..Memcpy3d::default()
    };
    ok(cuMemcpy3D_v2(In::of(&params)));
    let mut wanted = vec![u32::MAX; 64];
    for (z, y, x) in [0, 1].into_iter().flat_map(|z| {
        [0, 1]
            .map(|y| (z, y))
            .into_iter()
            .flat_map(|(z, y)| [0, 1, 2].map(|x| (z, y, x)))
    }) {
        wanted[z * 15 + y * 5 + 1 + x] = ((z + 1) * 30 + (y + 1) * 6 + x + 2) as u32;
    }
    assert_eq!(download::<u32>(device, 64), wanted);
    // From array to array, another place.
    let other = create(shape([6, 5, 4], S16, 2, 0));
    ok(whole(other, [7u32; 120].as_ptr() as u64, [24, 5, 4], true));
    (params.dst_type, params.dst_array) = (3, other);
    (params.dst_x, params.dst_y, params.dst_z) = (0, 3, 2);
    ok(cuMemcpy3D_v2(In::of(&params)));
    let mut got = vec![0u32; 120];
    ok(whole(other, got.as_mut_ptr() as u64, [24, 5, 4], false));
    for (at, &value) in got.iter().enumerate() {
        let (x, y, z) = (at % 6, at / 6 % 5, at / 30);
        let inside = x < 3 && (3..5).contains(&y) && z >= 2;
        let wanted = if inside {
            ((z - 1) * 30 + (y - 2) * 6 + x + 2) as u32
        } else {
            7
        };
        assert_eq!(value, wanted, "{x} {y} {z}");
    }
    // Outside, parts of texels, levels, handles that are none.
    let result = |change: &dyn Fn(&mut Memcpy3d)| {
        let mut params = params;
        change(&mut params);
        cuMemcpy3D_v2(In::of(&params))
    };
    assert_eq!(result(&|p| p.src_x = 16), INVALID_VALUE);
    assert_eq!(result(&|p| p.src_y = 4), INVALID_VALUE);
    assert_eq!(result(&|p| p.dst_z = 3), INVALID_VALUE);
    assert_eq!(result(&|p| p.dst_z = usize::MAX), INVALID_VALUE);
    assert_eq!(result(&|p| p.src_x = 2), INVALID_VALUE);
    assert_eq!(result(&|p| p.width = 6), INVALID_VALUE);
    assert_eq!(result(&|p| p.src_lod = 1), INVALID_VALUE);
    assert_eq!(result(&|p| p.src_array = 5), INVALID_HANDLE);
}

#[test]
fn rows_and_planes() {
    let _program = Program::new();
    let line = create(shape([64, 0, 0], U32, 1, 0));
    let other = create(shape([64, 0, 0], U32, 1, 0));
    let values: Vec<u32> = (0..64).map(|n| n * n).collect();
    let device = upload(&vec![5u32; 64]);
    ok(cuMemcpyHtoA_v2(line, 0, values.as_ptr() as u64, 256));
    ok(cuMemcpyDtoA_v2(line, 16, device, 8));
    ok(cuMemcpyAtoA_v2(other, 0, line, 8, 248));
    ok(cuMemcpyAtoD_v2(device, other, 4, 240));
    let mut got = vec![0u32; 4];
    ok(cuMemcpyAtoH_v2(got.as_mut_ptr() as u64, other, 0, 16));
    assert_eq!(got, [4, 9, 5, 5]);
    let found = download::<u32>(device, 64);
    assert_eq!(found[..4], [9, 5, 5, 36]);
    assert_eq!(found[59..], [62 * 62, 5, 5, 5, 5]);
    assert_eq!(
        cuMemcpyHtoA_v2(line, 4, values.as_ptr() as u64, 256),
        INVALID_VALUE
    );
    assert_eq!(
        cuMemcpyHtoA_v2(line, 2, values.as_ptr() as u64, 4),
        INVALID_VALUE
    );
    assert_eq!(cuMemcpyHtoA_v2(line, 0, 0, 4), INVALID_VALUE);
    let plane = create(shape([8, 8, 0], U32, 1, 0));
    // Of a plane, the first row.
    ok(cuMemcpyHtoA_v2(plane, 4, values.as_ptr() as u64, 28));
    assert_eq!(
        cuMemcpyHtoA_v2(plane, 4, values.as_ptr() as u64, 32),
        INVALID_VALUE
    );
    // A plane by cuMemcpy2D, and layers of rows.
    let params = Memcpy2d {
        src_type: 1,
        src_host: values.as_ptr() as u64,
        src_pitch: 32,
        dst_type: 3,
        dst_array: plane,
        dst_x: 4,
        dst_y: 1,
        width: 16,
        height: 3,
        ..Memcpy2d::default()
    };
    ok(whole(plane, [0u32; 64].as_ptr() as u64, [32, 8, 1], true));
    ok(cuMemcpy2D_v2(In::of(&params)));
    let mut got = vec![9u32; 64];
    ok(whole(plane, got.as_mut_ptr() as u64, [32, 8, 1], false));
    let row = |y: usize| {
        (0..4)
            .map(|x| ((y * 8 + x) * (y * 8 + x)) as u32)
            .collect::<Vec<_>>()
    };
    for y in 0..8 {
        let wanted = if (1..4).contains(&y) {
            row(y - 1)
        } else {
            vec![0; 4]
        };
        assert_eq!(got[y * 8 + 1..y * 8 + 5], wanted);
        assert_eq!((got[y * 8], got[y * 8 + 5]), (0, 0));
    }
    let layers = create(shape([4, 0, 3], U32, 1, LAYERED));
    ok(whole(layers, values.as_ptr() as u64, [16, 1, 3], true));
    let mut got = vec![0u32; 12];
    ok(whole(layers, got.as_mut_ptr() as u64, [16, 1, 3], false));
    assert_eq!(got, values[..12]);
}

/// The address of an array's memory is nobody's business.
#[test]
fn memory_of_arrays_is_out_of_reach() {
    let _program = Program::new();
    let below = alloc(512);
    let array = create(shape([64, 0, 0], U8, 1, 0));
    let above = alloc(512);
    let values = [1u8; 64];
    ok(whole(array, values.as_ptr() as u64, [64, 1, 1], true));
    // Whichever of the addresses around it is the array's, it cannot be used.
    let mut hidden = 0;
    for at in (below.min(above)..=below.max(above)).step_by(512) {
        let known = cuMemGetAddressRange_v2(Out::of(&mut 0), Out::of(&mut 0), at) == 0;
        let copied = cuMemcpyHtoD_v2(at, values.as_ptr() as u64, 8) == 0;
        let filled = cuMemsetD8_v2(at, 1, 8) == 0;
        assert_eq!((known, known), (copied, filled));
        if !known {
            hidden += 1;
            assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
        }
    }
    let mut got = [0u8; 64];
    ok(whole(array, got.as_mut_ptr() as u64, [64, 1, 1], false));
    assert_eq!(got, values);
    // Other tests take memory from the same pool, so that the three need not be neighbours.
    println!("{hidden} addresses between the two are hidden");
}
