//! Comparisons, selections, and operations on predicates.

use std::marker::PhantomData;

use softgpu_ptx::ScalarType;
use softgpu_ptx::ScalarType::*;

use crate::facts::FLUSHED;
use crate::float::{bf16_to_f32, f16_to_f32, flush32};
use crate::lanes::{
    Alu, Body, Elem, Handler, Lanes, MAX_WORDS, Op, Step, Test, WORD, body, store_word, test,
};

const EQ: u8 = 0;
const NE: u8 = 1;
const LT: u8 = 2;
const LE: u8 = 3;
const GT: u8 = 4;
const GE: u8 = 5;
/// The unordered forms follow at this distance.
const UNORDERED: u8 = 8;
const NUM: u8 = 16;
const NAN: u8 = 17;

#[inline(always)]
fn ordered<T: PartialOrd>(op: u8, a: T, b: T) -> bool {
    match op {
        EQ => a == b,
        NE => a != b,
        LT => a < b,
        LE => a <= b,
        GT => a > b,
        _ => a >= b,
    }
}

#[inline(always)]
fn float<T: PartialOrd + Copy>(op: u8, a: T, b: T) -> bool {
    #[allow(clippy::eq_op, reason = "a NaN differs from itself")]
    let unordered = a != a || b != b;
    match op {
        NUM => !unordered,
        NAN => unordered,
        // `ne` is false for NaN, unlike the host's.
        NE => !unordered && a != b,
        _ if op >= UNORDERED => unordered || ordered(op - UNORDERED, a, b),
        _ => ordered(op, a, b),
    }
}

pub struct Int<T, const OP: u8>(PhantomData<T>);
macro_rules! ints {
    ($($t:ty),*) => {
        $(impl<const OP: u8> Test for Int<$t, OP> {
            type A = $t;
            type B = $t;
            #[inline(always)]
            fn f(a: $t, b: $t) -> bool {
                ordered(OP, a, b)
            }
        })*
    };
}
ints!(u16, i16, u32, i32, u64, i64);

pub struct Single<const OP: u8, const FTZ: bool>;
impl<const OP: u8, const FTZ: bool> Test for Single<OP, FTZ> {
    type A = f32;
    type B = f32;
    #[inline(always)]
    fn f(a: f32, b: f32) -> bool {
        if FTZ {
            float(OP, flush32(a), flush32(b))
        } else {
            float(OP, a, b)
        }
    }
}

pub struct Double<const OP: u8>;
impl<const OP: u8> Test for Double<OP> {
    type A = f64;
    type B = f64;
    #[inline(always)]
    fn f(a: f64, b: f64) -> bool {
        float(OP, a, b)
    }
}

pub struct Half<const OP: u8, const BRAIN: bool>;
impl<const OP: u8, const BRAIN: bool> Test for Half<OP, BRAIN> {
    type A = u16;
    type B = u16;
    #[inline(always)]
    fn f(a: u16, b: u16) -> bool {
        if BRAIN {
            float(OP, bf16_to_f32(a), bf16_to_f32(b))
        } else {
            float(OP, f16_to_f32(a), f16_to_f32(b))
        }
    }
}

macro_rules! int_pick {
    ($t:ty, $op:expr) => {
        Some(match $op {
            EQ => test::<Int<$t, EQ>>(),
            NE => test::<Int<$t, NE>>(),
            LT => test::<Int<$t, LT>>(),
            LE => test::<Int<$t, LE>>(),
            GT => test::<Int<$t, GT>>(),
            GE => test::<Int<$t, GE>>(),
            _ => return None,
        })
    };
}
macro_rules! float_pick {
    ($op:expr, $name:ident $(, $flag:expr)?) => {
        Some(match $op {
            0 => test::<$name<0 $(, $flag)?>>(),
            1 => test::<$name<1 $(, $flag)?>>(),
            2 => test::<$name<2 $(, $flag)?>>(),
            3 => test::<$name<3 $(, $flag)?>>(),
            4 => test::<$name<4 $(, $flag)?>>(),
            5 => test::<$name<5 $(, $flag)?>>(),
            8 => test::<$name<8 $(, $flag)?>>(),
            9 => test::<$name<9 $(, $flag)?>>(),
            10 => test::<$name<10 $(, $flag)?>>(),
            11 => test::<$name<11 $(, $flag)?>>(),
            12 => test::<$name<12 $(, $flag)?>>(),
            13 => test::<$name<13 $(, $flag)?>>(),
            16 => test::<$name<16 $(, $flag)?>>(),
            17 => test::<$name<17 $(, $flag)?>>(),
            _ => return None,
        })
    };
}

