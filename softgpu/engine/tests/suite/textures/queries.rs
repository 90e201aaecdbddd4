//! `txq`, `suq`, `istypep`.

use std::sync::Arc;

use softgpu_engine::texture::{AddressMode, Channel, Format, Sampler, Surface, Texture};

use super::*;

/// One value, the same for all threads.
fn ask(machine: &mut Machine, handle: u64) -> u32 {
    let rows = run(machine, &vec![0; ALL * COLUMNS], [handle, 0], 1);
    assert!(rows.iter().enumerate().all(|(thread, row)| {
        row[0]
            == if takes_part(thread) {
                rows[0][0]
            } else {
                BEFORE
            }
    }));
    rows[0][0]
}

fn machine(body: &str) -> Machine {
    let head = ".global .texref tref; .global .surfref sref; .global .samplerref smp = { filter_mode = linear, addr_mode_1 = mirror, force_unnormalized_coords = 1 };";
    Machine::new(&kernel(head, body, 1))
}

#[test]
pub fn attributes_of_textures() {
    let mut random = Random(21);
    for (geometry, levels) in [
        ("1d", 1),
        ("2d", 3),
        ("3d", 2),
        ("a1d", 1),
        ("a2d", 2),
        ("cube", 1),
        ("acube", 1),
    ] {
        let (kind, layers, size) = shape(geometry);
        for channel in CHANNELS {
            for (channels, order) in [(1, 0x10b0), (2, 0x10b2), (4, 0x10b5)] {
                let fractions = random.next() & 1 != 0;
                let number = match (channel, fractions) {
                    (Channel::S8, true) => 0x10d0,
                    (Channel::S16, true) => 0x10d1,
                    (Channel::U8, true) => 0x10d2,
                    (Channel::U16, true) => 0x10d3,
                    (Channel::S8, false) => 0x10d7,
                    (Channel::S16, false) => 0x10d8,
                    (Channel::S32, _) => 0x10d9,
                    (Channel::U8, false) => 0x10da,
                    (Channel::U16, false) => 0x10db,
                    (Channel::U32, _) => 0x10dc,
                    (Channel::F16, _) => 0x10dd,
                    (Channel::F32, _) => 0x10de,
                };
                // As an H200 tells them.
                let (height, depth) = match kind {
                    Kind::Plain(1) => (layers.max(1), 0),
                    Kind::Plain(3) => (size[1], size[2]),
                    _ => (size[1], layers),
                };
                let all = [
                    ("width", size[0]),
                    ("height", height),
                    ("depth", depth),
                    ("channel_data_type", number),
                    ("channel_order", order),
                    ("normalized_coords", 1),
                    ("array_size", layers),
                    ("num_mipmap_levels", if levels > 1 { levels } else { 0 }),
                    ("num_samples", 0),
                    ("filter_mode", 1),
                    ("addr_mode_0", 0),
                    ("addr_mode_1", 1),
                    ("addr_mode_2", 4),
                ];
                let (query, wanted) = all[random.next() as usize % all.len()];
                let mut machine = machine(&format!("@%q txq.{query}.b32 %o0, [%t];"));
                let texture = Texture {
                    image: image(
                        &mut machine,
                        geometry,
                        Format { channel, channels },
                        levels,
                        &mut random,
                    ),
                    sampler: Sampler {
                        address: [AddressMode::Wrap, AddressMode::Mirror, AddressMode::Border],
                        linear: true,
                        normalized: true,
                        ..Sampler::default()
                    },
                    as_integers: !fractions,
                    srgb: false,
                };
                machine.objects.textures.insert(3, Arc::new(texture));
                assert_eq!(ask(&mut machine, 3), wanted, "{query} of {geometry}");
                tested(&format!("txq.{query}.b32"));
            }
        }
    }
}

#[test]
pub fn attributes_of_levels_samplers_and_surfaces() {
    let mut random = Random(22);
    let format = Format {
        channel: Channel::U8,
        channels: 4,
    };
    let asked = [
        ("txq.level.width.b32 %o0, [%t], 1;", 4),
        ("txq.level.height.b32 %o0, [tref], 2;", 1),
        ("txq.level.depth.b32 %o0, [tref], 0;", 0),
        ("txq.level.width.b32 %o0, [%t], 9;", 0),
        ("txq.filter_mode.b32 %o0, [smp];", 1),
        ("txq.addr_mode_0.b32 %o0, [smp];", 3),
        ("txq.addr_mode_1.b32 %o0, [smp];", 1),
        ("txq.force_unnormalized_coords.b32 %o0, [smp];", 1),
        ("txq.filter_mode.b32 %o0, [tref];", 0),
        ("suq.width.b32 %o0, [%t];", 9),
        ("suq.height.b32 %o0, [sref];", 6),
        ("suq.depth.b32 %o0, [sref];", 0),
        ("suq.channel_data_type.b32 %o0, [sref];", 0x10da),
        ("suq.channel_order.b32 %o0, [sref];", 0x10b5),
        ("suq.array_size.b32 %o0, [sref];", 0),
        ("suq.memory_layout.b32 %o0, [sref];", 0),
    ];
    for (body, wanted) in asked {
        let mut machine = machine(body);
        let image = image(&mut machine, "2d", format, 3, &mut random);
        let (tref, sref) = (machine.global("tref"), machine.global("sref"));
        let texture = Arc::new(Texture {
            image: image.clone(),
            sampler: Sampler::default(),
            as_integers: false,
            srgb: false,
        });
        let surface = Arc::new(Surface { image });
        for handle in [3, tref] {
            machine.objects.textures.insert(handle, texture.clone());
        }
        for handle in [3, sref] {
            machine.objects.surfaces.insert(handle, surface.clone());
        }
        assert_eq!(ask(&mut machine, 3), wanted, "{body}");
        tested(body.split(' ').next().unwrap_or_default());
    }
}

#[test]
pub fn types_of_handles() {
    let kinds = [("texref", 3), ("surfref", 4), ("samplerref", 5)];
    for (at, (kind, _)) in kinds.iter().enumerate() {
        for (from, (_, handle)) in kinds.iter().enumerate() {
            let body = format!("istypep.{kind} %p, %t; selp.u32 %o0, 1, 0, %p;");
            let mut machine = machine(&body);
            let mut random = Random(23);
            let format = Format {
                channel: Channel::U8,
                channels: 1,
            };
            let image = image(&mut machine, "1d", format, 1, &mut random);
            let surface = Arc::new(Surface {
                image: image.clone(),
            });
            machine.objects.textures.insert(
                3,
                Arc::new(Texture {
                    image,
                    sampler: Sampler::default(),
                    as_integers: false,
                    srgb: false,
                }),
            );
            machine.objects.surfaces.insert(4, surface);
            machine.objects.samplers.insert(5, Sampler::default());
            assert_eq!(ask(&mut machine, *handle), u32::from(at == from), "{body}");
            assert_eq!(ask(&mut machine, 99), 0);
            tested(&format!("istypep.{kind}"));
        }
    }
    let mut machine = machine("istypep.samplerref %p, smp; selp.u32 %o0, 1, 0, %p;");
    assert_eq!(ask(&mut machine, 0), 1);
}
