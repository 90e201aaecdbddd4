//! Arithmetic instructions: for an opcode, the handler and the types of its operands.

use softgpu_ptx::ScalarType;
use softgpu_ptx::ScalarType::*;

use crate::bits::{int_f32, int_f64};
use crate::float::*;
use crate::half;
use crate::lanes::{Alu, Handler, Subnormals, alu};
use crate::rare::{rare, rare_op};
use crate::residue;

/// `aux` of handlers that choose the lesser or greater one.
pub const GREATEST: u32 = 1;
pub const NAN: u32 = 2;
pub const XORSIGN: u32 = 4;
pub const FTZ: u32 = 8;

impl Mods {
    /// Has what integers do not.
    pub fn only_floats(self) -> bool {
        let Mods {
            ftz,
            approx,
            full,
            nan,
            xorsign,
            abs,
            relu,
            ..
        } = self;
        ftz || approx || full || nan || xorsign || abs || relu || self.mode.is_some()
    }

    /// What handlers of `min` and `max` read in `Op::aux`; others do not look.
    pub fn aux(self, name: &str) -> u32 {
        let flag = |set, bit| if set { bit } else { 0 };
        flag(name == "max", GREATEST)
            | flag(self.nan, NAN)
            | flag(self.xorsign, XORSIGN)
            | flag(self.ftz, FTZ)
    }
}

/// The lesser or greater one, with what the bits above ask for.
pub fn choose(a: f32, b: f32, aux: u32) -> f32 {
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    let (x, y) = if aux & XORSIGN != 0 {
        (a.abs(), b.abs())
    } else {
        (a, b)
    };
    if aux & NAN != 0 && (a.is_nan() || b.is_nan()) {
        return NAN32;
    }
    let chosen = if aux & GREATEST != 0 {
        max32(x, y)
    } else {
        min32(x, y)
    };
    if aux & XORSIGN != 0 && !chosen.is_nan() {
        f32::from_bits(chosen.to_bits() | sign)
    } else {
        chosen
    }
}

/// What an instruction becomes: one handler, destination and sources in order.
pub struct Plan {
    pub run: Handler,
    pub dst: ScalarType,
    pub srcs: Vec<ScalarType>,
    pub aux: u32,
}

/// Modifiers of an opcode that arithmetic knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mods {
    pub ftz: bool,
    pub sat: bool,
    pub approx: bool,
    pub full: bool,
    pub nan: bool,
    pub xorsign: bool,
    pub abs: bool,
    pub relu: bool,
    pub hi: bool,
    pub wide: bool,
    pub mode: Option<Rounding>,
}

macro_rules! op {
    ($name:ident, $d:ty, |$a:ident: $ta:ty| $e:expr) => {
        op!(@ $name, 1, $d, $ta, $ta, $ta, $a, _b, _c, $e);
    };
    ($name:ident, $d:ty, |$a:ident: $ta:ty, $b:ident: $tb:ty| $e:expr) => {
        op!(@ $name, 2, $d, $ta, $tb, $tb, $a, $b, _c, $e);
    };
    ($name:ident, $d:ty, |$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| $e:expr) => {
        op!(@ $name, 3, $d, $ta, $tb, $tc, $a, $b, $c, $e);
    };
    (@ $name:ident, $n:expr, $d:ty, $ta:ty, $tb:ty, $tc:ty, $a:ident, $b:ident, $c:ident, $e:expr) => {
        pub struct $name;
        impl Alu for $name {
            type D = $d;
            type A = $ta;
            type B = $tb;
            type C = $tc;
            const ARITY: usize = $n;
            #[inline(always)]
            fn f($a: $ta, $b: $tb, $c: $tc) -> $d {
                $e
            }
        }
    };
}
pub(crate) use op;

