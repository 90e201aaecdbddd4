//! Lookups: levels of detail, filtering, gathering.

use super::address::{Axis, How};
use super::format::Texel;
use super::{AddressMode, Kind, Level, Memory, Sampler, Texture, cube};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinates {
    Float([f32; 3]),
    /// Of the texel itself: nothing is normalized or filtered.
    Texel([i32; 3]),
}

/// Which level of detail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lod {
    Base,
    Level(f32),
    /// By how much the coordinates change from one pixel to the next, to the right and down.
    Gradient([f32; 3], [f32; 3]),
}

/// What an instruction asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lookup {
    /// Dimensions of the coordinates; those of a cube are three, of a direction.
    pub dimensions: usize,
    pub cube: bool,
    pub layer: u32,
    pub at: Coordinates,
    /// Texels, added to the place.
    pub offset: [i32; 3],
    pub lod: Lod,
}

/// A lookup whose direction, if it has one, has become a place in a slice.
struct Flat {
    dimensions: usize,
    cube: bool,
    normalized: bool,
    slice: u32,
    at: Coordinates,
    offset: [i32; 3],
    lod: Lod,
}

/// Bits of the fraction of a weight between levels.
const WEIGHT: f32 = 256.0;

/// The address of the texel that is not there.
type Result<T> = std::result::Result<T, u64>;

fn mixed(a: [f32; 4], b: [f32; 4], weight: f32) -> [f32; 4] {
    let at = |part: usize| a[part] * (1.0 - weight) + b[part] * weight;
    [at(0), at(1), at(2), at(3)]
}

impl Texture {
    /// Whether lookups give floating-point values: else they give integers.
    pub fn gives_floats(&self) -> bool {
        let channel = self.image.format.channel;
        channel.is_float() || channel.is_fraction() && !self.as_integers
    }

    pub fn sample(
        &self,
        sampler: &Sampler,
        memory: &impl Memory,
        lookup: &Lookup,
    ) -> Result<Texel> {
        let flat = self.flatten(sampler, lookup);
        let (first, second) = self.levels(sampler, &flat);
        let near = self.filter(sampler, memory, &flat, first)?;
        let (Texel::Floats(values), Some((second, weight))) = (near, second) else {
            return Ok(near);
        };
        match self.filter(sampler, memory, &flat, second)? {
            Texel::Floats(others) => Ok(Texel::Floats(mixed(values, others, weight))),
            integers => Ok(integers),
        }
    }

    /// One component of each of the four texels that bilinear filtering would use, counter-clockwise from the lower left.
    pub fn gather(
        &self,
        sampler: &Sampler,
        memory: &impl Memory,
        lookup: &Lookup,
        component: usize,
    ) -> Result<[u32; 4]> {
        let flat = self.flatten(sampler, lookup);
        let level = &self.image.levels[0];
        let [x, y, _] = self.axes(sampler, &flat, level, true);
        let mut found = [0; 4];
        for (value, (i, j)) in found.iter_mut().zip([(0, 1), (1, 1), (1, 0), (0, 0)]) {
            let texel = self.texel(
                sampler,
                memory,
                &flat,
                level,
                [x, y, Axis::ORIGIN],
                [i, j, 0],
            )?;
            *value = texel.bits()[component & 3];
        }
        Ok(found)
    }

    fn flatten(&self, sampler: &Sampler, lookup: &Lookup) -> Flat {
        let normalized = self.sampler.normalized && sampler.normalized;
        let layer = lookup.layer.min(self.image.layers.saturating_sub(1));
        match lookup.at {
            Coordinates::Float(direction) if lookup.cube => {
                let hit = cube::hit(direction);
                let lod = match lookup.lod {
                    Lod::Gradient(right, down) => {
                        let [right, down] = [right, down].map(|by| {
                            let [s, t] = cube::moved(direction, by);
                            [s, t, 0.0]
                        });
                        Lod::Gradient(right, down)
                    }
                    other => other,
                };
                Flat {
                    dimensions: 2,
                    cube: true,
                    normalized: true,
                    slice: layer.wrapping_mul(6).wrapping_add(hit.face),
                    at: Coordinates::Float([hit.at[0], hit.at[1], 0.0]),
                    offset: lookup.offset,
                    lod,
                }
            }
            at => Flat {
                dimensions: lookup.dimensions.clamp(1, 3),
                cube: false,
                normalized: normalized && matches!(at, Coordinates::Float(_)),
                slice: layer,
                at,
                offset: lookup.offset,
                lod: lookup.lod,
            },
        }
    }