/// The handler of a comparison, and the type of its operands (`lo` and `hs` are unsigned whatever the type says).
pub fn comparison(op: &str, ty: ScalarType, ftz: bool) -> Option<Handler> {
    let unsigned = matches!(op, "lo" | "ls" | "hi" | "hs");
    let code = match op {
        "eq" => EQ,
        "ne" => NE,
        "lt" | "lo" => LT,
        "le" | "ls" => LE,
        "gt" | "hi" => GT,
        "ge" | "hs" => GE,
        "equ" => EQ + UNORDERED,
        "neu" => NE + UNORDERED,
        "ltu" => LT + UNORDERED,
        "leu" => LE + UNORDERED,
        "gtu" => GT + UNORDERED,
        "geu" => GE + UNORDERED,
        "num" => NUM,
        "nan" => NAN,
        _ => return None,
    };
    match ty {
        F32 if ftz => float_pick!(code, Single, true),
        F32 => float_pick!(code, Single, false),
        F64 => float_pick!(code, Double),
        F16 => float_pick!(code, Half, false),
        BF16 => float_pick!(code, Half, true),
        S16 if !unsigned => int_pick!(i16, code),
        S32 if !unsigned => int_pick!(i32, code),
        S64 if !unsigned => int_pick!(i64, code),
        U16 | B16 | S16 => int_pick!(u16, code),
        U32 | B32 | S32 => int_pick!(u32, code),
        U64 | B64 | S64 => int_pick!(u64, code),
        _ => None,
    }
}

/// Whether an addition or subtraction carries out of the word.
pub struct Carry<T, const SUB: bool>(PhantomData<T>);
macro_rules! carries {
    ($($t:ty),*) => {
        $(impl<const SUB: bool> Test for Carry<$t, SUB> {
            type A = $t;
            type B = $t;
            #[inline(always)]
            fn f(a: $t, b: $t) -> bool {
                if SUB { a < b } else { a.overflowing_add(b).1 }
            }
        })*
    };
}
carries!(u32, u64);

pub fn carry(size: u32, subtract: bool) -> Handler {
    match (size, subtract) {
        (4, false) => test::<Carry<u32, false>>(),
        (4, true) => test::<Carry<u32, true>>(),
        (_, false) => test::<Carry<u64, false>>(),
        (_, true) => test::<Carry<u64, true>>(),
    }
}

pub struct Property<const KIND: u8>;
impl<const KIND: u8> Test for Property<KIND> {
    type A = f32;
    type B = f32;
    #[inline(always)]
    fn f(a: f32, _b: f32) -> bool {
        property(
            KIND,
            a.is_finite(),
            a.is_infinite(),
            a.is_nan(),
            a.is_normal(),
            a.is_subnormal(),
        )
    }
}
pub struct Property64<const KIND: u8>;
impl<const KIND: u8> Test for Property64<KIND> {
    type A = f64;
    type B = f64;
    #[inline(always)]
    fn f(a: f64, _b: f64) -> bool {
        property(
            KIND,
            a.is_finite(),
            a.is_infinite(),
            a.is_nan(),
            a.is_normal(),
            a.is_subnormal(),
        )
    }
}
#[inline(always)]
fn property(
    kind: u8,
    finite: bool,
    infinite: bool,
    nan: bool,
    normal: bool,
    subnormal: bool,
) -> bool {
    match kind {
        0 => finite,
        1 => infinite,
        2 => !nan,
        3 => nan,
        4 => normal,
        _ => subnormal,
    }
}

