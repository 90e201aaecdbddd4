//! Floating-point arithmetic by soft floats, and approximations within the errors that the document allows.

use std::cmp::Ordering;

use super::run::{Case, Wanted, case, check, plain};
use super::soft;
use super::{Form, of};

/// A function on both halves of a pair.
fn by_halves(v: &[u64], one: impl Fn(&[u64]) -> Wanted) -> Wanted {
    let part = |at: u32| {
        one(&v
            .iter()
            .map(|x| x >> (16 * at) & 0xffff)
            .collect::<Vec<_>>())
    };
    match (part(0), part(1)) {
        (Wanted::Bits(low), Wanted::Bits(high)) => Wanted::Bits(low | high << 16),
        // Either of one half; the halves' choices do not meet in these tests.
        other => panic!("{other:?} of a half"),
    }
}

fn split(ty: &str) -> (&str, bool) {
    match ty.strip_suffix("x2") {
        Some(single) => (single, true),
        None => (ty, false),
    }
}

/// The one NaN that arithmetic gives; that of f64 is not said.
fn canonical(ty: &str) -> Wanted {
    match ty {
        "f32" => Wanted::Bits(0x7fff_ffff),
        "f64" => Wanted::Nan,
        _ => Wanted::Bits(0x7fff),
    }
}

fn lifted(ty: &str, opcode: &str, count: usize, one: impl Fn(&[u64]) -> Wanted + 'static) -> Case {
    let pair = split(ty).1;
    plain(opcode, &[ty; 3][..count], ty, move |v| {
        if pair { by_halves(v, &one) } else { one(v) }
    })
}

fn arithmetic(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let single = split(&ty).0.to_owned();
    let mode = soft::rounding(form.one_of(&["rz", "rm", "rp"]).unwrap_or("rn"));
    let (ftz, sat, relu) = (form.has("ftz"), form.has("sat"), form.has("relu"));
    let name = if form.name == "mad" {
        "fma".to_owned()
    } else {
        form.name.clone()
    };
    let count = match name.as_str() {
        "fma" => 3,
        "rcp" | "sqrt" => 1,
        _ => 2,
    };
    lifted(&ty, &form.opcode, count, move |v| {
        let v: Vec<u64> = v
            .iter()
            .map(|x| if ftz { soft::flush(&single, *x) } else { *x })
            .collect();
        let exact = match name.as_str() {
            "sqrt" => soft::square_root(&single, v[0], mode),
            _ => soft::compute(&single, &name, &v, mode),
        };
        let exact = if ftz {
            soft::flush(&single, exact)
        } else {
            exact
        };
        if sat {
            return Wanted::Bits(soft::saturate(&single, exact));
        }
        if soft::is_nan(&single, exact) {
            return canonical(&single);
        }
        // Negative zero is clamped, too.
        Wanted::Bits(if relu && exact & soft::sign(&single) != 0 {
            0
        } else {
            exact
        })
    })
}

fn chosen(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let single = split(&ty).0.to_owned();
    let greatest = form.name == "max";
    let (ftz, nan, xorsign) = (form.has("ftz"), form.has("NaN"), form.has("xorsign"));
    lifted(&ty, &form.opcode, 2, move |v| {
        let ty = single.as_str();
        let v: Vec<u64> = v
            .iter()
            .map(|x| if ftz { soft::flush(ty, *x) } else { *x })
            .collect();
        let sign = (v[0] ^ v[1]) & soft::sign(ty);
        let (a, b) = if xorsign {
            (v[0] & !soft::sign(ty), v[1] & !soft::sign(ty))
        } else {
            (v[0], v[1])
        };
        let found = match (soft::is_nan(ty, a), soft::is_nan(ty, b)) {
            (true, true) => return canonical(ty),
            (true, false) | (false, true) if nan => return canonical(ty),
            (true, false) => b,
            (false, true) => a,
            _ => {
                // Zeros differ here: -0 is less than +0.
                let less = match soft::order(ty, a, b) {
                    Some(Ordering::Equal) => a & soft::sign(ty) != 0,
                    order => order == Some(Ordering::Less),
                };
                if less != greatest { a } else { b }
            }
        };
        Wanted::Bits(if xorsign { found | sign } else { found })
    })
}

