//! `suld`, `sust`, `sured`, against a copy of the surface's bytes.

use std::sync::Arc;

use softgpu_engine::FaultKind;
use softgpu_engine::texture::{Channel, Format, Surface};

use super::*;

const GEOMETRIES: [&str; 5] = ["1d", "2d", "3d", "a1d", "a2d"];
const HEAD: &str = ".global .surfref variable;";

/// A surface under handle 7 and the name `variable`, with a copy of its bytes.
fn surface(machine: &mut Machine, geometry: &str, format: Format, random: &mut Random) -> Image {
    let image = image(machine, geometry, format, 1, random);
    let surface = Arc::new(Surface {
        image: image.clone(),
    });
    let variable = machine.global("variable");
    machine.objects.surfaces.insert(7, surface.clone());
    machine.objects.surfaces.insert(variable, surface);
    image
}

fn bytes_of(machine: &Machine, image: &Image) -> Vec<u8> {
    let level = image.levels[0];
    machine.read::<u8>(level.base, (level.slice * u64::from(level.slices)) as usize)
}

fn coordinates(geometry: &str) -> &'static str {
    match geometry {
        "1d" => "{%c1}",
        "2d" => "{%c1, %c2}",
        "a1d" => "{%c0, %c1}",
        "a2d" => "{%c0, %c1, %c2, %c2}",
        _ => "{%c1, %c2, %c3, %c3}",
    }
}

/// Layer, x in units, y, z: some outside.
fn input(image: &Image, unit: usize, x_scale: usize, random: &mut Random) -> Vec<u32> {
    let level = image.levels[0];
    let units = level.width as usize * image.format.size() / unit;
    let mut words = vec![0; ALL * COLUMNS];
    for row in words.chunks_mut(COLUMNS) {
        let mut near = |size: u32| (random.next() % (u64::from(size) + 3)) as i32 - 1;
        let values = [
            near(level.slices),
            near(units as u32) * x_scale as i32,
            near(level.height),
            near(level.slices),
        ];
        row[..4].copy_from_slice(&values.map(|value| value as u32));
        for (at, word) in row[4..12].iter_mut().enumerate() {
            *word = (random.next() as u32).wrapping_mul(at as u32 + 1);
        }
    }
    words
}

/// Where `size` bytes of a row of the input are: in the bytes of the image, by its own arithmetic.
fn place(
    image: &Image,
    geometry: &str,
    row: &[u32],
    x: i64,
    size: usize,
    mode: &str,
) -> Option<usize> {
    let level = image.levels[0];
    let bytes = i64::from(level.width) * image.format.size() as i64;
    let y = if geometry.contains("1d") {
        0
    } else {
        i64::from(row[2] as i32)
    };
    let z = match geometry {
        "3d" => i64::from(row[3] as i32),
        "a1d" | "a2d" => i64::from(row[0]),
        _ => 0,
    };
    let last = [
        bytes / size as i64 * size as i64 - size as i64,
        i64::from(level.height) - 1,
        i64::from(level.slices) - 1,
    ];
    let outside = x < 0
        || x + size as i64 > bytes
        || !(0..=last[1]).contains(&y)
        || !(0..=last[2]).contains(&z);
    if outside && (mode == "zero" || last[0] < 0) {
        return None;
    }
    let [x, y, z] = match outside {
        true => [
            x.clamp(0, last[0]),
            y.clamp(0, last[1]),
            z.clamp(0, last[2]),
        ],
        false => [x, y, z],
    };
    Some(z as usize * level.slice as usize + y as usize * level.pitch as usize + x as usize)
}

const TYPES: [(&str, usize); 4] = [("b8", 1), ("b16", 2), ("b32", 4), ("b64", 8)];
const VECTORS: [(&str, usize); 3] = [("", 1), ("v2.", 2), ("v4.", 4)];

