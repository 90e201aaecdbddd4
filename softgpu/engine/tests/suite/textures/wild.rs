//! Whatever the instruction, its operands, the image behind the handle and the coordinates are: a refusal, a result or a
//! fault.

use std::sync::Arc;

use softgpu_engine::interpreter;
use softgpu_engine::texture::{AddressMode, Format, Sampler, Surface, Texture};

use super::*;

/// Opcode and operands. One of them may give way to another one's.
const RIGHT: [[&str; 4]; 16] = [
    [
        "tex.1d.v4.f32.f32",
        "{%o0, %o1, %o2, %o3}",
        "[%t, {%c1}]",
        "",
    ],
    [
        "tex.2d.v4.f32.s32",
        "{%o0, _, %o2, %o3}",
        "[variable, {%c1, %c2}]",
        "{%c9, %c10}",
    ],
    [
        "tex.2d.v4.f32.f32",
        "{%o0, %o1, %o2, %o3}|%p",
        "[%t, %s, {%c1, %c2}]",
        "",
    ],
    [
        "tex.3d.v4.f16.f32",
        "{%h0, %h1, %h2, %h3}",
        "[%t, {%c1, %c2, %c3, %c4}]",
        "",
    ],
    [
        "tex.level.a2d.v4.u32.f32",
        "{%o0, %o1, %o2, %o3}",
        "[%t, {%c0, %c1, %c2}]",
        "%c5",
    ],
    [
        "tex.level.1d.v4.u32.s32",
        "{%o0, %o1, %o2, %o3}",
        "[%t, {%c1}]",
        "%c5",
    ],
    [
        "tex.acube.v4.f32.f32",
        "{%o0, %o1, %o2, %o3}",
        "[variable, {%c1, %c2, %c3, %c4}]",
        "",
    ],
    [
        "tex.cube.v2.f16x2.f32",
        "{%o0, %o1}",
        "[%t, %s, {%c1, %c2, %c3, %c4}]",
        "",
    ],
    [
        "tld4.g.2d.v4.f32.f32",
        "{%o0, %o1, %o2, %o3}",
        "[%t, {%c1, %c2}]",
        "",
    ],
    ["suld.b.2d.b32.zero", "%o0", "[%t, {%c1, %c2}]", ""],
    [
        "suld.b.3d.v4.b16.clamp",
        "{%h0, %h1, %h2, %h3}",
        "[%t, {%c1, %c2, %c3, %c4}]",
        "",
    ],
    ["sust.b.a1d.b8.trap", "[%t, {%c1, %c2}]", "%h0", ""],
    [
        "sust.p.1d.v4.b32.zero",
        "[%t, {%c1}]",
        "{%o0, %o1, %o2, %o3}",
        "",
    ],
    ["sured.p.max.2d.b32.clamp", "[%t, {%c1, %c2}]", "%o0", ""],
    ["sured.b.add.2d.u64.clamp", "[%t, {%c1, %c2}]", "%d0", ""],
    ["txq.level.width.b32", "%o0", "[%t]", "%c5"],
];
const GRADIENTS: &str =
    "tex.grad.2d.v4.f32.f32 {%o0, %o1, %o2, %o3}, [%t, {%c1, %c2}], {%c3, %c4}, {%c5, %c6};";

fn instruction(random: &mut Random) -> String {
    let mut at = || random.next() as usize;
    if at().is_multiple_of(16) {
        return GRADIENTS.to_owned();
    }
    let mut parts = RIGHT[at() % RIGHT.len()];
    if at().is_multiple_of(2) {
        let which = at() % 4;
        parts[which] = RIGHT[at() % RIGHT.len()][which];
    }
    let [opcode, operands @ ..] = parts;
    let operands: Vec<&str> = operands
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let mut words: Vec<&str> = opcode.split('.').collect();
    if at().is_multiple_of(4) {
        let other: Vec<&str> = RIGHT[at() % RIGHT.len()][0].split('.').collect();
        let which = at() % words.len();
        words[which] = other[at() % other.len()];
    }
    format!("{} {};", words.join("."), operands.join(", "))
}

#[test]
fn nothing_panics() {
    let seed = 0x0dd_ba11_5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let geometries = ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"];
    let (mut accepted, mut faults) = (0, 0);
    for _ in 0..2000 {
        let body = instruction(&mut random);
        let ptx = kernel(".global .texref variable;", &body, 4);
        let Ok(module) = softgpu_ptx::parse(&ptx) else {
            continue;
        };
        let compiled = interpreter().compile(&module).unwrap();
        if compiled.prepare(0).is_err() {
            continue;
        }
        accepted += 1;
        let mut machine = Machine::new(&ptx);
        let format = Format {
            channel: CHANNELS[random.next() as usize % 8],
            channels: [1, 2, 4][random.next() as usize % 3],
        };
        let geometry = geometries[random.next() as usize % geometries.len()];
        let levels = 1 + random.next() as u32 % 3;
        let mut image = image(&mut machine, geometry, format, levels, &mut random);
        if random.next().is_multiple_of(8) {
            image.levels[0].base = random.next();
        }
        if random.next().is_multiple_of(8) {
            image.kind = Kind::Linear;
        }
        let modes = [
            AddressMode::Wrap,
            AddressMode::Clamp,
            AddressMode::Mirror,
            AddressMode::Border,
        ];
        let sampler = Sampler {
            address: [0; 3].map(|_| modes[random.next() as usize % 4]),
            linear: random.next() & 1 != 0,
            normalized: random.next() & 1 != 0,
            mip_linear: random.next() & 1 != 0,
            bias: f32::from_bits(random.next() as u32),
            min_lod: f32::from_bits(random.next() as u32),
            max_lod: f32::from_bits(random.next() as u32),
            seamless: random.next() & 1 != 0,
            ..Sampler::default()
        };
        let surface = Surface {
            image: image.clone(),
        };
        let texture = Arc::new(Texture {
            image,
            sampler,
            as_integers: random.next() & 1 != 0,
            srgb: random.next() & 1 != 0,
        });
        let variable = machine.global("variable");
        for handle in [7, variable] {
            machine.objects.textures.insert(handle, texture.clone());
        }
        machine.objects.surfaces.insert(7, Arc::new(surface));
        machine.objects.samplers.insert(8, sampler);
        // Any bits as coordinates: infinities, what is no number, the largest integers.
        let mut words: Vec<u32> = (0..ALL * COLUMNS).map(|_| random.next() as u32).collect();
        words[1] = f32::NAN.to_bits();
        words[COLUMNS + 1] = f32::INFINITY.to_bits();
        words[2 * COLUMNS + 2] = i32::MIN as u32;
        let from = machine.buffer(&words);
        let to = machine.buffer(&vec![0u32; ALL * 4]);
        let params = [to, from, 7, 8];
        let ended = machine.launch_with("k", [2, 1, 1], [70, 1, 1], 0, &params, (1 << 20, 10));
        faults += u32::from(ended.is_err());
    }
    println!("{accepted} accepted, {faults} faults");
    assert!(accepted > 800 && faults > 80, "{accepted} {faults}");
}
