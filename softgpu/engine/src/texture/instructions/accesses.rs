//! `suld`, `sust` and `sured` for all lanes.

use std::ptr::write_volatile;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::forms::{Access, Reduction};
use super::{Held, Stop, each_lane, word};
use crate::FaultKind;
use crate::lanes::{Lanes, NONE, Op, Step};
use crate::texture::{MAX_TEXEL, Memory, Place, Surface};

/// Where `size` bytes of a lane's access are; nowhere when it is outside and that is no fault. Handle in `a`; layer, x, y
/// and z in the list `c`.
///
/// # Safety
/// The operation must be an access to a surface of the program.
unsafe fn place(
    lanes: &Lanes<'_>,
    op: &Op,
    form: &Access,
    surface: &Surface,
    lane: usize,
    size: usize,
) -> Result<Option<u64>, Stop> {
    // SAFETY: lowering made the list, of 32-bit registers.
    let source = |at: usize| unsafe { word(lanes, lanes.lists[op.c as usize + at], lane) };
    let signed = |at: usize| i64::from(source(at) as i32);
    let x = match form.by_texels {
        true => signed(1) * surface.image.format.size() as i64,
        false => signed(1),
    };
    let slice = match form.geometry.layered {
        true => i64::from(source(0)),
        false => signed(3),
    };
    let size = size as u64;
    match surface.place(x, signed(2), slice, size, form.outside) {
        Place::At(address) if !address.is_multiple_of(size) => {
            Err((FaultKind::Misaligned, address))
        }
        Place::At(address) if !lanes.memory.check(address, size) => {
            Err((FaultKind::IllegalAddress, address))
        }
        Place::At(address) => Ok(Some(address)),
        Place::Nowhere => Ok(None),
        // Where it would be if the row went on: what a device reports as an illegal address.
        Place::Trap => Err((
            FaultKind::IllegalAddress,
            surface.image.levels[0].base.wrapping_add(x as u64),
        )),
    }
}

/// The registers of the list `dst` get the elements.
pub unsafe fn load(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let form = Access::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes; all are read before the first is written.
        unsafe {
            let surface = held.surface(*lanes.reg::<u64>(op.a).add(lane))?;
            let size = form.element * form.count;
            let bytes = match place(lanes, op, &form, surface, lane, size)? {
                Some(address) => lanes.memory.read(address, size),
                None => Some([0; MAX_TEXEL]),
            };
            let bytes = bytes.unwrap_or_default();
            let registers = &lanes.lists[op.dst as usize..][..form.count];
            for (&register, part) in registers.iter().zip(bytes.chunks_exact(form.element)) {
                if register == NONE {
                    continue;
                }
                let mut value = [0; 8];
                value[..form.element].copy_from_slice(part);
                let value = u64::from_le_bytes(value);
                match form.register {
                    2 => *lanes.reg::<u16>(register).add(lane) = value as u16,
                    4 => *lanes.reg::<u32>(register).add(lane) = value as u32,
                    _ => *lanes.reg::<u64>(register).add(lane) = value,
                }
            }
        }
        Ok(())
    })
}

/// Writes bytes that were found to be there.
///
/// # Safety
/// The range must be there, and aligned to its size.
unsafe fn write(address: u64, bytes: &[u8]) {
    // SAFETY: the caller's promise; others may touch the bytes at the same time.
    unsafe {
        match *bytes {
            [a] => write_volatile(address as *mut u8, a),
            [a, b] => write_volatile(address as *mut u16, u16::from_le_bytes([a, b])),
            _ => {
                for (at, part) in bytes.chunks_exact(4).enumerate() {
                    let value = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
                    write_volatile((address as *mut u32).add(at), value);
                }
            }
        }
    }
}

/// The list `dst` has the registers that are written to the surface.
pub unsafe fn store(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let form = Access::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes; the place was checked.
        unsafe {
            let surface = held.surface(*lanes.reg::<u64>(op.a).add(lane))?;
            let size = form.element * form.count;
            let Some(address) = place(lanes, op, &form, surface, lane, size)? else {
                return Ok(());
            };
            let mut bytes = [0; MAX_TEXEL];
            let registers = &lanes.lists[op.dst as usize..][..form.count];
            for (&register, part) in registers.iter().zip(bytes.chunks_exact_mut(form.element)) {
                let value = match form.register {
                    2 => u64::from(*lanes.reg::<u16>(register).add(lane)),
                    4 => u64::from(*lanes.reg::<u32>(register).add(lane)),
                    _ => *lanes.reg::<u64>(register).add(lane),
                };
                part.copy_from_slice(&value.to_le_bytes()[..form.element]);
            }
            write(address, &bytes[..size]);
        }
        Ok(())
    })
}

/// As `store`, of components that become a texel.
pub unsafe fn store_formatted(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let form = Access::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave 32-bit registers; the place was checked.
        unsafe {
            let surface = held.surface(*lanes.reg::<u64>(op.a).add(lane))?;
            let mut values = [0; 4];
            let registers = &lanes.lists[op.dst as usize..][..form.count];
            for (value, &register) in values.iter_mut().zip(registers) {
                *value = word(lanes, register, lane);
            }
            let (bytes, size) = surface.encode(values);
            if let Some(address) = place(lanes, op, &form, surface, lane, size)? {
                write(address, &bytes[..size]);
            }
        }
        Ok(())
    })
}

/// What was there before is of no interest.
macro_rules! reduction {
    ($target:ident, $with:ident, $which:expr, $signed:ident, $s:ident $u:ident) => {{
        let signed = |pick: fn($s, $s) -> $s| {
            let update = |old| Some(pick(old as $s, $with as $s) as $u);
            $target
                .fetch_update(Relaxed, Relaxed, update)
                .unwrap_or_default()
        };
        match ($which, $signed) {
            (Reduction::Add, _) => $target.fetch_add($with, Relaxed),
            (Reduction::And, _) => $target.fetch_and($with, Relaxed),
            (Reduction::Or, _) => $target.fetch_or($with, Relaxed),
            (Reduction::Min, false) => $target.fetch_min($with, Relaxed),
            (Reduction::Max, false) => $target.fetch_max($with, Relaxed),
            (Reduction::Min, true) => signed(Ord::min),
            (Reduction::Max, true) => signed(Ord::max),
        };
    }};
}

/// Operand in `b`.
pub unsafe fn reduce(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let form = Access::of_code(op.imm);
    let mut held = Held::new(lanes);
    each_lane(lanes, |lanes, lane| {
        // SAFETY: lowering gave registers of these sizes; the place was checked and is aligned.
        unsafe {
            let surface = held.surface(*lanes.reg::<u64>(op.a).add(lane))?;
            // With a format, that says what the bits are.
            let signed = match form.by_texels {
                true => surface.image.format.channel.is_signed(),
                false => form.signed,
            };
            let Some(address) = place(lanes, op, &form, surface, lane, form.element)? else {
                return Ok(());
            };
            if form.element == 8 {
                let with = *lanes.reg::<u64>(op.b).add(lane);
                let target = AtomicU64::from_ptr(address as *mut u64);
                reduction!(target, with, form.reduction, signed, i64 u64);
            } else {
                let with = *lanes.reg::<u32>(op.b).add(lane);
                let target = AtomicU32::from_ptr(address as *mut u32);
                reduction!(target, with, form.reduction, signed, i32 u32);
            }
        }
        Ok(())
    })
}
