//! Instructions that few programs have: masks and fields, pairs of 16 bits, products of 24 bits, selections.

use crate::common::compare;

fn b32(body: &str, f: impl Fn(u32, u32, u32) -> u32) {
    compare(body, (4, 4), |a, b, c| {
        u64::from(f(a as u32, b as u32, c as u32))
    });
}

/// Bit by bit, as the document describes it.
fn field(a: u32, width: u32, signed: bool) -> u32 {
    (0..32).fold(0, |all, at| {
        let bit = if at < width {
            a >> at & 1
        } else if signed && width > 0 {
            a >> (width - 1) & 1
        } else {
            0
        };
        all | bit << at
    })
}

#[test]
fn fields_and_masks() {
    for signed in [false, true] {
        let ty = if signed { "s32" } else { "u32" };
        b32(&format!("szext.clamp.{ty} %o, %a, %b;"), |a, b, _| {
            field(a, b.min(32), signed)
        });
        b32(
            &format!("and.b32 %b, %b, 63; szext.clamp.{ty} %o, %a, %b;"),
            |a, b, _| field(a, (b & 63).min(32), signed),
        );
        b32(&format!("szext.wrap.{ty} %o, %a, %b;"), |a, b, _| {
            field(a, b % 32, signed)
        });
    }
    let mask = |from: u64, count: u64| {
        (0..32)
            .filter(|&at| at >= from && at < from + count)
            .fold(0, |all, at| all | 1u32 << at)
    };
    b32("bmsk.clamp.b32 %o, %a, %b;", |a, b, _| {
        mask(a.into(), b.min(32).into())
    });
    b32(
        "and.b32 %a, %a, 63; and.b32 %b, %b, 63; bmsk.clamp.b32 %o, %a, %b;",
        |a, b, _| mask((a & 63).into(), (b & 63).min(32).into()),
    );
    b32("bmsk.wrap.b32 %o, %a, %b;", |a, b, _| {
        mask((a % 32).into(), (b % 32).into())
    });
}

#[test]
fn the_nth_bit() {
    b32(
        "and.b32 %b, %b, 31; and.b32 %c, %c, 15; sub.s32 %c, %c, 8; fns.b32 %o, %a, %b, %c;",
        |mask, base, offset| {
            let (base, offset) = (base & 31, (offset & 15) as i32 - 8);
            let bits: Vec<u32> = (0..32).filter(|at| mask >> at & 1 != 0).collect();
            let found = match offset {
                0 => bits.iter().find(|&&at| at == base),
                1.. => bits
                    .iter()
                    .filter(|&&at| at >= base)
                    .nth(offset as usize - 1),
                _ => bits
                    .iter()
                    .rev()
                    .filter(|&&at| at <= base)
                    .nth(-offset as usize - 1),
            };
            found.copied().unwrap_or(u32::MAX)
        },
    );
}

#[test]
fn pairs_of_sixteen_bits() {
    let both = |a: u32, b: u32, f: &dyn Fn(u16, u16) -> u16| {
        u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
    };
    for ty in ["u16x2", "s16x2"] {
        b32(&format!("add.{ty} %o, %a, %b;"), |a, b, _| {
            both(a, b, &|a, b| a.wrapping_add(b))
        });
    }
    b32("min.u16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| a.min(b))
    });
    b32("max.u16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| a.max(b))
    });
    b32("min.s16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| (a as i16).min(b as i16) as u16)
    });
    b32("max.s16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| (a as i16).max(b as i16) as u16)
    });
    b32("min.relu.s16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| (a as i16).min(b as i16).max(0) as u16)
    });
    b32("max.relu.s16x2 %o, %a, %b;", |a, b, _| {
        both(a, b, &|a, b| (a as i16).max(b as i16).max(0) as u16)
    });
    b32("min.relu.s32 %o, %a, %b;", |a, b, _| {
        (a as i32).min(b as i32).max(0) as u32
    });
    b32("max.relu.s32 %o, %a, %b;", |a, b, _| {
        (a as i32).max(b as i32).max(0) as u32
    });
}

