//! Arrays, textures and references over the socket: what they hold of the quota, whose they are, and what a client that means harm can do with them.

use rgpu_proto::CudaError;
use rgpu_proto::array::ArrayDescriptor;
use rgpu_proto::calls::{self, op};
use rgpu_proto::texture::{
    self as at, RESOURCE_WORDS, ReferenceState, SAMPLING_BYTES, VIEW_BYTES, part,
};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::client::{CONTEXT, Client, Incoming, MIB, MODULE};
use super::fake;
use super::fake_arrays::PLANAR;
use super::hostile::flip;
use super::session::Rig;

const ARRAY: u64 = 0xd_0010;
const OTHER: u64 = 0xd_0020;
const PART: u64 = 0xd_0030;
const LEVELS: u64 = 0xe_0010;
const REFERENCE: u64 = 0xf_0010;
const STREAM: u64 = 0x3_0010;

const INVALID_HANDLE: u32 = CudaError::INVALID_HANDLE.0;
const INVALID_VALUE: u32 = CudaError::INVALID_VALUE.0;

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn descriptor(width: u64, height: u64, format: u32) -> ArrayDescriptor {
    ArrayDescriptor {
        width: U64::new(width),
        height: U64::new(height),
        format: U32::new(format),
        channels: U32::new(1),
        ..ArrayDescriptor::default()
    }
}

fn array_create(id: u64, of: &ArrayDescriptor) -> Vec<u8> {
    let args = calls::rgpuArrayCreateArgs {
        id: U64::new(id),
        descriptor_len: U64::new(size_of::<ArrayDescriptor>() as u64),
    };
    [args.as_bytes(), of.as_bytes()].concat()
}

fn mipmapped_create(id: u64, levels: u32, of: &ArrayDescriptor) -> Vec<u8> {
    let args = calls::rgpuMipmappedCreateArgs {
        id: U64::new(id),
        levels: U32::new(levels),
        descriptor_len: U64::new(size_of::<ArrayDescriptor>() as u64),
    };
    [args.as_bytes(), of.as_bytes()].concat()
}

fn plane(id: u64, array: u64, index: u32) -> Vec<u8> {
    let args = calls::rgpuArrayPlaneArgs {
        id: U64::new(id),
        array: U64::new(array),
        index: U32::new(index),
    };
    args.as_bytes().to_vec()
}

/// Box of an array: place, size.
type Box = ([u64; 3], [u64; 3]);

fn array_in(array: u64, ([x, y, z], [width, height, depth]): Box, data: &[u8]) -> Vec<u8> {
    let args = calls::rgpuArrayInArgs {
        array: U64::new(array),
        x: U64::new(x),
        y: U64::new(y),
        z: U64::new(z),
        width: U64::new(width),
        height: U64::new(height),
        depth: U64::new(depth),
        stream: U64::new(0),
        sync: U32::new(1),
        data_len: U64::new(data.len() as u64),
    };
    [args.as_bytes(), data].concat()
}

fn array_out(array: u64, ([x, y, z], [width, height, depth]): Box) -> Vec<u8> {
    let args = calls::rgpuArrayOutArgs {
        array: U64::new(array),
        x: U64::new(x),
        y: U64::new(y),
        z: U64::new(z),
        width: U64::new(width),
        height: U64::new(height),
        depth: U64::new(depth),
        stream: U64::new(0),
        sync: U32::new(1),
    };
    args.as_bytes().to_vec()
}

fn texture_create(kind: u32, object: u64, sampling: &[u8], view: &[u8]) -> Vec<u8> {
    let mut resource = [0; RESOURCE_WORDS];
    (resource[at::KIND], resource[at::OBJECT]) = (kind.into(), object);
    let args = calls::rgpuTextureCreateArgs {
        resource_len: U64::new(8 * RESOURCE_WORDS as u64),
        sampling_len: U64::new(sampling.len() as u64),
        view_len: U64::new(view.len() as u64),
    };
    [args.as_bytes(), &words(&resource), sampling, view].concat()
}

