//! `txq`, `suq` and `istypep` for all lanes. Types and orders of channels are OpenCL's numbers, as the PTX document has
//! them. Layers are sizes, too, as NVIDIA's devices tell them: the height of layered rows, the depth of layered planes.

use softgpu_ptx::Opaque;

use super::forms::Query;
use super::{Held, each_lane};
use crate::lanes::{Lanes, NONE, Op, Step, WORD};
use crate::texture::{AddressMode, Channel, Image, Kind, Sampler};

fn of_image(image: &Image, fractions: bool, surface: bool, query: Query, level: usize) -> u32 {
    let Some(level) = image.levels.get(level) else {
        return 0;
    };
    match query {
        Query::Width => level.width,
        Query::Height => match image.kind {
            Kind::Plain(1) if image.layers > 0 => image.layers,
            Kind::Plain(1) if surface => 0,
            _ => level.height,
        },
        Query::Depth => match image.kind {
            Kind::Plain(3) => level.slices,
            Kind::Cube if surface => level.slices,
            Kind::Plain(2) | Kind::Cube => image.layers,
            _ => 0,
        },
        Query::DataType => match (image.format.channel, fractions) {
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
        },
        Query::Order => match image.format.channels {
            1 => 0x10b0,
            2 => 0x10b2,
            _ => 0x10b5,
        },
        Query::ArraySize => image.layers,
        Query::Levels if image.mipmapped => image.levels.len() as u32,
        Query::MemoryLayout => u32::from(image.kind == Kind::Linear),
        _ => 0,
    }
}

fn of_sampler(sampler: &Sampler, query: Query) -> u32 {
    let mode = |at: usize| match sampler.address[at] {
        AddressMode::Wrap => 0,
        AddressMode::Mirror => 1,
        AddressMode::Clamp => 3,
        AddressMode::Border => 4,
    };
    match query {
        Query::NormalizedCoords => u32::from(sampler.normalized),
        Query::ForceUnnormalized => u32::from(!sampler.normalized),
        Query::Filter => u32::from(sampler.linear),
        Query::Address0 => mode(0),
        Query::Address1 => mode(1),
        Query::Address2 => mode(2),
        _ => 0,
    }
}

/// Handle in `a`, level in `b` if one is named.
pub unsafe fn texture(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let query = Query::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes.
        unsafe {
            let handle = *lanes.reg::<u64>(op.a).add(lane);
            let value = if query.is_of_sampler() {
                of_sampler(held.sampler(handle)?, query)
            } else {
                let level = super::word(lanes, op.b, lane) as usize;
                let texture = held.texture(handle)?;
                match query {
                    Query::NormalizedCoords => of_sampler(&texture.sampler, query),
                    _ => of_image(&texture.image, !texture.as_integers, false, query, level),
                }
            };
            *lanes.reg::<u32>(op.dst).add(lane) = value;
        }
        Ok(())
    })
}

pub unsafe fn surface(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let query = Query::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes.
        unsafe {
            let surface = held.surface(*lanes.reg::<u64>(op.a).add(lane))?;
            *lanes.reg::<u32>(op.dst).add(lane) = of_image(&surface.image, false, true, query, 0);
        }
        Ok(())
    })
}

pub const KINDS: [Opaque; 3] = [Opaque::Texture, Opaque::Sampler, Opaque::Surface];

/// The kind in `imm`.
pub unsafe fn is_type(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let kind = KINDS[op.imm as usize % KINDS.len()];
    if op.dst == NONE {
        return Step::Next;
    }
    for word in 0..lanes.words {
        let mut bits = 0;
        for lane in 0..WORD {
            // SAFETY: lowering gave a 64-bit register.
            let handle = unsafe { *lanes.reg::<u64>(op.a).add(word * WORD + lane) };
            // Lanes that are not active hold anything, and are asked for nothing.
            let wanted = lanes.mask[word] >> lane & 1 != 0;
            let found = wanted && lanes.objects.is_some_and(|all| all.is(handle, kind));
            bits |= u32::from(found) << lane;
        }
        // SAFETY: lowering gave a predicate.
        unsafe { lanes.set_pred(op.dst, word, bits) };
    }
    Step::Next
}