/// An f32 operation with its `.ftz` and `.sat` forms.
macro_rules! f32_op {
    ($name:ident, $n:expr, |$a:ident, $b:ident, $c:ident| $e:expr) => {
        pub struct $name<const FTZ: bool, const SAT: bool>;
        impl<const FTZ: bool, const SAT: bool> Alu for $name<FTZ, SAT> {
            type D = f32;
            type A = f32;
            type B = f32;
            type C = f32;
            const ARITY: usize = $n;
            const SUBNORMALS: Subnormals = if FTZ { Subnormals::Flushed } else { Subnormals::Any };
            #[inline(always)]
            fn f($a: f32, $b: f32, $c: f32) -> f32 {
                if FTZ {
                    Self::tame(flush32($a), flush32($b), flush32($c))
                } else {
                    Self::tame($a, $b, $c)
                }
            }
            #[inline(always)]
            fn tame($a: f32, $b: f32, $c: f32) -> f32 {
                let result: f32 = $e;
                let result = if FTZ { flush32(result) } else { result };
                if SAT { sat32(result) } else { canon32(result) }
            }
        }
    };
}
f32_op!(AddF, 2, |a, b, _c| a + b);
f32_op!(SubF, 2, |a, b, _c| a - b);
f32_op!(MulF, 2, |a, b, _c| a * b);
f32_op!(FmaF, 3, |a, b, c| a.mul_add(b, c));
f32_op!(DivF, 2, |a, b, _c| a / b);
// Divisors above 2^126 give zero, as the document has it of the multiplication by a reciprocal.
f32_op!(DivApproxF, 2, |a, b, _c| {
    let large = b.to_bits() & 0x7fff_ffff > 0x7e80_0000 && b.is_finite();
    a / if large { b.signum() * f32::INFINITY } else { b }
});
f32_op!(SqrtF, 1, |a, _b, _c| a.sqrt());
f32_op!(RsqrtF, 1, |a, _b, _c| 1.0 / a.sqrt());
f32_op!(RcpF, 1, |a, _b, _c| 1.0 / a);
f32_op!(Ex2F, 1, |a, _b, _c| exp2_fast(a));
f32_op!(Lg2F, 1, |a, _b, _c| log2_fast(a));
f32_op!(SinF, 1, |a, _b, _c| f64::from(a).sin() as f32);
f32_op!(CosF, 1, |a, _b, _c| f64::from(a).cos() as f32);
f32_op!(TanhF, 1, |a, _b, _c| f64::from(a).tanh() as f32);
f32_op!(MinF, 2, |a, b, _c| min32(a, b));
f32_op!(MaxF, 2, |a, b, _c| max32(a, b));
f32_op!(MinNanF, 2, |a, b, _c| if a.is_nan() || b.is_nan() {
    NAN32
} else {
    min32(a, b)
});
f32_op!(MaxNanF, 2, |a, b, _c| if a.is_nan() || b.is_nan() {
    NAN32
} else {
    max32(a, b)
});
f32_op!(NegF, 1, |a, _b, _c| -a);
f32_op!(AbsF, 1, |a, _b, _c| a.abs());

macro_rules! f32_pick {
    ($name:ident, $mods:expr) => {
        match ($mods.ftz, $mods.sat) {
            (false, false) => alu::<$name<false, false>>(),
            (false, true) => alu::<$name<false, true>>(),
            (true, false) => alu::<$name<true, false>>(),
            (true, true) => alu::<$name<true, true>>(),
        }
    };
}

/// f32 operations that round otherwise than to nearest: rare, so one slow form each.
macro_rules! f32_directed {
    ($name:ident, $n:expr, |$mode:ident, $a:ident, $b:ident, $c:ident| $e:expr) => {
        pub struct $name<const MODE: u8, const FTZ: bool, const SAT: bool>;
        impl<const MODE: u8, const FTZ: bool, const SAT: bool> Alu for $name<MODE, FTZ, SAT> {
            type D = f32;
            type A = f32;
            type B = f32;
            type C = f32;
            const ARITY: usize = $n;
            #[inline(always)]
            fn f($a: f32, $b: f32, $c: f32) -> f32 {
                let ($a, $b, $c) = if FTZ { (flush32($a), flush32($b), flush32($c)) } else { ($a, $b, $c) };
                let ($a, $b, $c) = (f64::from($a), f64::from($b), f64::from($c));
                let $mode = mode_of(MODE);
                let result = narrow32($e, mode_of(MODE));
                let result = if FTZ { flush32(result) } else { result };
                if SAT { sat32(result) } else { canon32(result) }
            }
        }
    };
}
f32_directed!(AddD, 2, |mode, a, b, _c| zero_sum(
    fma_odd(a, 1.0, b),
    a,
    b,
    mode
));
f32_directed!(SubD, 2, |mode, a, b, _c| zero_sum(
    fma_odd(a, 1.0, -b),
    a,
    -b,
    mode
));
f32_directed!(MulD, 2, |_mode, a, b, _c| a * b);
f32_directed!(FmaD, 3, |mode, a, b, c| zero_sum(
    fma_odd(a, b, c),
    a * b,
    c,
    mode
));
f32_directed!(DivD, 2, |_mode, a, b, _c| div_odd(a, b));
f32_directed!(RcpD, 1, |_mode, a, _b, _c| div_odd(1.0, a));
f32_directed!(SqrtD, 1, |_mode, a, _b, _c| sqrt_odd(a));

