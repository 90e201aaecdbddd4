//! Integer and bit instructions: for an opcode, the handler and the types of its operands.

use softgpu_ptx::ScalarType;
use softgpu_ptx::ScalarType::*;

use crate::arith::{Mods, Plan, op};
use crate::float::Rounding;
use crate::lanes::{Alu, Handler, Subnormals, alu};

#[inline(always)]
pub fn int_f32(a: f32, mode: Rounding) -> f32 {
    match mode {
        Rounding::Nearest => a.round_ties_even(),
        Rounding::Zero => a.trunc(),
        Rounding::Down => a.floor(),
        Rounding::Up => a.ceil(),
    }
}

#[inline(always)]
pub fn int_f64(a: f64, mode: Rounding) -> f64 {
    match mode {
        Rounding::Nearest => a.round_ties_even(),
        Rounding::Zero => a.trunc(),
        Rounding::Down => a.floor(),
        Rounding::Up => a.ceil(),
    }
}

/// One generic operation over integer types.
macro_rules! int_op {
    ($name:ident, $n:expr, |$a:ident, $b:ident, $c:ident| $e:expr, $($t:ty),*) => {
        pub struct $name<T>(std::marker::PhantomData<T>);
        $(impl Alu for $name<$t> {
            type D = $t;
            type A = $t;
            type B = $t;
            type C = $t;
            const ARITY: usize = $n;
            #[inline(always)]
            fn f($a: $t, $b: $t, $c: $t) -> $t {
                #[allow(clippy::unnecessary_cast, reason = "one text for all widths")]
                { $e }
            }
        })*
    };
}
int_op!(Add, 2, |a, b, _c| a.wrapping_add(b), u16, u32, u64);
int_op!(Sub, 2, |a, b, _c| a.wrapping_sub(b), u16, u32, u64);
int_op!(Mul, 2, |a, b, _c| a.wrapping_mul(b), u16, u32, u64);
int_op!(
    Mad,
    3,
    |a, b, c| a.wrapping_mul(b).wrapping_add(c),
    u16,
    u32,
    u64
);
// Division by zero gives all ones, as the hardware does.
int_op!(
    Div,
    2,
    |a, b, _c| if b == 0 { !0 } else { a.wrapping_div(b) },
    u16,
    u32,
    u64,
    i16,
    i32,
    i64
);
int_op!(
    Rem,
    2,
    |a, b, _c| if b == 0 { a } else { a.wrapping_rem(b) },
    u16,
    u32,
    u64,
    i16,
    i32,
    i64
);
int_op!(Min, 2, |a, b, _c| a.min(b), u16, u32, u64, i16, i32, i64);
int_op!(Max, 2, |a, b, _c| a.max(b), u16, u32, u64, i16, i32, i64);
int_op!(Neg, 1, |a, _b, _c| a.wrapping_neg(), u16, u32, u64);
int_op!(Abs, 1, |a, _b, _c| a.wrapping_abs(), i16, i32, i64);
int_op!(And, 2, |a, b, _c| a & b, u16, u32, u64);
int_op!(Or, 2, |a, b, _c| a | b, u16, u32, u64);
int_op!(Xor, 2, |a, b, _c| a ^ b, u16, u32, u64);
int_op!(Not, 1, |a, _b, _c| !a, u16, u32, u64);
int_op!(Cnot, 1, |a, _b, _c| u8::from(a == 0).into(), u16, u32, u64);

pub struct Move<T>(std::marker::PhantomData<T>);
macro_rules! moves {
    ($($t:ty),*) => {
        $(impl Alu for Move<$t> {
            type D = $t;
            type A = $t;
            type B = $t;
            type C = $t;
            const ARITY: usize = 1;
            const SUBNORMALS: Subnormals = Subnormals::Kept;
            #[inline(always)]
            fn f(a: $t, _b: $t, _c: $t) -> $t {
                a
            }
        })*
    };
}
moves!(u16, u32, u64);

int_op!(Reverse, 1, |a, _b, _c| a.reverse_bits(), u32, u64);
int_op!(
    AbsDiff,
    3,
    |a, b, c| c.wrapping_add(
        (if a < b {
            b.wrapping_sub(a)
        } else {
            a.wrapping_sub(b)
        }) as _
    ),
    u16,
    u32,
    u64,
    i16,
    i32,
    i64
);

