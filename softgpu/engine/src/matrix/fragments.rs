//! `wmma.load` and `wmma.store`: fragments from and to matrices in memory, by rows or by columns, with a stride between
//! them. Each lane goes by the address and stride that it was given; PTX wants them equal.

use std::ptr::{read_volatile, write_volatile};

use super::element::Element;
use super::layout::{Layout, Part, Places, registers};
use super::shape::Shape;
use crate::FaultKind;
use crate::access::{GENERIC, GLOBAL, LOCAL_WINDOW, SHARED, SHARED_WINDOW, SPACE, WINDOW};
use crate::lanes::{Body, Lanes, NONE, Op, Step, WORD};

/// What lies in memory, as it stands in `Op::c`. `Op::dst` lists the registers, `Op::b` is the stride's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub shape: Shape,
    pub part: Part,
    pub element: Element,
    pub by_columns: bool,
}

const PARTS: [Part; 3] = [Part::A, Part::B, Part::Sum];

impl Stored {
    pub fn code(&self) -> u32 {
        let part = PARTS.iter().position(|&part| part == self.part);
        self.shape.code()
            | (part.unwrap_or(0) as u32) << 25
            | u32::from(self.by_columns) << 27
            | self.element.code() << 28
    }

    fn of_code(code: u32) -> Stored {
        Stored {
            shape: Shape::of_code(code & 0x1ff_ffff),
            part: PARTS[(code >> 25 & 3) as usize % PARTS.len()],
            by_columns: code >> 27 & 1 != 0,
            element: Element::of_code(code >> 28),
        }
    }

    /// Rows and columns.
    fn size(&self) -> (usize, usize) {
        let Shape { m, n, k } = self.shape;
        match self.part {
            Part::A => (m, k),
            Part::B => (k, n),
            Part::Sum => (m, n),
        }
    }
}

/// A matrix in memory as this module walks over it: in units of at least a byte, a whole register where elements are less.
struct Walk {
    layout: Layout,
    /// Bytes of a unit, elements of a unit.
    unit: usize,
    elements: usize,
    by_columns: bool,
    /// Units of a row or a column, whichever lies together, and how many of those there are.
    inner: usize,
    outer: usize,
}

impl Walk {
    fn new(stored: &Stored) -> Walk {
        let (rows, columns) = stored.size();
        let (inner, outer) = if stored.by_columns {
            (rows, columns)
        } else {
            (columns, rows)
        };
        let bits = stored.element.bits();
        if bits >= 8 {
            return Walk {
                layout: Layout::new(stored.part, stored.shape, stored.element),
                unit: bits / 8,
                elements: 1,
                by_columns: stored.by_columns,
                inner,
                outer,
            };
        }
        let elements = 32 / bits;
        let shape = Shape {
            k: stored.shape.k / elements,
            ..stored.shape
        };
        Walk {
            layout: Layout::grouped(stored.part, shape, 1),
            unit: 4,
            elements,
            by_columns: stored.by_columns,
            inner: inner / elements,
            outer,
        }
    }

    fn places(&self, stride: usize) -> Places {
        if self.by_columns {
            self.layout.places(1, stride)
        } else {
            self.layout.places(stride, 1)
        }
    }
}

/// The matrix as one lane sees it.
struct View {
    address: u64,
    places: Places,
    /// Host address, when all of it is there; else each unit is looked up, so that the one that is not there is named.
    whole: Option<u64>,
}

