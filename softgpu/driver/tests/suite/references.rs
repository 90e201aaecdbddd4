//! Texture and surface references of modules.

use crate::arrays::{create, shape, whole};
use crate::common::*;
use crate::textures::{F32, NORMALIZED, SURFACE, U32, float, plane, program};
use softgpu_cuda::abi::ArrayDescriptor;

#[test]
fn references_are_bound_by_name() {
    let program = program();
    let by_name = |name: &str| {
        let name = text(name);
        let mut reference = 0u64;
        (
            cuModuleGetTexRef(Out::of(&mut reference), program.module, c(&name)),
            reference,
        )
    };
    let (result, image) = by_name("image");
    ok(result);
    assert_eq!(by_name("image").1, image);
    assert_eq!(by_name("canvas").0, NOT_FOUND);
    assert_eq!(by_name("nobody").0, NOT_FOUND);
    // It is no variable.
    let image_name = text("image");
    let global = cuModuleGetGlobal_v2(Out::null(), Out::null(), program.module, c(&image_name));
    assert_eq!(global, NOT_FOUND);
    let first = plane(0);
    let second = plane(0);
    let out = alloc(128);
    let look = program.function("look_by_name");
    assert_eq!(cuTexRefSetArray(image, first, 0), INVALID_VALUE);
    assert_eq!(cuTexRefSetArray(image, 5, 1), INVALID_HANDLE);
    ok(cuTexRefSetArray(image, first, 1));
    ok(launch(look, 4, 8, &[out, float(1.0), float(1.0)]));
    let wanted: Vec<f32> = (0..32).map(|at| (at / 8 * 10 + at % 8) as f32).collect();
    assert_eq!(download::<f32>(out, 32), wanted);
    assert_eq!(get::<u64>(|out| cuTexRefGetArray(out, image)), first);
    // A launch has what was bound when it was made, though it runs later.
    let doubled: Vec<f32> = wanted.iter().map(|value| value * 2.0).collect();
    ok(whole(second, doubled.as_ptr() as u64, [32, 4, 1], true));
    let flag = upload(&[0u32]);
    let gone = alloc(4);
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let early = alloc(128);
    let kernels = text(PTX);
    let module: u64 = get(|out| cuModuleLoadData(out, c(&kernels).cast()));
    let wait_name = text("wait");
    let wait = get(|out| cuModuleGetFunction(out, module, c(&wait_name)));
    ok(launch_in(wait, 1, 1, stream, &[flag, gone]));
    ok(launch_in(
        look,
        4,
        8,
        stream,
        &[early, float(1.0), float(1.0)],
    ));
    ok(cuTexRefSetArray(image, second, 1));
    ok(launch_in(
        look,
        4,
        8,
        stream,
        &[out, float(1.0), float(1.0)],
    ));
    ok(cuMemsetD32_v2(flag, 1, 1));
    ok(cuStreamSynchronize(stream));
    assert_eq!(download::<f32>(early, 32), wanted);
    assert_eq!(download::<f32>(out, 32), doubled);
    // How it samples.
    ok(cuTexRefSetFlags(image, NORMALIZED));
    ok(cuTexRefSetFilterMode(image, 1));
    ok(cuTexRefSetAddressMode(image, 0, 0));
    ok(cuTexRefSetAddressMode(image, 1, 3));
    ok(cuTexRefSetBorderColor(image, In::of(&[1.0, 2.0, 3.0, 4.0])));
    ok(cuTexRefSetMipmapFilterMode(image, 1));
    ok(cuTexRefSetMipmapLevelBias(image, 0.5));
    ok(cuTexRefSetMipmapLevelClamp(image, 1.0, 2.0));
    ok(cuTexRefSetMaxAnisotropy(image, 4));
    assert_eq!(cuTexRefSetAddressMode(image, 3, 0), INVALID_VALUE);
    assert_eq!(cuTexRefSetAddressMode(image, 0, 7), INVALID_VALUE);
    assert_eq!(cuTexRefSetFilterMode(image, 2), INVALID_VALUE);
    assert_eq!(get(|out| cuTexRefGetFlags(out, image)), NORMALIZED);
    assert_eq!(get(|out| cuTexRefGetFilterMode(out, image)), 1);
    assert_eq!(get(|out| cuTexRefGetAddressMode(out, image, 0)), 0);
    assert_eq!(get(|out| cuTexRefGetAddressMode(out, image, 1)), 3);
    assert_eq!(get(|out| cuTexRefGetAddressMode(out, image, 2)), 1);
    assert_eq!(
        get(|out| cuTexRefGetBorderColor(out, image)),
        [1.0, 2.0, 3.0, 4.0]
    );
    assert_eq!(get(|out| cuTexRefGetMipmapFilterMode(out, image)), 1);
    assert_eq!(get(|out| cuTexRefGetMipmapLevelBias(out, image)), 0.5);
    assert_eq!(get(|out| cuTexRefGetMaxAnisotropy(out, image)), 4);
    let (mut min, mut max) = (0.0, 0.0);
    ok(cuTexRefGetMipmapLevelClamp(
        Out::of(&mut min),
        Out::of(&mut max),
        image,
    ));
    assert_eq!((min, max), (1.0, 2.0));
    let (mut format, mut channels) = (0, 0);
    ok(cuTexRefGetFormat(
        Out::of(&mut format),
        Out::of(&mut channels),
        image,
    ));
    assert_eq!((format, channels), (F32, 1));
    // Half a texel to the left of the first: half of the last, by wrapping.
    ok(launch(look, 1, 2, &[out, float(0.0), float(0.25)]));
    let got = download::<f32>(out, 1)[0];
    assert_eq!(got, (0.0 + 14.0) / 2.0);
    ok(cuModuleUnload(program.module));
    assert_eq!(cuTexRefSetFlags(image, 0), INVALID_HANDLE);
}

