//! f16 and bf16, alone and in pairs.

use crate::common::compare;
use crate::formats::{BF16, F16, Format, sticky};

/// Run a function on both halves of packed operands.
fn both(f: impl Fn(u64, u64, u64) -> u64) -> impl Fn(u64, u64, u64) -> u64 {
    move |a, b, c| {
        let part = |shift: u32| {
            f(
                a >> shift & 0xffff,
                b >> shift & 0xffff,
                c >> shift & 0xffff,
            ) & 0xffff
        };
        part(0) | part(16) << 16
    }
}

fn one_and_two(opcode: &str, ty: &str, operands: &str, f: impl Fn(u64, u64, u64) -> u64 + Copy) {
    compare(&format!("{opcode}.{ty} %o, {operands};"), (2, 2), f);
    compare(&format!("{opcode}.{ty}x2 %o, {operands};"), (4, 4), both(f));
}

fn formats() -> [(&'static str, &'static Format); 2] {
    [("f16", &F16), ("bf16", &BF16)]
}

#[test]
fn sums_and_products() {
    for (ty, format) in formats() {
        let f = |bits| format.value(bits);
        one_and_two("add", ty, "%a, %b", |a, b, _| format.nearest(f(a) + f(b)));
        one_and_two("sub.rn", ty, "%a, %b", |a, b, _| {
            format.nearest(f(a) - f(b))
        });
        one_and_two("mul", ty, "%a, %b", |a, b, _| format.nearest(f(a) * f(b)));
        one_and_two("neg", ty, "%a", |a, _, _| format.nearest(-f(a)));
        one_and_two("abs", ty, "%a", |a, _, _| format.nearest(f(a).abs()));
    }
    let f = |bits| F16.value(bits);
    let flush = |bits: u64| {
        if bits & 0x7c00 == 0 {
            bits & 0x8000
        } else {
            bits
        }
    };
    one_and_two("add.ftz", "f16", "%a, %b", |a, b, _| {
        flush(F16.nearest(f(flush(a)) + f(flush(b))))
    });
    one_and_two("mul.ftz.sat", "f16", "%a, %b", |a, b, _| {
        let product = f(flush(a)) * f(flush(b));
        // Flushing comes before the clamp, which turns NaN and -0 into +0.
        if product > 0.0 {
            flush(F16.nearest(product.min(1.0)))
        } else {
            0
        }
    });
    one_and_two("add.sat", "f16", "%a, %b", |a, b, _| {
        let sum = f(a) + f(b);
        if sum > 0.0 {
            F16.nearest(sum.min(1.0))
        } else {
            0
        }
    });
}

#[test]
fn fused_products() {
    // In units of 2^-48 all terms are integers.
    let f16 = |a: u64, b: u64, c: u64| {
        let (x, y, z) = (F16.value(a), F16.value(b), F16.value(c));
        let near = x.mul_add(y, z);
        if !near.is_finite() || near == 0.0 {
            return near;
        }
        let units = |value: f64| (value * 2f64.powi(24)) as i128;
        sticky(units(x) * units(y) + units(z) * (1 << 24), -48)
    };
    one_and_two("fma.rn", "f16", "%a, %b, %c", |a, b, c| {
        F16.nearest(f16(a, b, c))
    });
    one_and_two("fma.rn.relu", "f16", "%a, %b, %c", |a, b, c| {
        let sum = f16(a, b, c);
        F16.nearest(if sum <= 0.0 { 0.0 } else { sum })
    });
    // Exponents of everyday size, so that 128 bits hold the exact sum.
    let tame = "and.b16 %a, %a, 0x8fff; add.u16 %a, %a, 0x3800; and.b16 %b, %b, 0x8fff; add.u16 %b, %b, 0x3800;
                and.b16 %c, %c, 0x8fff; add.u16 %c, %c, 0x3800;";
    for (relu, clamp) in [("", false), (".relu", true)] {
        compare(
            &format!("{tame} fma.rn{relu}.bf16 %o, %a, %b, %c;"),
            (2, 2),
            |a, b, c| {
                let [x, y, z] = [a, b, c].map(|bits| BF16.value((bits & 0x8fff) + 0x3800));
                let units = |value: f64| (value * 2f64.powi(22)) as i128;
                let sum = units(x) * units(y) + units(z) * (1 << 22);
                BF16.nearest(if sum <= 0 && (clamp || sum == 0) {
                    0.0
                } else {
                    sticky(sum, -44)
                })
            },
        );
    }
}