fn surface_create(kind: u32, object: u64) -> Vec<u8> {
    let mut resource = [0; RESOURCE_WORDS];
    (resource[at::KIND], resource[at::OBJECT]) = (kind.into(), object);
    let args = calls::rgpuSurfaceCreateArgs {
        resource_len: U64::new(8 * RESOURCE_WORDS as u64),
    };
    [args.as_bytes(), &words(&resource)].concat()
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk().unwrap())
}

/// A call's own result; no earlier one may have failed.
fn result(client: &mut Client, operation: u16, body: &[u8]) -> u32 {
    let (status, deferred, _) = client.call(1, operation, &[body]);
    assert_eq!(deferred, 0, "{}", calls::info(operation).unwrap().name);
    status
}

/// A one-way command's result.
fn late(client: &mut Client, operation: u16, body: &[u8]) -> u32 {
    client.send(1, operation, &[body]);
    let (status, deferred) = client.synchronize();
    assert_eq!(status, 0);
    deferred
}

fn held(client: &mut Client) -> u64 {
    client.memory_info().mapped.get()
}

#[test]
fn arrays_count_against_the_quota_and_are_given_back_once() {
    let mut rig = Rig::ready(48 * MIB);
    let client = &mut rig.client;
    let before = held(client);
    let large = descriptor(1024, 2048, 0x20);
    for _ in 0..30 {
        // Each time the memory is still being given back, one way, when it is asked for again.
        assert_eq!(
            result(client, op::rgpuArrayCreate, &array_create(ARRAY, &large)),
            0
        );
        client.send(1, op::rgpuArrayDestroy, &[&words(&[ARRAY])]);
    }
    assert_eq!(held(client), before);
    let made = client.must(op::rgpuArrayCreate, &[&array_create(ARRAY, &large)]);
    assert_eq!(ArrayDescriptor::from_bytes(&made), Some(large));
    assert_eq!(held(client), before + 8 * MIB);
    // Beyond it; and sizes that no device has are the driver's to judge.
    let too_large = array_create(OTHER, &descriptor(4096, 4096, 0x20));
    assert_eq!(
        result(client, op::rgpuArrayCreate, &too_large),
        CudaError::OUT_OF_MEMORY.0
    );
    let beyond = array_create(OTHER, &descriptor(u64::MAX, u64::MAX, 0x20));
    assert_eq!(result(client, op::rgpuArrayCreate, &beyond), INVALID_VALUE);
    let nothing = array_create(OTHER, &descriptor(0, 4, 0x20));
    assert_eq!(result(client, op::rgpuArrayCreate, &nothing), INVALID_VALUE);
    assert_eq!(held(client), before + 8 * MIB);
    // An id that is taken keeps its array, and what was made for it is not charged.
    let small = descriptor(16, 16, 0x20);
    assert_eq!(
        result(client, op::rgpuArrayCreate, &array_create(ARRAY, &small)),
        INVALID_VALUE
    );
    assert_eq!(held(client), before + 8 * MIB);
    let levels = mipmapped_create(LEVELS, 3, &descriptor(1024, 512, 0x20));
    assert_eq!(result(client, op::rgpuMipmappedCreate, &levels), 0);
    let with_levels = held(client) - before - 8 * MIB;
    assert!((2 * MIB..3 * MIB).contains(&with_levels), "{with_levels}");
    client.send(1, op::rgpuMipmappedDestroy, &[&words(&[LEVELS])]);
    assert_eq!(held(client), before + 8 * MIB);
    // The end of their context gives back the rest.
    client.send(1, op::rgpuContextDestroy, &[&words(&[CONTEXT])]);
    client.context();
    assert_eq!(held(client), before);
    assert_eq!(rig.close().result, 0);
}

