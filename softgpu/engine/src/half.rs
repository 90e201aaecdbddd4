//! f16 and bf16, alone and in pairs: computed in f32 (one operation of which rounds innocuously) or in f64 rounded to odd.

use std::marker::PhantomData;

use crate::arith::{FTZ, Mods, choose};
use crate::float::*;
use crate::lanes::{Alu, Handler, alu};
use crate::rare::{Rare, rare};

pub trait Format: 'static {
    /// Bits of the exponent.
    const EXPONENT: u16;
    fn wide(half: u16) -> f32;
    fn narrow(value: f32) -> u16;
    /// From an f64 that is exact or rounded to odd.
    fn narrow_odd(value: f64) -> u16;
}

pub struct F16;
impl Format for F16 {
    const EXPONENT: u16 = 0x7c00;
    #[inline(always)]
    fn wide(half: u16) -> f32 {
        f16_to_f32(half)
    }
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        f32_to_f16(value)
    }
    #[inline(always)]
    fn narrow_odd(value: f64) -> u16 {
        narrow16(value, Rounding::Nearest)
    }
}

pub struct Bf16;
impl Format for Bf16 {
    const EXPONENT: u16 = 0x7f80;
    #[inline(always)]
    fn wide(half: u16) -> f32 {
        bf16_to_f32(half)
    }
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        f32_to_bf16(value)
    }
    #[inline(always)]
    fn narrow_odd(value: f64) -> u16 {
        narrow_bf16(value, Rounding::Nearest)
    }
}

#[inline(always)]
pub fn flush<F: Format>(half: u16) -> u16 {
    if half & F::EXPONENT == 0 {
        half & 0x8000
    } else {
        half
    }
}

macro_rules! half_op {
    ($name:ident, $n:expr, |$a:ident, $b:ident, $c:ident| $e:expr) => {
        pub struct $name<F, const FTZ: bool, const SAT: bool>(PhantomData<F>);
        impl<F: Format, const FTZ: bool, const SAT: bool> Alu for $name<F, FTZ, SAT> {
            type D = u16;
            type A = u16;
            type B = u16;
            type C = u16;
            const ARITY: usize = $n;
            #[inline(always)]
            fn f($a: u16, $b: u16, $c: u16) -> u16 {
                let ($a, $b, $c) = if FTZ {
                    (flush::<F>($a), flush::<F>($b), flush::<F>($c))
                } else {
                    ($a, $b, $c)
                };
                let ($a, $b, $c) = (F::wide($a), F::wide($b), F::wide($c));
                let result: u16 = $e;
                let result = if FTZ { flush::<F>(result) } else { result };
                if SAT { F::narrow(sat32(F::wide(result))) } else { result }
            }
        }
    };
}
half_op!(Add, 2, |a, b, _c| F::narrow(a + b));
half_op!(Sub, 2, |a, b, _c| F::narrow(a - b));
half_op!(Mul, 2, |a, b, _c| F::narrow(a * b));
half_op!(Fma, 3, |a, b, c| F::narrow_odd(fma_odd(
    f64::from(a),
    f64::from(b),
    f64::from(c)
)));
half_op!(FmaRelu, 3, |a, b, c| {
    let sum = fma_odd(f64::from(a), f64::from(b), f64::from(c));
    F::narrow_odd(if sum <= 0.0 { 0.0 } else { sum })
});
half_op!(Min, 2, |a, b, _c| F::narrow(min32(a, b)));
half_op!(Max, 2, |a, b, _c| F::narrow(max32(a, b)));
half_op!(MinNan, 2, |a, b, _c| F::narrow(choose(
    a,
    b,
    crate::arith::NAN
)));
half_op!(MaxNan, 2, |a, b, _c| F::narrow(choose(
    a,
    b,
    crate::arith::NAN | crate::arith::GREATEST
)));
half_op!(Neg, 1, |a, _b, _c| F::narrow(-a));
half_op!(Abs, 1, |a, _b, _c| F::narrow(a.abs()));
half_op!(Ex2, 1, |a, _b, _c| F::narrow(exp2_fast(a)));
half_op!(Tanh, 1, |a, _b, _c| F::narrow(f64::from(a).tanh() as f32));

