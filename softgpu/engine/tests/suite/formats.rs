//! Small floating-point formats by their definition, and the nearest value found by search: nothing of the engine's.

pub struct Format {
    pub fraction: u32,
    pub bias: i32,
    /// Code of the largest finite number; the one above is infinity where there is one.
    pub largest: u64,
    pub sign: u32,
    pub nan: u64,
    pub infinite: bool,
}

pub const F16: Format = Format {
    fraction: 10,
    bias: 15,
    largest: 0x7bff,
    sign: 15,
    nan: 0x7fff,
    infinite: true,
};
pub const BF16: Format = Format {
    fraction: 7,
    bias: 127,
    largest: 0x7f7f,
    sign: 15,
    nan: 0x7fff,
    infinite: true,
};
pub const E5M2: Format = Format {
    fraction: 2,
    bias: 15,
    largest: 0x7b,
    sign: 7,
    nan: 0x7f,
    infinite: true,
};
pub const E4M3: Format = Format {
    fraction: 3,
    bias: 7,
    largest: 0x7e,
    sign: 7,
    nan: 0x7f,
    infinite: false,
};

impl Format {
    fn magnitude(&self, code: u64) -> f64 {
        let (exponent, fraction) = (code >> self.fraction, code & ((1 << self.fraction) - 1));
        let unit = 2f64.powi(-(self.fraction as i32));
        if exponent == 0 {
            fraction as f64 * unit * 2f64.powi(1 - self.bias)
        } else {
            (1.0 + fraction as f64 * unit) * 2f64.powi(exponent as i32 - self.bias)
        }
    }

    pub fn value(&self, code: u64) -> f64 {
        let body = code & ((1 << self.sign) - 1);
        let magnitude = match body {
            _ if body <= self.largest => self.magnitude(body),
            _ if self.infinite && body == self.largest + 1 => f64::INFINITY,
            _ => return f64::NAN,
        };
        if code >> self.sign & 1 != 0 {
            -magnitude
        } else {
            magnitude
        }
    }

    /// To nearest, ties to even; what is too large goes to the code above the largest.
    pub fn nearest(&self, value: f64) -> u64 {
        if value.is_nan() {
            return self.nan;
        }
        let sign = u64::from(value.is_sign_negative()) << self.sign;
        let wanted = value.abs();
        let (mut low, mut high) = (0, self.largest);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.magnitude(middle) <= wanted {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let (below, above) = (
            wanted - self.magnitude(low),
            self.magnitude(low + 1) - wanted,
        );
        let up = !(below < above || below == above && low & 1 == 0);
        sign | if up { low + 1 } else { low }
    }

    /// As `.satfinite` wants it.
    pub fn nearest_finite(&self, value: f64) -> u64 {
        let code = self.nearest(value);
        if value.is_nan() {
            return code;
        }
        let body = code & ((1 << self.sign) - 1);
        code & 1 << self.sign | body.min(self.largest)
    }

    /// Towards zero.
    pub fn truncated(&self, value: f64) -> u64 {
        let code = self.nearest(value);
        if value.is_nan() || value.is_infinite() {
            return code;
        }
        let body = code & ((1 << self.sign) - 1);
        let too_far = body > self.largest || self.magnitude(body) > value.abs();
        if too_far { code - 1 } else { code }
    }
}

/// A float of 64 bits that rounds to shorter formats as `magnitude * 2^exponent` does: 50 bits, and whether more follow.
pub fn sticky(exact: i128, exponent: i32) -> f64 {
    let magnitude = exact.unsigned_abs();
    let shift = (128 - magnitude.leading_zeros()).saturating_sub(50);
    let lost = magnitude & ((1 << shift) - 1) != 0;
    let value = (magnitude >> shift | u128::from(lost)) as f64 * 2f64.powi(shift as i32 + exponent);
    if exact < 0 { -value } else { value }
}
