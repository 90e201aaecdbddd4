//! Integer and bit instructions against the host's arithmetic.

use crate::common::compare;

fn b32(body: &str, f: impl Fn(u32, u32, u32) -> u32) {
    compare(body, (4, 4), |a, b, c| {
        u64::from(f(a as u32, b as u32, c as u32))
    });
}

fn b64(body: &str, f: impl Fn(u64, u64, u64) -> u64) {
    compare(body, (8, 8), f);
}

fn b16(body: &str, f: impl Fn(u16, u16, u16) -> u16) {
    compare(body, (2, 2), |a, b, c| {
        u64::from(f(a as u16, b as u16, c as u16))
    });
}

#[test]
fn sums_and_products() {
    b32("add.s32 %o, %a, %b;", |a, b, _| a.wrapping_add(b));
    b32("sub.u32 %o, %a, %b;", |a, b, _| a.wrapping_sub(b));
    b32(
        "mov.b32 %o, %a; add.u32 %o, %o, %b; add.u32 %o, %c, %o; add.u32 %o, %o, %o;",
        |a, b, c| a.wrapping_add(b).wrapping_add(c).wrapping_mul(2),
    );
    b32("add.sat.s32 %o, %a, %b;", |a, b, _| {
        (a as i32).saturating_add(b as i32) as u32
    });
    b32("sub.sat.s32 %o, %a, %b;", |a, b, _| {
        (a as i32).saturating_sub(b as i32) as u32
    });
    b32("mul.lo.s32 %o, %a, %b;", |a, b, _| a.wrapping_mul(b));
    b32("mul.hi.s32 %o, %a, %b;", |a, b, _| {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    });
    b32("mul.hi.u32 %o, %a, %b;", |a, b, _| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    b32("mad.lo.s32 %o, %a, %b, %c;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    b32("mad.hi.u32 %o, %a, %b, %c;", |a, b, c| {
        (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
    });
    compare("mul.wide.s32 %o, %a, %b;", (4, 8), |a, b, _| {
        (i64::from(a as i32) * i64::from(b as i32)) as u64
    });
    compare(
        "mul.wide.u32 %d0, %a, %b; mad.wide.u32 %o, %b, %c, %d0;",
        (4, 8),
        |a, b, c| (a * b).wrapping_add(b * c),
    );
    b64("add.s64 %o, %a, %b;", |a, b, _| a.wrapping_add(b));
    b64("mul.lo.u64 %o, %a, %b;", |a, b, _| a.wrapping_mul(b));
    b64("mad.lo.s64 %o, %a, 4, %c;", |a, _, c| {
        a.wrapping_mul(4).wrapping_add(c)
    });
    b64("mul.hi.u64 %o, %a, %b;", |a, b, _| {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    });
    b64("mul.hi.s64 %o, %a, %b;", |a, b, _| {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    });
    b16("add.s16 %o, %a, %b;", |a, b, _| a.wrapping_add(b));
    b16("mul.lo.u16 %o, %a, %b;", |a, b, _| a.wrapping_mul(b));
    b32("sad.s32 %o, %a, %b, %c;", |a, b, c| {
        (a as i32).abs_diff(b as i32).wrapping_add(c)
    });
    b32("mul24.lo.u32 %o, %a, %b;", |a, b, _| {
        (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)
    });
}

#[test]
fn quotients() {
    b32("or.b32 %r0, %b, 1; div.u32 %o, %a, %r0;", |a, b, _| {
        a / (b | 1)
    });
    b32("or.b32 %r0, %b, 1; div.s32 %o, %a, %r0;", |a, b, _| {
        (a as i32).wrapping_div((b | 1) as i32) as u32
    });
    b32("or.b32 %r0, %b, 1; rem.s32 %o, %a, %r0;", |a, b, _| {
        (a as i32).wrapping_rem((b | 1) as i32) as u32
    });
    b32("or.b32 %r0, %b, 1; rem.u32 %o, %a, %r0;", |a, b, _| {
        a % (b | 1)
    });
    b64("or.b64 %d0, %b, 1; div.s64 %o, %a, %d0;", |a, b, _| {
        (a as i64).wrapping_div((b | 1) as i64) as u64
    });
    b64("or.b64 %d0, %b, 1; rem.u64 %o, %a, %d0;", |a, b, _| {
        a % (b | 1)
    });
    b16("or.b16 %h0, %b, 1; div.s16 %o, %a, %h0;", |a, b, _| {
        (a as i16).wrapping_div((b | 1) as i16) as u16
    });
}

#[test]
fn order_and_sign() {
    b32("min.s32 %o, %a, %b;", |a, b, _| {
        (a as i32).min(b as i32) as u32
    });
    b32("max.u32 %o, %a, %b;", |a, b, _| a.max(b));
    b64("max.s64 %o, %a, %b;", |a, b, _| {
        (a as i64).max(b as i64) as u64
    });
    b16("min.u16 %o, %a, %b;", |a, b, _| a.min(b));
    b32("neg.s32 %o, %a;", |a, _, _| a.wrapping_neg());
    b32("abs.s32 %o, %a;", |a, _, _| {
        (a as i32).wrapping_abs() as u32
    });
    b32("cnot.b32 %o, %a;", |a, _, _| u32::from(a == 0));
}

#[test]
fn logic_and_shifts() {
    b32("and.b32 %o, %a, %b;", |a, b, _| a & b);
    b32("or.b32 %o, %a, %b;", |a, b, _| a | b);
    b32("xor.b32 %o, %a, %b;", |a, b, _| a ^ b);
    b32("not.b32 %o, %a;", |a, _, _| !a);
    b32("shl.b32 %o, %a, %b;", |a, b, _| {
        a.checked_shl(b).unwrap_or(0)
    });
    b32("shr.u32 %o, %a, %b;", |a, b, _| {
        a.checked_shr(b).unwrap_or(0)
    });
    b32("shr.s32 %o, %a, %b;", |a, b, _| {
        ((a as i32) >> b.min(31)) as u32
    });
    b64("cvt.u32.u64 %r0, %b; shl.b64 %o, %a, %r0;", |a, b, _| {
        a.checked_shl(b as u32).unwrap_or(0)
    });
    b64("cvt.u32.u64 %r0, %b; shr.s64 %o, %a, %r0;", |a, b, _| {
        ((a as i64) >> (b as u32).min(63)) as u64
    });
    b32("shf.l.wrap.b32 %o, %a, %b, %c;", |a, b, c| {
        ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32
    });
    b32("shf.r.clamp.b32 %o, %a, %b, %c;", |a, b, c| {
        ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32
    });
    b32("lop3.b32 %o, %a, %b, %c, 0x96;", |a, b, c| a ^ b ^ c);
    b32("lop3.b32 %o, %a, %b, %c, 0xe8;", |a, b, c| {
        a & b | b & c | a & c
    });
    b32("lop3.b32 %o, %a, %b, %c, 0x2a;", |a, b, c| !(a & b) & c);
    b32("prmt.b32 %o, %a, %b, 0x7250;", |a, b, _| {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[5], bytes[2], bytes[7]])
    });
    b32("prmt.b32 %o, %a, %b, 0x9ba8;", |a, _, _| {
        let sign = |at: u32| if a >> (8 * at + 7) & 1 != 0 { 255 } else { 0 };
        u32::from_le_bytes([sign(0), sign(2), sign(3), sign(1)])
    });
}

