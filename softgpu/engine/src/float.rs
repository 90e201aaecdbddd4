//! Floating point as PTX defines it, where it differs from the host: NaNs, flushing, directed rounding, small formats.
//!
//! Everything here is written without branches where it can be, since it runs in loops over lanes that should vectorise.

/// The only NaN that f32 instructions produce.
pub const NAN32: f32 = f32::from_bits(0x7fff_ffff);

/// NaNs become the one that PTX knows. On bits: from what it knows of square roots, the compiler takes a comparison
/// of their results apart, and with it the NaN's bits.
#[inline(always)]
pub fn canon32(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff_ffff
    } else {
        bits
    })
}

/// `.ftz`: a subnormal becomes a zero of its sign.
#[inline(always)]
pub fn flush32(value: f32) -> f32 {
    let bits = value.to_bits();
    if bits & 0x7f80_0000 == 0 {
        f32::from_bits(bits & 0x8000_0000)
    } else {
        value
    }
}

/// `.sat`: into [0, 1], NaN to +0.
#[inline(always)]
pub fn sat32(value: f32) -> f32 {
    if value > 0.0 {
        if value < 1.0 { value } else { 1.0 }
    } else {
        0.0
    }
}

#[inline(always)]
pub fn sat64(value: f64) -> f64 {
    if value > 0.0 {
        if value < 1.0 { value } else { 1.0 }
    } else {
        0.0
    }
}

/// Rounding modes other than the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Move `near`, a result rounded to nearest whose exact value is `near + error`, to where the mode wants it.
pub fn directed64(near: f64, error: f64, mode: Rounding) -> f64 {
    if near.is_nan() || error.is_nan() || error == 0.0 {
        return near;
    }
    if near.is_infinite() {
        // Overflow of finite operands: nearest went to infinity.
        return match (mode, near > 0.0) {
            (Rounding::Zero | Rounding::Down, true) => f64::MAX,
            (Rounding::Zero | Rounding::Up, false) => f64::MIN,
            _ => near,
        };
    }
    match mode {
        Rounding::Nearest => near,
        Rounding::Up if error > 0.0 => near.next_up(),
        Rounding::Down if error < 0.0 => near.next_down(),
        Rounding::Zero if near > 0.0 && error < 0.0 => near.next_down(),
        Rounding::Zero if near < 0.0 && error > 0.0 => near.next_up(),
        _ => near,
    }
}

/// The sign of a sum that is exactly zero: rounding down makes it negative, unless both terms are +0.
pub fn zero_sum(sum: f64, a: f64, b: f64, mode: Rounding) -> f64 {
    let negative = a.is_sign_negative() || b.is_sign_negative();
    if mode == Rounding::Down && sum == 0.0 && negative {
        -0.0
    } else {
        sum
    }
}

/// `near` with its last bit forced to odd when it is not exact: rounding it again to a shorter format is then right.
#[inline(always)]
pub fn odd(near: f64, error: f64) -> f64 {
    let bits = near.to_bits();
    if error == 0.0 || near.is_nan() || near.is_infinite() || error.is_nan() || bits & 1 == 1 {
        return near;
    }
    // Of the two neighbours of the exact value one is odd: `near` itself, or the one on the error's side.
    if near == 0.0 {
        return error.signum() * f64::from_bits(1);
    }
    if (error > 0.0) == (near > 0.0) {
        f64::from_bits(bits + 1)
    } else {
        f64::from_bits(bits - 1)
    }
}

/// `a * b + c` in f64 rounded to odd, for operands whose product is exact in f64.
#[inline(always)]
pub fn fma_odd(a: f64, b: f64, c: f64) -> f64 {
    let product = a * b;
    let sum = product + c;
    let back = sum - product;
    let error = (product - (sum - back)) + (c - back);
    odd(sum, error)
}