#[test]
fn least_and_greatest() {
    for (ty, format) in formats() {
        for (greatest, nan, xorsign, ftz) in
            (0..16).map(|i| (i & 1 != 0, i & 2 != 0, i & 4 != 0, i & 8 != 0))
        {
            if ftz && ty == "bf16" {
                continue;
            }
            let word = |set: bool, text: &'static str| if set { text } else { "" };
            let opcode = format!(
                "{}{}{}{}",
                if greatest { "max" } else { "min" },
                word(ftz, ".ftz"),
                word(nan, ".NaN"),
                word(xorsign, ".xorsign.abs")
            );
            one_and_two(&opcode, ty, "%a, %b", |a, b, _| {
                let flush = |bits: u64| {
                    if ftz && bits & 0x7c00 == 0 {
                        bits & 0x8000
                    } else {
                        bits
                    }
                };
                let (a, b) = (flush(a), flush(b));
                let sign = (a ^ b) & 0x8000;
                let (x, y) = if xorsign {
                    (a & 0x7fff, b & 0x7fff)
                } else {
                    (a, b)
                };
                let (f, g) = (format.value(x), format.value(y));
                let chosen = match (f.is_nan(), g.is_nan()) {
                    (true, true) => return 0x7fff,
                    (true, false) | (false, true) if nan => return 0x7fff,
                    (true, false) => y,
                    (false, true) => x,
                    // Zeros are told apart by their signs, which order them as integers.
                    _ => {
                        let key = |bits: u64| {
                            if bits & 0x8000 != 0 {
                                -((bits & 0x7fff) as i64) - 1
                            } else {
                                bits as i64
                            }
                        };
                        if (key(x) < key(y)) != greatest { x } else { y }
                    }
                };
                if xorsign { chosen | sign } else { chosen }
            });
        }
    }
}

fn holds(name: &str, a: f64, b: f64) -> bool {
    let unordered = a.is_nan() || b.is_nan();
    match name {
        "eq" => a == b,
        "ne" => !unordered && a != b,
        "lt" => a < b,
        "le" => a <= b,
        "gt" => a > b,
        "ge" => a >= b,
        "equ" => unordered || a == b,
        "neu" => unordered || a != b,
        "ltu" => unordered || a < b,
        "leu" => unordered || a <= b,
        "gtu" => unordered || a > b,
        "geu" => unordered || a >= b,
        "num" => !unordered,
        _ => unordered,
    }
}

#[test]
fn comparisons() {
    for name in ["eq", "ne", "lt", "geu", "nan"] {
        for (ty, format) in formats() {
            let one = if ty == "f16" { 0x3c00 } else { 0x3f80 };
            let test = |a: u64, b: u64| holds(name, format.value(a), format.value(b));
            compare(
                &format!("setp.{name}.{ty} %p, %a, %b; selp.b16 %o, 7, 9, %p;"),
                (2, 2),
                |a, b, _| if test(a, b) { 7 } else { 9 },
            );
            compare(
                &format!("set.{name}.{ty}.{ty} %o, %a, %b;"),
                (2, 2),
                |a, b, _| {
                    if test(a, b) { one } else { 0 }
                },
            );
            compare(
                &format!("set.{name}.u16.{ty} %o, %a, %b;"),
                (2, 2),
                |a, b, _| {
                    if test(a, b) { 0xffff } else { 0 }
                },
            );
            compare(
                &format!("set.{name}.s32.{ty} %o, %a, %b;"),
                (2, 4),
                |a, b, _| {
                    if test(a, b) { 0xffff_ffff } else { 0 }
                },
            );
            compare(
                &format!("set.{name}.{ty}x2.{ty}x2 %o, %a, %b;"),
                (4, 4),
                both(|a, b, _| if test(a, b) { one } else { 0 }),
            );
            compare(
                &format!(
                    "setp.{name}.{ty}x2 %p|%p1, %a, %b; selp.u32 %r0, 1, 0, %p; selp.u32 %r1, 2, 0, %p1; add.u32 %o, %r0, %r1;"
                ),
                (4, 4),
                |a, b, _| {
                    u64::from(test(a & 0xffff, b & 0xffff)) + 2 * u64::from(test(a >> 16, b >> 16))
                },
            );
        }
    }
    // One of the results is also what both are combined with.
    compare(
        "setp.lt.u32 %p, %a, %c; setp.lt.and.f16x2 %p|%p1, %a, %b, %p; selp.u32 %r0, 1, 0, %p; selp.u32 %r1, 2, 0, %p1; add.u32 %o, %r0, %r1;",
        (4, 4),
        |a, b, c| {
            let low = F16.value(a & 0xffff) < F16.value(b & 0xffff);
            let high = F16.value(a >> 16) < F16.value(b >> 16);
            u64::from(low && a < c) + 2 * u64::from(high && a < c)
        },
    );
    let flush = |bits: u64| {
        if bits & 0x7c00 == 0 {
            bits & 0x8000
        } else {
            bits
        }
    };
    compare("set.gt.ftz.f16.f16 %o, %a, %b;", (2, 2), |a, b, _| {
        if F16.value(flush(a)) > F16.value(flush(b)) {
            0x3c00
        } else {
            0
        }
    });
    compare(
        "set.eq.ftz.f16x2.f16x2 %o, %a, %b;",
        (4, 4),
        both(|a, b, _| {
            if F16.value(flush(a)) == F16.value(flush(b)) {
                0x3c00
            } else {
                0
            }
        }),
    );
    compare(
        "setp.gt.u32 %q, %b, %a; set.ge.or.f16.f32 %o, %a, %b, !%q;",
        (4, 2),
        |a, b, _| {
            let single = |bits: u64| f64::from(f32::from_bits(bits as u32));
            if holds("ge", single(a), single(b)) || b <= a {
                0x3c00
            } else {
                0
            }
        },
    );
}

