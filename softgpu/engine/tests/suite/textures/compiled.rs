//! What NVRTC makes of CUDA C++'s texture and surface functions: `data/textures.cu`.

use std::sync::Arc;

use softgpu_engine::texture::{
    AddressMode, Channel, Coordinates, Format, Lod, Lookup, Sampler, Surface, Texture,
};

use super::*;

const PTX: &str = include_str!("../data/textures.ptx");

fn launch(machine: &Machine, kernel: &str, block: [u32; 3], params: &[u64]) {
    let ended = machine.launch_with(kernel, [1, 1, 1], block, 0, params, (1 << 20, 100));
    assert_eq!(ended, Ok(true));
}

#[test]
fn lookups_of_every_function() {
    let mut machine = Machine::new(PTX);
    let mut random = Random(77);
    let format = Format {
        channel: Channel::S16,
        channels: 4,
    };
    let texture = Texture {
        image: image(&mut machine, "a2d", format, 3, &mut random),
        sampler: Sampler {
            address: [AddressMode::Mirror; 3],
            linear: true,
            normalized: true,
            mip_linear: true,
            ..Sampler::default()
        },
        as_integers: false,
        srgb: false,
    };
    machine
        .objects
        .textures
        .insert(12, Arc::new(texture.clone()));
    let [x, y, z] = [0.37f32, 1.21, 0.6];
    let layer = 2;
    let words = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let out = machine.buffer(&vec![0u32; 8 * 80]);
    let params = [
        out,
        12,
        words(x.to_bits(), y.to_bits()),
        words(z.to_bits(), layer),
    ];
    launch(&machine, "lookups", [8, 1, 1], &params);
    let got = machine.read::<u32>(out, 8 * 80);
    let ask = |dimensions, cube, layer, at: [f32; 3], lod| Lookup {
        dimensions,
        cube,
        layer,
        at: Coordinates::Float(at),
        offset: [0; 3],
        lod,
    };
    let sample = |lookup: Lookup| {
        let found = texture.sample(&texture.sampler, &machine.space, &lookup);
        found.unwrap().bits()
    };
    let base = Lod::Base;
    let flat = ask(2, false, 0, [x, y, 0.0], base);
    let gradient = Lod::Gradient([x, y, 0.0], [y, x, 0.0]);
    let deep = Lod::Gradient([x, y, z], [z, y, x]);
    for thread in 0..8 {
        let fetched = sample(Lookup {
            at: Coordinates::Texel([thread, 0, 0]),
            ..ask(1, false, 0, [0.0; 3], base)
        });
        let gathered = texture.gather(&texture.sampler, &machine.space, &flat, 2);
        let wanted = [
            fetched,
            sample(ask(1, false, 0, [x, 0.0, 0.0], base)),
            sample(flat),
            sample(ask(3, false, 0, [x, y, z], base)),
            sample(ask(1, false, layer, [x, 0.0, 0.0], base)),
            sample(ask(2, false, layer, [x, y, 0.0], base)),
            sample(ask(3, true, 0, [x, y, z], base)),
            sample(ask(3, true, layer, [x, y, z], base)),
            gathered.unwrap(),
            sample(ask(2, false, 0, [x, y, 0.0], Lod::Level(z))),
            sample(ask(2, false, 0, [x, y, 0.0], gradient)),
            sample(ask(3, false, 0, [x, y, z], deep)),
            sample(ask(1, false, 0, [x, 0.0, 0.0], Lod::Level(z))),
            sample(ask(2, false, layer, [x, y, 0.0], Lod::Level(z))),
            sample(ask(3, true, 0, [x, y, z], Lod::Level(x))),
        ];
        let row = &got[thread as usize * 80..][..80];
        for (at, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(row[at * 4..][..4], wanted, "lookup {at} of thread {thread}");
        }
        assert_eq!(row[64..68], sample(flat));
        assert_eq!(row[68..72], [1f32.to_bits(), 0, 0, 0]);
    }
}

#[test]
fn accesses_of_every_function() {
    let mut machine = Machine::new(PTX);
    let mut random = Random(78);
    let format = Format {
        channel: Channel::U32,
        channels: 4,
    };
    let [from, to] = [3, 4].map(|handle| {
        let image = image(&mut machine, "acube", format, 1, &mut random);
        let surface = Surface {
            image: image.clone(),
        };
        machine.objects.surfaces.insert(handle, Arc::new(surface));
        image.levels[0]
    });
    launch(&machine, "surfaces", [4, 4, 3], &[3, 4, 11]);
    let row = |level: Level, slice: u64, y: u64, bytes: usize| {
        machine.read::<u8>(level.base + slice * level.slice + y * level.pitch, bytes)
    };
    // Slices that one statement alone writes.
    for y in 0..4 {
        assert_eq!(row(to, 4, y, 16), row(from, 3, y, 16));
        assert_eq!(row(to, 8, y, 32), row(from, 9, y, 32));
        assert_eq!(row(to, 11, y, 64), row(from, 11, y, 64));
    }
}