/// An f64 that was rounded to odd, or is exact, to f32 in any mode.
pub fn narrow32(value: f64, mode: Rounding) -> f32 {
    let near = value as f32;
    let wide = f64::from(near);
    if mode == Rounding::Nearest || near.is_nan() || wide == value || value.is_infinite() {
        return canon32(near);
    }
    let up = value > wide;
    match mode {
        Rounding::Up if up => near.next_up(),
        Rounding::Down if !up => near.next_down(),
        Rounding::Zero if value > 0.0 && !up => near.next_down(),
        Rounding::Zero if value < 0.0 && up => near.next_up(),
        _ => near,
    }
}

/// Exact quotient's neighbour, rounded to odd.
pub fn div_odd(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let rest = -quotient.mul_add(b, -a);
    odd(quotient, rest * b.signum())
}

pub fn sqrt_odd(a: f64) -> f64 {
    let root = a.sqrt();
    odd(root, -root.mul_add(root, -a))
}

#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let body = u32::from(half & 0x7fff);
    // Scaling by a power of two normalises subnormals exactly.
    let scaled = f32::from_bits(body << 13) * f32::from_bits(0x7780_0000);
    let special = 0x7f80_0000 | (body << 13);
    let bits = if body >= 0x7c00 {
        special
    } else {
        scaled.to_bits()
    };
    f32::from_bits(sign | bits)
}

/// To nearest even; NaN becomes 0x7fff.
#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let body = bits & 0x7fff_ffff;
    // Subnormal results: the addition of 0.5 aligns the mantissa and rounds it.
    let small = (f32::from_bits(body) + 0.5)
        .to_bits()
        .wrapping_sub(0x3f00_0000);
    let odd = (body >> 13) & 1;
    let normal = body.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13;
    let result = if body < 0x3880_0000 { small } else { normal };
    let result = if body >= 0x4780_0000 { 0x7c00 } else { result };
    if body > 0x7f80_0000 {
        0x7fff
    } else {
        sign | result as u16
    }
}

/// An f64, rounded to odd or exact, to f16 in any mode.
pub fn narrow16(value: f64, mode: Rounding) -> u16 {
    small_format(value, mode, 10, -14, 0x7c00)
}

/// An f64, rounded to odd or exact, to bf16 in any mode.
pub fn narrow_bf16(value: f64, mode: Rounding) -> u16 {
    small_format(value, mode, 7, -126, 0x7f80)
}

/// Round to a format of 16 bits with `fraction` bits after the point, least exponent `least`, infinity `infinity`.
pub fn small_format(value: f64, mode: Rounding, fraction: i32, least: i32, infinity: u16) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        return sign | infinity;
    }
    let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(least);
    // In units of the last place this is exact: a power of two times an f64 far from its limits.
    let unit = 2f64.powi(fraction - exponent.min(1000));
    let scaled = magnitude * unit;
    let whole = match (mode, sign != 0) {
        (Rounding::Nearest, _) => scaled.round_ties_even(),
        (Rounding::Up, false) | (Rounding::Down, true) => scaled.ceil(),
        _ => scaled.floor(),
    };
    let encoded = (i64::from(exponent - least) << fraction) + whole as i64;
    if encoded < i64::from(infinity) {
        return sign | encoded as u16;
    }
    let to_largest = match mode {
        Rounding::Nearest => false,
        Rounding::Zero => true,
        Rounding::Down => sign == 0,
        Rounding::Up => sign != 0,
    };
    sign | if to_largest { infinity - 1 } else { infinity }
}

#[inline(always)]
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[inline(always)]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if value.is_nan() {
        0x7fff
    } else {
        rounded as u16
    }
}

/// The smaller one; a NaN loses against a number, -0 is less than +0.
#[inline(always)]
pub fn min32(a: f32, b: f32) -> f32 {
    let ordered = if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    };
    let ordered = if a.is_nan() { b } else { ordered };
    let ordered = if b.is_nan() { a } else { ordered };
    canon32(ordered)
}

#[inline(always)]
pub fn max32(a: f32, b: f32) -> f32 {
    let ordered = if a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    };
    let ordered = if a.is_nan() { b } else { ordered };
    let ordered = if b.is_nan() { a } else { ordered };
    canon32(ordered)
}

