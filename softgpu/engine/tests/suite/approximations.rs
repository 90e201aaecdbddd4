//! Approximations, within the errors that the document allows.

use crate::common::{HEAD, Machine};

/// What an instruction gives for each value, all of 32 bits.
fn results(opcode: &str, values: &[f32]) -> Vec<f32> {
    let n = values.len().next_multiple_of(256);
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 p, .param .u64 o) {{ .reg .b64 %p, %o, %w; .reg .f32 %f; .reg .b32 %t, %c, %n;
ld.param.u64 %p, [p]; ld.param.u64 %o, [o]; mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mov.u32 %n, %ntid.x;
mad.lo.u32 %t, %c, %n, %t; mul.wide.u32 %w, %t, 4; add.u64 %p, %p, %w; add.u64 %o, %o, %w;
ld.global.f32 %f, [%p]; {opcode} %f, %f; st.global.f32 [%o], %f; ret; }}"
    );
    let mut machine = Machine::new(&ptx);
    let mut padded = values.to_vec();
    padded.resize(n, 1.0);
    let (input, output) = (machine.buffer(&padded), machine.buffer(&vec![0f32; n]));
    machine.launch("k", n as u32 / 256, 256, &[input, output]);
    machine.read(output, values.len())
}

/// Every so many of all floats, and those around which functions change.
fn spread() -> Vec<f32> {
    let mut values: Vec<f32> = (0..=u32::MAX).step_by(65_521).map(f32::from_bits).collect();
    for center in [
        0.5f32,
        1.0,
        2.0,
        std::f32::consts::PI,
        127.0,
        -126.0,
        0.0,
        1e-40,
    ] {
        for step in -200i64..200 {
            values.push(f32::from_bits(
                (i64::from(center.to_bits()) + step).max(0) as u32
            ));
        }
    }
    values
}

fn ulp(value: f64) -> f64 {
    let exponent = value.abs().log2().floor().max(-126.0);
    2f64.powi(exponent as i32 - 23)
}

/// `bound` says how far a result may be from the exact one, by the operand and that.
fn check(opcode: &str, function: fn(f64) -> f64, ftz: bool, bound: impl Fn(f64, f64) -> f64) {
    let values = spread();
    for (&x, got) in values.iter().zip(results(opcode, &values)) {
        let x = if ftz && x.is_subnormal() {
            0f32.copysign(x)
        } else {
            x
        };
        let exact = function(f64::from(x));
        if exact.is_nan() {
            assert_eq!(got.to_bits(), 0x7fff_ffff, "{opcode} of {x:e}");
            continue;
        }
        let wanted = exact as f32;
        if wanted.is_infinite() {
            assert!(
                got.abs() >= f32::MAX && got.signum() == wanted.signum(),
                "{opcode} of {x:e}: {got:e}"
            );
            continue;
        }
        if ftz && exact.abs() < f64::from(f32::MIN_POSITIVE) * (1.0 - 1e-6) {
            assert_eq!(got, 0.0, "{opcode} of {x:e}");
            continue;
        }
        let error = (f64::from(got) - exact).abs();
        let bound = if ftz {
            bound(x.into(), exact).max(0.0)
        } else {
            bound(x.into(), exact)
        };
        let at_edge = ftz && got == 0.0 && exact.abs() <= f64::from(f32::MIN_POSITIVE);
        assert!(
            error <= bound || at_edge,
            "{opcode} of {x:e}: {got:e}, not {exact:e}"
        );
    }
}

#[test]
fn of_one_value() {
    for ftz in [false, true] {
        let name = |stem: &str| format!("{stem}.approx{}.f32", if ftz { ".ftz" } else { "" });
        check(&name("rcp"), |x| 1.0 / x, ftz, |_, exact| ulp(exact));
        check(&name("sqrt"), f64::sqrt, ftz, |_, exact| {
            exact.abs() * 2f64.powi(-23)
        });
        check(
            &name("rsqrt"),
            |x| 1.0 / x.sqrt(),
            ftz,
            |_, exact| exact.abs() * 2f64.powf(-22.9),
        );
        check(&name("ex2"), f64::exp2, ftz, |_, exact| 2.0 * ulp(exact));
        check(&name("lg2"), f64::log2, ftz, |x, exact| {
            if (0.5..=2.0).contains(&x) {
                2f64.powi(-22)
            } else {
                exact.abs() * 2f64.powi(-22)
            }
        });
        for (stem, function) in [("sin", f64::sin as fn(f64) -> f64), ("cos", f64::cos)] {
            // The document promises nothing beyond a hundred turns.
            check(&name(stem), function, ftz, |x, _| {
                let turns = x.abs() / std::f64::consts::PI;
                if turns <= 2.0 {
                    2f64.powf(-20.5)
                } else if turns <= 100.0 {
                    2f64.powf(-14.7)
                } else {
                    2.0
                }
            });
        }
    }
    check("tanh.approx.f32", f64::tanh, false, |_, exact| {
        exact.abs() * 2f64.powi(-11) + 1e-45
    });
}

#[test]
fn of_two_values() {
    // Within two units in the last place, and zero for the largest divisors.
    let (quotient, full) = ("div.approx.f32 %o, %a, %b;", "div.full.f32 %o, %a, %b;");
    let close = |a: u64, b: u64, large: bool| {
        let (x, y) = (f32::from_bits(a as u32), f32::from_bits(b as u32));
        if large && y.abs() > 2f32.powi(126) && y.is_finite() {
            return if x.is_infinite() || x.is_nan() {
                0x7fff_ffff
            } else {
                u64::from((x.signum() * y.signum() * 0.0).to_bits())
            };
        }
        let exact = x / y;
        u64::from(if exact.is_nan() {
            0x7fff_ffff
        } else {
            exact.to_bits()
        })
    };
    crate::common::compare(quotient, (4, 4), |a, b, _| close(a, b, true));
    crate::common::compare(full, (4, 4), |a, b, _| close(a, b, false));
}

#[test]
fn upper_halves_of_doubles() {
    let canonical = "testp.notanumber.f64 %p, %o; @%p mov.b64 %o, 0x7ff8000000000000;";
    let upper = |bits: u64| bits >> 32 << 32;
    for (name, function) in [
        ("rcp", (|x| 1.0 / x) as fn(f64) -> f64),
        ("rsqrt", |x: f64| 1.0 / x.sqrt()),
    ] {
        let body = format!("{name}.approx.ftz.f64 %o, %a; {canonical}");
        crate::common::compare(&body, (8, 8), |a, _, _| {
            let a = f64::from_bits(upper(a));
            let a = if a.is_subnormal() {
                0f64.copysign(a)
            } else {
                a
            };
            let value = function(a);
            match value {
                _ if value.is_nan() => 0x7ff8_0000_0000_0000,
                _ if value.is_subnormal() => 0f64.copysign(value).to_bits(),
                _ => upper(value.to_bits()),
            }
        });
    }
    crate::common::compare(
        &format!("rsqrt.approx.f64 %o, %a; {canonical}"),
        (8, 8),
        |a, _, _| {
            let value = 1.0 / f64::from_bits(a).sqrt();
            if value.is_nan() {
                0x7ff8_0000_0000_0000
            } else {
                value.to_bits()
            }
        },
    );
}
