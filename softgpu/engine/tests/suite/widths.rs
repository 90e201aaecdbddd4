//! Integer instructions in all widths and signs, against 128-bit integers.

use crate::common::compare;

#[derive(Clone, Copy)]
struct Int {
    name: &'static str,
    bits: u32,
    signed: bool,
}

const ALL: [Int; 6] = [
    Int {
        name: "u16",
        bits: 16,
        signed: false,
    },
    Int {
        name: "s16",
        bits: 16,
        signed: true,
    },
    Int {
        name: "u32",
        bits: 32,
        signed: false,
    },
    Int {
        name: "s32",
        bits: 32,
        signed: true,
    },
    Int {
        name: "u64",
        bits: 64,
        signed: false,
    },
    Int {
        name: "s64",
        bits: 64,
        signed: true,
    },
];

impl Int {
    fn value(self, bits: u64) -> i128 {
        let up = 64 - self.bits;
        if self.signed {
            i128::from((bits << up) as i64 >> up)
        } else {
            i128::from(bits << up >> up)
        }
    }

    /// All operands of this type, and the result.
    fn check(self, opcode: &str, operands: &str, f: impl Fn(i128, i128, i128) -> i128) {
        let size = self.bits / 8;
        compare(
            &format!("{opcode}.{} %o, {operands};", self.name),
            (size, size),
            |a, b, c| f(self.value(a), self.value(b), self.value(c)) as u64,
        );
    }

    /// A result of twice the width, and a third operand of it, too.
    fn check_wide(self, f: impl Fn(i128, i128) -> i128) {
        let (size, bits) = (self.bits / 8, 2 * self.bits);
        compare(
            &format!("mul.wide.{} %o, %a, %b;", self.name),
            (size, 2 * size),
            |a, b, _| f(self.value(a), self.value(b)) as u64,
        );
        let wide = format!(
            ".reg .b{bits} %x; cvt.u{bits}.u{} %x, %c; mad.wide.{} %o, %a, %b, %x;",
            self.bits, self.name
        );
        compare(&wide, (size, 2 * size), |a, b, c| {
            (f(self.value(a), self.value(b)) + i128::from(c)) as u64
        });
    }
}

#[test]
fn arithmetic() {
    for int in ALL {
        let bits = int.bits;
        let high = move |product: i128| product >> bits;
        int.check("add", "%a, %b", |a, b, _| a + b);
        int.check("sub", "%a, %b", |a, b, _| a - b);
        int.check("mul.lo", "%a, %b", |a, b, _| {
            (a as u128).wrapping_mul(b as u128) as i128
        });
        int.check("mad.lo", "%a, %b, %c", |a, b, c| {
            (a as u128).wrapping_mul(b as u128).wrapping_add(c as u128) as i128
        });
        // Products of 64 bits without a sign need all of 128.
        let upper = move |a: i128, b: i128| {
            if int.signed {
                high(a * b)
            } else {
                ((a as u128 * b as u128) >> bits) as i128
            }
        };
        int.check("mul.hi", "%a, %b", |a, b, _| upper(a, b));
        int.check("mad.hi", "%a, %b, %c", |a, b, c| upper(a, b) + c);
        int.check("min", "%a, %b", |a, b, _| a.min(b));
        int.check("max", "%a, %b", |a, b, _| a.max(b));
        int.check("sad", "%a, %b, %c", |a, b, c| (a - b).abs() + c);
        // What division by zero gives is the hardware's own affair.
        let all_ones = if int.signed { -1 } else { (1i128 << bits) - 1 };
        int.check(
            "div",
            "%a, %b",
            |a, b, _| if b == 0 { all_ones } else { a / b },
        );
        int.check("rem", "%a, %b", |a, b, _| if b == 0 { a } else { a % b });
        if int.signed {
            int.check("neg", "%a", |a, _, _| -a);
            int.check("abs", "%a", |a, _, _| a.abs());
        }
        if bits < 64 {
            int.check_wide(|a, b| a * b);
        }
        let (size, name) = (bits / 8, int.name);
        let count = if bits == 64 {
            "cvt.u32.u64 %r0, %b;"
        } else if bits == 16 {
            "cvt.u32.u16 %r0, %b;"
        } else {
            "mov.b32 %r0, %b;"
        };
        for limit in ["", "and.b32 %r0, %r0, 127;"] {
            let cut = |b: u64| {
                if limit.is_empty() {
                    b & 0xffff_ffff
                } else {
                    b & 127
                }
            };
            compare(
                &format!("{count} {limit} shr.{name} %o, %a, %r0;"),
                (size, size),
                |a, b, _| (int.value(a) >> cut(b).min(100)) as u64,
            );
            compare(
                &format!("{count} {limit} shl.b{bits} %o, %a, %r0;"),
                (size, size),
                |a, b, _| {
                    if cut(b) > 63 { 0 } else { a << cut(b) }
                },
            );
        }
    }
    let s32 = ALL[3];
    let range = |value: i128| value.clamp(i32::MIN.into(), i32::MAX.into());
    s32.check("add.sat", "%a, %b", |a, b, _| range(a + b));
    s32.check("sub.sat", "%a, %b", |a, b, _| range(a - b));
    s32.check("mad.hi.sat", "%a, %b, %c", |a, b, c| {
        range(((a * b) >> 32) + c)
    });
}

