//! Device printf and assert: what a lane's arguments say.

use crate::lanes::Lanes;

/// Longest text taken from device memory, in bytes.
const MAX_TEXT: usize = 4096;

impl Lanes<'_> {
    fn byte(&self, lane: usize, address: u64) -> Option<u8> {
        let place = self.host_address(lane, address, 1)?;
        // SAFETY: `host_address` checked that the byte is there.
        Some(unsafe { std::ptr::read_volatile(place as *const u8) })
    }

    fn value(&self, lane: usize, address: u64, size: u64) -> u64 {
        (0..size).fold(0, |value, at| {
            value | u64::from(self.byte(lane, address + at).unwrap_or(0)) << (8 * at)
        })
    }
}

/// The string at a generic address.
pub fn text(lanes: &Lanes<'_>, lane: usize, address: u64) -> String {
    let bytes: Vec<u8> = (0..MAX_TEXT as u64)
        .map_while(|at| {
            lanes
                .byte(lane, address.wrapping_add(at))
                .filter(|&byte| byte != 0)
        })
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What device printf returns: the number of arguments that its format asks for.
pub fn conversions(lanes: &Lanes<'_>, lane: usize, format: u64) -> u64 {
    text(lanes, lane, format)
        .replace("%%", "")
        .matches('%')
        .count() as u64
}

/// What printf prints: arguments lie at `arguments` as C would promote them, each at its alignment.
pub fn format(lanes: &Lanes<'_>, lane: usize, format: u64, arguments: u64) -> String {
    let pattern = text(lanes, lane, format);
    let mut out = String::new();
    let mut at = arguments;
    let mut next = |size: u64| {
        at = at.next_multiple_of(size);
        let value = lanes.value(lane, at, size);
        at += size;
        value
    };
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = rest.next_if(|c| "-+ #0".contains(*c)) {
            flags.push(flag);
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if rest.next_if_eq(&'*').is_some() {
                return Some(next(4) as i32 as i64);
            }
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<i64>().ok()
        };
        let width = number(&mut rest);
        let precision = rest
            .next_if_eq(&'.')
            .map(|_| number(&mut rest).unwrap_or(0).clamp(0, 512) as usize);
        let mut wide = false;
        while let Some(length) = rest.next_if(|c| "hlLqjzt".contains(*c)) {
            wide |= matches!(length, 'l' | 'q' | 'j' | 'z' | 't');
        }
        let Some(kind) = rest.next() else { break };
        let size = if wide { 8 } else { 4 };
        let signed = |value: u64| {
            if wide {
                value as i64
            } else {
                i64::from(value as i32)
            }
        };
        let piece = match kind {
            'd' | 'i' => signed(next(size)).to_string(),
            'u' => next(size).to_string(),
            'x' => format!("{:x}", next(size)),
            'X' => format!("{:X}", next(size)),
            'o' => format!("{:o}", next(size)),
            'c' => char::from(next(4) as u8).to_string(),
            'p' => format!("{:#x}", next(8)),
            's' => {
                let address = next(8);
                let whole = text(lanes, lane, address);
                precision.map_or(whole.clone(), |most| whole.chars().take(most).collect())
            }
            'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), f64::from_bits(next(8))),
            'e' | 'E' | 'a' | 'A' => exponent(f64::from_bits(next(8)), precision.unwrap_or(6)),
            'g' | 'G' => general(f64::from_bits(next(8)), precision.unwrap_or(6).max(1)),
            other => {
                out.push('%');
                out.push(other);
                continue;
            }
        };
        let plus = if "dieEfFgG".contains(kind) && !piece.starts_with('-') {
            match () {
                () if flags.contains('+') => "+",
                () if flags.contains(' ') => " ",
                () => "",
            }
        } else {
            ""
        };
        let piece = format!("{plus}{piece}");
        let width = width.unwrap_or(0).clamp(-512, 512);
        let wanted = width.unsigned_abs() as usize;
        if flags.contains('-') || width < 0 {
            out.push_str(&format!("{piece:<wanted$}"));
        } else if flags.contains('0') && !"sc".contains(kind) {
            let (sign, digits) = piece.split_at(usize::from(piece.starts_with(['-', '+', ' '])));
            let wanted = wanted.saturating_sub(sign.len());
            out.push_str(&format!("{sign}{digits:0>wanted$}"));
        } else {
            out.push_str(&format!("{piece:>wanted$}"));
        }
    }
    out
}

/// `%e`: two digits of exponent at least, unlike Rust's.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = power
                .strip_prefix('-')
                .map_or(("+", power), |power| ("-", power));
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// `%g`
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let power = value.abs().log10().floor() as i64;
    let trim = |text: String| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    if power < -4 || power >= precision as i64 {
        let text = exponent(value, precision - 1);
        match text.split_once('e') {
            Some((digits, rest)) => format!("{}e{rest}", trim(digits.to_owned())),
            None => text,
        }
    } else {
        trim(format!(
            "{value:.*}",
            (precision as i64 - 1 - power).max(0) as usize
        ))
    }
}