/// Registers of the vector, and what brings them to and from %c4 … and %o0 ….
fn registers(bits: usize, count: usize) -> (String, String, String) {
    let name = |at: usize| match bits {
        1 | 2 => format!("%h{at}"),
        4 => format!("%o{at}"),
        _ => format!("%d{at}"),
    };
    let list: Vec<String> = (0..count).map(name).collect();
    let give = |at: usize| match bits {
        1 | 2 => format!("cvt.u32.u16 %o{at}, %h{at};"),
        4 => String::new(),
        _ => format!("mov.b64 {{%o{}, %o{}}}, %d{at};", 2 * at, 2 * at + 1),
    };
    let take = |at: usize| match bits {
        1 | 2 => format!("cvt.u16.u32 %h{at}, %c{};", at + 4),
        4 => format!("mov.b32 %o{at}, %c{};", at + 4),
        _ => format!("mov.b64 %d{at}, {{%c{}, %c{}}};", 2 * at + 4, 2 * at + 5),
    };
    let list = match count {
        1 => list[0].clone(),
        _ => format!("{{{}}}", list.join(", ")),
    };
    (
        list,
        (0..count).map(give).collect(),
        (0..count).map(take).collect(),
    )
}

fn random_format(random: &mut Random) -> Format {
    Format {
        channel: CHANNELS[random.next() as usize % 8],
        channels: [1, 2, 4][random.next() as usize % 3],
    }
}

/// What traps outside must have an inside.
fn format_for(geometry: &str, mode: &str, size: usize, random: &mut Random) -> Format {
    let (_, _, [width, ..]) = shape(geometry);
    loop {
        let format = random_format(random);
        if mode != "trap" || width as usize * format.size() >= size {
            return format;
        }
    }
}

#[test]
pub fn every_form_of_suld() {
    let mut random = Random(31);
    for geometry in GEOMETRIES {
        for (ty, element) in TYPES {
            for (vector, count) in VECTORS {
                for mode in ["trap", "clamp", "zero"] {
                    let size = element * count;
                    if size > 16 {
                        continue;
                    }
                    let cache = ["", "ca.", "cg.", "cs.", "cv."][random.next() as usize % 5];
                    let name = ["%t", "variable", "t"][random.next() as usize % 3];
                    let (list, give, _) = registers(element, count);
                    let list = if count == 1 && mode == "zero" {
                        format!("{{{list}}}")
                    } else {
                        list
                    };
                    let opcode = format!("suld.b.{geometry}.{cache}{vector}{ty}.{mode}");
                    let instruction =
                        format!("@%q {opcode} {list}, [{name}, {}];", coordinates(geometry));
                    let words = if element == 8 { 2 * count } else { count };
                    let ptx = kernel(HEAD, &format!("{instruction} {give}"), words);
                    let mut machine = Machine::new(&ptx);
                    let format = format_for(geometry, mode, size, &mut random);
                    let image = surface(&mut machine, geometry, format, &mut random);
                    let bytes = bytes_of(&machine, &image);
                    let mut input = input(&image, size, size, &mut random);
                    if mode == "trap" {
                        // Everywhere inside.
                        for row in input.chunks_mut(COLUMNS) {
                            if place(
                                &image,
                                geometry,
                                row,
                                i64::from(row[1] as i32),
                                size,
                                "zero",
                            )
                            .is_none()
                            {
                                row[..4].fill(0);
                            }
                        }
                    }
                    let got = run(&mut machine, &input, [7, 0], words);
                    for (thread, got) in got.iter().enumerate() {
                        let row = &input[thread * COLUMNS..][..COLUMNS];
                        let at = place(&image, geometry, row, i64::from(row[1] as i32), size, mode);
                        let found = match at {
                            Some(at) => bytes[at..at + size].to_vec(),
                            None => vec![0; size],
                        };
                        let parts = found.chunks(element.min(4)).map(|part| {
                            let mut value = [0; 4];
                            value[..part.len()].copy_from_slice(part);
                            u32::from_le_bytes(value)
                        });
                        let wanted = match takes_part(thread) {
                            true => parts.collect(),
                            false => vec![BEFORE; words],
                        };
                        assert_eq!(
                            *got, wanted,
                            "{instruction} thread {thread} {row:?} {image:?}"
                        );
                    }
                    tested(&opcode);
                }
            }
        }
    }
}