op!(
    MulHiS16,
    i16,
    |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16
);
op!(
    MulHiU16,
    u16,
    |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16
);
op!(
    MulHiS32,
    i32,
    |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32
);
op!(
    MulHiU32,
    u32,
    |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32
);
op!(
    MulHiS64,
    i64,
    |a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> 64) as i64
);
op!(
    MulHiU64,
    u64,
    |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64
);
op!(MadHiS16, i16, |a: i16, b: i16, c: i16| {
    (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c)
});
op!(MadHiU16, u16, |a: u16, b: u16, c: u16| {
    (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c)
});
op!(MadHiS32, i32, |a: i32, b: i32, c: i32| {
    (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
});
op!(MadHiU32, u32, |a: u32, b: u32, c: u32| {
    (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
});
op!(MadHiS64, i64, |a: i64, b: i64, c: i64| {
    (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c)
});
op!(MadHiU64, u64, |a: u64, b: u64, c: u64| {
    (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
});
op!(MulWideS16, i32, |a: i16, b: i16| i32::from(a)
    * i32::from(b));
op!(MulWideU16, u32, |a: u16, b: u16| u32::from(a)
    * u32::from(b));
op!(MulWideS32, i64, |a: i32, b: i32| i64::from(a)
    * i64::from(b));
op!(MulWideU32, u64, |a: u32, b: u32| u64::from(a)
    * u64::from(b));
op!(MadWideS16, i32, |a: i16, b: i16, c: i32| (i32::from(a)
    * i32::from(b))
.wrapping_add(c));
op!(MadWideU16, u32, |a: u16, b: u16, c: u32| (u32::from(a)
    * u32::from(b))
.wrapping_add(c));
op!(MadWideS32, i64, |a: i32, b: i32, c: i64| (i64::from(a)
    * i64::from(b))
.wrapping_add(c));
op!(MadWideU32, u64, |a: u32, b: u32, c: u64| (u64::from(a)
    * u64::from(b))
.wrapping_add(c));
op!(AddSatS32, i32, |a: i32, b: i32| a.saturating_add(b));
op!(SubSatS32, i32, |a: i32, b: i32| a.saturating_sub(b));
op!(MadHiSatS32, i32, |a: i32, b: i32, c: i32| {
    (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)
});
op!(Mul24S, i32, |a: i32, b: i32| (a << 8 >> 8)
    .wrapping_mul(b << 8 >> 8));
op!(Mul24U, u32, |a: u32, b: u32| (a & 0xff_ffff)
    .wrapping_mul(b & 0xff_ffff));
op!(Mad24S, i32, |a: i32, b: i32, c: i32| (a << 8 >> 8)
    .wrapping_mul(b << 8 >> 8)
    .wrapping_add(c));
op!(Mad24U, u32, |a: u32, b: u32, c: u32| (a & 0xff_ffff)
    .wrapping_mul(b & 0xff_ffff)
    .wrapping_add(c));

// Shift counts above the width give what shifting bit by bit would.
op!(Shl16, u16, |a: u16, b: u32| if b < 16 { a << b } else { 0 });
op!(Shl32, u32, |a: u32, b: u32| if b < 32 { a << b } else { 0 });
op!(Shl64, u64, |a: u64, b: u32| if b < 64 { a << b } else { 0 });
op!(ShrU16, u16, |a: u16, b: u32| if b < 16 {
    a >> b
} else {
    0
});
op!(ShrU32, u32, |a: u32, b: u32| if b < 32 {
    a >> b
} else {
    0
});
op!(ShrU64, u64, |a: u64, b: u32| if b < 64 {
    a >> b
} else {
    0
});
op!(ShrS16, i16, |a: i16, b: u32| a >> b.min(15));
op!(ShrS32, i32, |a: i32, b: u32| a >> b.min(31));
op!(ShrS64, i64, |a: i64, b: u32| a >> b.min(63));

fn funnel(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
op!(
    ShfLWrap,
    u32,
    |a: u32, b: u32, c: u32| (funnel(a, b) << (c & 31) >> 32) as u32
);
op!(
    ShfLClamp,
    u32,
    |a: u32, b: u32, c: u32| (funnel(a, b) << c.min(32) >> 32) as u32
);
op!(
    ShfRWrap,
    u32,
    |a: u32, b: u32, c: u32| (funnel(a, b) >> (c & 31)) as u32
);
op!(
    ShfRClamp,
    u32,
    |a: u32, b: u32, c: u32| (funnel(a, b) >> c.min(32)) as u32
);

op!(Popc32, u32, |a: u32| a.count_ones());
op!(Popc64, u32, |a: u64| a.count_ones());
op!(Clz32, u32, |a: u32| a.leading_zeros());
op!(Clz64, u32, |a: u64| a.leading_zeros());
op!(FindU32, u32, |a: u32| 31u32.wrapping_sub(a.leading_zeros()));
op!(FindU64, u32, |a: u64| 63u32.wrapping_sub(a.leading_zeros()));
op!(FindS32, u32, |a: i32| 31u32
    .wrapping_sub((if a < 0 { !a } else { a }).leading_zeros()));
op!(FindS64, u32, |a: i64| 63u32
    .wrapping_sub((if a < 0 { !a } else { a }).leading_zeros()));
op!(FindShiftU32, u32, |a: u32| if a == 0 {
    u32::MAX
} else {
    a.leading_zeros()
});
op!(FindShiftU64, u32, |a: u64| if a == 0 {
    u32::MAX
} else {
    a.leading_zeros()
});
op!(FindShiftS32, u32, |a: i32| {
    let a = if a < 0 { !a } else { a };
    if a == 0 { u32::MAX } else { a.leading_zeros() }
});
op!(FindShiftS64, u32, |a: i64| {
    let a = if a < 0 { !a } else { a };
    if a == 0 { u32::MAX } else { a.leading_zeros() }
});

fn extract(a: u64, position: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    let top = (position + length).saturating_sub(1).min(width - 1);
    let sign = signed && length > 0 && a >> top & 1 != 0;
    let shifted = if position < width { a >> position } else { 0 };
    let kept = if position < width {
        length.min(width - position)
    } else {
        0
    };
    let low = if kept >= 64 {
        u64::MAX
    } else {
        (1 << kept) - 1
    };
    if sign {
        shifted & low | !low
    } else {
        shifted & low
    }
}
op!(
    BfeU32,
    u32,
    |a: u32, b: u32, c: u32| extract(a.into(), b, c, 32, false) as u32
);
op!(
    BfeS32,
    u32,
    |a: u32, b: u32, c: u32| extract(a.into(), b, c, 32, true) as u32
);
op!(BfeU64, u64, |a: u64, b: u32, c: u32| extract(
    a, b, c, 64, false
));
op!(BfeS64, u64, |a: u64, b: u32, c: u32| extract(
    a, b, c, 64, true
));

pub fn insert(a: u64, b: u64, position: u32, length: u32, width: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= width || length == 0 {
        return b;
    }
    let kept = length.min(width - position);
    let field = if kept >= 64 {
        u64::MAX
    } else {
        ((1 << kept) - 1) << position
    };
    b & !field | a << position & field
}

// "prmt": byte i of the result is chosen by nibble i of the selector; its top bit replicates the sign.
op!(Prmt, u32, |a: u32, b: u32, c: u32| {
    let bytes = funnel(a, b);
    let mut result = 0;
    for i in 0..4 {
        let select = c >> (4 * i) & 15;
        let byte = (bytes >> (8 * (select & 7))) as u32 & 255;
        let value = if select & 8 != 0 {
            (byte >> 7).wrapping_neg() & 255
        } else {
            byte
        };
        result |= value << (8 * i);
    }
    result
});

pub fn permute_mode(mode: &str, a: u32, b: u32, c: u32) -> u32 {
    let bytes = funnel(a, b);
    let pick = |at: u32| (bytes >> (8 * (at & 7))) as u32 & 255;
    let s = c & 3;
    let order = match mode {
        "f4e" => [s, s + 1, s + 2, s + 3],
        "b4e" => [s, (s + 7) & 7, (s + 6) & 7, (s + 5) & 7],
        "rc8" => [s; 4],
        "ecl" => [s, s.max(1), s.max(2), 3],
        "ecr" => [0, s.min(1), s.min(2), s],
        _ => [2 * (s & 1), 2 * (s & 1) + 1, 2 * (s & 1), 2 * (s & 1) + 1],
    };
    order
        .iter()
        .enumerate()
        .fold(0, |all, (i, &at)| all | pick(at) << (8 * i))
}

#[inline(always)]
fn byte(word: u32, i: u32, signed: bool) -> i32 {
    let byte = (word >> (8 * i)) as u8;
    if signed {
        i32::from(byte as i8)
    } else {
        i32::from(byte)
    }
}
#[inline(always)]
fn dot4(a: u32, b: u32, c: u32, sa: bool, sb: bool) -> u32 {
    (0..4).fold(c, |sum, i| {
        sum.wrapping_add((byte(a, i, sa) * byte(b, i, sb)) as u32)
    })
}
#[inline(always)]
fn dot2(a: u32, b: u32, c: u32, sa: bool, sb: bool, high: bool) -> u32 {
    (0..2).fold(c, |sum, i| {
        let half = (a >> (16 * i)) as u16;
        let half = if sa {
            i32::from(half as i16)
        } else {
            i32::from(half)
        };
        sum.wrapping_add(half.wrapping_mul(byte(b, i + if high { 2 } else { 0 }, sb)) as u32)
    })
}
pub struct Dot<const SA: bool, const SB: bool, const WHICH: u8>;
impl<const SA: bool, const SB: bool, const WHICH: u8> Alu for Dot<SA, SB, WHICH> {
    type D = u32;
    type A = u32;
    type B = u32;
    type C = u32;
    const ARITY: usize = 3;
    #[inline(always)]
    fn f(a: u32, b: u32, c: u32) -> u32 {
        if WHICH == 0 {
            dot4(a, b, c, SA, SB)
        } else {
            dot2(a, b, c, SA, SB, WHICH == 2)
        }
    }
}

pub fn dot(which: u8, a_signed: bool, b_signed: bool) -> Handler {
    macro_rules! pick {
        ($w:literal) => {
            match (a_signed, b_signed) {
                (false, false) => alu::<Dot<false, false, $w>>(),
                (false, true) => alu::<Dot<false, true, $w>>(),
                (true, false) => alu::<Dot<true, false, $w>>(),
                (true, true) => alu::<Dot<true, true, $w>>(),
            }
        };
    }
    match which {
        0 => pick!(0),
        1 => pick!(1),
        _ => pick!(2),
    }
}

macro_rules! by_width {
    ($name:ident, $ty:expr) => {
        match $ty.size() {
            2 => alu::<$name<u16>>(),
            4 => alu::<$name<u32>>(),
            8 => alu::<$name<u64>>(),
            _ => return None,
        }
    };
}
macro_rules! by_sign {
    ($name:ident, $ty:expr) => {
        match $ty {
            U16 => alu::<$name<u16>>(),
            U32 => alu::<$name<u32>>(),
            U64 => alu::<$name<u64>>(),
            S16 => alu::<$name<i16>>(),
            S32 => alu::<$name<i32>>(),
            S64 => alu::<$name<i64>>(),
            _ => return None,
        }
    };
}

/// A copy of a register.
pub fn movement(size: u32) -> Option<Handler> {
    Some(match size {
        2 => alu::<Move<u16>>(),
        4 => alu::<Move<u32>>(),
        8 => alu::<Move<u64>>(),
        _ => return None,
    })
}

macro_rules! widen {
    ($($name:ident: $from:ty => $to:ty),*) => { $( op!($name, $to, |a: $from| a as $to); )* };
}
widen!(U16U32: u16 => u32, U16U64: u16 => u64, U32U64: u32 => u64, S16S32: i16 => i32, S16S64: i16 => i64,
       S32S64: i32 => i64, U32U16: u32 => u16, U64U16: u64 => u16, U64U32: u64 => u32);
op!(S8S16, i16, |a: i16| i16::from(a as i8));
op!(U8U16, u16, |a: u16| a & 255);

/// An integer register to one of another size; the sign counts when it grows.
pub fn resize(from: u32, to: u32, signed: bool) -> Option<Handler> {
    Some(match (from, to, signed) {
        (2, 4, false) => alu::<U16U32>(),
        (2, 8, false) => alu::<U16U64>(),
        (4, 8, false) => alu::<U32U64>(),
        (2, 4, true) => alu::<S16S32>(),
        (2, 8, true) => alu::<S16S64>(),
        (4, 8, true) => alu::<S32S64>(),
        (4, 2, _) => alu::<U32U16>(),
        (8, 2, _) => alu::<U64U16>(),
        (8, 4, _) => alu::<U64U32>(),
        (a, b, _) if a == b => return movement(a),
        _ => return None,
    })
}

/// The low byte of a 16-bit register, extended to it.
pub fn low_byte(signed: bool) -> Handler {
    if signed {
        alu::<S8S16>()
    } else {
        alu::<U8U16>()
    }
}

fn wide(ty: ScalarType) -> ScalarType {
    match ty {
        U16 => U32,
        S16 => S32,
        U32 => U64,
        _ => S64,
    }
}

/// Integer arithmetic and bit operations of up to three operands.
pub fn integer(name: &str, ty: ScalarType, m: Mods, extra: &str) -> Option<Plan> {
    let plan = |run, srcs: &[ScalarType]| {
        Some(Plan {
            run,
            dst: ty,
            srcs: srcs.to_vec(),
            aux: 0,
        })
    };
    let counts = matches!(ty, U16 | S16 | U32 | S32 | U64 | S64);
    let arithmetic = matches!(
        name,
        "add" | "sub" | "mul" | "mad" | "mul24" | "mad24" | "neg" | "abs"
    );
    if arithmetic && !counts || name == "neg" && !ty.is_signed() {
        return None;
    }
    match name {
        "add" if m.sat => plan(
            if ty == S32 {
                alu::<AddSatS32>()
            } else {
                return None;
            },
            &[ty; 2],
        ),
        "sub" if m.sat => plan(
            if ty == S32 {
                alu::<SubSatS32>()
            } else {
                return None;
            },
            &[ty; 2],
        ),
        "mad" if m.sat => plan(
            if ty == S32 && m.hi {
                alu::<MadHiSatS32>()
            } else {
                return None;
            },
            &[ty; 3],
        ),
        _ if m.sat => None,
        "add" => plan(by_width!(Add, ty), &[ty; 2]),
        "sub" => plan(by_width!(Sub, ty), &[ty; 2]),
        "mul" if m.wide => {
            let run = match ty {
                U16 => alu::<MulWideU16>(),
                S16 => alu::<MulWideS16>(),
                U32 => alu::<MulWideU32>(),
                S32 => alu::<MulWideS32>(),
                _ => return None,
            };
            Some(Plan {
                run,
                dst: wide(ty),
                srcs: vec![ty; 2],
                aux: 0,
            })
        }
        "mad" if m.wide => {
            let run = match ty {
                U16 => alu::<MadWideU16>(),
                S16 => alu::<MadWideS16>(),
                U32 => alu::<MadWideU32>(),
                S32 => alu::<MadWideS32>(),
                _ => return None,
            };
            Some(Plan {
                run,
                dst: wide(ty),
                srcs: vec![ty, ty, wide(ty)],
                aux: 0,
            })
        }
        "mul" if m.hi => {
            let run = match ty {
                U16 => alu::<MulHiU16>(),
                S16 => alu::<MulHiS16>(),
                U32 => alu::<MulHiU32>(),
                S32 => alu::<MulHiS32>(),
                U64 => alu::<MulHiU64>(),
                S64 => alu::<MulHiS64>(),
                _ => return None,
            };
            plan(run, &[ty; 2])
        }
        "mad" if m.hi => {
            let run = match ty {
                U16 => alu::<MadHiU16>(),
                S16 => alu::<MadHiS16>(),
                U32 => alu::<MadHiU32>(),
                S32 => alu::<MadHiS32>(),
                U64 => alu::<MadHiU64>(),
                S64 => alu::<MadHiS64>(),
                _ => return None,
            };
            plan(run, &[ty; 3])
        }
        "mul" => plan(by_width!(Mul, ty), &[ty; 2]),
        "mad" => plan(by_width!(Mad, ty), &[ty; 3]),
        "mul24" => plan(
            if ty == S32 {
                alu::<Mul24S>()
            } else {
                alu::<Mul24U>()
            },
            &[ty; 2],
        ),
        "mad24" => plan(
            if ty == S32 {
                alu::<Mad24S>()
            } else {
                alu::<Mad24U>()
            },
            &[ty; 3],
        ),
        "sad" => plan(by_sign!(AbsDiff, ty), &[ty; 3]),
        "div" => plan(by_sign!(Div, ty), &[ty; 2]),
        "rem" => plan(by_sign!(Rem, ty), &[ty; 2]),
        "min" => plan(by_sign!(Min, ty), &[ty; 2]),
        "max" => plan(by_sign!(Max, ty), &[ty; 2]),
        "neg" => plan(by_width!(Neg, ty), &[ty]),
        "abs" => {
            let run = match ty {
                S16 => alu::<Abs<i16>>(),
                S32 => alu::<Abs<i32>>(),
                S64 => alu::<Abs<i64>>(),
                _ => return None,
            };
            plan(run, &[ty])
        }
        "and" => plan(by_width!(And, ty), &[ty; 2]),
        "or" => plan(by_width!(Or, ty), &[ty; 2]),
        "xor" => plan(by_width!(Xor, ty), &[ty; 2]),
        "not" => plan(by_width!(Not, ty), &[ty]),
        "cnot" => plan(by_width!(Cnot, ty), &[ty]),
        "shl" => {
            let run = match ty.size() {
                2 => alu::<Shl16>(),
                4 => alu::<Shl32>(),
                8 => alu::<Shl64>(),
                _ => return None,
            };
            plan(run, &[ty, U32])
        }
        "shr" => {
            let run = match (ty.size(), ty.is_signed()) {
                (2, false) => alu::<ShrU16>(),
                (4, false) => alu::<ShrU32>(),
                (8, false) => alu::<ShrU64>(),
                (2, true) => alu::<ShrS16>(),
                (4, true) => alu::<ShrS32>(),
                (8, true) => alu::<ShrS64>(),
                _ => return None,
            };
            plan(run, &[ty, U32])
        }
        "shf" => {
            let run = match extra {
                "l.wrap" => alu::<ShfLWrap>(),
                "l.clamp" => alu::<ShfLClamp>(),
                "r.wrap" => alu::<ShfRWrap>(),
                "r.clamp" => alu::<ShfRClamp>(),
                _ => return None,
            };
            plan(run, &[U32; 3])
        }
        "popc" | "clz" => {
            let run = match (name, ty.size()) {
                ("popc", 4) => alu::<Popc32>(),
                ("popc", 8) => alu::<Popc64>(),
                ("clz", 4) => alu::<Clz32>(),
                ("clz", 8) => alu::<Clz64>(),
                _ => return None,
            };
            Some(Plan {
                run,
                dst: U32,
                srcs: vec![ty],
                aux: 0,
            })
        }
        "bfind" => {
            let run = match (ty, extra == "shiftamt") {
                (U32, false) => alu::<FindU32>(),
                (U64, false) => alu::<FindU64>(),
                (S32, false) => alu::<FindS32>(),
                (S64, false) => alu::<FindS64>(),
                (U32, true) => alu::<FindShiftU32>(),
                (U64, true) => alu::<FindShiftU64>(),
                (S32, true) => alu::<FindShiftS32>(),
                (S64, true) => alu::<FindShiftS64>(),
                _ => return None,
            };
            Some(Plan {
                run,
                dst: U32,
                srcs: vec![ty],
                aux: 0,
            })
        }
        "brev" => {
            let run = match ty.size() {
                4 => alu::<Reverse<u32>>(),
                8 => alu::<Reverse<u64>>(),
                _ => return None,
            };
            plan(run, &[ty])
        }
        "bfe" => {
            let run = match ty {
                U32 => alu::<BfeU32>(),
                S32 => alu::<BfeS32>(),
                U64 => alu::<BfeU64>(),
                S64 => alu::<BfeS64>(),
                _ => return None,
            };
            plan(run, &[ty, U32, U32])
        }
        "prmt" if extra.is_empty() => plan(alu::<Prmt>(), &[U32; 3]),
        _ => None,
    }
}