#[test]
fn conversions_that_clamp() {
    let single = |bits: u64| f64::from(f32::from_bits(bits as u32));
    let relu = |value: f64| if value <= 0.0 { 0.0 } else { value };
    for (ty, format) in formats() {
        compare(
            &format!("cvt.rn.satfinite.{ty}.f32 %o, %a;"),
            (4, 2),
            |a, _, _| format.nearest_finite(single(a)),
        );
        compare(
            &format!("cvt.rn.relu.{ty}.f32 %o, %a;"),
            (4, 2),
            |a, _, _| format.nearest(relu(single(a))),
        );
        compare(&format!("cvt.rz.{ty}.f32 %o, %a;"), (4, 2), |a, _, _| {
            format.truncated(single(a))
        });
        compare(
            &format!("cvt.rn.relu.satfinite.{ty}x2.f32 %o, %a, %b;"),
            (4, 4),
            |a, b, _| {
                format.nearest_finite(relu(single(b)))
                    | format.nearest_finite(relu(single(a))) << 16
            },
        );
        compare(
            &format!("cvt.rz.{ty}x2.f32 %o, %a, %b;"),
            (4, 4),
            |a, b, _| format.truncated(single(b)) | format.truncated(single(a)) << 16,
        );
        compare(&format!("cvt.rn.{ty}.u64 %o, %a;"), (8, 2), |a, _, _| {
            format.nearest(sticky(i128::from(a), 0))
        });
    }
    compare("cvt.rn.bf16.f16 %o, %a;", (2, 2), |a, _, _| {
        BF16.nearest(F16.value(a))
    });
    compare("cvt.rn.f16.bf16 %o, %a;", (2, 2), |a, _, _| {
        F16.nearest(BF16.value(a))
    });
    compare("cvt.rzi.s64.f16 %o, %a;", (2, 8), |a, _, _| {
        let value = F16.value(a);
        if value.is_nan() {
            1 << 63
        } else {
            value as i64 as u64
        }
    });
}

#[test]
fn approximations() {
    // Bounds of the document: 2^-9.9 of the value for ex2.f16, 2^-7 for bf16, 2^-10.987 and 2^-8 absolute for tanh.
    for (ty, format, exp, tanh) in [
        ("f16", &F16, 2f64.powf(-9.9), 2f64.powf(-10.987)),
        ("bf16", &BF16, 2f64.powi(-7), 2f64.powi(-8)),
    ] {
        let ftz = if ty == "bf16" { ".ftz" } else { "" };
        let close = |got: f64, wanted: f64, bound: f64| {
            got == wanted || got.is_nan() && wanted.is_nan() || (got - wanted).abs() <= bound
        };
        every_half(&format!("ex2.approx{ftz}.{ty}"), |bits, got| {
            let wanted = format.value(bits).exp2();
            let limit = format.value(format.largest);
            // Beyond the format's range there is nothing to be close to.
            wanted > limit && got == format.largest + 1
                || close(
                    format.value(got),
                    wanted,
                    wanted * exp
                        + format
                            .value(1)
                            .max(if ftz.is_empty() { 0.0 } else { 2f64.powi(-126) }),
                )
        });
        every_half(&format!("tanh.approx.{ty}"), |bits, got| {
            close(format.value(got), format.value(bits).tanh(), tanh)
        });
    }
}

/// An instruction on each value of 16 bits.
fn every_half(opcode: &str, good: impl Fn(u64, u64) -> bool) {
    let ptx = format!(
        "{}.visible .entry k(.param .u64 po) {{ .reg .b64 %o, %w; .reg .b32 %i, %n, %t; .reg .b16 %h, %g;
ld.param.u64 %o, [po]; mov.u32 %i, %ctaid.x; mov.u32 %n, %ntid.x; mov.u32 %t, %tid.x; mad.lo.u32 %i, %i, %n, %t;
cvt.u16.u32 %h, %i; {opcode} %g, %h; mul.wide.u32 %w, %i, 2; add.u64 %o, %o, %w; st.global.b16 [%o], %g; ret; }}",
        crate::common::HEAD
    );
    let mut machine = crate::common::Machine::new(&ptx);
    let out = machine.buffer(&vec![0u16; 1 << 16]);
    machine.launch("k", 256, 256, &[out]);
    for (bits, got) in machine.read::<u16>(out, 1 << 16).into_iter().enumerate() {
        assert!(
            good(bits as u64, got.into()),
            "{opcode} of {bits:#x}: {got:#x}"
        );
    }
}