/// Threads that write the same place write the same, by making the values of what the place is.
#[test]
pub fn every_form_of_sust() {
    let mut random = Random(32);
    for geometry in GEOMETRIES {
        for (ty, element) in TYPES {
            for (vector, count) in VECTORS {
                for mode in ["trap", "clamp", "zero"] {
                    let size = element * count;
                    if size > 16 {
                        continue;
                    }
                    let cache = ["", "wb.", "cg.", "cs.", "wt."][random.next() as usize % 5];
                    let name = ["%t", "variable", "t"][random.next() as usize % 3];
                    let (list, _, take) = registers(element, count);
                    let opcode = format!("sust.b.{geometry}.{cache}{vector}{ty}.{mode}");
                    let instruction =
                        format!("@%q {opcode} [{name}, {}], {list};", coordinates(geometry));
                    let mut machine =
                        Machine::new(&kernel(HEAD, &format!("{take} {instruction}"), 0));
                    let format = format_for(geometry, mode, size, &mut random);
                    let image = surface(&mut machine, geometry, format, &mut random);
                    let mut bytes = bytes_of(&machine, &image);
                    let mut input = input(&image, size, size, &mut random);
                    for (thread, row) in input.chunks_mut(COLUMNS).enumerate() {
                        let x = i64::from(row[1] as i32);
                        if mode == "trap" && place(&image, geometry, row, x, size, "zero").is_none()
                        {
                            row[..4].fill(0);
                        }
                        let x = i64::from(row[1] as i32);
                        let Some(at) = place(&image, geometry, row, x, size, mode) else {
                            continue;
                        };
                        let mut own = Random(at as u64 + 1);
                        row[4..12]
                            .iter_mut()
                            .for_each(|word| *word = own.next() as u32);
                        let values: Vec<u8> = match element {
                            1 => row[4..].iter().map(|&word| word as u8).collect(),
                            2 => row[4..]
                                .iter()
                                .flat_map(|&word| (word as u16).to_le_bytes())
                                .collect(),
                            _ => row[4..]
                                .iter()
                                .flat_map(|&word| word.to_le_bytes())
                                .collect(),
                        };
                        if takes_part(thread) {
                            bytes[at..at + size].copy_from_slice(&values[..size]);
                        }
                    }
                    run(&mut machine, &input, [7, 0], 0);
                    assert!(
                        bytes == bytes_of(&machine, &image),
                        "{instruction} {image:?}"
                    );
                    tested(&opcode);
                }
            }
        }
    }
}

