//! `tex` and `tld4`: every geometry, coordinate, result, level and way to name a texture.

use std::sync::Arc;

use softgpu_engine::FaultKind;
use softgpu_engine::texture::{
    AddressMode, Channel, Coordinates, Format, Lod, Lookup, Sampler, Texel, Texture,
};

use super::*;

/// How an instruction names the texture, and the sampler.
const NAMES: [&str; 5] = ["%t", "variable", "t", "%t, %s", "variable, sampled"];
const HEAD: &str = ".global .texref variable;
.global .samplerref sampled = { addr_mode_0 = mirror, addr_mode_1 = clamp_to_border, addr_mode_2 = wrap, filter_mode = linear };";

fn f16(value: f32) -> u32 {
    u32::from(half::f16::from_f32(value).to_bits())
}

fn random_sampler(random: &mut Random) -> Sampler {
    use AddressMode::*;
    let modes = [Wrap, Clamp, Mirror, Border];
    let mut bit = || random.next() & 1 != 0;
    let mut sampler = Sampler {
        linear: bit(),
        normalized: bit(),
        mip_linear: bit(),
        seamless: bit(),
        border: [0.5, 1.0, 2.0, 3.0],
        ..Sampler::default()
    };
    sampler.address = [0; 3].map(|_| modes[random.next() as usize % 4]);
    sampler
}

/// The coordinate operand of a geometry, whose parts are in %c1 to %c3 behind the layer in %c0.
fn coordinates(geometry: &str) -> &'static str {
    match geometry {
        "1d" => "{%c1}",
        "2d" => "{%c1, %c2}",
        "a1d" => "{%c0, %c1}",
        "a2d" => "{%c0, %c1, %c2, %c2}",
        "acube" => "{%c0, %c1, %c2, %c3}",
        _ => "{%c1, %c2, %c3, %c3}",
    }
}

fn dimensions(geometry: &str) -> usize {
    match geometry.trim_start_matches('a') {
        "1d" => 1,
        "2d" => 2,
        _ => 3,
    }
}

/// `{%c4}` to `{%c4, %c5, %c6, %c6}`
fn vector(geometry: &str, first: usize) -> String {
    let n = |at: usize| first + at;
    match dimensions(geometry) {
        1 => format!("{{%c{first}}}"),
        2 => format!("{{%c{first}, %c{}}}", n(1)),
        _ => format!("{{%c{first}, %c{}, %c{}, %c{}}}", n(1), n(2), n(2)),
    }
}

/// Columns: layer, three coordinates, level or six of gradients, three of offset.
fn input(geometry: &str, integers: bool, normalized: bool, random: &mut Random) -> Vec<u32> {
    let mut words = Vec::new();
    let (_, _, size) = shape(geometry);
    for _ in 0..ALL {
        let mut row = vec![random.next() as u32 % 6];
        for extent in size {
            let span = match (geometry.contains("cube"), normalized && !integers) {
                (true, _) => 2.0,
                (_, true) => 3.0,
                _ => extent as f32 * 3.0,
            };
            let value = ((random.next() & 0xffff) as f32 / 65536.0 - 0.4) * span;
            row.push(if integers {
                value as i32 as u32
            } else {
                value.to_bits()
            });
        }
        for _ in 4..10 {
            let value = (random.next() & 0xff) as f32 / 200.0 - 0.3;
            row.push(value.to_bits());
        }
        if integers {
            row[4] = random.next() as u32 % 4;
        }
        for _ in 10..13 {
            row.push((random.next() as i32 % 8) as u32);
        }
        row.resize(COLUMNS, 0);
        words.extend(row);
    }
    words
}

fn lookup_of(geometry: &str, row: &[u32], integers: bool, detail: &str, offset: bool) -> Lookup {
    let floats = |at: usize| [0, 1, 2].map(|part| f32::from_bits(row[at + part]));
    let numbers = |at: usize| [0, 1, 2].map(|part| row[at + part] as i32);
    Lookup {
        dimensions: dimensions(geometry),
        cube: geometry.contains("cube"),
        layer: if geometry.starts_with('a') { row[0] } else { 0 },
        at: match integers {
            true => Coordinates::Texel(numbers(1)),
            false => Coordinates::Float(floats(1)),
        },
        offset: if offset { numbers(10) } else { [0; 3] },
        lod: match detail {
            "level." if integers => Lod::Level(row[4] as f32),
            "level." => Lod::Level(f32::from_bits(row[4])),
            "grad." => Lod::Gradient(floats(4), floats(7)),
            _ => Lod::Base,
        },
    }
}