const fn mode_of(mode: u8) -> Rounding {
    match mode {
        1 => Rounding::Zero,
        2 => Rounding::Down,
        3 => Rounding::Up,
        _ => Rounding::Nearest,
    }
}

macro_rules! directed_pick {
    ($name:ident, $mods:expr, $mode:expr) => {
        match ($mode, $mods.ftz, $mods.sat) {
            (Rounding::Zero, false, false) => alu::<$name<1, false, false>>(),
            (Rounding::Zero, true, false) => alu::<$name<1, true, false>>(),
            (Rounding::Zero, false, true) => alu::<$name<1, false, true>>(),
            (Rounding::Zero, true, true) => alu::<$name<1, true, true>>(),
            (Rounding::Down, false, false) => alu::<$name<2, false, false>>(),
            (Rounding::Down, true, false) => alu::<$name<2, true, false>>(),
            (Rounding::Down, false, true) => alu::<$name<2, false, true>>(),
            (Rounding::Down, true, true) => alu::<$name<2, true, true>>(),
            (_, false, false) => alu::<$name<3, false, false>>(),
            (_, true, false) => alu::<$name<3, true, false>>(),
            (_, false, true) => alu::<$name<3, false, true>>(),
            (_, true, true) => alu::<$name<3, true, true>>(),
        }
    };
}

/// An f64 operation in the four modes; the error term says on which side of the result the exact value lies, the terms of a
/// sum which sign it has when it is exactly zero.
macro_rules! f64_op {
    ($name:ident, $n:expr, |$a:ident, $b:ident, $c:ident| $e:expr, $error:expr, $terms:expr) => {
        pub struct $name<const MODE: u8>;
        impl<const MODE: u8> Alu for $name<MODE> {
            type D = f64;
            type A = f64;
            type B = f64;
            type C = f64;
            const ARITY: usize = $n;
            #[inline(always)]
            fn f($a: f64, $b: f64, $c: f64) -> f64 {
                let near: f64 = $e;
                if MODE == 0 {
                    return near;
                }
                let error: fn(f64, f64, f64, f64) -> f64 = $error;
                let error = error($a, $b, $c, near);
                if near == 0.0 && error == 0.0 {
                    let terms: fn(f64, f64, f64) -> (f64, f64) = $terms;
                    let (first, second) = terms($a, $b, $c);
                    return zero_sum(near, first, second, mode_of(MODE));
                }
                directed64(near, error, mode_of(MODE))
            }
        }
    };
}
f64_op!(
    AddG,
    2,
    |a, b, _c| a + b,
    |a, b, _, near| residue::sum(a, b, near),
    |a, b, _| (a, b)
);
f64_op!(
    SubG,
    2,
    |a, b, _c| a - b,
    |a, b, _, near| residue::sum(a, -b, near),
    |a, b, _| (a, -b)
);
f64_op!(
    MulG,
    2,
    |a, b, _c| a * b,
    |a, b, _, near| residue::product(a, b, near),
    |_, _, _| (0.0, 0.0)
);
f64_op!(
    FmaG,
    3,
    |a, b, c| a.mul_add(b, c),
    residue::fma,
    |a, b, c| (a * b, c)
);
f64_op!(
    DivG,
    2,
    |a, b, _c| a / b,
    |a, b, _, near| residue::quotient(a, b, near),
    |_, _, _| (0.0, 0.0)
);
f64_op!(
    RcpG,
    1,
    |a, _b, _c| 1.0 / a,
    |a, _, _, near| residue::quotient(1.0, a, near),
    |_, _, _| (0.0, 0.0)
);
f64_op!(
    SqrtG,
    1,
    |a, _b, _c| a.sqrt(),
    |a, _, _, near| residue::root(a, near),
    |_, _, _| (0.0, 0.0)
);
op!(RsqrtG, f64, |a: f64| 1.0 / a.sqrt());
op!(MinG, f64, |a: f64, b: f64| min64(a, b));
op!(MaxG, f64, |a: f64, b: f64| max64(a, b));
op!(NegG, f64, |a: f64| -a);
op!(AbsG, f64, |a: f64| a.abs());