#[test]
pub fn every_form_of_formatted_sust() {
    let mut random = Random(33);
    for geometry in GEOMETRIES {
        for channel in CHANNELS {
            for (vector, count) in VECTORS {
                for mode in ["trap", "clamp", "zero"] {
                    let format = Format {
                        channel,
                        channels: count as u8,
                    };
                    let (list, _, take) = registers(4, count);
                    let opcode = format!("sust.p.{geometry}.{vector}b32.{mode}");
                    let instruction =
                        format!("@%q {opcode} [%t, {}], {list};", coordinates(geometry));
                    let mut machine =
                        Machine::new(&kernel(HEAD, &format!("{take} {instruction}"), 0));
                    let image = surface(&mut machine, geometry, format, &mut random);
                    let size = format.size();
                    let mut bytes = bytes_of(&machine, &image);
                    let mut input = input(&image, size, 1, &mut random);
                    for (thread, row) in input.chunks_mut(COLUMNS).enumerate() {
                        let x = |row: &[u32]| i64::from(row[1] as i32) * size as i64;
                        if mode == "trap"
                            && place(&image, geometry, row, x(row), size, "zero").is_none()
                        {
                            row[..4].fill(0);
                        }
                        let Some(at) = place(&image, geometry, row, x(row), size, mode) else {
                            continue;
                        };
                        let mut own = Random(at as u64 + 1);
                        let mut value = || {
                            let number = own.next() as i32 >> (own.next() & 31);
                            let float = number as f32 / 64.0;
                            let bits = if channel.is_float() {
                                float.to_bits()
                            } else {
                                number as u32
                            };
                            let stored: Vec<u8> = match channel {
                                Channel::U8 => vec![(number as u32).min(255) as u8],
                                Channel::S8 => vec![number.clamp(-128, 127) as u8],
                                Channel::U16 => {
                                    ((number as u32).min(65535) as u16).to_le_bytes().into()
                                }
                                Channel::S16 => {
                                    (number.clamp(-32768, 32767) as i16).to_le_bytes().into()
                                }
                                Channel::F16 => half::f16::from_f32(float).to_le_bytes().into(),
                                _ => bits.to_le_bytes().into(),
                            };
                            (bits, stored)
                        };
                        let mut texel = Vec::new();
                        for word in &mut row[4..4 + count] {
                            let (bits, stored) = value();
                            *word = bits;
                            texel.extend(stored);
                        }
                        if takes_part(thread) {
                            bytes[at..at + size].copy_from_slice(&texel);
                        }
                    }
                    run(&mut machine, &input, [7, 0], 0);
                    assert!(
                        bytes == bytes_of(&machine, &image),
                        "{instruction} {format:?}"
                    );
                    tested(&opcode);
                }
            }
        }
    }
}

#[test]
pub fn every_form_of_sured() {
    let mut random = Random(34);
    let forms = [
        ("b", "add", &["u32", "u64", "s32"][..]),
        ("b", "min", &["u32", "s32", "u64", "s64"]),
        ("b", "max", &["u32", "s32", "u64", "s64"]),
        ("b", "and", &["b32"]),
        ("b", "or", &["b32"]),
        ("p", "add", &["b32"]),
        ("p", "min", &["b32", "b64"]),
        ("p", "max", &["b32", "b64"]),
        ("p", "and", &["b32"]),
        ("p", "or", &["b32"]),
    ];
    for (addressing, operation, types) in forms {
        for &ty in types {
            for geometry in ["1d", "2d", "3d"] {
                let modes = ["trap", "clamp", "zero"].into_iter();
                for (mode, channel) in
                    modes.flat_map(|mode| [(mode, Channel::U32), (mode, Channel::S32)])
                {
                    let wide = ty.ends_with("64");
                    let element = if wide { 8 } else { 4 };
                    let operand = if wide { "%d0" } else { "%o0" };
                    let (_, _, take) = registers(element, 1);
                    let opcode = format!("sured.{addressing}.{operation}.{geometry}.{ty}.{mode}");
                    let instruction = format!(
                        "@%q {opcode} [variable, {}], {operand};",
                        coordinates(geometry)
                    );
                    let mut machine =
                        Machine::new(&kernel(HEAD, &format!("{take} {instruction}"), 0));
                    let format = Format {
                        channel,
                        channels: if wide { 2 } else { 1 },
                    };
                    let image = surface(&mut machine, geometry, format, &mut random);
                    let mut bytes = bytes_of(&machine, &image);
                    let scale = if addressing == "b" { element } else { 1 };
                    let mut input = input(&image, element, scale, &mut random);
                    let x = |row: &[u32]| i64::from(row[1] as i32) * (element / scale) as i64;
                    if mode == "trap" {
                        for row in input.chunks_mut(COLUMNS) {
                            if place(&image, geometry, row, x(row), element, "zero").is_none() {
                                row[..4].fill(0);
                            }
                        }
                    }
                    let signed = match addressing {
                        "p" => channel == Channel::S32,
                        _ => ty.starts_with('s'),
                    };
                    for (thread, row) in input.chunks(COLUMNS).enumerate() {
                        let Some(at) = place(&image, geometry, row, x(row), element, mode) else {
                            continue;
                        };
                        if !takes_part(thread) {
                            continue;
                        }
                        let number = |bytes: &[u8]| -> i128 {
                            match (wide, signed) {
                                (true, true) => {
                                    i64::from_le_bytes(bytes.try_into().unwrap()).into()
                                }
                                (true, false) => {
                                    u64::from_le_bytes(bytes.try_into().unwrap()).into()
                                }
                                (false, true) => {
                                    i32::from_le_bytes(bytes.try_into().unwrap()).into()
                                }
                                (false, false) => {
                                    u32::from_le_bytes(bytes.try_into().unwrap()).into()
                                }
                            }
                        };
                        let with: Vec<u8> = row[4..6]
                            .iter()
                            .flat_map(|word| word.to_le_bytes())
                            .collect();
                        let (old, with) =
                            (number(&bytes[at..at + element]), number(&with[..element]));
                        let new = match operation {
                            "add" => old + with,
                            "min" => old.min(with),
                            "max" => old.max(with),
                            "and" => old & with,
                            _ => old | with,
                        };
                        bytes[at..at + element].copy_from_slice(&new.to_le_bytes()[..element]);
                    }
                    run(&mut machine, &input, [7, 0], 0);
                    assert!(
                        bytes == bytes_of(&machine, &image),
                        "{instruction} {format:?}"
                    );
                    tested(&opcode);
                }
            }
        }
    }
}

