//! Floating point by the soft floats of `rustc_apfloat`, on bits: types and rounding by name.

use rustc_apfloat::ieee::{BFloat, Double, Half, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

pub fn rounding(name: &str) -> Round {
    match name {
        "rz" | "rzi" => Round::TowardZero,
        "rm" | "rmi" => Round::TowardNegative,
        "rp" | "rpi" => Round::TowardPositive,
        "rna" => Round::NearestTiesToAway,
        _ => Round::NearestTiesToEven,
    }
}

/// Bits of exponent and fraction.
pub fn layout(ty: &str) -> (u32, u32) {
    match ty {
        "f16" => (5, 10),
        "bf16" => (8, 7),
        "f32" => (8, 23),
        _ => (11, 52),
    }
}

macro_rules! with {
    ($ty:expr, $f:ident $(, $arg:expr)*) => {
        match $ty {
            "f16" => $f::<Half>($($arg),*),
            "bf16" => $f::<BFloat>($($arg),*),
            "f32" => $f::<Single>($($arg),*),
            _ => $f::<Double>($($arg),*),
        }
    };
}

fn bits<F: Float>(value: F) -> u64 {
    value.to_bits() as u64
}

fn binary<F: Float>(name: &str, v: &[u64], round: Round) -> u64 {
    let at = |index: usize| F::from_bits(v[index].into());
    bits(match name {
        "add" => at(0).add_r(at(1), round).value,
        "sub" => at(0).sub_r(at(1), round).value,
        "mul" => at(0).mul_r(at(1), round).value,
        "div" => at(0).div_r(at(1), round).value,
        "rcp" => F::from_u128(1).value.div_r(at(0), round).value,
        _ => at(0).mul_add_r(at(1), at(2), round).value,
    })
}

/// `add`, `sub`, `mul`, `div`, `rcp` and `fma`.
pub fn compute(ty: &str, name: &str, v: &[u64], round: Round) -> u64 {
    with!(ty, binary, name, v, round)
}

fn root<F: Float>(v: u64, round: Round, fraction: u32) -> u64 {
    let value = F::from_bits(v.into());
    if value.is_nan() || value.is_zero() || value.is_pos_infinity() {
        return v;
    }
    if value.is_negative() {
        return bits(F::NAN);
    }
    // An integer of the value's bits, of an even power of two, whose root has more bits than the format and one that says
    // whether more follow.
    let mut exponent = 0;
    let part = value.frexp(&mut exponent);
    let whole = part.scalbn(fraction as _).to_u128(128).value;
    let exponent = exponent - fraction as i32;
    let up = 128 - 2 - (128 - whole.leading_zeros() as i32);
    let up = up - (exponent - up).rem_euclid(2);
    let scaled = whole << up;
    let found = scaled.isqrt();
    let sticky = found << 1 | u128::from(found * found != scaled);
    bits(
        F::from_u128_r(sticky, round)
            .value
            .scalbn(((exponent - up) / 2 - 1) as _),
    )
}

/// The square root. Formats whose integers of 66 bits are beyond their range go the way of a wider one, which is exact enough.
pub fn square_root(ty: &str, v: u64, round: Round) -> u64 {
    match ty {
        "f32" => root::<Single>(v, round, 24),
        _ => root::<Double>(v, round, 53),
    }
}

fn integral<F: Float>(v: u64, round: Round) -> u64 {
    bits(F::from_bits(v.into()).round_to_integral(round).value)
}

pub fn to_integral(ty: &str, v: u64, round: Round) -> u64 {
    with!(ty, integral, v, round)
}

fn whole<F: Float>(v: u64, round: Round) -> i128 {
    let value = F::from_bits(v.into());
    if value.is_infinite() {
        return if value.is_negative() {
            i128::MIN
        } else {
            i128::MAX
        };
    }
    value.to_i128_r(128, round, &mut false).value
}

/// The integer that it rounds to, clamped to 128 bits.
pub fn to_integer(ty: &str, v: u64, round: Round) -> i128 {
    with!(ty, whole, v, round)
}

fn of_integer<F: Float>(v: i128, round: Round) -> u64 {
    bits(F::from_i128_r(v, round).value)
}

pub fn from_integer(ty: &str, v: i128, round: Round) -> u64 {
    with!(ty, of_integer, v, round)
}

fn to_quad<F: FloatConvert<Quad>>(v: u64) -> Quad {
    F::from_bits(v.into()).convert(&mut false).value
}

fn of_quad<F: Float>(v: Quad, round: Round) -> u64
where
    Quad: FloatConvert<F>,
{
    let converted: F = v.convert_r(round, &mut false).value;
    bits(converted)
}

/// From one format to another; the one between holds all of them exactly.
pub fn convert(to: &str, from: &str, v: u64, round: Round) -> u64 {
    let exact = with!(from, to_quad, v);
    with!(to, of_quad, exact, round)
}

pub fn is_nan(ty: &str, v: u64) -> bool {
    let (exponent, fraction) = layout(ty);
    let top = ((1u64 << exponent) - 1) << fraction;
    v & ((1 << (exponent + fraction)) - 1) > top
}

pub fn is_infinite(ty: &str, v: u64) -> bool {
    let (exponent, fraction) = layout(ty);
    v & ((1 << (exponent + fraction)) - 1) == ((1u64 << exponent) - 1) << fraction
}

pub fn sign(ty: &str) -> u64 {
    let (exponent, fraction) = layout(ty);
    1 << (exponent + fraction)
}

/// A subnormal number as a zero of its sign.
pub fn flush(ty: &str, v: u64) -> u64 {
    let (exponent, fraction) = layout(ty);
    if v >> fraction & ((1 << exponent) - 1) == 0 {
        v & sign(ty)
    } else {
        v
    }
}

pub fn one(ty: &str) -> u64 {
    let (exponent, fraction) = layout(ty);
    ((1u64 << (exponent - 1)) - 1) << fraction
}

/// Clamped to [0, 1]; NaN is 0.
pub fn saturate(ty: &str, v: u64) -> u64 {
    if is_nan(ty, v) || v & sign(ty) != 0 {
        0
    } else {
        v.min(one(ty))
    }
}

/// Whether it is less, or equal, or neither; none when one is NaN.
pub fn order(ty: &str, a: u64, b: u64) -> Option<std::cmp::Ordering> {
    if is_nan(ty, a) || is_nan(ty, b) {
        return None;
    }
    let number = |v: u64| {
        let size = (v & (sign(ty) - 1)) as i64;
        if v & sign(ty) != 0 { -size } else { size }
    };
    Some(number(a).cmp(&number(b)))
}

/// As a number of the host's, exactly.
pub fn number(ty: &str, v: u64) -> f64 {
    f64::from_bits(convert("f64", ty, v, Round::NearestTiesToEven))
}
