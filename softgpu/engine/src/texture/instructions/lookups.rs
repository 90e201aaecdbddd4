//! `tex` and `tld4` for all lanes.

use super::forms::*;
use super::{Held, Stop, each_lane, word};
use crate::FaultKind;
use crate::float::f32_to_f16;
use crate::lanes::{Lanes, NONE, Op, Step};
use crate::texture::{Coordinates, Lod, Lookup, Texel};

/// What a lane asks for.
///
/// # Safety
/// The operation must be a lookup of the program.
unsafe fn lookup_of(lanes: &Lanes<'_>, op: &Op, form: Lookups, lane: usize) -> Lookup {
    // SAFETY: lowering made the list, of 32-bit registers.
    let source = |at: usize| unsafe { word(lanes, lanes.lists[op.c as usize + at], lane) };
    let triple = |from: usize| [source(from), source(from + 1), source(from + 2)];
    let floats = |from: usize| triple(from).map(f32::from_bits);
    let integers = |from: usize| triple(from).map(|value| value as i32);
    Lookup {
        dimensions: form.geometry.dimensions,
        cube: form.geometry.cube,
        layer: source(LAYER),
        at: match form.integers {
            true => Coordinates::Texel(integers(AT)),
            false => Coordinates::Float(floats(AT)),
        },
        offset: integers(OFFSET),
        lod: match form.detail {
            Detail::Base => Lod::Base,
            Detail::Level if form.integers => Lod::Level(source(DETAIL) as i32 as f32),
            Detail::Level => Lod::Level(f32::from_bits(source(DETAIL))),
            Detail::Gradient => Lod::Gradient(floats(DETAIL), floats(DETAIL + 3)),
        },
    }
}

fn halves(texel: Texel) -> [u16; 4] {
    match texel {
        Texel::Floats(values) => values.map(f32_to_f16),
        Texel::Integers(values) => values.map(|value| value as u16),
    }
}

/// Handle of the texture in `a`, of the sampler in `b`; the lists `dst` and `c` are registers written and read; in `d` a
/// predicate that says that the texels are there.
pub unsafe fn lookup(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let form = Lookups::of_code(op.imm);
    let mut held = Held::new(lanes);
    let step = each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes; all are read before the first is written.
        unsafe {
            let wanted = lookup_of(lanes, op, form, lane);
            let handle = *lanes.reg::<u64>(op.a).add(lane);
            let sampler = match op.b {
                NONE => None,
                register => {
                    let handle = *lanes.reg::<u64>(register).add(lane);
                    Some(*held.sampler(handle)?)
                }
            };
            let texture = held.texture(handle)?;
            let sampler = sampler.unwrap_or(texture.sampler);
            let missing = |address| -> Stop { (FaultKind::IllegalAddress, address) };
            let texel = match form.component {
                Some(component) => texture
                    .gather(&sampler, lanes.memory, &wanted, component)
                    .map(Texel::Integers),
                None => texture.sample(&sampler, lanes.memory, &wanted),
            };
            let texel = texel.map_err(missing)?;
            let registers = &lanes.lists[op.dst as usize..];
            match form.results {
                Results::Words => {
                    for (&register, value) in registers.iter().zip(texel.bits()) {
                        if register != NONE {
                            *lanes.reg::<u32>(register).add(lane) = value;
                        }
                    }
                }
                Results::Halves => {
                    for (&register, value) in registers.iter().zip(halves(texel)) {
                        if register != NONE {
                            *lanes.reg::<u16>(register).add(lane) = value;
                        }
                    }
                }
                Results::Pairs => {
                    let [r, g, b, a] = halves(texel).map(u32::from);
                    for (&register, value) in registers.iter().zip([r | g << 16, b | a << 16]) {
                        if register != NONE {
                            *lanes.reg::<u32>(register).add(lane) = value;
                        }
                    }
                }
            }
        }
        Ok(())
    });
    if op.d != NONE && step == Step::Next {
        for at in 0..lanes.words {
            // SAFETY: lowering gave a predicate.
            unsafe { lanes.set_pred(op.d, at, u32::MAX) };
        }
    }
    step
}