#[test]
fn outside_and_misaligned_are_faults() {
    let format = Format {
        channel: Channel::U8,
        channels: 4,
    };
    // (0, 0) is inside, the operand of the instruction is not.
    let cases = [
        (
            "suld.b.2d.b32.trap %o0, [%t, {36, 0}];",
            FaultKind::IllegalAddress,
        ),
        (
            "suld.b.2d.b32.trap %o0, [%t, {-4, 0}];",
            FaultKind::IllegalAddress,
        ),
        (
            "suld.b.2d.b8.trap %h0, [%t, {0, 6}];",
            FaultKind::IllegalAddress,
        ),
        (
            "sust.b.2d.b32.trap [%t, {0, -1}], %o0;",
            FaultKind::IllegalAddress,
        ),
        (
            "sust.p.2d.b32.trap [%t, {9, 0}], %o0;",
            FaultKind::IllegalAddress,
        ),
        (
            "sured.b.add.2d.u32.trap [%t, {36, 0}], %o0;",
            FaultKind::IllegalAddress,
        ),
        (
            "suld.b.2d.b32.trap %o0, [%t, {2, 0}];",
            FaultKind::Misaligned,
        ),
        (
            "suld.b.2d.v4.b32.zero {%o0, %o1, %o2, %o3}, [%t, {4, 0}];",
            FaultKind::Misaligned,
        ),
        (
            "sust.b.2d.b16.clamp [%t, {1, 0}], %h0;",
            FaultKind::Misaligned,
        ),
    ];
    for (body, wanted) in cases {
        let mut machine = Machine::new(&kernel(HEAD, body, 1));
        surface(&mut machine, "2d", format, &mut Random(6));
        let buffer = machine.buffer(&vec![0u32; ALL * COLUMNS]);
        let params = [buffer, buffer, 7, 0];
        let ended = machine.launch_with("k", [1, 1, 1], [33, 1, 1], 0, &params, (1 << 20, 10));
        assert_eq!(ended.expect_err(body).kind, wanted, "{body}");
        let params = [buffer, buffer, 8, 0];
        let ended = machine.launch_with("k", [1, 1, 1], [33, 1, 1], 0, &params, (1 << 20, 10));
        let kind = ended.expect_err(body).kind;
        assert!(matches!(kind, FaultKind::Object(_)), "{body}: {kind:?}");
    }
}