/// `.approx.ftz.f64` works on the upper half of its operand and gives an upper half.
fn upper(a: f64) -> f64 {
    let bits = a.to_bits() & !0xffff_ffff;
    let flushed = if bits & 0x7ff0_0000_0000_0000 == 0 {
        bits & 1 << 63
    } else {
        bits
    };
    f64::from_bits(flushed)
}
rare_op!(RcpUpper, f64, |a: f64; _aux| upper(1.0 / upper(a)));
rare_op!(RsqrtUpper, f64, |a: f64; _aux| upper(1.0 / upper(a).sqrt()));
rare_op!(MinMax, f32, |a: f32, b: f32; aux| {
    let (a, b) = if aux & FTZ != 0 { (flush32(a), flush32(b)) } else { (a, b) };
    choose(a, b, aux)
});

macro_rules! f64_pick {
    ($name:ident, $mods:expr) => {
        match $mods.mode.unwrap_or(Rounding::Nearest) {
            Rounding::Nearest => alu::<$name<0>>(),
            Rounding::Zero => alu::<$name<1>>(),
            Rounding::Down => alu::<$name<2>>(),
            Rounding::Up => alu::<$name<3>>(),
        }
    };
}

fn count(name: &str) -> usize {
    match name {
        "fma" | "mad" => 3,
        "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "copysign" => 2,
        _ => 1,
    }
}

fn single(name: &str, m: Mods) -> Option<Handler> {
    if m.relu || m.hi || m.wide {
        return None;
    }
    if matches!(name, "min" | "max") && (m.xorsign || m.nan && m.ftz) {
        return (m.xorsign == m.abs).then(rare::<MinMax>);
    }
    if m.xorsign || m.abs || m.nan && !matches!(name, "min" | "max") {
        return None;
    }
    if let Some(mode) = m.mode
        && mode != Rounding::Nearest
    {
        return Some(match name {
            "add" => directed_pick!(AddD, m, mode),
            "sub" => directed_pick!(SubD, m, mode),
            "mul" => directed_pick!(MulD, m, mode),
            "fma" | "mad" => directed_pick!(FmaD, m, mode),
            "div" => directed_pick!(DivD, m, mode),
            "rcp" => directed_pick!(RcpD, m, mode),
            "sqrt" => directed_pick!(SqrtD, m, mode),
            _ => return None,
        });
    }
    Some(match name {
        "add" => f32_pick!(AddF, m),
        "sub" => f32_pick!(SubF, m),
        "mul" => f32_pick!(MulF, m),
        "fma" | "mad" => f32_pick!(FmaF, m),
        "div" if m.approx => f32_pick!(DivApproxF, m),
        "div" => f32_pick!(DivF, m),
        "sqrt" => f32_pick!(SqrtF, m),
        "rsqrt" => f32_pick!(RsqrtF, m),
        "rcp" => f32_pick!(RcpF, m),
        "ex2" => f32_pick!(Ex2F, m),
        "lg2" => f32_pick!(Lg2F, m),
        "sin" => f32_pick!(SinF, m),
        "cos" => f32_pick!(CosF, m),
        "tanh" => f32_pick!(TanhF, m),
        "min" if m.nan => f32_pick!(MinNanF, m),
        "max" if m.nan => f32_pick!(MaxNanF, m),
        "min" => f32_pick!(MinF, m),
        "max" => f32_pick!(MaxF, m),
        "neg" => f32_pick!(NegF, m),
        "abs" => f32_pick!(AbsF, m),
        "copysign" => alu::<CopysignF>(),
        _ => return None,
    })
}
// "copysign d, a, b": the sign of a, the magnitude of b.
op!(CopysignF, f32, |a: f32, b: f32| b.copysign(a));
op!(CopysignG, f64, |a: f64, b: f64| b.copysign(a));