#[test]
fn carries() {
    for int in &ALL[2..] {
        let (name, size, bits) = (int.name, int.bits / 8, int.bits);
        let plain = |x: u64| i128::from(x) & ((1 << bits) - 1);
        // Two words each: %a with %b above it, and %c with %a above it.
        for (start, middle, sign) in [("add.cc", "addc.cc", 1), ("sub.cc", "subc.cc", -1)] {
            for part in 0..2 {
                let low = if part == 0 { "%o" } else { "%x" };
                let high = if part == 0 { "%x" } else { "%o" };
                compare(
                    &format!(
                        ".reg .b{bits} %x; {start}.{name} {low}, %a, %c; {middle}.{name} {high}, %b, %a;"
                    ),
                    (size, size),
                    |a, b, c| {
                        let low = plain(a) + sign * plain(c);
                        let carry = low >> bits;
                        if part == 0 {
                            low as u64
                        } else {
                            (plain(b) + sign * plain(a) + carry) as u64
                        }
                    },
                );
            }
        }
        // A product of two words and a sum with it.
        compare(
            &format!(
                ".reg .b{bits} %x; mad.lo.cc.{name} %x, %a, %b, %c; madc.hi.{name} %o, %a, %b, %c;"
            ),
            (size, size),
            |a, b, c| {
                let product = int.value(a).wrapping_mul(int.value(b));
                let low = (product & ((1 << bits) - 1)) + plain(c);
                let high = if int.signed || bits < 64 {
                    product >> bits
                } else {
                    ((u128::from(a) * u128::from(b)) >> 64) as i128
                };
                (high + plain(c) + (low >> bits)) as u64
            },
        );
    }
}

#[test]
fn fields() {
    for int in &ALL[2..] {
        let (name, size, bits) = (int.name, int.bits / 8, int.bits);
        let count = if bits == 64 { "cvt.u32.u64" } else { "mov.b32" };
        for mask in [255u64, 31] {
            // Bit by bit, as the document has it.
            compare(
                &format!(
                    "{count} %r0, %b; {count} %r1, %c; and.b32 %r0, %r0, {mask}; and.b32 %r1, %r1, {mask}; bfe.{name} %o, %a, %r0, %r1;"
                ),
                (size, size),
                |a, b, c| {
                    let (from, length) = ((b & mask) as u32, (c & mask) as u32);
                    let at = |bit: u32| a >> bit & 1;
                    let sign = if int.signed && length > 0 {
                        at((from + length - 1).min(bits - 1))
                    } else {
                        0
                    };
                    (0..bits).fold(0, |all, i| {
                        let bit = if i < length && from + i < bits {
                            at(from + i)
                        } else {
                            sign
                        };
                        all | bit << i
                    })
                },
            );
            if !int.signed {
                compare(
                    &format!(
                        ".reg .b32 %k; {count} %k, %c; and.b32 %r0, %k, {mask}; shr.u32 %r1, %k, 8; and.b32 %r1, %r1, {mask}; bfi.b{bits} %o, %a, %b, %r0, %r1;"
                    ),
                    (size, size),
                    |a, b, c| {
                        let (from, length) = ((c & mask) as u32, (c >> 8 & mask) as u32);
                        (0..bits).fold(0, |all, i| {
                            let inside = i >= from && i < from + length;
                            let bit = if inside {
                                a >> (i - from) & 1
                            } else {
                                b >> i & 1
                            };
                            all | bit << i
                        })
                    },
                );
            }
        }
        let highest = |a: u64| {
            let value = int.value(a);
            let magnitude = if value < 0 { !value } else { value };
            (0..bits as u64)
                .rev()
                .find(|&bit| magnitude >> bit & 1 != 0)
        };
        compare(&format!("bfind.{name} %o, %a;"), (size, 4), |a, _, _| {
            highest(a).unwrap_or(0xffff_ffff)
        });
        compare(
            &format!("bfind.shiftamt.{name} %o, %a;"),
            (size, 4),
            |a, _, _| highest(a).map_or(0xffff_ffff, |bit| u64::from(bits) - 1 - bit),
        );
        if !int.signed {
            let ones = |a: u64| (0..bits).filter(move |bit| a >> bit & 1 != 0);
            compare(&format!("popc.b{bits} %o, %a;"), (size, 4), |a, _, _| {
                ones(a).count() as u64
            });
            compare(&format!("clz.b{bits} %o, %a;"), (size, 4), |a, _, _| {
                ones(a)
                    .next_back()
                    .map_or(u64::from(bits), |bit| u64::from(bits - 1 - bit))
            });
            compare(&format!("brev.b{bits} %o, %a;"), (size, size), |a, _, _| {
                ones(a).fold(0, |all, bit| all | 1 << (bits - 1 - bit))
            });
        }
    }
}