#[test]
fn parts_are_not_destroyed_and_end_with_their_whole() {
    let mut rig = Rig::ready(48 * MIB);
    let client = &mut rig.client;
    let planar = array_create(ARRAY, &descriptor(64, 64, PLANAR));
    assert_eq!(result(client, op::rgpuArrayCreate, &planar), 0);
    let told = client.must(op::rgpuArrayPlane, &[&plane(PART, ARRAY, 1)]);
    assert_eq!(ArrayDescriptor::from_bytes(&told).unwrap().format.get(), 1);
    assert_eq!(
        result(client, op::rgpuArrayPlane, &plane(PART + 16, ARRAY, 2)),
        INVALID_VALUE
    );
    assert_eq!(
        late(client, op::rgpuArrayDestroy, &words(&[PART])),
        INVALID_HANDLE
    );
    assert_eq!(
        late(client, op::rgpuMipmappedDestroy, &words(&[ARRAY])),
        INVALID_HANDLE
    );
    let row = ([0, 3, 0], [64, 1, 1]);
    assert_eq!(
        late(client, op::rgpuArrayIn, &array_in(PART, row, &[7; 64])),
        0
    );
    assert_eq!(
        client.must(op::rgpuArrayOut, &[&array_out(PART, row)]),
        [7; 64]
    );
    assert_eq!(late(client, op::rgpuArrayDestroy, &words(&[ARRAY])), 0);
    for gone in [ARRAY, PART] {
        assert_eq!(
            result(client, op::rgpuArrayOut, &array_out(gone, row)),
            INVALID_HANDLE
        );
        assert_eq!(
            late(client, op::rgpuArrayDestroy, &words(&[gone])),
            INVALID_HANDLE
        );
    }
    let levels = mipmapped_create(LEVELS, 3, &descriptor(64, 32, 0x20));
    assert_eq!(result(client, op::rgpuMipmappedCreate, &levels), 0);
    let level = calls::rgpuMipmappedLevelArgs {
        id: U64::new(PART),
        array: U64::new(LEVELS),
        index: U32::new(1),
    };
    let told = client.must(op::rgpuMipmappedLevel, &[level.as_bytes()]);
    assert_eq!(
        ArrayDescriptor::from_bytes(&told),
        Some(descriptor(32, 16, 0x20))
    );
    assert_eq!(
        late(client, op::rgpuArrayDestroy, &words(&[PART])),
        INVALID_HANDLE
    );
    assert_eq!(late(client, op::rgpuMipmappedDestroy, &words(&[LEVELS])), 0);
    assert_eq!(
        result(client, op::rgpuArrayOut, &array_out(PART, row)),
        INVALID_HANDLE
    );
    assert_eq!(rig.close().result, 0);
}