/// Both halves of a packed pair.
pub struct Packed<O>(PhantomData<O>);
impl<O: Alu<D = u16, A = u16, B = u16, C = u16>> Alu for Packed<O> {
    type D = u32;
    type A = u32;
    type B = u32;
    type C = u32;
    const ARITY: usize = O::ARITY;
    #[inline(always)]
    fn f(a: u32, b: u32, c: u32) -> u32 {
        let low = O::f(a as u16, b as u16, c as u16);
        let high = O::f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
        u32::from(low) | u32::from(high) << 16
    }
}

/// `min` and `max` with flushing or signs of their own.
pub struct Choose<F>(PhantomData<F>);
impl<F: Format> Rare for Choose<F> {
    type D = u16;
    type A = u16;
    type B = u16;
    type C = u16;
    const ARITY: usize = 2;
    fn f(a: u16, b: u16, _c: u16, aux: u32) -> u16 {
        let (a, b) = if aux & FTZ != 0 {
            (flush::<F>(a), flush::<F>(b))
        } else {
            (a, b)
        };
        F::narrow(choose(F::wide(a), F::wide(b), aux))
    }
}

/// A subnormal becomes a zero of its sign.
pub struct Flush<F>(PhantomData<F>);
impl<F: Format> Rare for Flush<F> {
    type D = u16;
    type A = u16;
    type B = u16;
    type C = u16;
    const ARITY: usize = 1;
    fn f(a: u16, _b: u16, _c: u16, _aux: u32) -> u16 {
        flush::<F>(a)
    }
}

pub struct PackedRare<O>(PhantomData<O>);
impl<O: Rare<D = u16, A = u16, B = u16, C = u16>> Rare for PackedRare<O> {
    type D = u32;
    type A = u32;
    type B = u32;
    type C = u32;
    const ARITY: usize = O::ARITY;
    fn f(a: u32, b: u32, c: u32, aux: u32) -> u32 {
        let low = O::f(a as u16, b as u16, c as u16, aux);
        let high = O::f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16, aux);
        u32::from(low) | u32::from(high) << 16
    }
}

/// Handler of an instruction on halves.
pub fn handler<F: Format>(name: &str, packed: bool, m: Mods) -> Option<Handler> {
    macro_rules! one {
        ($name:ident, $ftz:literal, $sat:literal) => {
            if packed {
                alu::<Packed<$name<F, $ftz, $sat>>>()
            } else {
                alu::<$name<F, $ftz, $sat>>()
            }
        };
    }
    macro_rules! flushed {
        ($name:ident) => {
            if m.ftz {
                one!($name, true, false)
            } else {
                one!($name, false, false)
            }
        };
    }
    macro_rules! saturated {
        ($name:ident) => {
            match (m.ftz, m.sat) {
                (_, false) => flushed!($name),
                (false, true) => one!($name, false, true),
                (true, true) => one!($name, true, true),
            }
        };
    }
    let plain = !m.nan && !m.xorsign && !m.abs && !m.relu && !m.hi && !m.wide && !m.full;
    let directed = m.mode.is_some_and(|mode| mode != Rounding::Nearest);
    // bf16 keeps its subnormals, but for one approximation.
    let flushes = F::EXPONENT == F16::EXPONENT || name == "ex2";
    if directed || m.ftz && !flushes {
        return None;
    }
    Some(match name {
        "add" if plain => saturated!(Add),
        "sub" if plain => saturated!(Sub),
        "mul" if plain => saturated!(Mul),
        "fma" if plain => saturated!(Fma),
        "fma" if m.relu && !m.sat => flushed!(FmaRelu),
        "min" | "max" if m.relu || m.sat || m.xorsign != m.abs => return None,
        "min" | "max" if m.xorsign || m.ftz => {
            if packed {
                rare::<PackedRare<Choose<F>>>()
            } else {
                rare::<Choose<F>>()
            }
        }
        "min" if m.nan => one!(MinNan, false, false),
        "max" if m.nan => one!(MaxNan, false, false),
        "min" => one!(Min, false, false),
        "max" => one!(Max, false, false),
        "neg" if plain && !m.sat => flushed!(Neg),
        "abs" if plain && !m.sat => flushed!(Abs),
        "ex2" if plain && !m.sat => flushed!(Ex2),
        "tanh" if plain && !m.sat && !m.ftz => one!(Tanh, false, false),
        _ => return None,
    })
}
