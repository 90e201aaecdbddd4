//! Lookups against a model that follows the CUDA C++ Programming Guide's formulas ("Texture Fetching") in f64, and folds
//! texel numbers where the code under test folds coordinates.

mod levels;
mod seen;
mod surfaces;

use super::*;

struct Bytes(Vec<u8>);

impl Memory for Bytes {
    fn read(&self, address: u64, size: usize) -> Option<[u8; MAX_TEXEL]> {
        let found = self.0.get(address as usize..address as usize + size)?;
        let mut bytes = [0; MAX_TEXEL];
        bytes[..size].copy_from_slice(found);
        Some(bytes)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between the two.
    fn real(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1 << 24) as f32)
    }
}

const CHANNELS: [Channel; 8] = [
    Channel::U8,
    Channel::U16,
    Channel::U32,
    Channel::S8,
    Channel::S16,
    Channel::S32,
    Channel::F16,
    Channel::F32,
];
const MODES: [AddressMode; 4] = [
    AddressMode::Wrap,
    AddressMode::Clamp,
    AddressMode::Mirror,
    AddressMode::Border,
];
const BORDER: [f32; 4] = [3.0, -5.0, 0.5, 9.0];

/// An image of random values, and the values.
struct Case {
    texture: Texture,
    memory: Bytes,
    values: Vec<[f64; 4]>,
    size: [i64; 3],
}

fn case(kind: Kind, layers: u32, size: [u32; 3], format: Format, random: &mut Random) -> Case {
    let [width, height, slices] = size;
    let texel = format.size() as u64;
    // Rows and slices have room behind them.
    let pitch = u64::from(width) * texel + 16;
    let slice = pitch * u64::from(height) + 32;
    let mut memory = Bytes(vec![0xee; (slice * u64::from(slices)) as usize]);
    let mut values = Vec::new();
    for z in 0..slices {
        for y in 0..height {
            for x in 0..width {
                let mut value = [0.0; 4];
                for channel in 0..usize::from(format.channels) {
                    let bits = random.next();
                    let (bytes, number): (Vec<u8>, f64) = match format.channel {
                        Channel::U8 => (vec![bits as u8], f64::from(bits as u8)),
                        Channel::S8 => (vec![bits as u8], f64::from(bits as i8)),
                        Channel::U16 => {
                            ((bits as u16).to_le_bytes().into(), f64::from(bits as u16))
                        }
                        Channel::S16 => {
                            ((bits as u16).to_le_bytes().into(), f64::from(bits as i16))
                        }
                        Channel::U32 => {
                            ((bits as u32).to_le_bytes().into(), f64::from(bits as u32))
                        }
                        Channel::S32 => {
                            ((bits as u32).to_le_bytes().into(), f64::from(bits as i32))
                        }
                        Channel::F16 => {
                            let value = half::f16::from_f32((bits & 1023) as f32 / 64.0 - 8.0);
                            (value.to_le_bytes().into(), value.to_f64())
                        }
                        Channel::F32 => {
                            let value = (bits & 0xffff) as f32 / 256.0 - 128.0;
                            (value.to_le_bytes().into(), f64::from(value))
                        }
                    };
                    let at = u64::from(z) * slice
                        + u64::from(y) * pitch
                        + u64::from(x) * texel
                        + (channel * format.channel.size()) as u64;
                    memory.0[at as usize..][..bytes.len()].copy_from_slice(&bytes);
                    value[channel] = number;
                }
                values.push(value);
            }
        }
    }
    let level = Level {
        base: 0,
        width,
        height,
        slices,
        pitch,
        slice,
    };
    let image = Image {
        format,
        kind,
        layers,
        levels: vec![level],
        mipmapped: false,
    };
    let sampler = Sampler {
        border: BORDER,
        ..Sampler::default()
    };
    Case {
        texture: Texture {
            image,
            sampler,
            as_integers: false,
            srgb: false,
        },
        memory,
        values,
        size: size.map(i64::from),
    }
}

