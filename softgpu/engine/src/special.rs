//! Instructions in which lanes of a warp meet, and those with more operands than the common form has.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::arith::{GREATEST, NAN, choose};
use crate::bits::{insert, permute_mode};
use crate::lanes::{Alu, Handler, Lanes, NONE, Op, Step, WORD, alu};

/// Run a function on each active lane; results go to `dst`.
macro_rules! each_lane {
    ($lanes:ident, $op:ident, $t:ty, |$at:ident| $e:expr) => {{
        for word in 0..$lanes.words {
            let mask = $lanes.mask[word];
            for i in 0..WORD {
                if mask >> i & 1 != 0 {
                    let $at = word * WORD + i;
                    let value: $t = $e;
                    // SAFETY: lowering gave a register of this size.
                    unsafe { *$lanes.reg::<$t>($op.dst).add($at) = value };
                }
            }
        }
        Step::Next
    }};
}

/// `lop3`: `Op::imm` is the table.
pub unsafe fn lop3(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let mut terms = [0u32; 8];
    for (index, term) in terms.iter_mut().enumerate() {
        *term = 0u32.wrapping_sub((op.imm >> index & 1) as u32);
    }
    // SAFETY: lowering gave 32-bit registers.
    unsafe {
        let (d, a, b, c) = (
            lanes.reg::<u32>(op.dst),
            lanes.reg::<u32>(op.a),
            lanes.reg::<u32>(op.b),
            lanes.reg::<u32>(op.c),
        );
        for word in 0..lanes.words {
            let mask = if lanes.full {
                u32::MAX
            } else {
                lanes.mask[word]
            };
            if mask == 0 {
                continue;
            }
            let mut out = [0u32; WORD];
            for (i, out) in out.iter_mut().enumerate() {
                let at = word * WORD + i;
                let (a, b, c) = (*a.add(at), *b.add(at), *c.add(at));
                *out = terms[0] & !a & !b & !c
                    | terms[1] & !a & !b & c
                    | terms[2] & !a & b & !c
                    | terms[3] & !a & b & c
                    | terms[4] & a & !b & !c
                    | terms[5] & a & !b & c
                    | terms[6] & a & b & !c
                    | terms[7] & a & b & c;
            }
            for (i, &value) in out.iter().enumerate() {
                if mask >> i & 1 != 0 {
                    *d.add(word * WORD + i) = value;
                }
            }
        }
    }
    Step::Next
}

/// `bfi`: the length's register is in `Op::imm`.
pub unsafe fn bfi32(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    // SAFETY: lowering gave 32-bit registers.
    each_lane!(lanes, op, u32, |at| unsafe {
        let (a, b) = (
            *lanes.reg::<u32>(op.a).add(at),
            *lanes.reg::<u32>(op.b).add(at),
        );
        let (c, d) = (
            *lanes.reg::<u32>(op.c).add(at),
            *lanes.reg::<u32>(op.imm as u32).add(at),
        );
        insert(a.into(), b.into(), c, d, 32) as u32
    })
}

pub unsafe fn bfi64(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    // SAFETY: lowering gave 64-bit values, 32-bit position and length.
    each_lane!(lanes, op, u64, |at| unsafe {
        let (a, b) = (
            *lanes.reg::<u64>(op.a).add(at),
            *lanes.reg::<u64>(op.b).add(at),
        );
        let (c, d) = (
            *lanes.reg::<u32>(op.c).add(at),
            *lanes.reg::<u32>(op.imm as u32).add(at),
        );
        insert(a, b, c, d, 64)
    })
}

pub const PRMT_MODES: [&str; 6] = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];

/// `prmt` with a mode, whose number is in `Op::aux`.
pub unsafe fn prmt(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    let mode = PRMT_MODES[op.aux as usize];
    // SAFETY: lowering gave 32-bit registers.
    each_lane!(lanes, op, u32, |at| unsafe {
        let (a, b) = (
            *lanes.reg::<u32>(op.a).add(at),
            *lanes.reg::<u32>(op.b).add(at),
        );
        permute_mode(mode, a, b, *lanes.reg::<u32>(op.c).add(at))
    })
}

pub const SHFL_UP: u32 = 0;
pub const SHFL_DOWN: u32 = 1;
pub const SHFL_BFLY: u32 = 2;
pub const SHFL_IDX: u32 = 3;