#[test]
fn bit_fields() {
    b32("bfe.u32 %o, %a, %b, %c;", |a, b, c| {
        let (position, length) = (b & 255, c & 255);
        let shifted = u64::from(a).checked_shr(position).unwrap_or(0);
        (shifted & ((1u128 << length.min(64)) - 1) as u64) as u32
    });
    b32("and.b32 %r0, %b, 31; bfe.s32 %o, %a, %r0, 7;", |a, b, _| {
        let position = b & 31;
        // Beyond bit 31 the sign goes on.
        ((i64::from(a as i32) >> position) << 57 >> 57) as u32
    });
    b32(
        "and.b32 %r0, %c, 15; bfi.b32 %o, %a, %b, %r0, 9;",
        |a, b, c| {
            let field = 511 << (c & 15);
            b & !field | a << (c & 15) & field
        },
    );
    b32("popc.b32 %o, %a;", |a, _, _| a.count_ones());
    b32("clz.b32 %o, %a;", |a, _, _| a.leading_zeros());
    b32("brev.b32 %o, %a;", |a, _, _| a.reverse_bits());
    b32("bfind.u32 %o, %a;", |a, _, _| {
        if a == 0 {
            u32::MAX
        } else {
            31 - a.leading_zeros()
        }
    });
    b32("bfind.s32 %o, %a;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 {
            u32::MAX
        } else {
            31 - a.leading_zeros()
        }
    });
    compare("popc.b64 %o, %a;", (8, 4), |a, _, _| {
        u64::from(a.count_ones())
    });
    compare("clz.b64 %o, %a;", (8, 4), |a, _, _| {
        u64::from(a.leading_zeros())
    });
    b32("dp4a.s32.u32 %o, %a, %b, %c;", |a, b, c| {
        let products = a
            .to_le_bytes()
            .into_iter()
            .zip(b.to_le_bytes())
            .map(|(a, b)| i32::from(a as i8) * i32::from(b));
        products.fold(c, |sum, product| sum.wrapping_add(product as u32))
    });
    b32("dp2a.lo.u32.u32 %o, %a, %b, %c;", |a, b, c| {
        c.wrapping_add((a & 0xffff) * (b & 255))
            .wrapping_add((a >> 16) * (b >> 8 & 255))
    });
}