    /// The level to look in, and maybe another one with what it counts.
    fn levels(&self, sampler: &Sampler, flat: &Flat) -> (usize, Option<(usize, f32)>) {
        let last = self.image.levels.len() - 1;
        let lod = match flat.lod {
            Lod::Base => return (0, None),
            Lod::Level(lod) => lod,
            Lod::Gradient(right, down) => {
                let base = &self.image.levels[0];
                let extent = [base.width, base.height, base.slices].map(|size| size as f32);
                let length = |by: [f32; 3]| {
                    let squares = (0..flat.dimensions).map(|at| {
                        let scale = if flat.normalized { extent[at] } else { 1.0 };
                        (by[at] * scale) * (by[at] * scale)
                    });
                    squares.sum::<f32>()
                };
                // Half the logarithm of a square.
                0.5 * length(right).max(length(down)).log2()
            }
        };
        let lod = (lod + sampler.bias)
            .max(sampler.min_lod)
            .min(sampler.max_lod)
            .max(0.0)
            .min(last as f32);
        if !sampler.mip_linear {
            return ((lod + 0.5) as usize, None);
        }
        let fixed = (lod * WEIGHT + 0.5) as usize;
        let (level, weight) = (fixed / WEIGHT as usize, fixed % WEIGHT as usize);
        if weight == 0 {
            return (level.min(last), None);
        }
        (level, Some((level + 1, weight as f32 / WEIGHT)))
    }

    fn axes(&self, sampler: &Sampler, flat: &Flat, level: &Level, linear: bool) -> [Axis; 3] {
        let extent = [level.width, level.height, level.slices];
        [0, 1, 2].map(|axis| {
            if axis >= flat.dimensions {
                return Axis::ORIGIN;
            }
            // Outside of linear memory, and for numbers of texels, there is nothing.
            let address = match (self.image.kind, flat.at) {
                (Kind::Linear, _) | (_, Coordinates::Texel(_)) => AddressMode::Border,
                _ => sampler.address[axis],
            };
            let how = How {
                address,
                normalized: flat.normalized,
                linear: linear && self.image.kind != Kind::Linear,
            };
            let (offset, size) = (flat.offset[axis], extent[axis]);
            match flat.at {
                Coordinates::Float(at) => Axis::new(at[axis], offset, size, how),
                Coordinates::Texel(at) => {
                    Axis::texel(i64::from(at[axis]) + i64::from(offset), size, how)
                }
            }
        })
    }

    fn filter(
        &self,
        sampler: &Sampler,
        memory: &impl Memory,
        flat: &Flat,
        level: usize,
    ) -> Result<Texel> {
        let level = &self.image.levels[level.min(self.image.levels.len() - 1)];
        let linear = sampler.linear && self.image.format.channel.is_filtered();
        let axes = self.axes(sampler, flat, level, linear);
        if axes.iter().all(|axis| axis.weight == 0.0) {
            return self.texel(sampler, memory, flat, level, axes, [0; 3]);
        }
        let mut sum = [0f32; 4];
        let [x, y, z] = axes.map(|axis| axis.parts());
        for (k, c) in z {
            for (j, b) in y {
                for (i, a) in x {
                    let weight = a * b * c;
                    // What does not count is not read: its value may be no number.
                    if weight == 0.0 {
                        continue;
                    }
                    let texel = self.texel(sampler, memory, flat, level, axes, [i, j, k])?;
                    let values = match texel {
                        Texel::Floats(values) => values,
                        Texel::Integers(values) => values.map(|value| self.number(value)),
                    };
                    for (sum, value) in sum.iter_mut().zip(values) {
                        *sum += weight * value;
                    }
                }
            }
        }
        Ok(match self.gives_floats() {
            true => Texel::Floats(sum),
            // Devices filter small integers, too, though CUDA does not promise it.
            false => Texel::Integers(sum.map(|value| value.round() as i32 as u32)),
        })
    }

    /// One texel, or the border.
    fn texel(
        &self,
        sampler: &Sampler,
        memory: &impl Memory,
        flat: &Flat,
        level: &Level,
        axes: [Axis; 3],
        which: [usize; 3],
    ) -> Result<Texel> {
        let [x, y, z] = [0, 1, 2].map(|axis| axes[axis].at[which[axis] & 1]);
        let (mut slice, mut place) = (flat.slice, x.zip(y));
        if flat.cube && sampler.seamless {
            let raw = [0, 1].map(|axis| axes[axis].raw[which[axis] & 1]);
            let (face, at) = cube::across(slice % 6, raw, level.width);
            slice = slice - slice % 6 + face;
            place = Some((at[0], at[1]));
        }
        if flat.dimensions == 3 {
            match z {
                Some(z) => slice = z,
                None => place = None,
            }
        }
        let format = self.image.format;
        let Some((x, y)) = place else {
            return Ok(self.border(sampler, flat));
        };
        let inside = |at: u32, size: u32| at.min(size.saturating_sub(1));
        let row = level.row(inside(y, level.height), inside(slice, level.slices));
        let at = u64::from(inside(x, level.width)) * format.size() as u64;
        let address = row.wrapping_add(at);
        let bytes = memory.read(address, format.size()).ok_or(address)?;
        Ok(if self.gives_floats() {
            Texel::Floats(format.floats(&bytes, self.srgb))
        } else {
            Texel::Integers(format.integers(&bytes))
        })
    }

    fn border(&self, sampler: &Sampler, flat: &Flat) -> Texel {
        let color = match (self.image.kind, flat.at) {
            (Kind::Linear, _) | (_, Coordinates::Texel(_)) => [0.0; 4],
            _ => sampler.border,
        };
        self.image.format.border(color, self.gives_floats())
    }

    /// An integer component as a number, to be filtered.
    fn number(&self, value: u32) -> f32 {
        match self.image.format.channel.is_signed() {
            true => value as i32 as f32,
            false => value as f32,
        }
    }
}