fn double(name: &str, m: Mods) -> Option<Handler> {
    if m.sat || m.nan || m.xorsign || m.abs || m.relu || m.hi || m.wide {
        return None;
    }
    if m.ftz {
        // The only ones that flush are approximations on the upper halves.
        return match name {
            "rcp" if m.approx => Some(rare::<RcpUpper>()),
            "rsqrt" if m.approx => Some(rare::<RsqrtUpper>()),
            _ => None,
        };
    }
    if m.full || m.approx && name != "rsqrt" {
        return None;
    }
    Some(match name {
        "add" => f64_pick!(AddG, m),
        "sub" => f64_pick!(SubG, m),
        "mul" => f64_pick!(MulG, m),
        "fma" | "mad" => f64_pick!(FmaG, m),
        "div" => f64_pick!(DivG, m),
        "rcp" => f64_pick!(RcpG, m),
        "sqrt" => f64_pick!(SqrtG, m),
        "rsqrt" => alu::<RsqrtG>(),
        "min" => alu::<MinG>(),
        "max" => alu::<MaxG>(),
        "neg" => alu::<NegG>(),
        "abs" => alu::<AbsG>(),
        "copysign" => alu::<CopysignG>(),
        _ => return None,
    })
}

/// Floating-point arithmetic, of any width.
pub fn float(name: &str, ty: ScalarType, m: Mods) -> Option<Plan> {
    let run = match ty {
        F32 => single(name, m)?,
        F64 => double(name, m)?,
        F16 => half::handler::<half::F16>(name, false, m)?,
        F16x2 => half::handler::<half::F16>(name, true, m)?,
        BF16 => half::handler::<half::Bf16>(name, false, m)?,
        BF16x2 => half::handler::<half::Bf16>(name, true, m)?,
        _ => return None,
    };
    Some(Plan {
        run,
        dst: ty,
        srcs: vec![ty; count(name)],
        aux: m.aux(name),
    })
}

/// Conversions between floats and from and to integers; 8-bit integers arrive as 16-bit ones.
pub mod convert {
    use super::*;

    op!(H2F, f32, |a: u16| canon32(f16_to_f32(a)));
    op!(B2F, f32, |a: u16| canon32(bf16_to_f32(a)));
    op!(F2G, f64, |a: f32| f64::from(a));
    op!(F2H, u16, |a: f32| f32_to_f16(a));
    op!(F2B, u16, |a: f32| f32_to_bf16(a));
    op!(G2F, f32, |a: f64| canon32(a as f32));
    op!(H2G, f64, |a: u16| f64::from(f16_to_f32(a)));
    op!(B2G, f64, |a: u16| f64::from(bf16_to_f32(a)));
    op!(SatF, f32, |a: f32| sat32(a));
    op!(SatG, f64, |a: f64| sat64(a));
    // Negative zero is clamped, too.
    op!(ReluF, f32, |a: f32| if a <= 0.0 { 0.0 } else { a });
    op!(FlushF, f32, |a: f32| flush32(a));

    pub struct Narrow<const TO: u8, const MODE: u8>;
    macro_rules! narrow {
        ($to:expr, $d:ty, $f:path) => {
            impl<const MODE: u8> Alu for Narrow<$to, MODE> {
                type D = $d;
                type A = f64;
                type B = f64;
                type C = f64;
                const ARITY: usize = 1;
                #[inline(always)]
                fn f(a: f64, _b: f64, _c: f64) -> $d {
                    $f(a, mode_of(MODE))
                }
            }
        };
    }
    narrow!(0, u16, narrow16);
    narrow!(1, u16, narrow_bf16);
    narrow!(2, f32, narrow32);