#[test]
fn carries() {
    b32("add.cc.u32 %r0, %a, %b; addc.u32 %o, %c, 0;", |a, b, c| {
        c.wrapping_add(u32::from(a.overflowing_add(b).1))
    });
    b32("sub.cc.u32 %r0, %a, %b; subc.u32 %o, %c, 5;", |a, b, c| {
        c.wrapping_sub(5).wrapping_sub(u32::from(a < b))
    });
    // 96-bit sums.
    b32(
        "add.cc.u32 %r0, %a, %b; addc.cc.u32 %r1, %b, %c; addc.u32 %o, %a, %c;",
        |a, b, c| {
            let first = u64::from(a) + u64::from(b);
            let second = u64::from(b) + u64::from(c) + (first >> 32);
            (u64::from(a) + u64::from(c) + (second >> 32)) as u32
        },
    );
    b32(
        "mad.lo.cc.u32 %r0, %a, %b, %c; madc.hi.u32 %o, %a, %b, 0;",
        |a, b, c| ((u64::from(a) * u64::from(b) + u64::from(c)) >> 32) as u32,
    );
}

#[test]
fn comparisons_and_selections() {
    for (name, signed) in [
        ("lt", true),
        ("le", true),
        ("gt", true),
        ("ge", true),
        ("eq", true),
        ("ne", true),
        ("lt", false),
        ("ge", false),
    ] {
        let ty = if signed { "s32" } else { "u32" };
        b32(
            &format!("setp.{name}.{ty} %p, %a, %b; selp.b32 %o, %a, %c, %p;"),
            |a, b, c| {
                let (x, y) = if signed {
                    (i64::from(a as i32), i64::from(b as i32))
                } else {
                    (i64::from(a), i64::from(b))
                };
                let yes = match name {
                    "lt" => x < y,
                    "le" => x <= y,
                    "gt" => x > y,
                    "ge" => x >= y,
                    "eq" => x == y,
                    _ => x != y,
                };
                if yes { a } else { c }
            },
        );
    }
    b32(
        "setp.lo.u32 %p|%p1, %a, %b; selp.u32 %r0, 1, 0, %p; selp.u32 %r1, 2, 0, %p1; or.b32 %o, %r0, %r1;",
        |a, b, _| {
            if a < b { 1 } else { 2 }
        },
    );
    b32(
        "setp.lt.u32 %p, %a, %c; setp.gt.and.u32 %p1|%p, %a, %b, !%p; selp.u32 %r0, 1, 0, %p1; selp.u32 %r1, 2, 0, %p; add.u32 %o, %r0, %r1;",
        |a, b, c| {
            let with = a >= c;
            u32::from(a > b && with) + 2 * u32::from(a <= b && with)
        },
    );
    b32(
        "setp.lt.s32 %p, %a, 0; setp.lt.s32 %p1, %b, 0; xor.pred %p, %p, %p1; not.pred %p, %p; selp.b32 %o, %a, %b, %p;",
        |a, b, _| {
            if (a ^ b) as i32 >= 0 { a } else { b }
        },
    );
    b32("set.lt.u32.s32 %o, %a, %b;", |a, b, _| {
        if (a as i32) < (b as i32) { u32::MAX } else { 0 }
    });
    b32("set.ge.f32.u32 %o, %a, %b;", |a, b, _| {
        if a >= b { 1f32.to_bits() } else { 0 }
    });
    b32("slct.b32.s32 %o, %a, %b, %c;", |a, b, c| {
        if c as i32 >= 0 { a } else { b }
    });
    b32(
        "setp.gt.u32 %p, %a, %b; @%p mov.b32 %o, %a; @!%p mov.b32 %o, %b;",
        |a, b, _| a.max(b),
    );
    b64(
        "setp.lt.s64 %p, %a, %b; selp.b64 %o, %b, %a, %p;",
        |a, b, _| (a as i64).max(b as i64) as u64,
    );
    b16(
        "setp.lt.u16 %p, %a, %b; selp.b16 %o, %b, %a, %p;",
        |a, b, _| a.max(b),
    );
}

