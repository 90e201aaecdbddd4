//! On which side of a result rounded to nearest the exact one lies: the sign of what these return. That is all that
//! directed rounding needs to know.

/// Results below this may lose what is left of them to underflow, so it is computed with everything scaled up.
const SMALL: f64 = f64::from_bits((1023 - 900) << 52);
/// Products from here on leave an error that is a number, too.
const WHOLE: f64 = f64::from_bits((1023 - 960) << 52);
const SCALE: f64 = f64::from_bits((1023 + 600) << 52);

pub fn sum(a: f64, b: f64, near: f64) -> f64 {
    if near.is_infinite() && a.is_finite() && b.is_finite() {
        return -near.signum();
    }
    let back = near - a;
    (a - (near - back)) + (b - back)
}

pub fn product(a: f64, b: f64, near: f64) -> f64 {
    if near.is_infinite() && a.is_finite() && b.is_finite() {
        return -near.signum();
    }
    if near == 0.0 {
        return if a == 0.0 || b == 0.0 {
            0.0
        } else {
            a.signum() * b.signum()
        };
    }
    if near.abs() >= SMALL {
        return a.mul_add(b, -near);
    }
    let (less, more) = if a.abs() < b.abs() { (a, b) } else { (b, a) };
    (less * SCALE).mul_add(more, -near * SCALE)
}

pub fn fma(a: f64, b: f64, c: f64, near: f64) -> f64 {
    if near.is_infinite() && a.is_finite() && b.is_finite() && c.is_finite() {
        return -near.signum();
    }
    if a == 0.0 || b == 0.0 {
        return sum(a * b, c, near);
    }
    if c == 0.0 {
        return product(a, b, near);
    }
    let (less, more) = if a.abs() < b.abs() { (a, b) } else { (b, a) };
    let high = a * b;
    if high.is_infinite() && near.is_finite() {
        // Then c is as large, and loses nothing either.
        return three(less, more / SCALE, c / SCALE, near / SCALE);
    }
    if high.abs() >= WHOLE {
        return three(a, b, c, near);
    }
    if c.abs() < SMALL {
        let scaled = less * SCALE;
        if (scaled * more).abs() >= WHOLE {
            return three(scaled, more, c * SCALE, near * SCALE);
        }
    }
    // The product is so far below the sum's last bit that only its sign counts.
    match c - near {
        0.0 => less.signum() * more.signum(),
        left => left,
    }
}

/// a*b = high + low exactly; high + c = sum + rest exactly; what `near` misses is the sign of what is left.
fn three(a: f64, b: f64, c: f64, near: f64) -> f64 {
    let high = a * b;
    let low = a.mul_add(b, -high);
    let total = high + c;
    let rest = sum(high, c, total);
    ((total - near) + rest) + low
}

pub fn quotient(a: f64, b: f64, near: f64) -> f64 {
    if near == 0.0 {
        return if a == 0.0 || b.is_infinite() {
            0.0
        } else {
            a.signum() * b.signum()
        };
    }
    let left = if a.abs() >= SMALL {
        near.mul_add(b, -a)
    } else if near.abs() < 1.0 {
        (near * SCALE).mul_add(b, -a * SCALE)
    } else {
        near.mul_add(b * SCALE, -a * SCALE)
    };
    -left * b.signum()
}

pub fn root(a: f64, near: f64) -> f64 {
    // The scale's root, so that both sides grow alike.
    const HALF: f64 = f64::from_bits((1023 + 300) << 52);
    if a >= SMALL {
        -near.mul_add(near, -a)
    } else {
        -(near * HALF).mul_add(near * HALF, -a * SCALE)
    }
}