    /// An f64 to a shorter format.
    pub fn from_f64(to: ScalarType, mode: Rounding) -> Option<Handler> {
        Some(match (to, mode) {
            (F32, Rounding::Nearest) => alu::<G2F>(),
            (F16, Rounding::Nearest) => alu::<Narrow<0, 0>>(),
            (F16, Rounding::Zero) => alu::<Narrow<0, 1>>(),
            (F16, Rounding::Down) => alu::<Narrow<0, 2>>(),
            (F16, Rounding::Up) => alu::<Narrow<0, 3>>(),
            (BF16, Rounding::Nearest) => alu::<Narrow<1, 0>>(),
            (BF16, Rounding::Zero) => alu::<Narrow<1, 1>>(),
            (BF16, Rounding::Down) => alu::<Narrow<1, 2>>(),
            (BF16, Rounding::Up) => alu::<Narrow<1, 3>>(),
            (F32, Rounding::Zero) => alu::<Narrow<2, 1>>(),
            (F32, Rounding::Down) => alu::<Narrow<2, 2>>(),
            (F32, Rounding::Up) => alu::<Narrow<2, 3>>(),
            _ => return None,
        })
    }

    pub struct Integral<const MODE: u8>;
    impl<const MODE: u8> Alu for Integral<MODE> {
        type D = f32;
        type A = f32;
        type B = f32;
        type C = f32;
        const ARITY: usize = 1;
        #[inline(always)]
        fn f(a: f32, _b: f32, _c: f32) -> f32 {
            canon32(int_f32(a, mode_of(MODE)))
        }
    }
    pub struct Integral64<const MODE: u8>;
    impl<const MODE: u8> Alu for Integral64<MODE> {
        type D = f64;
        type A = f64;
        type B = f64;
        type C = f64;
        const ARITY: usize = 1;
        #[inline(always)]
        fn f(a: f64, _b: f64, _c: f64) -> f64 {
            int_f64(a, mode_of(MODE))
        }
    }

    /// To an integral value of the same type.
    pub fn integral(ty: ScalarType, mode: Rounding) -> Option<Handler> {
        Some(match (ty, mode) {
            (F32, Rounding::Nearest) => alu::<Integral<0>>(),
            (F32, Rounding::Zero) => alu::<Integral<1>>(),
            (F32, Rounding::Down) => alu::<Integral<2>>(),
            (F32, Rounding::Up) => alu::<Integral<3>>(),
            (F64, Rounding::Nearest) => alu::<Integral64<0>>(),
            (F64, Rounding::Zero) => alu::<Integral64<1>>(),
            (F64, Rounding::Down) => alu::<Integral64<2>>(),
            (F64, Rounding::Up) => alu::<Integral64<3>>(),
            _ => return None,
        })
    }

    macro_rules! casts {
        ($($name:ident: $from:ty => $to:ty),*) => { $( op!($name, $to, |a: $from| a as $to); )* };
    }
    casts!(FS16: f32 => i16, FU16: f32 => u16, FS32: f32 => i32, FU32: f32 => u32);
    /// NaN is the top bit alone where 64 bits take part, as source or destination.
    macro_rules! wide_casts {
        ($($name:ident: $from:ty => $to:ty, $top:expr;)*) => {
            $( op!($name, $to, |a: $from| if a.is_nan() { $top } else { a as $to }); )*
        };
    }
    wide_casts!(FS64: f32 => i64, i64::MIN; FU64: f32 => u64, 1 << 63; GS16: f64 => i16, i16::MIN; GU16: f64 => u16, 1 << 15;
                GS32: f64 => i32, i32::MIN; GU32: f64 => u32, 1 << 31; GS64: f64 => i64, i64::MIN; GU64: f64 => u64, 1 << 63;);
    op!(FS8w, i16, |a: f32| i16::from(a as i8));
    op!(FU8w, u16, |a: f32| u16::from(a as u8));
    op!(GS8w, i16, |a: f64| if a.is_nan() {
        -128
    } else {
        i16::from(a as i8)
    });
    op!(GU8w, u16, |a: f64| if a.is_nan() {
        128
    } else {
        u16::from(a as u8)
    });
    casts!(S16F: i16 => f32, U16F: u16 => f32, S32F: i32 => f32, U32F: u32 => f32, S64F: i64 => f32, U64F: u64 => f32);
    casts!(S16G: i16 => f64, U16G: u16 => f64, S32G: i32 => f64, U32G: u32 => f64, S64G: i64 => f64, U64G: u64 => f64);