#[test]
fn bytes_by_mode() {
    // The document's table, highest byte first, for each value of the selector.
    let table = [
        ("f4e", ["3210", "4321", "5432", "6543"]),
        ("b4e", ["5670", "6701", "7012", "0123"]),
        ("rc8", ["0000", "1111", "2222", "3333"]),
        ("ecl", ["3210", "3211", "3222", "3333"]),
        ("ecr", ["0000", "1110", "2210", "3210"]),
        ("rc16", ["1010", "3232", "1010", "3232"]),
    ];
    for (mode, rows) in table {
        compare(
            &format!("prmt.b32.{mode} %o, %a, %b, %c;"),
            (4, 4),
            |a, b, c| {
                let bytes = (b << 32 | a).to_le_bytes();
                rows[c as usize & 3].bytes().fold(0, |all, digit| {
                    all << 8 | u64::from(bytes[usize::from(digit - b'0')])
                })
            },
        );
    }
    for (sa, a_signed) in [("u32", false), ("s32", true)] {
        for (sb, b_signed) in [("u32", false), ("s32", true)] {
            let byte = |word: u64, at: u32, signed: bool| {
                let byte = (word >> (8 * at)) as u8;
                if signed {
                    i128::from(byte as i8)
                } else {
                    i128::from(byte)
                }
            };
            let half = |word: u64, at: u32| {
                let half = (word >> (16 * at)) as u16;
                if a_signed {
                    i128::from(half as i16)
                } else {
                    i128::from(half)
                }
            };
            compare(
                &format!("dp4a.{sa}.{sb} %o, %a, %b, %c;"),
                (4, 4),
                |a, b, c| {
                    let products = (0..4).map(|at| byte(a, at, a_signed) * byte(b, at, b_signed));
                    (products.sum::<i128>() + i128::from(c)) as u64
                },
            );
            for (which, first) in [("lo", 0), ("hi", 2)] {
                compare(
                    &format!("dp2a.{which}.{sa}.{sb} %o, %a, %b, %c;"),
                    (4, 4),
                    |a, b, c| {
                        let products = (0..2).map(|at| half(a, at) * byte(b, first + at, b_signed));
                        (products.sum::<i128>() + i128::from(c)) as u64
                    },
                );
            }
        }
    }
}