/// What a stored number is worth to a lookup that gives floats.
fn worth(channel: Channel, number: f64) -> f64 {
    match channel {
        Channel::U8 => number / 255.0,
        Channel::U16 => number / 65535.0,
        Channel::S8 => (number / 127.0).max(-1.0),
        Channel::S16 => (number / 32767.0).max(-1.0),
        _ => number,
    }
}

impl Case {
    /// The texel of three numbers, each folded by the rules of its axis.
    fn texel(&self, at: [i64; 3], dimensions: usize) -> [f64; 4] {
        let sampler = &self.texture.sampler;
        let mut inside = at;
        for axis in 0..dimensions {
            let (i, n) = (at[axis], self.size[axis]);
            let clamped = i.max(0).min(n - 1);
            inside[axis] = match sampler.address[axis] {
                AddressMode::Border if i < 0 || i >= n => return self.border(),
                AddressMode::Wrap if sampler.normalized => ((i % n) + n) % n,
                AddressMode::Mirror if sampler.normalized => {
                    let k = ((i % (2 * n)) + 2 * n) % (2 * n);
                    if k < n { k } else { 2 * n - 1 - k }
                }
                _ => clamped,
            };
        }
        let [w, h, _] = self.size;
        let value = self.values[((inside[2] * h + inside[1]) * w + inside[0]) as usize];
        let mut result = value;
        let channels = usize::from(self.texture.image.format.channels);
        for part in &mut result[..channels] {
            *part = worth(self.texture.image.format.channel, *part);
        }
        result
    }

    /// Of the channels that there are, within their range.
    fn border(&self) -> [f64; 4] {
        let format = self.texture.image.format;
        let mut color = BORDER.map(f64::from);
        color[usize::from(format.channels)..].fill(0.0);
        match format.channel {
            Channel::U8 | Channel::U16 => color.map(|value| value.clamp(0.0, 1.0)),
            Channel::S8 | Channel::S16 => color.map(|value| value.clamp(-1.0, 1.0)),
            _ => color,
        }
    }

    fn model(&self, at: [f32; 3], slice: i64, dimensions: usize) -> [f64; 4] {
        let sampler = &self.texture.sampler;
        let x = [0, 1, 2].map(|axis| {
            let scale = if sampler.normalized {
                self.size[axis] as f64
            } else {
                1.0
            };
            f64::from(at[axis]) * scale
        });
        let last = |mut place: [i64; 3]| {
            if dimensions < 3 {
                place[2] = slice;
            }
            for unused in &mut place[dimensions.min(2)..2] {
                *unused = 0;
            }
            self.texel(place, dimensions)
        };
        if !sampler.linear {
            return last(x.map(|x| x.floor() as i64));
        }
        let mut sum = [0.0; 4];
        for corner in 0..1 << dimensions {
            let (mut weight, mut place) = (1.0, [0; 3]);
            for axis in 0..dimensions {
                let b = x[axis] - 0.5;
                let alpha = ((b - b.floor()) * 256.0).round() / 256.0;
                let up = corner >> axis & 1;
                place[axis] = b.floor() as i64 + up;
                weight *= if up == 1 { alpha } else { 1.0 - alpha };
            }
            let value = last(place);
            for (sum, value) in sum.iter_mut().zip(value) {
                *sum += weight * value;
            }
        }
        sum
    }

    fn check(&self, at: [f32; 3], layer: u32, dimensions: usize, lookup_offset: [i32; 3]) {
        let lookup = Lookup {
            dimensions,
            cube: false,
            layer,
            at: Coordinates::Float(at),
            offset: lookup_offset,
            lod: Lod::Base,
        };
        let sampler = &self.texture.sampler;
        let got = self.texture.sample(sampler, &self.memory, &lookup).unwrap();
        let slice = i64::from(layer).min(self.size[2] - 1);
        let mut moved = at;
        for axis in 0..dimensions {
            let by = lookup_offset[axis] as f32;
            let scale = if sampler.normalized {
                self.size[axis] as f32
            } else {
                1.0
            };
            moved[axis] += by / scale;
        }
        let wanted = self.model(moved, slice, dimensions);
        let Texel::Floats(got) = got else {
            panic!("no floats")
        };
        let most = self
            .values
            .iter()
            .flatten()
            .fold(16.0, |a: f64, b| a.max(b.abs()));
        let scale = match self.texture.image.format.channel {
            Channel::U32 | Channel::S32 => most,
            _ => 256.0,
        };
        for (got, wanted) in got.into_iter().zip(wanted) {
            assert!(
                (f64::from(got) - wanted).abs() <= scale * 2e-6,
                "{:?} {sampler:?} at {at:?} layer {layer}: {got} and not {wanted}",
                self.texture.image
            );
        }
    }
}

