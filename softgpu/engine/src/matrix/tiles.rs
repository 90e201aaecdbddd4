//! `ldmatrix`, `stmatrix`, `movmatrix`: tiles of 8 by 8 elements of 16 bits. A row of a tile is four lanes with two elements
//! each, and in memory 16 bytes, whose address a lane of its own gives: lanes 0 to 7 for the first tile, 8 to 15 for the
//! second one, and so on.

use std::array::from_fn;
use std::ptr::{read_volatile, write_volatile};

use super::Strip;
use crate::FaultKind;
use crate::access::{SHARED, SHARED_WINDOW, SPACE, WINDOW};
use crate::lanes::{Body, Lanes, Op, Step, WORD};

/// In `Op::c`, above the number of tiles.
pub const TRANSPOSED: u32 = 8;
const ROW_BYTES: u64 = 16;

type Tile = [[u16; 8]; 8];

#[inline(always)]
fn to_registers(tile: &Tile, transposed: bool) -> Strip<u32> {
    from_fn(|lane| {
        let (row, column) = (lane / 4, lane % 4 * 2);
        let (low, high) = if transposed {
            (tile[column][row], tile[column + 1][row])
        } else {
            (tile[row][column], tile[row][column + 1])
        };
        u32::from(low) | u32::from(high) << 16
    })
}

#[inline(always)]
fn from_registers(words: &Strip<u32>, transposed: bool) -> Tile {
    from_fn(|row| {
        from_fn(|column| {
            let (row, column) = if transposed {
                (column, row)
            } else {
                (row, column)
            };
            (words[row * 4 + column / 2] >> (column % 2 * 16)) as u16
        })
    })
}

/// Where the rows of tiles lie, in the order of the lanes that name them.
///
/// # Safety
/// The operation must have an address.
unsafe fn rows(lanes: &mut Lanes<'_>, op: &Op, warp: usize, count: usize) -> Option<Strip<u64>> {
    let mut at = [0; WORD];
    // SAFETY: the caller's promise.
    unsafe { lanes.addresses(op, warp, &mut at) };
    for (index, at) in at.iter_mut().enumerate().take(count) {
        let (lane, address) = (warp * WORD + index, *at);
        let offset = match op.aux & SPACE {
            SHARED => Some(address),
            _ => Some(address.wrapping_sub(SHARED_WINDOW)).filter(|&offset| offset < WINDOW),
        };
        let place = match offset {
            None => Err(FaultKind::InvalidAddressSpace),
            Some(offset) if offset % ROW_BYTES != 0 => Err(FaultKind::Misaligned),
            Some(offset) => lanes
                .place(SHARED, offset, ROW_BYTES, lane)
                .ok_or(FaultKind::IllegalAddress),
        };
        match place {
            Ok(place) => *at = place,
            Err(kind) => {
                lanes.fail(kind, lane, address);
                return None;
            }
        }
    }
    Some(at)
}

/// `ldmatrix`: registers listed from `dst` on.
pub struct LoadTiles;
impl Body for LoadTiles {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let (count, transposed) = ((op.c & 7) as usize, op.c & TRANSPOSED != 0);
        for warp in lanes.warps() {
            // SAFETY: lowering gave an address and registers of 32 bits; places were checked for 16 bytes each.
            unsafe {
                let Some(rows) = rows(lanes, op, warp, 8 * count) else {
                    return Step::Fault;
                };
                for tile in 0..count {
                    let tile_now: Tile = from_fn(|row| {
                        let from = rows[8 * tile + row] as *const u16;
                        from_fn(|column| read_volatile(from.add(column)))
                    });
                    let register = lanes.lists[op.dst as usize + tile];
                    *lanes.strip::<u32>(register, warp) = to_registers(&tile_now, transposed);
                }
            }
        }
        Step::Next
    }
}

/// `stmatrix`: registers listed from `dst` on.
pub struct StoreTiles;
impl Body for StoreTiles {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let (count, transposed) = ((op.c & 7) as usize, op.c & TRANSPOSED != 0);
        for warp in lanes.warps() {
            // SAFETY: as above.
            unsafe {
                let Some(rows) = rows(lanes, op, warp, 8 * count) else {
                    return Step::Fault;
                };
                for (at, &to) in rows.iter().enumerate().take(8 * count) {
                    let register = lanes.lists[op.dst as usize + at / 8];
                    let tile = from_registers(&*lanes.strip::<u32>(register, warp), transposed);
                    for (column, &element) in tile[at % 8].iter().enumerate() {
                        write_volatile((to as *mut u16).add(column), element);
                    }
                }
            }
        }
        Step::Next
    }
}

/// `movmatrix`: from `a` to `dst`, transposed.
pub struct TurnTile;
impl Body for TurnTile {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        for warp in lanes.warps() {
            // SAFETY: lowering gave registers of 32 bits.
            unsafe {
                let tile = from_registers(&*lanes.strip::<u32>(op.a, warp), false);
                *lanes.strip::<u32>(op.dst, warp) = to_registers(&tile, true);
            }
        }
        Step::Next
    }
}