fn signs(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let single = split(&ty).0.to_owned();
    let (ftz, negate) = (form.has("ftz"), form.name == "neg");
    let pair = split(&ty).1;
    lifted(&ty, &form.opcode, 1, move |v| {
        let x = if ftz {
            soft::flush(&single, v[0])
        } else {
            v[0]
        };
        if soft::is_nan(&single, x) {
            // The document does not say which; ours is the one of arithmetic.
            return if pair {
                canonical(&single)
            } else {
                Wanted::Nan
            };
        }
        Wanted::Bits(if negate {
            x ^ soft::sign(&single)
        } else {
            x & !soft::sign(&single)
        })
    })
}

fn copied_sign(form: &Form) -> Case {
    let ty = form.last().to_owned();
    plain(&form.opcode, &[form.last(); 2], form.last(), move |v| {
        let sign = soft::sign(&ty);
        Wanted::Bits(v[1] & !sign | v[0] & sign)
    })
}

fn property(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let kind = form.words[0].clone();
    plain(&form.opcode, &[form.last()], "pred", move |v| {
        let (nan, infinite) = (soft::is_nan(&ty, v[0]), soft::is_infinite(&ty, v[0]));
        let size = v[0] & !soft::sign(&ty);
        let subnormal = size != 0 && soft::flush(&ty, size) == 0;
        let holds = match kind.as_str() {
            "finite" => !nan && !infinite,
            "infinite" => infinite,
            "number" => !nan,
            "notanumber" => nan,
            "subnormal" => subnormal,
            _ => size != 0 && !subnormal && !nan && !infinite,
        };
        Wanted::Bits(holds.into())
    })
}

/// The unit of the last place of a number's neighbours.
fn unit(ty: &str, value: f64) -> f64 {
    let (exponent, fraction) = soft::layout(ty);
    let least = 2 - (1i32 << (exponent - 1));
    let power = if value == 0.0 {
        least
    } else {
        (value.abs().log2().floor() as i32).max(least)
    };
    2f64.powi(power - fraction as i32)
}

