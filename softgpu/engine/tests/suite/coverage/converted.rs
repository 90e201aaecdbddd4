//! Conversions.

use rustc_apfloat::ieee::{Float8E4M3FN, Float8E5M2, Half, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

use super::integers::{range, value};
use super::run::{Case, Wanted, case, check, plain};
use super::{Form, of, soft};

fn is_float(ty: &str) -> bool {
    ty.contains('f')
}

fn canonical(ty: &str) -> Wanted {
    match ty {
        "f64" => Wanted::Nan,
        "f32" => Wanted::Bits(0x7fff_ffff),
        _ => Wanted::Bits(0x7fff),
    }
}

/// Between the types of registers.
fn plainly(form: &Form) -> Case {
    let types = form.types();
    let (to, from) = (types[0].to_owned(), types[1].to_owned());
    let whole = form.one_of(&["rni", "rzi", "rmi", "rpi"]);
    let mode = soft::rounding(form.one_of(&["rz", "rm", "rp"]).unwrap_or("rn"));
    let (ftz, sat, relu, finite) = (
        form.has("ftz"),
        form.has("sat"),
        form.has("relu"),
        form.has("satfinite"),
    );
    plain(&form.opcode, &[types[1]], register(types[0]), move |v| {
        let v = if ftz && from == "f32" {
            soft::flush("f32", v[0])
        } else {
            v[0]
        };
        let result = match (is_float(&from), is_float(&to)) {
            (false, false) => {
                let x = value(&from, v);
                let (low, high) = range(&to);
                // Cut, and spread over the register with its sign.
                return Wanted::Bits(if sat {
                    x.clamp(low, high)
                } else {
                    value(&to, x as u64)
                } as u64);
            }
            (true, false) => {
                let (low, high) = range(&to);
                if soft::is_nan(&from, v) {
                    return Wanted::Bits(nan_as(&to, &from) as u64);
                }
                let x = soft::to_integer(&from, v, soft::rounding(whole.unwrap_or("rni")));
                return Wanted::Bits(x.clamp(low, high) as u64);
            }
            (false, true) => soft::from_integer(&to, value(&from, v), mode),
            (true, true) => {
                let v = match whole {
                    Some(name) => soft::to_integral(&from, v, soft::rounding(name)),
                    None => v,
                };
                let v = if relu && !soft::is_nan(&from, v) && v & soft::sign(&from) != 0 {
                    0
                } else {
                    v
                };
                if from == to {
                    v
                } else {
                    soft::convert(&to, &from, v, mode)
                }
            }
        };
        let result = if ftz && to == "f32" {
            soft::flush("f32", result)
        } else {
            result
        };
        if sat {
            return Wanted::Bits(soft::saturate(&to, result));
        }
        if soft::is_nan(&to, result) {
            // Which one it is when nothing is converted is not said.
            return if from == to {
                Wanted::Nan
            } else {
                canonical(&to)
            };
        }
        Wanted::Bits(if finite && soft::is_infinite(&to, result) {
            result - 1
        } else {
            result
        })
    })
}

/// What a NaN becomes: zero, or with 64 bits on either side the top bit alone.
fn nan_as(to: &str, from: &str) -> i128 {
    let wide = from == "f64" || to.ends_with("64");
    if !wide {
        return 0;
    }
    let (low, high) = range(to);
    if to.starts_with('s') {
        low
    } else {
        (high + 1) / 2
    }
}

/// Registers of 8 bits are not there.
fn register(ty: &str) -> &str {
    match ty {
        "u8" => "u16",
        "s8" => "s16",
        other => other,
    }
}

/// `cvt.rn.f16x2.f32 d, a, b`: a in the upper half.
fn pairs(form: &Form) -> Case {
    let to = form.types()[0].trim_end_matches("x2").to_owned();
    let mode = soft::rounding(if form.has("rz") { "rz" } else { "rn" });
    let (relu, finite) = (form.has("relu"), form.has("satfinite"));
    plain(&form.opcode, &["f32", "f32"], "b32", move |v| {
        let half = |v: u64| {
            if soft::is_nan("f32", v) {
                return 0x7fff;
            }
            let v = if relu && v >> 31 != 0 { 0 } else { v };
            let result = soft::convert(&to, "f32", v, mode);
            if finite && soft::is_infinite(&to, result) {
                result - 1
            } else {
                result
            }
        };
        Wanted::Bits(half(v[1]) | half(v[0]) << 16)
    })
}

/// f32 with ten bits of fraction: rounded by hand, since no soft float has it.
fn tf32(form: &Form) -> Case {
    let mode = form.one_of(&["rz", "rna"]).unwrap_or("rn");
    let (relu, finite) = (form.has("relu"), form.has("satfinite"));
    plain(&form.opcode, &["f32"], "b32", move |v| {
        if soft::is_nan("f32", v[0]) {
            return Wanted::Bits(0x7fff_ffff);
        }
        if relu && v[0] >> 31 != 0 {
            return Wanted::Bits(0);
        }
        let (sign, size) = (v[0] & 1 << 31, v[0] & 0x7fff_ffff);
        let (kept, rest) = (size >> 13, size & 0x1fff);
        let up = match mode {
            "rz" => false,
            "rna" => rest >= 0x1000,
            _ => rest > 0x1000 || rest == 0x1000 && kept & 1 == 1,
        };
        let rounded = (kept + u64::from(up)) << 13;
        Wanted::Bits(
            sign | if finite {
                rounded.min(0x7f7f_e000)
            } else {
                rounded
            },
        )
    })
}

/// A byte in its format as one in another.
fn to_byte<T: Float>(v: impl FloatConvert<T>, largest: u64) -> u64 {
    if v.is_nan() {
        return 0x7f;
    }
    let negative = u64::from(v.is_negative()) << 7;
    let converted: T = v.convert_r(Round::NearestTiesToEven, &mut false).value;
    let size = if converted.is_nan() {
        largest
    } else {
        converted.to_bits() as u64 & 0x7f
    };
    negative | size.min(largest)
}

fn byte_of(format: &str, from: &str, v: u64, relu: bool) -> u64 {
    let v = if relu && !soft::is_nan(from, v) && v & soft::sign(from) != 0 {
        0
    } else {
        v
    };
    let (single, half) = (
        Single::from_bits(v.into()),
        Half::from_bits((v & 0xffff).into()),
    );
    match (format, from) {
        ("e4m3x2", "f32") => to_byte::<Float8E4M3FN>(single, 0x7e),
        ("e4m3x2", _) => to_byte::<Float8E4M3FN>(half, 0x7e),
        (_, "f32") => to_byte::<Float8E5M2>(single, 0x7b),
        _ => to_byte::<Float8E5M2>(half, 0x7b),
    }
}

fn of_byte(format: &str, v: u64, relu: bool) -> u64 {
    let exact: Half = if format == "e4m3x2" {
        Float8E4M3FN::from_bits(v.into()).convert(&mut false).value
    } else {
        Float8E5M2::from_bits(v.into()).convert(&mut false).value
    };
    match () {
        () if exact.is_nan() => 0x7fff,
        () if relu && exact.is_negative() => 0,
        () => exact.to_bits() as u64,
    }
}

fn bytes(form: &Form) -> Case {
    let types = form.types();
    let (to, from) = (types[0].to_owned(), types[1].to_owned());
    let relu = form.has("relu");
    if to == "f16x2" {
        return plain(&form.opcode, &[types[1]], "b32", move |v| {
            Wanted::Bits(of_byte(&from, v[0] & 255, relu) | of_byte(&from, v[0] >> 8, relu) << 16)
        });
    }
    if from == "f32" {
        return plain(&form.opcode, &["f32", "f32"], "b16", move |v| {
            Wanted::Bits(byte_of(&to, "f32", v[1], relu) | byte_of(&to, "f32", v[0], relu) << 8)
        });
    }
    plain(&form.opcode, &["f16x2"], "b16", move |v| {
        Wanted::Bits(
            byte_of(&to, "f16", v[0] & 0xffff, relu) | byte_of(&to, "f16", v[0] >> 16, relu) << 8,
        )
    })
}

fn packed(form: &Form) -> Case {
    let to = form.types()[0].to_owned();
    let bits: u32 = to[1..].parse().expect("a width");
    let (low, high) = range(&to);
    let part = move |v: u64| value("s32", v).clamp(low, high) as u64 & ((1 << bits) - 1);
    if bits == 16 {
        return plain(&form.opcode, &["s32", "s32"], "b32", move |v| {
            Wanted::Bits(part(v[1]) | part(v[0]) << 16)
        });
    }
    plain(&form.opcode, &["s32", "s32", "b32"], "b32", move |v| {
        Wanted::Bits(v[2] << (2 * bits) | part(v[0]) << bits | part(v[1]))
    })
}

/// Into a register that is wider than the type, and from one.
fn wider(form: &Form) -> Option<Case> {
    let types = form.types();
    let (to, from) = (types[0].to_owned(), types[1].to_owned());
    if form.words.len() != 2 || is_float(&to) || is_float(&from) || to.ends_with("64") {
        return None;
    }
    let text = format!("{} %o, %a;", form.opcode);
    Some(case(&form.opcode, text, &["b64"], "b64", move |v| {
        Wanted::Bits(value(&to, value(&from, v[0]) as u64) as u64)
    }))
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in of(&["cvt"]) {
        let types = form.types();
        let eighth = |ty: &str| matches!(ty, "e4m3x2" | "e5m2x2");
        let case = match types[..] {
            _ if form.has("pack") => packed(&form),
            ["tf32", _] => tf32(&form),
            [to, from] if eighth(to) || eighth(from) => bytes(&form),
            ["f16x2" | "bf16x2", _] => pairs(&form),
            _ => {
                cases.extend(wider(&form));
                plainly(&form)
            }
        };
        cases.push(case);
    }
    cases
}

pub fn all() {
    check(cases());
}