#[test]
fn products_of_24_bits() {
    let signed = |x: u32| i128::from((x << 8) as i32 / 256);
    let unsigned = |x: u32| i128::from(x % (1 << 24));
    let high = |product: i128| product.div_euclid(1 << 16);
    b32("mul24.hi.u32 %o, %a, %b;", |a, b, _| {
        high(unsigned(a) * unsigned(b)) as u32
    });
    b32("mul24.hi.s32 %o, %a, %b;", |a, b, _| {
        high(signed(a) * signed(b)) as u32
    });
    b32("mul24.lo.s32 %o, %a, %b;", |a, b, _| {
        (signed(a) * signed(b)) as u32
    });
    b32("mad24.hi.u32 %o, %a, %b, %c;", |a, b, c| {
        (high(unsigned(a) * unsigned(b)) + i128::from(c)) as u32
    });
    b32("mad24.hi.s32 %o, %a, %b, %c;", |a, b, c| {
        (high(signed(a) * signed(b)) + i128::from(c as i32)) as u32
    });
    b32("mad24.hi.sat.s32 %o, %a, %b, %c;", |a, b, c| {
        // The product's 32 bits, then a sum that stays in range.
        let product = i128::from(high(signed(a) * signed(b)) as i32);
        (product + i128::from(c as i32)).clamp(i32::MIN.into(), i32::MAX.into()) as u32
    });
    for (name, signed) in [("u16", false), ("s16", true)] {
        compare(
            &format!("mad.hi.{name} %o, %a, %b, %c;"),
            (2, 2),
            |a, b, c| {
                let wide = |x: u64| {
                    if signed {
                        i128::from(x as u16 as i16)
                    } else {
                        i128::from(x as u16)
                    }
                };
                ((wide(a) * wide(b)).div_euclid(1 << 16) + wide(c)) as u64
            },
        );
    }
}

#[test]
fn logic_with_predicates() {
    for (name, joins) in [("and", true), ("or", false)] {
        b32(
            &format!(
                "setp.gt.s32 %q, %a, %b; lop3.{name}.b32 %r0|%p, %a, %b, %c, 0x80, !%q; selp.u32 %r1, 1, 0, %p; xor.b32 %o, %r0, %r1;"
            ),
            |a, b, c| {
                let (value, other) = (a & b & c, a as i32 <= b as i32);
                let p = if joins {
                    value != 0 && other
                } else {
                    value != 0 || other
                };
                value ^ u32::from(p)
            },
        );
    }
    b32(
        "lop3.or.b32 _|%p, %a, %b, %c, 0xfe, 0; selp.u32 %o, 5, 6, %p;",
        |a, b, c| {
            if a | b | c != 0 { 5 } else { 6 }
        },
    );
}

#[test]
fn selections_by_sign() {
    b32("slct.b32.f32 %o, %a, %b, %c;", |a, b, c| {
        if f32::from_bits(c) >= 0.0 { a } else { b }
    });
    // A negative number that is flushed is zero.
    b32(
        "and.b32 %c, %c, 0x80ffffff; slct.ftz.b32.f32 %o, %a, %b, %c;",
        |a, b, c| {
            let c = f32::from_bits(c & 0x80ff_ffff);
            if c >= 0.0 || c.is_subnormal() { a } else { b }
        },
    );
}

#[test]
fn floats_to_integers_without_a_value() {
    let nan = "mov.b32 %r3, 0x7fc00001; mov.b64 %d3, 0x7ff8000000000001;";
    for (body, size, wanted) in [
        ("cvt.rzi.s32.f32 %o, %r3;", 4, 0),
        ("cvt.rzi.u32.f32 %o, %r3;", 4, 0),
        ("cvt.rzi.s64.f32 %o, %r3;", 8, 1 << 63),
        ("cvt.rzi.u64.f32 %o, %r3;", 8, 1 << 63),
        ("cvt.rzi.s32.f64 %o, %d3;", 4, 1 << 31),
        ("cvt.rzi.u32.f64 %o, %d3;", 4, 1 << 31),
        ("cvt.rzi.s64.f64 %o, %d3;", 8, 1 << 63),
        ("cvt.rzi.u16.f64 %o, %d3;", 2, 1 << 15),
    ] {
        compare(&format!("{nan} {body}"), (size, size), |_, _, _| wanted);
    }
}

#[test]
fn least_and_greatest_singles() {
    for i in 0..16 {
        let (greatest, nan, xorsign, ftz) = (i & 1 != 0, i & 2 != 0, i & 4 != 0, i & 8 != 0);
        let word = |set: bool, text: &'static str| if set { text } else { "" };
        let body = format!(
            "{}{}{}{}.f32 %o, %a, %b;",
            if greatest { "max" } else { "min" },
            word(ftz, ".ftz"),
            word(nan, ".NaN"),
            word(xorsign, ".xorsign.abs")
        );
        b32(&body, |a, b, _| {
            let flush = |bits: u32| {
                if ftz && f32::from_bits(bits).is_subnormal() {
                    bits & 1 << 31
                } else {
                    bits
                }
            };
            let (a, b) = (flush(a), flush(b));
            let sign = (a ^ b) & 1 << 31;
            let cut = |bits: u32| if xorsign { bits & !(1 << 31) } else { bits };
            let (x, y) = (cut(a), cut(b));
            let lost = |bits: u32| f32::from_bits(bits).is_nan();
            let chosen = match (lost(x), lost(y)) {
                (true, true) => return 0x7fff_ffff,
                (true, false) | (false, true) if nan => return 0x7fff_ffff,
                (true, false) => y,
                (false, true) => x,
                _ => {
                    let order = f32::from_bits(x).total_cmp(&f32::from_bits(y));
                    if order.is_lt() != greatest { x } else { y }
                }
            };
            if xorsign { chosen | sign } else { chosen }
        });
    }
}