#[test]
fn boxes_are_as_long_as_their_bytes_and_lie_within() {
    let mut rig = Rig::ready(48 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    let made = array_create(ARRAY, &descriptor(16, 8, 1));
    assert_eq!(result(client, op::rgpuArrayCreate, &made), 0);
    let bytes: Vec<u8> = (0..24).collect();
    let inner = ([2, 3, 0], [6, 4, 1]);
    assert_eq!(
        late(client, op::rgpuArrayIn, &array_in(ARRAY, inner, &bytes)),
        0
    );
    assert_eq!(
        client.must(op::rgpuArrayOut, &[&array_out(ARRAY, inner)]),
        bytes
    );
    for (place, size) in [
        ([2, 3, 0], [6, 4, 2]),
        ([2, 3, 0], [7, 4, 1]),
        ([2, 3, 0], [u64::MAX, u64::MAX, u64::MAX]),
    ] {
        let lying = array_in(ARRAY, (place, size), &bytes);
        assert_eq!(late(client, op::rgpuArrayIn, &lying), INVALID_VALUE);
    }
    for (place, size) in [
        ([12, 0, 0], [8, 1, 1]),
        ([0, 7, 0], [8, 2, 1]),
        ([0, 0, 1], [8, 1, 1]),
        ([u64::MAX, 0, 0], [8, 1, 1]),
        ([0, u64::MAX, u64::MAX], [8, 1, 1]),
        ([0, 0, 0], [1 << 40, 1, 1]),
        ([0, 0, 0], [u64::MAX, 2, 2]),
    ] {
        let beyond = array_out(ARRAY, (place, size));
        assert_eq!(result(client, op::rgpuArrayOut, &beyond), INVALID_VALUE);
    }
    // To device memory, and to another array; and to the client's pinned memory, ahead of the next reply.
    let device = calls::rgpuArrayDeviceArgs {
        array: U64::new(ARRAY),
        x: U64::new(2),
        y: U64::new(3),
        device: U64::new(base),
        pitch: U64::new(8),
        rows: U64::new(4),
        width: U64::new(6),
        height: U64::new(4),
        depth: U64::new(1),
        sync: U32::new(1),
        ..Default::default()
    };
    assert_eq!(late(client, op::rgpuArrayDevice, device.as_bytes()), 0);
    assert_eq!(client.copy_out(base + 8, 8), [6, 7, 8, 9, 10, 11, 0, 0]);
    let land = calls::rgpuArrayLandArgs {
        array: U64::new(ARRAY),
        x: U64::new(2),
        y: U64::new(4),
        z: U64::new(0),
        width: U64::new(6),
        height: U64::new(1),
        depth: U64::new(1),
        stream: U64::new(STREAM),
    };
    client.send(1, op::rgpuArrayLand, &[land.as_bytes()]);
    let landing = client.seq;
    client.ask(1, op::rgpuContextSynchronize, &[]);
    let Incoming::Reply { seq, body, .. } = client.receive() else {
        panic!("nothing has landed");
    };
    assert_eq!((seq, body), (landing, vec![6, 7, 8, 9, 10, 11]));
    let Incoming::Reply { status: 0, .. } = client.receive() else {
        panic!("no reply");
    };
    assert_eq!(rig.close().result, 0);
}

#[test]
fn objects_are_the_sessions_own() {
    let mut rig = Rig::ready(48 * MIB);
    let client = &mut rig.client;
    let made = array_create(ARRAY, &descriptor(16, 8, 1));
    assert_eq!(result(client, op::rgpuArrayCreate, &made), 0);
    let (sampling, view) = ([0; SAMPLING_BYTES], [0; VIEW_BYTES]);
    let mut texture = |kind, object, sampling: &[u8], view: &[u8]| {
        let body = texture_create(kind, object, sampling, view);
        client.call(1, op::rgpuTextureCreate, &[&body])
    };
    let (status, _, first) = texture(at::ARRAY, ARRAY, &sampling, &[]);
    assert_eq!((status, number(&first)), (0, 1));
    let (status, _, second) = texture(at::ARRAY, ARRAY, &sampling, &view);
    assert_eq!((status, number(&second)), (0, 2));
    for (kind, object, sampling, view, error) in [
        (
            at::ARRAY,
            ARRAY + 1,
            &sampling[..],
            &view[..],
            INVALID_HANDLE,
        ),
        (at::MIPMAPPED, ARRAY, &sampling, &view, INVALID_HANDLE),
        (9, ARRAY, &sampling, &view, INVALID_VALUE),
        (at::ARRAY, ARRAY, &sampling[1..], &view, INVALID_VALUE),
        (at::ARRAY, ARRAY, &[], &view, INVALID_VALUE),
        (at::ARRAY, ARRAY, &sampling, &view[8..], INVALID_VALUE),
        (at::ARRAY, ARRAY, &[9; SAMPLING_BYTES], &[], INVALID_VALUE),
    ] {
        assert_eq!(texture(kind, object, sampling, view).0, error);
    }
    let surface = client.must(op::rgpuSurfaceCreate, &[&surface_create(at::ARRAY, ARRAY)]);
    assert_eq!(number(&surface), 1);
    // The fake driver stops the test if an object were destroyed that is not there.
    let destroy = |client: &mut Client, op, value| late(client, op, &words(&[value]));
    assert_eq!(destroy(client, op::rgpuTextureDestroy, 7), INVALID_HANDLE);
    assert_eq!(destroy(client, op::rgpuSurfaceDestroy, 2), INVALID_HANDLE);
    assert_eq!(destroy(client, op::rgpuSurfaceDestroy, 1), 0);
    assert_eq!(destroy(client, op::rgpuSurfaceDestroy, 1), INVALID_HANDLE);
    assert_eq!(destroy(client, op::rgpuTextureDestroy, 1), 0);
    assert_eq!(destroy(client, op::rgpuTextureDestroy, 1), INVALID_HANDLE);
    // A context takes its objects along.
    client.send(1, op::rgpuContextDestroy, &[&words(&[CONTEXT])]);
    client.context();
    assert_eq!(destroy(client, op::rgpuTextureDestroy, 2), INVALID_HANDLE);
    assert_eq!(rig.close().result, 0);
}

fn module_reference(id: u64, name: &[u8]) -> Vec<u8> {
    let args = calls::rgpuModuleTextureRefArgs {
        id: U64::new(id),
        module: U64::new(MODULE),
        name_len: U64::new(name.len() as u64),
    };
    [args.as_bytes(), name].concat()
}

fn reference_set(id: u64, what: u32, a: u32) -> Vec<u8> {
    let args = calls::rgpuTextureRefSetArgs {
        reference: U64::new(id),
        part: U32::new(what),
        a: U32::new(a),
        ..Default::default()
    };
    args.as_bytes().to_vec()
}

#[test]
fn references_are_set_in_order_and_end_with_their_module() {
    let mut rig = Rig::ready(48 * MIB);
    let (base, client) = (rig.base, &mut rig.client);
    let told = client.must(
        op::rgpuModuleTextureRef,
        &[&module_reference(REFERENCE, b"image")],
    );
    let state = ReferenceState::read_from_bytes(&told).unwrap();
    // What the driver says; the rest, which it does not know here, is 0.
    assert_eq!((state.filter.get(), state.max_anisotropy.get()), (7, 0));
    let absent = module_reference(REFERENCE + 16, b"nobody");
    assert_eq!(
        result(client, op::rgpuModuleTextureRef, &absent),
        CudaError::NOT_FOUND.0
    );
    let cut = module_reference(REFERENCE + 16, b"ima\0ge");
    assert_eq!(
        result(client, op::rgpuModuleTextureRef, &cut),
        INVALID_VALUE
    );
    for (what, a, error) in [
        (part::FLAGS, 2, 0),
        (part::FILTER, 1, 0),
        (part::FILTER, 2, INVALID_VALUE),
        (99, 2, INVALID_VALUE),
        (part::BIAS, 2, CudaError::NOT_SUPPORTED.0),
    ] {
        let set = reference_set(REFERENCE, what, a);
        assert_eq!(late(client, op::rgpuTextureRefSet, &set), error);
    }
    let address = words(&[REFERENCE, base + 16, 64]);
    let offset = client.must(op::rgpuTextureRefAddress, &[&address]);
    assert_eq!(number(&offset), 16);
    assert_eq!(
        late(client, op::rgpuTextureRefArray, &words(&[REFERENCE, 5])),
        INVALID_HANDLE
    );
    // One of a module's is not the client's to end; one of its own is, once.
    let destroy = |client: &mut Client, id| late(client, op::rgpuTextureRefDestroy, &words(&[id]));
    assert_eq!(destroy(client, REFERENCE), INVALID_VALUE);
    let own = REFERENCE + 32;
    client.must(op::rgpuTextureRefCreate, &[&words(&[own])]);
    assert_eq!(destroy(client, own), 0);
    assert_eq!(destroy(client, own), INVALID_HANDLE);
    assert_eq!(late(client, op::rgpuModuleUnload, &words(&[MODULE])), 0);
    let set = reference_set(REFERENCE, part::FLAGS, 1);
    assert_eq!(late(client, op::rgpuTextureRefSet, &set), INVALID_HANDLE);
    assert_eq!(rig.close().result, 0);
}

/// One of each kind of command about arrays, as a client would send them.
fn recorded(base: u64) -> Vec<Vec<u8>> {
    let (mut client, _socket) = Client::pair();
    let context = calls::rgpuContextCreateArgs {
        id: U64::new(CONTEXT),
        ..Default::default()
    };
    let load = calls::rgpuModuleLoadArgs {
        id: U64::new(MODULE),
        image_len: U64::new(fake::IMAGE.len() as u64),
        ..Default::default()
    };
    let flat = descriptor(16, 8, 1);
    let inner = ([2, 3, 0], [6, 2, 1]);
    let level = calls::rgpuMipmappedLevelArgs {
        id: U64::new(PART),
        array: U64::new(LEVELS),
        index: U32::new(1),
    };
    let device = calls::rgpuArrayDeviceArgs {
        array: U64::new(ARRAY),
        device: U64::new(base),
        pitch: U64::new(8),
        rows: U64::new(4),
        width: U64::new(6),
        height: U64::new(2),
        depth: U64::new(1),
        to_array: U32::new(1),
        ..Default::default()
    };
    let twins = calls::rgpuArrayArrayArgs {
        dst: U64::new(ARRAY),
        src: U64::new(OTHER),
        src_x: U64::new(1),
        width: U64::new(6),
        height: U64::new(2),
        depth: U64::new(1),
        ..Default::default()
    };
    let land = calls::rgpuArrayLandArgs {
        array: U64::new(ARRAY),
        width: U64::new(6),
        height: U64::new(2),
        depth: U64::new(1),
        stream: U64::new(STREAM),
        ..Default::default()
    };
    let sampling = [0; SAMPLING_BYTES];
    let parts: Vec<(u16, Vec<u8>)> = vec![
        (op::rgpuContextCreate, context.as_bytes().to_vec()),
        (op::rgpuModuleLoad, [load.as_bytes(), fake::IMAGE].concat()),
        (op::rgpuArrayCreate, array_create(ARRAY, &flat)),
        (
            op::rgpuArrayCreate,
            array_create(OTHER, &descriptor(16, 8, PLANAR)),
        ),
        (op::rgpuArrayPlane, plane(PART + 16, OTHER, 0)),
        (op::rgpuMipmappedCreate, mipmapped_create(LEVELS, 2, &flat)),
        (op::rgpuMipmappedLevel, level.as_bytes().to_vec()),
        (op::rgpuArrayIn, array_in(ARRAY, inner, &[7; 12])),
        (op::rgpuArrayDevice, device.as_bytes().to_vec()),
        (op::rgpuArrayArray, twins.as_bytes().to_vec()),
        (op::rgpuArrayOut, array_out(PART, ([0; 3], [4, 2, 1]))),
        (
            op::cuStreamCreate,
            [&STREAM.to_le_bytes()[..], &[0; 4]].concat(),
        ),
        (op::rgpuArrayLand, land.as_bytes().to_vec()),
        (op::cuStreamSynchronize, words(&[STREAM])),
        (
            op::rgpuTextureCreate,
            texture_create(at::ARRAY, ARRAY, &sampling, &[0; VIEW_BYTES]),
        ),
        (op::rgpuSurfaceCreate, surface_create(at::ARRAY, PART)),
        (
            op::rgpuModuleTextureRef,
            module_reference(REFERENCE, b"image"),
        ),
        (
            op::rgpuModuleSurfaceRef,
            module_reference(REFERENCE + 16, b"image"),
        ),
        (op::rgpuTextureRefCreate, words(&[REFERENCE + 32])),
        (op::rgpuTextureRefArray, words(&[REFERENCE, ARRAY])),
        (op::rgpuSurfaceRefArray, words(&[REFERENCE + 16, ARRAY])),
        (
            op::rgpuTextureRefSet,
            reference_set(REFERENCE, part::FLAGS, 2),
        ),
        (
            op::rgpuTextureRefAddress,
            words(&[REFERENCE + 32, base, 64]),
        ),
        (
            op::rgpuTextureRefAligned,
            words(&[REFERENCE + 32, base, 64]),
        ),
        (op::rgpuTextureRefDestroy, words(&[REFERENCE + 32])),
        (op::rgpuTextureDestroy, words(&[1])),
        (op::rgpuSurfaceDestroy, words(&[1])),
        (op::rgpuArrayDestroy, words(&[ARRAY])),
        (op::rgpuArrayDestroy, words(&[OTHER])),
        (op::rgpuMipmappedDestroy, words(&[LEVELS])),
        (op::rgpuModuleUnload, words(&[MODULE])),
        (op::rgpuContextDestroy, words(&[CONTEXT])),
    ];
    parts
        .iter()
        .map(|(operation, body)| client.frame(1, *operation, &[body], true))
        .collect()
}

#[test]
fn flipped_bytes_about_arrays_end_in_a_reason_or_in_errors() {
    flip(recorded, 1, 4);
}