    /// An integral f32 or f64 to an integer, clamped to its range, NaN to 0.
    pub fn float_to_int(from: ScalarType, to: ScalarType) -> Option<Handler> {
        Some(match (from, to) {
            (F32, S8) => alu::<FS8w>(),
            (F32, U8) => alu::<FU8w>(),
            (F32, S16) => alu::<FS16>(),
            (F32, U16) => alu::<FU16>(),
            (F32, S32) => alu::<FS32>(),
            (F32, U32) => alu::<FU32>(),
            (F32, S64) => alu::<FS64>(),
            (F32, U64) => alu::<FU64>(),
            (F64, S8) => alu::<GS8w>(),
            (F64, U8) => alu::<GU8w>(),
            (F64, S16) => alu::<GS16>(),
            (F64, U16) => alu::<GU16>(),
            (F64, S32) => alu::<GS32>(),
            (F64, U32) => alu::<GU32>(),
            (F64, S64) => alu::<GS64>(),
            (F64, U64) => alu::<GU64>(),
            _ => return None,
        })
    }

    /// To nearest.
    pub fn int_to_float(from: ScalarType, to: ScalarType) -> Option<Handler> {
        Some(match (from, to) {
            (S16 | S8, F32) => alu::<S16F>(),
            (U16 | U8, F32) => alu::<U16F>(),
            (S32, F32) => alu::<S32F>(),
            (U32, F32) => alu::<U32F>(),
            (S64, F32) => alu::<S64F>(),
            (U64, F32) => alu::<U64F>(),
            (S16 | S8, F64) => alu::<S16G>(),
            (U16 | U8, F64) => alu::<U16G>(),
            (S32, F64) => alu::<S32G>(),
            (U32, F64) => alu::<U32G>(),
            (S64, F64) => alu::<S64G>(),
            (U64, F64) => alu::<U64G>(),
            _ => return None,
        })
    }

    /// An integer of 64 bits to f64 rounded to odd, from which any shorter format rounds right.
    pub struct WideOdd<const SIGNED: bool>;
    impl<const SIGNED: bool> Alu for WideOdd<SIGNED> {
        type D = f64;
        type A = u64;
        type B = u64;
        type C = u64;
        const ARITY: usize = 1;
        #[inline(always)]
        fn f(a: u64, _b: u64, _c: u64) -> f64 {
            let exact = if SIGNED {
                i128::from(a as i64)
            } else {
                i128::from(a)
            };
            let near = if SIGNED { a as i64 as f64 } else { a as f64 };
            odd(near, (exact - near as i128) as f64)
        }
    }

    pub struct WideDirected<const SIGNED: bool, const MODE: u8>;
    impl<const SIGNED: bool, const MODE: u8> Alu for WideDirected<SIGNED, MODE> {
        type D = f64;
        type A = u64;
        type B = u64;
        type C = u64;
        const ARITY: usize = 1;
        #[inline(always)]
        fn f(a: u64, _b: u64, _c: u64) -> f64 {
            let exact = if SIGNED {
                i128::from(a as i64)
            } else {
                i128::from(a)
            };
            let near = if SIGNED { a as i64 as f64 } else { a as f64 };
            directed64(near, (exact - near as i128) as f64, mode_of(MODE))
        }
    }

    pub fn wide_to_f64(signed: bool, mode: Rounding) -> Handler {
        match (signed, mode) {
            (true, Rounding::Zero) => alu::<WideDirected<true, 1>>(),
            (true, Rounding::Down) => alu::<WideDirected<true, 2>>(),
            (true, Rounding::Up) => alu::<WideDirected<true, 3>>(),
            (true, Rounding::Nearest) => alu::<S64G>(),
            (false, Rounding::Zero) => alu::<WideDirected<false, 1>>(),
            (false, Rounding::Down) => alu::<WideDirected<false, 2>>(),
            (false, Rounding::Up) => alu::<WideDirected<false, 3>>(),
            (false, Rounding::Nearest) => alu::<U64G>(),
        }
    }
}