/// Binds texture and sampler in every way at once, and gives the sampler that counts for the way of the instruction.
fn bind(machine: &mut Machine, texture: &Texture, alone: Sampler, way: &str) -> Sampler {
    let texture = Arc::new(texture.clone());
    let variable = machine.global("variable");
    machine.objects.textures.insert(variable, texture.clone());
    machine.objects.textures.insert(77, texture.clone());
    machine.objects.samplers.insert(88, alone);
    match way {
        "%t, %s" => alone,
        "variable, sampled" => machine.objects.samplers[&machine.global("sampled")],
        _ => texture.sampler,
    }
}

fn check(geometry: &str, coordinate: &str, result: &str, detail: &str, random: &mut Random) {
    let integers = coordinate == "s32";
    let way = NAMES[random.next() as usize % NAMES.len()];
    let offset = !geometry.contains("cube") && random.next() & 1 != 0;
    let (registers, vector_length) = match result {
        "f16" => ("{%h0, %h1, %h2, %h3}", "v4"),
        "f16x2" => ("{%o0, %o1}", "v2"),
        _ => ("{%o0, %o1, %o2, %o3}", "v4"),
    };
    let details = match detail {
        "level." => ", %c4".to_owned(),
        "grad." => format!(", {}, {}", vector(geometry, 4), vector(geometry, 7)),
        _ => String::new(),
    };
    let behind = match offset {
        true => format!("{details}, {}", vector(geometry, 10)),
        false => details,
    };
    let opcode = format!("tex.{detail}{geometry}.{vector_length}.{result}.{coordinate}");
    let instruction = format!(
        "@%q {opcode} {registers}|%p, [{way}, {}]{behind};",
        coordinates(geometry)
    );
    let widen = match result {
        "f16" => {
            "cvt.u32.u16 %o0, %h0; cvt.u32.u16 %o1, %h1; cvt.u32.u16 %o2, %h2; cvt.u32.u16 %o3, %h3;"
        }
        _ => "",
    };
    // The predicate says that the texels are there.
    let body = format!("setp.eq.u32 %p, 0, 1; {instruction} {widen}\n selp.u32 %o4, 1, 0, %p;");
    let mut machine = Machine::new(&kernel(HEAD, &body, 5));
    let format = Format {
        channel: CHANNELS[random.next() as usize % 8],
        channels: [1, 2, 4][random.next() as usize % 3],
    };
    let texture = Texture {
        image: image(&mut machine, geometry, format, 3, random),
        sampler: random_sampler(random),
        as_integers: random.next() & 1 != 0,
        srgb: false,
    };
    let alone = random_sampler(random);
    let sampler = bind(&mut machine, &texture, alone, way);
    let normalized = texture.sampler.normalized && sampler.normalized;
    let input = input(geometry, integers, normalized, random);
    let handles = if way == "t" { [77, 0] } else { [77, 88] };
    let got = run(&mut machine, &input, handles, 5);
    for (thread, got) in got.iter().enumerate() {
        let row = &input[thread * COLUMNS..][..COLUMNS];
        let lookup = lookup_of(geometry, row, integers, detail, offset);
        let found = texture.sample(&sampler, &machine.space, &lookup).unwrap();
        let bits = found.bits();
        let halves = match found {
            Texel::Floats(values) => values.map(f16),
            Texel::Integers(values) => values.map(|value| value & 0xffff),
        };
        let wanted = match result {
            _ if !takes_part(thread) => vec![BEFORE; 5],
            "f16" => [&halves[..], &[1]].concat(),
            "f16x2" => {
                let [r, g, b, a] = halves;
                vec![r | g << 16, b | a << 16, got[2], got[3], 1]
            }
            _ => [&bits[..], &[1]].concat(),
        };
        assert_eq!(
            *got, wanted,
            "{instruction} thread {thread}: {lookup:?} of {texture:?}"
        );
    }
    tested(&opcode);
}