#[test]
fn references_to_memory_and_surfaces() {
    let program = program();
    let name = text("image");
    let image: u64 = get(|out| cuModuleGetTexRef(out, program.module, c(&name)));
    let rows: Vec<f32> = (0..64).map(|n| n as f32).collect();
    let memory = upload(&rows);
    let flat = ArrayDescriptor {
        width: 16,
        height: 4,
        format: F32,
        channels: 1,
    };
    ok(cuTexRefSetAddress2D_v3(image, In::of(&flat), memory, 64));
    assert_eq!(
        cuTexRefSetAddress2D_v3(image, In::of(&flat), memory, 60),
        INVALID_VALUE
    );
    assert_eq!(get::<u64>(|out| cuTexRefGetAddress_v2(out, image)), memory);
    assert_eq!(cuTexRefGetArray(Out::of(&mut 0), image), INVALID_VALUE);
    let out = alloc(256);
    let look = program.function("look_by_name");
    ok(launch(look, 4, 16, &[out, float(1.0), float(1.0)]));
    assert_eq!(download::<f32>(out, 64), rows);
    // Linear memory, from an address that is not where textures begin.
    let mut offset = 9usize;
    ok(cuTexRefSetFormat(image, F32, 1));
    ok(cuTexRefSetAddress_v2(
        Out::of(&mut offset),
        image,
        memory + 16,
        200,
    ));
    assert_eq!(offset, 16);
    assert_eq!(
        cuTexRefSetAddress_v2(Out::null(), image, memory + 16, 200),
        INVALID_VALUE
    );
    ok(launch(look, 1, 60, &[out, float(1.0), float(1.0)]));
    let got = download::<f32>(out, 60);
    assert!(
        got.iter()
            .zip(0..)
            .all(|(&got, at)| got == if at < 54 { at as f32 } else { 0.0 })
    );
    // The surface of the module.
    let name = text("canvas");
    let canvas: u64 = get(|out| cuModuleGetSurfRef(out, program.module, c(&name)));
    let target = create(shape([8, 4, 0], U32, 1, SURFACE));
    assert_eq!(cuSurfRefGetArray(Out::of(&mut 0), canvas), INVALID_VALUE);
    assert_eq!(cuSurfRefSetArray(canvas, plane(0), 0), INVALID_VALUE);
    ok(cuSurfRefSetArray(canvas, target, 0));
    assert_eq!(get::<u64>(|out| cuSurfRefGetArray(out, canvas)), target);
    ok(launch(program.function("paint"), 4, 8, &[5]));
    let mut got = vec![0u32; 32];
    ok(whole(target, got.as_mut_ptr() as u64, [32, 4, 1], false));
    assert!(
        got.iter()
            .zip(0..)
            .all(|(&got, at)| got == at / 8 * 1000 + at % 8 + 5)
    );
    // One of the program's own.
    let own: u64 = get(|out| cuTexRefCreate(out));
    ok(cuTexRefSetArray(own, target, 1));
    ok(cuTexRefDestroy(own));
    assert_eq!(cuTexRefDestroy(own), INVALID_HANDLE);
    assert_eq!(cuTexRefDestroy(image), INVALID_VALUE);
}