impl Lanes<'_> {
    /// Host address of a matrix's bytes: global and shared memory have them.
    fn matrix_place(
        &self,
        space: u32,
        address: u64,
        size: u64,
        lane: usize,
    ) -> Result<u64, FaultKind> {
        let place = match space {
            GENERIC if address.wrapping_sub(SHARED_WINDOW) < WINDOW => {
                self.place(SHARED, address - SHARED_WINDOW, size, lane)
            }
            GENERIC if address.wrapping_sub(LOCAL_WINDOW) < 2 * WINDOW => {
                return Err(FaultKind::InvalidAddressSpace);
            }
            SHARED => self.place(SHARED, address, size, lane),
            _ => self.place(GLOBAL, address, size, lane),
        };
        place.ok_or(FaultKind::IllegalAddress)
    }

    fn view(
        &self,
        op: &Op,
        walk: &Walk,
        address: u64,
        stride: Option<u32>,
        lane: usize,
    ) -> Result<View, FaultKind> {
        let stride = match stride {
            None => walk.inner,
            Some(stride) if (stride as usize).is_multiple_of(walk.elements) => {
                stride as usize / walk.elements
            }
            Some(_) => return Err(FaultKind::Misaligned),
        };
        if !address.is_multiple_of(walk.unit as u64) {
            return Err(FaultKind::Misaligned);
        }
        let extent = ((walk.outer - 1) * stride + walk.inner) * walk.unit;
        Ok(View {
            address,
            places: walk.places(stride),
            whole: self
                .matrix_place(op.aux & SPACE, address, extent as u64, lane)
                .ok(),
        })
    }

    /// Go over all units of a warp's fragments: register, lane in the warp, unit in the register, host address. False: the
    /// fault is noted.
    ///
    /// # Safety
    /// The operation must be a load or a store of this module.
    #[inline(always)]
    unsafe fn walk(
        &mut self,
        op: &Op,
        walk: &Walk,
        warp: usize,
        mut visit: impl FnMut(usize, usize, usize, u64),
    ) -> bool {
        let mut at = [0; WORD];
        // SAFETY: lowering gave an address, and a stride of 32 bits.
        let strides = unsafe {
            self.addresses(op, warp, &mut at);
            (op.b != NONE).then(|| *self.strip::<u32>(op.b, warp))
        };
        let mut before: Option<(u64, Option<u32>, View)> = None;
        for (index, &address) in at.iter().enumerate() {
            let lane = warp * WORD + index;
            let stride = strides.map(|strides| strides[index]);
            // All lanes of a warp are of one block: what the one before found holds for this one.
            let same = before
                .as_ref()
                .is_some_and(|&(other, with, _)| other == address && with == stride);
            if !same {
                match self.view(op, walk, address, stride, lane) {
                    Ok(view) => before = Some((address, stride, view)),
                    Err(kind) => {
                        self.fail(kind, lane, address);
                        return false;
                    }
                }
            }
            let Some((.., view)) = &before else {
                return false;
            };
            for register in 0..walk.layout.registers {
                for part in 0..walk.layout.per {
                    let unit = view.places.at(register, index) + part * view.places.element;
                    let offset = (unit * walk.unit) as u64;
                    let place = match view.whole {
                        Some(start) => Ok(start + offset),
                        None => {
                            let address = view.address.wrapping_add(offset);
                            self.matrix_place(op.aux & SPACE, address, walk.unit as u64, lane)
                        }
                    };
                    match place {
                        Ok(place) => visit(register, index, part, place),
                        Err(kind) => {
                            let address = view.address.wrapping_add(offset);
                            self.fail(kind, lane, address);
                            return false;
                        }
                    }
                }
            }
        }
        true
    }
}

/// # Safety
/// `size` bytes must be there, aligned.
unsafe fn read(place: u64, size: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => u64::from(read_volatile(place as *const u8)),
            2 => u64::from(read_volatile(place as *const u16)),
            4 => u64::from(read_volatile(place as *const u32)),
            _ => read_volatile(place as *const u64),
        }
    }
}

/// # Safety
/// As for [`read`].
unsafe fn write(place: u64, size: usize, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => write_volatile(place as *mut u8, value as u8),
            2 => write_volatile(place as *mut u16, value as u16),
            4 => write_volatile(place as *mut u32, value as u32),
            _ => write_volatile(place as *mut u64, value),
        }
    }
}

pub struct LoadFragment;
impl Body for LoadFragment {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let stored = Stored::of_code(op.c);
        let walk = Walk::new(&stored);
        let count = registers(stored.part, stored.shape, stored.element, true);
        for warp in lanes.warps() {
            let mut values = [[0u64; WORD]; super::layout::MAX_REGISTERS];
            // SAFETY: `walk` checked the places; lowering gave registers of the element's size.
            unsafe {
                let good = lanes.walk(op, &walk, warp, |register, lane, part, place| {
                    let shift = part * walk.unit * 8;
                    values[register][lane] |= read(place, walk.unit) << shift;
                });
                if !good {
                    return Step::Fault;
                }
                for at in 0..count {
                    let register = lanes.lists[op.dst as usize + at];
                    let values = values[at % walk.layout.registers];
                    match stored.element.register() {
                        8 => *lanes.strip::<u64>(register, warp) = values,
                        _ => *lanes.strip::<u32>(register, warp) = values.map(|value| value as u32),
                    }
                }
            }
        }
        Step::Next
    }
}

pub struct StoreFragment;
impl Body for StoreFragment {
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        if !lanes.whole_warps() {
            return Step::Fault;
        }
        let stored = Stored::of_code(op.c);
        let walk = Walk::new(&stored);
        for warp in lanes.warps() {
            let mut values = [[0u64; WORD]; super::layout::MAX_REGISTERS];
            // SAFETY: as above.
            unsafe {
                for (at, values) in values.iter_mut().enumerate().take(walk.layout.registers) {
                    let register = lanes.lists[op.dst as usize + at];
                    *values = match stored.element.register() {
                        8 => *lanes.strip::<u64>(register, warp),
                        _ => (*lanes.strip::<u32>(register, warp)).map(u64::from),
                    };
                }
                let good = lanes.walk(op, &walk, warp, |register, lane, part, place| {
                    let shift = part * walk.unit * 8;
                    write(place, walk.unit, values[register][lane] >> shift);
                });
                if !good {
                    return Step::Fault;
                }
            }
        }
        Step::Next
    }
}