#[test]
pub fn every_form_of_tex() {
    let seed = 0x7eed_1234_5678_9abd;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut forms = 0;
    for geometry in ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"] {
        for coordinate in ["f32", "s32"] {
            if coordinate == "s32" && geometry.contains("cube") {
                continue;
            }
            for result in ["u32", "s32", "f32", "f16", "f16x2"] {
                for detail in ["", "base.", "level.", "grad."] {
                    if coordinate == "s32" && detail == "grad." {
                        continue;
                    }
                    for _ in 0..3 {
                        check(geometry, coordinate, result, detail, &mut random);
                    }
                    forms += 1;
                }
            }
        }
    }
    println!("{forms} forms");
}

#[test]
pub fn every_form_of_tld4() {
    let mut random = Random(0x1122_3344_5566_7789);
    for geometry in ["2d", "a2d", "cube", "acube"] {
        for (component, name) in ["r", "g", "b", "a"].into_iter().enumerate() {
            for result in ["u32", "s32", "f32"] {
                let way = NAMES[random.next() as usize % NAMES.len()];
                let offset = geometry.ends_with("2d") && result == "s32";
                let behind = if offset { ", {%c10, %c11}" } else { "" };
                let opcode = format!("tld4.{name}.{geometry}.v4.{result}.f32");
                let instruction = format!(
                    "@%q {opcode} {{%o0, %o1, %o2, %o3}}, [{way}, {}]{behind};",
                    coordinates(geometry)
                );
                let mut machine = Machine::new(&kernel(HEAD, &instruction, 4));
                let format = Format {
                    channel: CHANNELS[random.next() as usize % 8],
                    channels: 4,
                };
                let texture = Texture {
                    image: image(&mut machine, geometry, format, 1, &mut random),
                    sampler: random_sampler(&mut random),
                    as_integers: result != "f32",
                    srgb: false,
                };
                let alone = random_sampler(&mut random);
                let sampler = bind(&mut machine, &texture, alone, way);
                let normalized = texture.sampler.normalized && sampler.normalized;
                let input = input(geometry, false, normalized, &mut random);
                let got = run(&mut machine, &input, [77, 88], 4);
                for (thread, got) in got.iter().enumerate() {
                    let row = &input[thread * COLUMNS..][..COLUMNS];
                    let lookup = lookup_of(geometry, row, false, "", offset);
                    let found = texture.gather(&sampler, &machine.space, &lookup, component);
                    let wanted = match takes_part(thread) {
                        true => found.unwrap(),
                        false => [BEFORE; 4],
                    };
                    assert_eq!(got[..], wanted, "{instruction} thread {thread}");
                }
                tested(&opcode);
            }
        }
    }
}

/// As nvcc writes tex2D, tex1Dfetch, tex2DLayered and tex2DLod of texture objects.
#[test]
fn as_compilers_write_it() {
    let body = "cvta.to.global.u64 %d1, %po; mov.u64 %d2, %t;
cvt.rn.f32.u32 %f1, %i; mul.f32 %f2, %f1, 0f3D000000; mov.f32 %f9, 0f3F000000;
tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [%d2, {%f2, %f9}];
mov.u32 %n, 1;
tex.a2d.v4.f32.f32 {%f7, %f8, %f10, %f11}, [%s, {%n, %f2, %f9, %f9}];
and.b32 %b, %i, 7;
tex.level.2d.v4.f32.f32 {%f12, %f13, %f14, %f15}, [%d2, {0f3E800000, 0f3E800000}], 0f00000000;
mov.b32 %o0, %f3; mov.b32 %o1, %f7; mov.b32 %o2, %f12;";
    let ptx = kernel("", body, 3).replace(".reg .b16", ".reg .f32 %f<16>; .reg .b16");
    let mut machine = Machine::new(&ptx);
    let mut random = Random(42);
    let format = Format {
        channel: Channel::U8,
        channels: 4,
    };
    let sampler = Sampler {
        normalized: true,
        linear: true,
        address: [AddressMode::Wrap; 3],
        ..Sampler::default()
    };
    let mut texture = |geometry| Texture {
        image: image(&mut machine, geometry, format, 1, &mut random),
        sampler,
        as_integers: false,
        srgb: false,
    };
    let (flat, layered) = (texture("2d"), texture("a2d"));
    machine.objects.textures.insert(5, Arc::new(flat.clone()));
    machine
        .objects
        .textures
        .insert(6, Arc::new(layered.clone()));
    let got = run(&mut machine, &vec![0; ALL * COLUMNS], [5, 6], 3);
    for (thread, got) in got
        .iter()
        .enumerate()
        .filter(|(thread, _)| takes_part(*thread))
    {
        let sample = |texture: &Texture, layer, x, y| {
            let lookup = Lookup {
                dimensions: 2,
                cube: false,
                layer,
                at: Coordinates::Float([x, y, 0.0]),
                offset: [0; 3],
                lod: Lod::Base,
            };
            texture
                .sample(&texture.sampler, &machine.space, &lookup)
                .unwrap()
                .bits()[0]
        };
        let x = thread as f32 / 32.0;
        let wanted = [
            sample(&flat, 0, x, 0.5),
            sample(&layered, 1, x, 0.5),
            sample(&flat, 0, 0.25, 0.25),
        ];
        assert_eq!(got[..], wanted, "thread {thread}");
    }
}