/// `testp`
pub fn property_test(name: &str, ty: ScalarType) -> Option<Handler> {
    macro_rules! pick {
        ($t:ident) => {
            Some(match name {
                "finite" => test::<$t<0>>(),
                "infinite" => test::<$t<1>>(),
                "number" => test::<$t<2>>(),
                "notanumber" => test::<$t<3>>(),
                "normal" => test::<$t<4>>(),
                "subnormal" => test::<$t<5>>(),
                _ => return None,
            })
        };
    }
    match ty {
        F32 => pick!(Property),
        F64 => pick!(Property64),
        _ => None,
    }
}

pub struct Select<T>(PhantomData<T>);

impl<T: Elem> Body for Select<T> {
    /// Both values are at hand, so one is written under the mask of the predicate, the other under its opposite.
    #[inline(always)]
    unsafe fn run<const LEVEL: u8>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
        // SAFETY: lowering gave registers of this size and a predicate in `c`.
        unsafe {
            let (d, a, b) = (
                lanes.reg::<T>(op.dst),
                lanes.reg::<T>(op.a),
                lanes.reg::<T>(op.b),
            );
            for word in 0..lanes.words {
                let mask = if lanes.full {
                    u32::MAX
                } else {
                    lanes.mask[word & (MAX_WORDS - 1)]
                };
                if mask == 0 {
                    continue;
                }
                let bits = lanes.pred(op.c, word);
                let (d, a, b) = (d.add(word * WORD), a.add(word * WORD), b.add(word * WORD));
                if op.dst != op.a {
                    if op.dst != op.b {
                        store_word::<T, LEVEL>(d, b, mask & !bits);
                    }
                    store_word::<T, LEVEL>(d, a, mask & bits);
                } else if op.dst != op.b {
                    store_word::<T, LEVEL>(d, b, mask & !bits);
                }
            }
            let known = lanes.known(op.a) & lanes.known(op.b) & FLUSHED;
            lanes.found = if lanes.full {
                known
            } else {
                known & *lanes.facts.add(op.mark as usize)
            };
        }
        Step::Next
    }
}

/// `selp`, by size.
pub fn selection(size: u32) -> Option<Handler> {
    Some(match size {
        2 => body::<Select<u16>>(),
        4 => body::<Select<u32>>(),
        8 => body::<Select<u64>>(),
        _ => return None,
    })
}

/// Operations on predicates: `Op::aux` is the table of results, bit `a + 2 * b`.
pub unsafe fn predicate_logic(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        // SAFETY: lowering gave predicates.
        unsafe {
            let (a, b) = (lanes.pred(op.a, word), lanes.pred(op.b, word));
            let mut bits = 0;
            for (index, term) in [!a & !b, a & !b, !a & b, a & b].into_iter().enumerate() {
                if op.aux >> index & 1 != 0 {
                    bits |= term;
                }
            }
            lanes.set_pred(op.dst, word, bits);
        }
    }
    Step::Next
}

pub const PRED_AND: u32 = 0b1000;
pub const PRED_OR: u32 = 0b1110;
pub const PRED_XOR: u32 = 0b0110;
/// The first operand, whatever the second.
pub const PRED_MOVE: u32 = 0b1010;

/// `slct`: a where c >= 0, else b.
pub struct Slct<T, C>(PhantomData<(T, C)>);
macro_rules! slct {
    ($($t:ty, $c:ty);*) => {
        $(impl Alu for Slct<$t, $c> {
            type D = $t;
            type A = $t;
            type B = $t;
            type C = $c;
            const ARITY: usize = 3;
            #[inline(always)]
            fn f(a: $t, b: $t, c: $c) -> $t {
                if c >= Default::default() { a } else { b }
            }
        })*
    };
}
slct!(u16, i32; u32, i32; u64, i32; u16, f32; u32, f32; u64, f32);

pub fn slct(size: u32, by: ScalarType) -> Option<Handler> {
    use crate::lanes::alu;
    Some(match (size, by) {
        (2, S32) => alu::<Slct<u16, i32>>(),
        (4, S32) => alu::<Slct<u32, i32>>(),
        (8, S32) => alu::<Slct<u64, i32>>(),
        (2, F32) => alu::<Slct<u16, f32>>(),
        (4, F32) => alu::<Slct<u32, f32>>(),
        (8, F32) => alu::<Slct<u64, f32>>(),
        _ => return None,
    })
}