#[test]
fn conversions() {
    compare("cvt.s64.s32 %o, %a;", (4, 8), |a, _, _| {
        a as u32 as i32 as i64 as u64
    });
    compare("cvt.u64.u32 %o, %a;", (4, 8), |a, _, _| a);
    compare("cvt.u32.u64 %o, %a;", (8, 4), |a, _, _| a & 0xffff_ffff);
    b32("cvt.s32.s8 %o, %a;", |a, _, _| a as i8 as i32 as u32);
    b32("cvt.u32.u8 %o, %a;", |a, _, _| a & 255);
    b32("cvt.s8.s32 %r0, %a; mov.b32 %o, %r0;", |a, _, _| {
        a as i8 as i32 as u32
    });
    compare("cvt.u16.u32 %o, %a;", (4, 2), |a, _, _| a & 0xffff);
    compare("cvt.u8.u16 %o, %a;", (2, 2), |a, _, _| a & 255);
    compare("cvt.s16.s8 %o, %a;", (2, 2), |a, _, _| {
        a as i8 as i16 as u64
    });
    b32("cvt.sat.s8.s32 %o, %a;", |a, _, _| {
        (a as i32).clamp(-128, 127) as u32
    });
    b32("cvt.sat.u16.s32 %r0, %a; mov.b32 %o, %r0;", |a, _, _| {
        (a as i32).clamp(0, 65535) as u32
    });
    compare("cvt.sat.s32.s64 %o, %a;", (8, 4), |a, _, _| {
        (a as i64).clamp(i32::MIN.into(), i32::MAX.into()) as u64
    });
    compare(
        "mov.b64 {%r0, %r1}, %a; mov.b64 %o, {%r1, %r0};",
        (8, 8),
        |a, _, _| a.rotate_left(32),
    );
    b32(
        "mov.b32 {%h0, %h1}, %a; mov.b32 %o, {%h1, %h0};",
        |a, _, _| a.rotate_left(16),
    );
    compare(
        "mov.b64 {%h0, %h1, %h2, %h3}, %a; mov.b64 %o, {%h3, %h2, %h1, %h0};",
        (8, 8),
        |a, _, _| (0..4).fold(0, |all, i| all << 16 | a >> (16 * i) & 0xffff),
    );
}