/// How far an approximation may be from the exact value, which the host computes in f64: its own error is far less.
fn approximation(form: &Form) -> Case {
    let ty = form.last().to_owned();
    let single = split(&ty).0.to_owned();
    let name = form.name.clone();
    let (ftz, full) = (form.has("ftz"), form.has("full"));
    let count = if name == "div" { 2 } else { 1 };
    let one = move |v: &[u64]| -> Wanted {
        let ty = single.as_str();
        let numbers: Vec<f64> = v
            .iter()
            // Of f64 that is flushed, the upper half alone counts.
            .map(|x| {
                if ftz && ty == "f64" {
                    x >> 32 << 32
                } else {
                    *x
                }
            })
            .map(|x| soft::number(ty, if ftz { soft::flush(ty, x) } else { x }))
            .collect();
        let x = numbers[0];
        if name == "div" && !full && numbers[1].abs() > 2f64.powi(126) && numbers[1].is_finite() {
            // The document: zero, or NaN for an infinite dividend.
            return if x.is_finite() {
                Wanted::Within(-0.0, 0.0)
            } else {
                canonical(ty)
            };
        }
        let exact = match name.as_str() {
            "div" => x / numbers[1],
            "rcp" => 1.0 / x,
            "sqrt" => x.sqrt(),
            "rsqrt" => 1.0 / x.sqrt(),
            "sin" => x.sin(),
            "cos" => x.cos(),
            "lg2" => x.log2(),
            "ex2" => x.exp2(),
            _ => x.tanh(),
        };
        if exact.is_nan() {
            return canonical(ty);
        }
        let last = unit(ty, exact);
        let relative = |power: f64| exact.abs() * 2f64.powf(power);
        let error = match (name.as_str(), ty) {
            ("div", _) => 2.0 * last,
            ("rcp", "f32") => last,
            ("sqrt", "f32") => relative(-23.0),
            ("rsqrt", "f32") => relative(-22.9),
            ("ex2", "f32") => 2.0 * last,
            ("ex2", "f16") => relative(-9.9),
            ("ex2", _) => relative(-7.0),
            ("tanh", "f32") => relative(-11.0),
            ("tanh", "f16") => relative(-10.987),
            ("tanh", _) => relative(-8.0),
            ("lg2", _) if (0.5..=2.0).contains(&x) => 2f64.powi(-22),
            ("lg2", _) => relative(-22.0),
            ("sin" | "cos", _) => match x.abs() / std::f64::consts::PI {
                ..=2.0 => 2f64.powf(-20.5),
                ..=100.0 => 2f64.powf(-14.7),
                // No word beyond a hundred turns.
                _ => 2.0,
            },
            // Of f64: the upper halves.
            ("rcp" | "rsqrt", _) => relative(-19.0),
            other => panic!("no bound for {other:?}"),
        };
        let least = unit(ty, 0.0) / 2.0;
        let (mut low, mut high) = (exact - error - least, exact + error + least);
        let (exponent, fraction) = soft::layout(ty);
        let normal = 2f64.powi(2 - (1i32 << (exponent - 1)));
        let largest =
            (2.0 - 2f64.powi(-(fraction as i32))) * 2f64.powi((1i32 << (exponent - 1)) - 1);
        // What is flushed is zero, and what rounds beyond the largest number infinite.
        if ftz && exact.abs() < normal * (1.0 + 1e-6) {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if exact.is_infinite() {
            (low, high) = (
                exact.min(largest * exact.signum()),
                exact.max(largest * exact.signum()),
            );
        }
        if high >= largest {
            high = f64::INFINITY;
        }
        if low <= -largest {
            low = f64::NEG_INFINITY;
        }
        Wanted::Within(low, high)
    };
    if !split(&ty).1 {
        return plain(&form.opcode, &[ty.as_str(); 2][..count], &ty, one);
    }
    // The halves are looked at one after the other: a result within bounds is not one value.
    let half = split(&ty).0.to_owned();
    let text = format!(
        "{} %x, %a; mov.b32 {{%h, %g}}, %x; setp.ne.b32 %p, %b, 0; selp.b16 %o, %h, %g, %p;",
        form.opcode
    );
    case(&form.opcode, text, &[&ty, "b32"], &half, move |v| {
        one(&[v[0] >> if v[1] != 0 { 0 } else { 16 } & 0xffff])
    })
}

/// `.approx.ftz.f64`: of the operand the upper half counts, of the result the lower is zero.
fn upper(form: &Form) -> Vec<Case> {
    let zero = format!("{} %w, %a; mov.b64 {{%o, %x}}, %w;", form.opcode);
    vec![
        approximation(form),
        case(&form.opcode, zero, &["f64"], "b32", |v| {
            // But for a NaN, whose bits are not said.
            let nan = soft::is_nan("f64", v[0]) || v[0] >> 63 != 0;
            if nan {
                Wanted::Anything
            } else {
                Wanted::Bits(0)
            }
        }),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in of(&["add", "sub", "mul", "mad", "fma", "div", "rcp", "sqrt"]) {
        if form.last().contains('f') && form.one_of(&["approx", "full"]).is_none() {
            cases.push(arithmetic(&form));
        }
    }
    for form in of(&["min", "max", "abs", "neg"]) {
        if form.last().contains('f') {
            cases.push(if form.name.starts_with('m') {
                chosen(&form)
            } else {
                signs(&form)
            });
        }
    }
    cases.extend(of(&["copysign"]).iter().map(copied_sign));
    cases.extend(of(&["testp"]).iter().map(property));
    for form in of(&[
        "div", "rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh",
    ]) {
        if form.one_of(&["approx", "full"]).is_some() {
            if form.last() == "f64" && form.has("ftz") {
                cases.extend(upper(&form));
            } else {
                cases.push(approximation(&form));
            }
        }
    }
    cases
}

pub fn all() {
    check(cases());
}