/// The function's own parameter names the texture, as OpenCL's compilers pass images on.
#[test]
fn textures_go_to_functions() {
    let head = ".global .texref variable;
.func (.param .b32 r) look(.param .b64 which, .param .b32 x)
{
.reg .b32 %v<5>; ld.param.b32 %v0, [x];
tex.1d.v4.s32.s32 {%v1, %v2, %v3, %v4}, [which, {%v0}];
st.param.b32 [r], %v1; ret;
}";
    let body = "mov.u64 %d0, variable;
{ .param .b64 a; .param .b32 b; .param .b32 c; st.param.b64 [a], %d0; st.param.b32 [b], %c1; call.uni (c), look, (a, b); ld.param.b32 %o0, [c]; }";
    let mut machine = Machine::new(&kernel(head, body, 1));
    let mut random = Random(9);
    let format = Format {
        channel: Channel::S16,
        channels: 1,
    };
    let texture = Texture {
        image: image(&mut machine, "1d", format, 1, &mut random),
        sampler: Sampler::default(),
        as_integers: true,
        srgb: false,
    };
    let base = texture.image.levels[0].base;
    let variable = machine.global("variable");
    machine.objects.textures.insert(variable, Arc::new(texture));
    let mut input = vec![0; ALL * COLUMNS];
    (0..ALL).for_each(|thread| input[thread * COLUMNS + 1] = thread as u32 % 13);
    let values = machine.read::<i16>(base, 13);
    let got = run(&mut machine, &input, [0, 0], 1);
    for (thread, got) in got
        .iter()
        .enumerate()
        .filter(|(thread, _)| takes_part(*thread))
    {
        assert_eq!(got[0] as i32, i32::from(values[thread % 13]));
    }
}

#[test]
fn bad_handles_and_images_are_faults() {
    let body = "tex.1d.v4.f32.f32 {%o0, %o1, %o2, %o3}, [%t, {%c1}];";
    let mut machine = Machine::new(&kernel("", body, 4));
    let mut random = Random(4);
    let format = Format {
        channel: Channel::F32,
        channels: 1,
    };
    let mut texture = Texture {
        image: image(&mut machine, "1d", format, 1, &mut random),
        sampler: Sampler::default(),
        as_integers: false,
        srgb: false,
    };
    // An image that has been freed.
    texture.image.levels[0].base = 0xdead_0000;
    machine.objects.textures.insert(9, Arc::new(texture));
    let buffer = machine.buffer(&vec![0u32; ALL * COLUMNS]);
    let fault = |handle: u64| {
        let params = [buffer, buffer, handle, 0];
        let ended = machine.launch_with("k", [1, 1, 1], [40, 1, 1], 0, &params, (1 << 20, 10));
        ended.expect_err("this kernel must fault")
    };
    for handle in [0, 1, 8, u64::MAX] {
        let fault = fault(handle);
        assert!(matches!(fault.kind, FaultKind::Object(_)), "{fault}");
        assert_eq!((fault.address, fault.thread), (handle, [0, 0, 0]));
        assert_eq!(fault.instruction, "tex.1d.v4.f32.f32");
    }
    let fault = fault(9);
    assert_eq!(
        (fault.kind, fault.address),
        (FaultKind::IllegalAddress, 0xdead_0000)
    );
}