#[inline(always)]
pub fn min64(a: f64, b: f64) -> f64 {
    let ordered = if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    };
    let ordered = if a.is_nan() { b } else { ordered };
    if b.is_nan() { a } else { ordered }
}

#[inline(always)]
pub fn max64(a: f64, b: f64) -> f64 {
    let ordered = if a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    };
    let ordered = if a.is_nan() { b } else { ordered };
    if b.is_nan() { a } else { ordered }
}

/// 2^x within 2 units in the last place; vectorises.
#[inline(always)]
pub fn exp2_fast(x: f32) -> f32 {
    let bounded = x.clamp(-160.0, 160.0);
    let bounded = if x.is_nan() { 0.0 } else { bounded };
    let whole = bounded.round_ties_even();
    let t = f64::from(bounded - whole) * std::f64::consts::LN_2;
    // Taylor to t^8 on |t| < 0.35: the rest is below 2^-32.
    let p = 1.0
        + t * (1.0
            + t * (1.0 / 2.0
                + t * (1.0 / 6.0
                    + t * (1.0 / 24.0
                        + t * (1.0 / 120.0 + t * (1.0 / 720.0 + t * (1.0 / 5040.0)))))));
    // SAFETY: bounded to ±160 above, which an i32 holds.
    let exponent = i64::from(unsafe { whole.to_int_unchecked::<i32>() });
    let scale = f64::from_bits(((1023 + exponent) << 52) as u64);
    let result = (p * scale) as f32;
    if x.is_nan() { NAN32 } else { result }
}

/// log2(x) to f32 accuracy.
#[inline(always)]
pub fn log2_fast(x: f32) -> f32 {
    canon32(f64::from(x).log2() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_and_rounding_agrees() {
        for half in 0..=u16::MAX {
            let wide = f16_to_f32(half);
            if wide.is_nan() {
                continue;
            }
            assert_eq!(f32_to_f16(wide), half, "{half:#x}");
            assert_eq!(narrow16(f64::from(wide), Rounding::Zero), half, "{half:#x}");
            // Around the midpoint to the next one, the fast path and the general one agree.
            if half & 0x7fff < 0x7bff {
                let mid = (f64::from(wide) + f64::from(f16_to_f32(half + 1))) / 2.0;
                for value in [mid as f32, (mid as f32).next_up(), (mid as f32).next_down()] {
                    assert_eq!(
                        f32_to_f16(value),
                        narrow16(f64::from(value), Rounding::Nearest),
                        "{value}"
                    );
                    assert_eq!(
                        f32_to_bf16(value),
                        narrow_bf16(f64::from(value), Rounding::Nearest),
                        "{value}"
                    );
                }
            }
        }
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(65519.0), 0x7bff);
        assert_eq!(f32_to_f16(f32::NAN), 0x7fff);
        assert_eq!(narrow16(1e9, Rounding::Zero), 0x7bff);
    }

    #[test]
    fn exp2_is_close() {
        let mut x = -150.0f32;
        while x < 128.0 {
            let wanted = f64::from(x).exp2();
            let got = f64::from(exp2_fast(x));
            assert!(
                (got - wanted).abs() <= wanted * 2e-7 + 1.5e-45,
                "{x}: {got} {wanted}"
            );
            x += 0.0137;
        }
        assert_eq!(exp2_fast(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp2_fast(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2_fast(3.0), 8.0);
        assert_eq!(exp2_fast(f32::NAN).to_bits(), 0x7fff_ffff);
    }

    #[test]
    fn directed_rounding_brackets_the_exact_value() {
        let third = div_odd(1.0, 3.0);
        assert_eq!(
            narrow32(third, Rounding::Up).to_bits(),
            narrow32(third, Rounding::Down).to_bits() + 1
        );
        assert_eq!(
            narrow32(-third, Rounding::Zero),
            -narrow32(third, Rounding::Down)
        );
        let tiny = fma_odd(1.0, 1.0, 2f64.powi(-80));
        assert_eq!(narrow32(tiny, Rounding::Up), 1.0f32.next_up());
        assert_eq!(narrow32(tiny, Rounding::Nearest), 1.0);
    }
}
