//! Lists of boxes, copies with hints, and the spellings of CUDA's first version.

use crate::arrays::{create, shape, whole};
use crate::common::*;
use softgpu_cuda::abi::{
    Array3dDescriptor, Array3dDescriptorV1, ArrayDescriptorV1, CopyAttributes, CopyOperation,
    Memcpy2dV1, Memcpy3dV1, OPERAND_ARRAY, OPERAND_POINTER, Operand,
};

const U8: u32 = 1;
const U16: u32 = 2;
const F32: u32 = 0x20;

fn memory(at: u64, row: usize, rows: usize) -> Operand {
    Operand {
        kind: OPERAND_POINTER,
        object: at,
        place: [row, rows, 0],
    }
}

fn array(array: u64, place: [usize; 3]) -> Operand {
    Operand {
        kind: OPERAND_ARRAY,
        object: array,
        place,
    }
}

fn operation(src: Operand, dst: Operand, extent: [usize; 3]) -> CopyOperation {
    CopyOperation {
        src,
        dst,
        extent,
        order: 1,
        flags: 0,
    }
}

#[test]
fn boxes_in_lists() {
    let _program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let image = create(shape([8, 6, 3], U16, 2, 0));
    let other = create(shape([8, 6, 0], F32, 1, 0));
    let narrow = create(shape([8, 6, 0], U8, 1, 0));
    let texels: Vec<u32> = (0..10 * 5 * 2).collect();
    let device = alloc(4096);
    let list = [
        // Rows of ten texels and layers of five rows in memory, of which the array gets six by four.
        operation(
            memory(texels.as_ptr() as u64, 10, 5),
            array(image, [2, 1, 1]),
            [6, 4, 2],
        ),
        operation(array(image, [2, 1, 1]), memory(device, 0, 0), [6, 4, 2]),
    ];
    // Each alone: what a list does first nobody knows.
    for step in &list {
        ok(cuMemcpy3DBatchAsync_v2(1, In::of(step), 0, stream));
    }
    ok(cuStreamSynchronize(stream));
    let wanted: Vec<u32> = (0..48)
        .map(|at| at / 24 * 50 + at % 24 / 6 * 10 + at % 6)
        .collect();
    assert_eq!(download::<u32>(device, 48), wanted);
    let across = operation(array(image, [2, 1, 1]), array(other, [0; 3]), [6, 4, 1]);
    ok(cuMemcpy3DWithAttributesAsync(In::of(&across), 0, stream));
    ok(cuStreamSynchronize(stream));
    let mut got = [0u32; 48];
    ok(whole(other, got.as_mut_ptr() as u64, [32, 6, 1], false));
    assert_eq!(got[8..14], [10, 11, 12, 13, 14, 15]);
    let mut failed = 0;
    let mut result = |change: &dyn Fn(&mut CopyOperation)| {
        let mut second = list[0];
        change(&mut second);
        let both = [list[0], second];
        let result = cuMemcpy3DBatchAsync(2, In::of_slice(&both), Out::of(&mut failed), 0, stream);
        (result, failed)
    };
    assert_eq!(result(&|_| ()), (SUCCESS, usize::MAX));
    assert_eq!(result(&|o| o.extent[1] = 0), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.src.place[0] = 5), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.src.place[1] = 3), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.dst.place[0] = 3), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.dst.place[0] = usize::MAX), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.order = 0), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.flags = 2), (INVALID_VALUE, 1));
    assert_eq!(result(&|o| o.src.kind = 0), (INVALID_VALUE, 1));
    assert_eq!(
        result(&|o| o.src = array(narrow, [0; 3])),
        (INVALID_VALUE, 1)
    );
    assert_eq!(result(&|o| o.dst.object = 5), (INVALID_HANDLE, 1));
    let legacy = cuMemcpy3DBatchAsync_v2(1, In::of(&list[0]), 0, 0);
    assert_eq!(legacy, INVALID_VALUE);
    assert_eq!(
        cuMemcpy3DBatchAsync_v2(1, In::of(&list[0]), 1, stream),
        INVALID_VALUE
    );
    // One copy with hints may be in any stream.
    let hints = CopyAttributes {
        order: 2,
        ..CopyAttributes::default()
    };
    let from = texels.as_ptr() as u64;
    ok(cuMemcpyWithAttributesAsync(
        device,
        from,
        40,
        In::of(&hints),
        0,
    ));
    assert_eq!(download::<u32>(device, 10), texels[..10]);
    let none = CopyAttributes::default();
    assert_eq!(
        cuMemcpyWithAttributesAsync(device, from, 40, In::of(&none), stream),
        INVALID_VALUE
    );
}

#[test]
fn first_versions() {
    let _program = Program::new();
    let flat = ArrayDescriptorV1 {
        width: 8,
        height: 4,
        format: U8,
        channels: 4,
    };
    let plane: u64 = get(|out| cuArrayCreate(out, In::of(&flat)));
    assert_eq!(get(|out| cuArrayGetDescriptor(out, plane)), flat);
    let solid = Array3dDescriptorV1 {
        width: 8,
        height: 4,
        depth: 2,
        format: U16,
        channels: 2,
        flags: 2,
    };
    let volume: u64 = get(|out| cuArray3DCreate(out, In::of(&solid)));
    assert_eq!(get(|out| cuArray3DGetDescriptor(out, volume)), solid);
    assert_eq!(
        get::<Array3dDescriptor>(|out| cuArray3DGetDescriptor_v2(out, volume)).depth,
        2
    );
    let bytes: Vec<u8> = (0..128).collect();
    let mut back = vec![0u8; 256];
    let mut rows = Memcpy2dV1 {
        src_type: 1,
        src_host: bytes.as_ptr() as u64,
        dst_type: 3,
        dst_array: plane,
        width: 32,
        height: 4,
        ..Memcpy2dV1::default()
    };
    ok(cuMemcpy2D(In::of(&rows)));
    (rows.src_type, rows.src_array, rows.src_x, rows.width) = (3, plane, 8, 24);
    (rows.dst_type, rows.dst_host, rows.dst_pitch) = (1, back.as_mut_ptr() as u64, 30);
    ok(cuMemcpy2DUnaligned(In::of(&rows)));
    assert_eq!(back[30..54], bytes[40..64]);
    let boxed = Memcpy3dV1 {
        src_type: 3,
        src_array: plane,
        dst_type: 3,
        dst_array: volume,
        dst_z: 1,
        width: 32,
        height: 4,
        depth: 1,
        ..Memcpy3dV1::default()
    };
    ok(cuMemcpy3D(In::of(&boxed)));
    ok(cuMemcpyAtoA(plane, 0, plane, 16, 8));
    ok(cuMemcpyHtoA(plane, 8, bytes.as_ptr() as u64 + 100, 8));
    ok(cuMemcpyAtoH(back.as_mut_ptr() as u64, plane, 0, 24));
    assert_eq!(back[..8], bytes[16..24]);
    assert_eq!(back[8..16], bytes[100..108]);
    ok(whole(volume, back.as_mut_ptr() as u64, [32, 4, 2], false));
    assert_eq!(back[128..], bytes[..]);
    // No device memory has such an address.
    assert_eq!(cuMemcpyAtoD(4096, plane, 0, 8), INVALID_VALUE);
    assert_eq!(cuMemcpyDtoA(plane, 0, 4096, 8), INVALID_VALUE);
    assert_eq!(cuArrayGetPlane(Out::of(&mut 0), plane, 0), INVALID_VALUE);
}