#[test]
fn logic_by_table() {
    for table in [
        0x00u64, 0xff, 0xf0, 0xcc, 0xaa, 0x1a, 0x40, 0xd8, 0x7e, 0x81,
    ] {
        compare(
            &format!("lop3.b32 %o, %a, %b, %c, {table};"),
            (4, 4),
            |a, b, c| {
                (0..32).fold(0, |all, bit| {
                    let row = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | c >> bit & 1;
                    all | (table >> row & 1) << bit
                })
            },
        );
    }
    for (dir, mode) in [("l", "wrap"), ("l", "clamp"), ("r", "wrap"), ("r", "clamp")] {
        for mask in ["", "and.b32 %c, %c, 63;"] {
            compare(
                &format!("{mask} shf.{dir}.{mode}.b32 %o, %a, %b, %c;"),
                (4, 4),
                |a, b, c| {
                    let c = if mask.is_empty() { c } else { c & 63 };
                    let count = if mode == "wrap" { c & 31 } else { c.min(32) };
                    let both = u128::from(b << 32 | a);
                    let moved = if dir == "l" {
                        both << count >> 32
                    } else {
                        both >> count
                    };
                    moved as u64
                },
            );
        }
    }
    for bits in [16u32, 32, 64] {
        let size = bits / 8;
        compare(
            &format!("and.b{bits} %o, %a, %b;"),
            (size, size),
            |a, b, _| a & b,
        );
        compare(
            &format!("or.b{bits} %o, %a, %b;"),
            (size, size),
            |a, b, _| a | b,
        );
        compare(
            &format!("xor.b{bits} %o, %a, %b;"),
            (size, size),
            |a, b, _| a ^ b,
        );
        compare(&format!("not.b{bits} %o, %a;"), (size, size), |a, _, _| !a);
        compare(&format!("cnot.b{bits} %o, %a;"), (size, size), |a, _, _| {
            (a == 0).into()
        });
        compare(
            &format!("setp.gt.u{bits} %p, %a, %b; selp.b{bits} %o, %c, %a, %p;"),
            (size, size),
            |a, b, c| {
                if a > b { c } else { a }
            },
        );
    }
}

#[test]
fn comparisons() {
    for int in ALL {
        for name in ["eq", "ne", "lt", "le", "gt", "ge"] {
            let size = int.bits / 8;
            let holds = |a: u64, b: u64| {
                let (a, b) = (int.value(a), int.value(b));
                match name {
                    "eq" => a == b,
                    "ne" => a != b,
                    "lt" => a < b,
                    "le" => a <= b,
                    "gt" => a > b,
                    _ => a >= b,
                }
            };
            compare(
                &format!(
                    "setp.{name}.{} %p, %a, %b; selp.u32 %o, 3, 4, %p;",
                    int.name
                ),
                (size, 4),
                |a, b, _| {
                    if holds(a, b) { 3 } else { 4 }
                },
            );
            compare(
                &format!("set.{name}.u32.{} %o, %a, %b;", int.name),
                (size, 4),
                |a, b, _| {
                    if holds(a, b) { 0xffff_ffff } else { 0 }
                },
            );
            // What it is combined with, and the opposite.
            for join in ["and", "or", "xor"] {
                compare(
                    &format!(
                        "setp.ne.{t} %q, %b, %c; setp.{name}.{join}.{t} %p|%p1, %a, %b, !%q; selp.u32 %r0, 1, 0, %p; selp.u32 %r1, 2, 0, %p1; add.u32 %o, %r0, %r1;",
                        t = int.name
                    ),
                    (size, 4),
                    |a, b, c| {
                        let (yes, with) = (holds(a, b), b == c);
                        let joined = |x: bool| match join {
                            "and" => x && with,
                            "or" => x || with,
                            _ => x != with,
                        };
                        u64::from(joined(yes)) + 2 * u64::from(joined(!yes))
                    },
                );
            }
        }
    }
}

#[test]
fn conversions() {
    let narrow = [
        Int {
            name: "u8",
            bits: 8,
            signed: false,
        },
        Int {
            name: "s8",
            bits: 8,
            signed: true,
        },
    ];
    for from in ALL {
        for to in narrow.into_iter().chain(ALL) {
            let (size, out) = (from.bits / 8, (to.bits / 8).max(4));
            let range = |value: i128| {
                let (low, high) = if to.signed {
                    (-(1i128 << (to.bits - 1)), (1 << (to.bits - 1)) - 1)
                } else {
                    (0, (1i128 << to.bits) - 1)
                };
                value.clamp(low, high)
            };
            // A register that is wider than the type holds the value with its sign.
            compare(
                &format!("cvt.{}.{} %o, %a;", to.name, from.name),
                (size, out),
                |a, _, _| to.value(from.value(a) as u64) as u64,
            );
            compare(
                &format!("cvt.sat.{}.{} %o, %a;", to.name, from.name),
                (size, out),
                |a, _, _| range(from.value(a)) as u64,
            );
        }
    }
}