/// `shfl`: mode in `aux`, predicate in `imm`.
pub unsafe fn shfl(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mask = lanes.mask[word];
        if mask == 0 {
            continue;
        }
        // SAFETY: lowering gave 32-bit registers and a predicate.
        unsafe {
            let base = word * WORD;
            let source = *lanes.reg::<u32>(op.a).add(base).cast::<[u32; WORD]>();
            let (b, c) = (
                lanes.reg::<u32>(op.b).add(base),
                lanes.reg::<u32>(op.c).add(base),
            );
            let mut inside = 0u32;
            let mut result = source;
            for lane in 0..WORD as u32 {
                let (by, control) = (*b.add(lane as usize) & 31, *c.add(lane as usize));
                let (clamp, segment) = (control & 31, control >> 8 & 31);
                let (lowest, highest) = (lane & segment, lane & segment | clamp & !segment);
                let (from, valid) = match op.aux {
                    SHFL_UP => (
                        lane.wrapping_sub(by),
                        lane as i64 - i64::from(by) >= i64::from(highest),
                    ),
                    SHFL_DOWN => (lane + by, lane + by <= highest),
                    SHFL_BFLY => (lane ^ by, (lane ^ by) <= highest),
                    _ => (lowest | by & !segment, (lowest | by & !segment) <= highest),
                };
                if valid {
                    result[lane as usize] = source[(from & 31) as usize];
                    inside |= 1 << lane;
                }
            }
            let d = lanes.reg::<u32>(op.dst).add(base);
            for (i, &value) in result.iter().enumerate() {
                if mask >> i & 1 != 0 {
                    *d.add(i) = value;
                }
            }
            if op.imm as u32 != NONE {
                lanes.set_pred(op.imm as u32, word, inside);
            }
        }
    }
    Step::Next
}

pub const VOTE_ALL: u32 = 0;
pub const VOTE_ANY: u32 = 1;
pub const VOTE_UNI: u32 = 2;
pub const VOTE_BALLOT: u32 = 3;

/// `vote`: predicate in `a`, members in `b` (a register), mode in `aux`.
pub unsafe fn vote(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mask = lanes.mask[word];
        if mask == 0 {
            continue;
        }
        // SAFETY: lowering gave a predicate and 32-bit registers.
        unsafe {
            let first = mask.trailing_zeros() as usize;
            let members = if op.b == NONE {
                mask
            } else {
                mask & *lanes.reg::<u32>(op.b).add(word * WORD + first)
            };
            let yes = lanes.pred(op.a, word) & members;
            let answer = match op.aux {
                VOTE_ALL => yes == members,
                VOTE_ANY => yes != 0,
                _ => yes == members || yes == 0,
            };
            if op.aux == VOTE_BALLOT {
                let d = lanes.reg::<u32>(op.dst).add(word * WORD);
                for i in 0..WORD {
                    if mask >> i & 1 != 0 {
                        *d.add(i) = yes;
                    }
                }
            } else {
                lanes.set_pred(op.dst, word, if answer { u32::MAX } else { 0 });
            }
        }
    }
    Step::Next
}

/// `activemask`
pub unsafe fn activemask(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    each_lane!(lanes, op, u32, |at| lanes.mask[at / WORD])
}

/// `match`: value in `a` of `aux & 15` bytes, members in `b`; bit 4 of `aux`: all, whose predicate is in `imm`.
pub unsafe fn match_values(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mask = lanes.mask[word];
        if mask == 0 {
            continue;
        }
        // SAFETY: lowering gave registers of these sizes.
        unsafe {
            let value = |i: usize| match op.aux & 15 {
                8 => *lanes.reg::<u64>(op.a).add(word * WORD + i),
                _ => u64::from(*lanes.reg::<u32>(op.a).add(word * WORD + i)),
            };
            let members = mask
                & *lanes
                    .reg::<u32>(op.b)
                    .add(word * WORD + mask.trailing_zeros() as usize);
            let mut result = [0u32; WORD];
            for (i, result) in result.iter_mut().enumerate() {
                for j in 0..WORD {
                    if members >> j & 1 != 0 && value(i) == value(j) {
                        *result |= 1 << j;
                    }
                }
            }
            let all = op.aux & 16 != 0;
            let agree = result[mask.trailing_zeros() as usize] == members;
            let d = lanes.reg::<u32>(op.dst).add(word * WORD);
            for (i, &found) in result.iter().enumerate() {
                if mask >> i & 1 != 0 {
                    *d.add(i) = if !all {
                        found
                    } else if agree {
                        members
                    } else {
                        0
                    };
                }
            }
            if all && op.imm as u32 != NONE {
                lanes.set_pred(op.imm as u32, word, if agree { u32::MAX } else { 0 });
            }
        }
    }
    Step::Next
}

pub const REDUX: [&str; 10] = [
    "add", "min.u", "min.s", "max.u", "max.s", "and", "or", "xor", "min.f", "max.f",
];
pub const REDUX_ABS: u32 = 1 << 8;
pub const REDUX_NAN: u32 = 1 << 9;