#[test]
fn lookups_are_those_of_the_guide() {
    let mut random = Random(0x1357_9bdf_2468_ace1);
    let kinds = [
        (Kind::Plain(1), 0, [7, 1, 1]),
        (Kind::Plain(2), 0, [5, 6, 1]),
        (Kind::Plain(3), 0, [4, 3, 5]),
        (Kind::Plain(1), 3, [8, 1, 3]),
        (Kind::Plain(2), 4, [3, 5, 4]),
    ];
    let mut checked = 0;
    for (kind, layers, size) in kinds {
        let Kind::Plain(dimensions) = kind else {
            continue;
        };
        for channel in CHANNELS {
            for channels in [1, 2, 4] {
                let format = Format { channel, channels };
                let mut case = case(kind, layers, size, format, &mut random);
                if !case.texture.gives_floats() {
                    continue;
                }
                for normalized in [false, true] {
                    for linear in [false, true] {
                        for round in 0..8 {
                            case.texture.sampler.address =
                                [0; 3].map(|_| MODES[random.next() as usize % 4]);
                            case.texture.sampler.normalized = normalized;
                            case.texture.sampler.linear = linear;
                            let at = [0, 1, 2].map(|axis| {
                                let n = if normalized { 1.0 } else { size[axis] as f32 };
                                random.real(-1.6 * n, 2.6 * n)
                            });
                            // Offsets are exact only where nothing is scaled.
                            let offset = match (normalized, round % 2) {
                                (false, 1) => [1, -2, 3],
                                _ => [0; 3],
                            };
                            let layer = (random.next() % 6) as u32;
                            case.check(at, layer, usize::from(dimensions), offset);
                            checked += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(checked > 2000, "{checked}");
}

fn at(texture: &Texture, memory: &Bytes, x: f32, lod: Lod) -> [f32; 4] {
    let lookup = Lookup {
        dimensions: 1,
        cube: false,
        layer: 0,
        at: Coordinates::Float([x, 0.0, 0.0]),
        offset: [0; 3],
        lod,
    };
    match texture.sample(&texture.sampler, memory, &lookup) {
        Ok(Texel::Floats(values)) => values,
        other => panic!("{other:?}"),
    }
}

/// A row of f32.
fn row(values: &[f32]) -> (Texture, Bytes) {
    let memory = Bytes(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    );
    let bytes = memory.0.len() as u64;
    let level = Level {
        base: 0,
        width: values.len() as u32,
        height: 1,
        slices: 1,
        pitch: bytes,
        slice: bytes,
    };
    let image = Image {
        format: Format {
            channel: Channel::F32,
            channels: 1,
        },
        kind: Kind::Plain(1),
        layers: 0,
        levels: vec![level],
        mipmapped: false,
    };
    let texture = Texture {
        image,
        sampler: Sampler::default(),
        as_integers: false,
        srgb: false,
    };
    (texture, memory)
}

#[test]
fn weights_have_eight_bits() {
    let (mut texture, memory) = row(&[0.0, 256.0]);
    texture.sampler.linear = true;
    for step in 0..=256 {
        let x = 0.5 + step as f32 / 256.0;
        assert_eq!(at(&texture, &memory, x, Lod::Base)[0], step as f32);
        // Less than half a step makes no difference.
        if step < 256 {
            assert_eq!(at(&texture, &memory, x + 0.0015, Lod::Base)[0], step as f32);
        }
    }
}

#[test]
fn wild_coordinates_are_harmless() {
    let (mut texture, memory) = row(&[1.0, 2.0, 3.0]);
    let wild = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        1e-40,
        -1e-40,
    ];
    for x in wild {
        for mode in MODES {
            for (linear, normalized) in [(false, false), (true, false), (false, true), (true, true)]
            {
                texture.sampler.address = [mode; 3];
                (texture.sampler.linear, texture.sampler.normalized) = (linear, normalized);
                let value = at(&texture, &memory, x, Lod::Level(x))[0];
                assert!((0.0..=3.0).contains(&value), "{x} {mode:?}: {value}");
            }
        }
    }
    texture.sampler = Sampler::default();
    assert_eq!(at(&texture, &memory, f32::INFINITY, Lod::Base)[0], 3.0);
    assert_eq!(at(&texture, &memory, f32::NEG_INFINITY, Lod::Base)[0], 1.0);
    // A weight of nothing reads nothing.
    let (mut texture, memory) = row(&[1.0, f32::NAN]);
    texture.sampler.linear = true;
    assert_eq!(at(&texture, &memory, 0.5, Lod::Base)[0], 1.0);
}

#[test]
fn integers_stay_what_they_are() {
    let mut random = Random(99);
    for channel in CHANNELS.into_iter().filter(|channel| !channel.is_float()) {
        for channels in [1, 2, 4] {
            let format = Format { channel, channels };
            let mut case = case(Kind::Plain(2), 0, [4, 3, 1], format, &mut random);
            case.texture.as_integers = true;
            // Numbers of texels have no neighbours, and outside there is nothing.
            case.texture.sampler.linear = true;
            for y in -1..4i32 {
                for x in -1..5i32 {
                    let lookup = Lookup {
                        dimensions: 2,
                        cube: false,
                        layer: 0,
                        at: Coordinates::Texel([x, y, 0]),
                        offset: [0; 3],
                        lod: Lod::Base,
                    };
                    let got = case
                        .texture
                        .sample(&case.texture.sampler, &case.memory, &lookup)
                        .unwrap();
                    let inside = (0..4).contains(&x) && (0..3).contains(&y);
                    let wanted = match inside {
                        true => case.values[(y * 4 + x) as usize],
                        false => [0.0; 4],
                    };
                    let wanted = wanted.map(|value| value as i64 as u32);
                    assert_eq!(got, Texel::Integers(wanted), "{channel:?} at {x}, {y}");
                }
            }
        }
    }
}

#[test]
fn linear_memory_is_zero_outside() {
    let (mut texture, memory) = row(&[1.0, 2.0, 3.0, 4.0]);
    texture.image.kind = Kind::Linear;
    texture.sampler.border = BORDER;
    for (x, wanted) in [
        (-1, 0.0),
        (0, 1.0),
        (3, 4.0),
        (4, 0.0),
        (i32::MAX, 0.0),
        (i32::MIN, 0.0),
    ] {
        let lookup = Lookup {
            dimensions: 1,
            cube: false,
            layer: 7,
            at: Coordinates::Texel([x, 0, 0]),
            offset: [0; 3],
            lod: Lod::Base,
        };
        let got = texture.sample(&texture.sampler, &memory, &lookup).unwrap();
        let wanted = Texel::Floats([wanted, 0.0, 0.0, 0.0]);
        assert_eq!(got, wanted, "{x}");
    }
}

#[test]
fn srgb_becomes_linear_but_for_alpha() {
    let mut random = Random(5);
    let format = Format {
        channel: Channel::U8,
        channels: 4,
    };
    let mut case = case(Kind::Plain(1), 0, [64, 1, 1], format, &mut random);
    case.texture.srgb = true;
    for x in 0..64 {
        let got = at(&case.texture, &case.memory, x as f32, Lod::Base);
        for (part, got) in got.into_iter().enumerate() {
            let encoded = case.values[x][part] / 255.0;
            let wanted = match part {
                3 => encoded,
                _ if encoded <= 0.04045 => encoded / 12.92,
                _ => ((encoded + 0.055) / 1.055).powf(2.4),
            };
            assert!((f64::from(got) - wanted).abs() < 1e-6);
        }
    }
}
