//! Whatever the instruction, its operands, the image behind the handle and the coordinates are: a refusal, a result or a
//! fault.

use std::sync::Arc;

use softgpu_engine::interpreter;
use softgpu_engine::texture::{AddressMode, Format, Sampler, Surface, Texture};

use super::*;

const OPCODES: [&str; 6] = ["tex", "tld4", "suld", "sust", "sured", "txq"];
const MODIFIERS: [&str; 30] = [
    "base", "level", "grad", "r", "a", "b", "p", "add", "min", "or", "1d", "2d", "3d", "a1d",
    "a2d", "cube", "acube", "v2", "v4", "u32", "s32", "f32", "f16", "f16x2", "b8", "b16", "b64",
    "trap", "clamp", "zero",
];
const OPERANDS: [&str; 16] = [
    "{%o0, %o1, %o2, %o3}",
    "{%h0, %h1, %h2, %h3}",
    "{%o0, %o1}",
    "%o0",
    "%h0",
    "%d0",
    "{%o0, %o1, %o2, %o3}|%p",
    "[%t, {%c1}]",
    "[%t, {%c1, %c2}]",
    "[variable, {%c1, %c2, %c3, %c4}]",
    "[%t, %s, {%c1, %c2, %c3, %c4}]",
    "[%t, {%c0, %c1, %c2}]",
    "[%t]",
    "%c5",
    "{%c5, %c6, %c7, %c8}",
    "{%c9, %c10}",
];
/// Opcodes that are right, so that enough of it runs.
const RIGHT: [&str; 12] = [
    "tex.1d.v4.f32.f32",
    "tex.2d.v4.f32.s32",
    "tex.grad.3d.v4.f32.f32",
    "tex.level.a2d.v4.u32.f32",
    "tex.acube.v4.f32.f32",
    "tex.cube.v4.f16.f32",
    "tld4.g.2d.v4.f32.f32",
    "suld.b.2d.b32.zero",
    "suld.b.3d.v4.b16.clamp",
    "sust.b.a2d.b32.clamp",
    "sust.p.1d.v4.b32.zero",
    "sured.p.max.2d.b32.clamp",
];

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.next() as usize % from.len()]
}

fn instruction(random: &mut Random) -> String {
    let opcode = match random.next() % 4 {
        0 => {
            let count = 2 + random.next() % 5;
            let words: Vec<&str> = (0..count).map(|_| pick(random, &MODIFIERS)).collect();
            format!("{}.{}", pick(random, &OPCODES), words.join("."))
        }
        _ => pick(random, &RIGHT).to_owned(),
    };
    let count = 2 + random.next() % 3;
    let operands: Vec<&str> = (0..count).map(|_| pick(random, &OPERANDS)).collect();
    format!("{opcode} {};", operands.join(", "))
}

#[test]
fn nothing_panics() {
    let seed = 0x0dd_ba11_5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let geometries = ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"];
    let (mut accepted, mut faults) = (0, 0);
    for _ in 0..12_000 {
        let body = instruction(&mut random);
        let ptx = kernel(".global .texref variable;", &body, 4);
        let module = match softgpu_ptx::parse(&ptx) {
            Ok(module) => module,
            Err(error) => panic!("{error}\n{body}"),
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
        let geometry = pick(&mut random, &geometries);
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
    assert!(accepted > 200 && faults > 10, "{accepted} {faults}");
}