fn reduced(aux: u32, x: u32, y: u32) -> u32 {
    match aux & 255 {
        0 => x.wrapping_add(y),
        1 => x.min(y),
        2 => (x as i32).min(y as i32) as u32,
        3 => x.max(y),
        4 => (x as i32).max(y as i32) as u32,
        5 => x & y,
        6 => x | y,
        7 => x ^ y,
        which => {
            let nan = if aux & REDUX_NAN != 0 { NAN } else { 0 };
            let greatest = if which == 9 { GREATEST } else { 0 };
            choose(f32::from_bits(x), f32::from_bits(y), nan | greatest).to_bits()
        }
    }
}

/// `elect`: members in `a`; the lowest of them that is here leads.
pub unsafe fn elect(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mask = lanes.mask[word];
        if mask == 0 {
            continue;
        }
        // SAFETY: lowering gave 32-bit registers and a predicate.
        unsafe {
            let first = word * WORD + mask.trailing_zeros() as usize;
            let members = mask & *lanes.reg::<u32>(op.a).add(first);
            let leader = if members == 0 { mask } else { members }.trailing_zeros();
            for i in (0..WORD).filter(|i| mask >> i & 1 != 0) {
                *lanes.reg::<u32>(op.dst).add(word * WORD + i) = leader;
            }
            if op.imm as u32 != NONE {
                lanes.set_pred(op.imm as u32, word, 1 << leader);
            }
        }
    }
    Step::Next
}

/// `redux`: operation in `aux`, members in `b`.
pub unsafe fn redux(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mask = lanes.mask[word];
        if mask == 0 {
            continue;
        }
        // SAFETY: lowering gave 32-bit registers.
        unsafe {
            let members = mask
                & *lanes
                    .reg::<u32>(op.b)
                    .add(word * WORD + mask.trailing_zeros() as usize);
            let a = lanes.reg::<u32>(op.a).add(word * WORD);
            let drop = if op.aux & REDUX_ABS != 0 {
                1 << 31
            } else {
                0u32
            };
            let values = (0..WORD)
                .filter(|&i| members >> i & 1 != 0)
                .map(|i| *a.add(i) & !drop);
            let single = |x| reduced(op.aux, x, x);
            let result = values
                .reduce(|x, y| reduced(op.aux, x, y))
                // One NaN alone is the canonical one, too.
                .map_or(0, |x| if op.aux & 255 >= 8 { single(x) } else { x });
            let d = lanes.reg::<u32>(op.dst).add(word * WORD);
            for i in 0..WORD {
                if mask >> i & 1 != 0 {
                    *d.add(i) = result;
                }
            }
        }
    }
    Step::Next
}

pub const CLOCK: u32 = 0;
pub const GLOBAL_TIMER: u32 = 1;

/// `%clock` and `%globaltimer`, in nanoseconds: bit 8 of `aux` asks for the upper half, bit 9 for all 64 bits.
pub unsafe fn clock(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    static START: OnceLock<Instant> = OnceLock::new();
    let now = match op.aux & 255 {
        GLOBAL_TIMER => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64),
        _ => START.get_or_init(Instant::now).elapsed().as_nanos() as u64,
    };
    if op.aux & 512 != 0 {
        return each_lane!(lanes, op, u64, |_at| now);
    }
    let part = if op.aux & 256 != 0 { now >> 32 } else { now } as u32;
    each_lane!(lanes, op, u32, |_at| part)
}

pub unsafe fn nothing(_lanes: &mut Lanes<'_>, _op: &Op) -> Step {
    Step::Next
}

use crate::arith::op;
op!(Pack32, u64, |a: u32, b: u32| u64::from(a)
    | u64::from(b) << 32);
op!(Pack16, u32, |a: u16, b: u16| u32::from(a)
    | u32::from(b) << 16);
op!(Pack8, u16, |a: u16, b: u16| a & 255 | b << 8);
op!(High64, u32, |a: u64| (a >> 32) as u32);
op!(High32, u16, |a: u32| (a >> 16) as u16);
op!(High16, u16, |a: u16| a >> 8);

/// Two registers of `size` bytes into one of twice that.
pub fn pack(size: u32) -> Option<Handler> {
    Some(match size {
        1 => alu::<Pack8>(),
        2 => alu::<Pack16>(),
        4 => alu::<Pack32>(),
        _ => return None,
    })
}

/// The upper half of a register of `size` bytes.
pub fn high(size: u32) -> Option<Handler> {
    Some(match size {
        2 => alu::<High16>(),
        4 => alu::<High32>(),
        8 => alu::<High64>(),
        _ => return None,
    })
}
