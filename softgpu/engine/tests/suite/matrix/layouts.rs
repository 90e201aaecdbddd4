//! Fragments as the PTX document gives them: row and column of element `i` of a lane.

fn split(lane: usize) -> (usize, usize) {
    (lane / 4, lane % 4)
}

/// `g`, or eight rows further down.
fn low_or(high: bool, g: usize) -> usize {
    if high { g + 8 } else { g }
}

/// Of A: shape, bits of an element, lane, element.
pub fn a(shape: &str, bits: usize, lane: usize, i: usize) -> (usize, usize) {
    let (g, t) = split(lane);
    match (shape, bits) {
        ("m8n8k4", 64) => (g, t),
        ("m8n8k16", 8) => (g, t * 4 + i),
        ("m8n8k32", 4) => (g, t * 8 + i),
        ("m8n8k128", 1) => (g, t * 32 + i),
        ("m16n8k4", 32 | 64) => (low_or(i == 1, g), t),
        ("m16n8k8", 16) => (low_or(i >= 2, g), t * 2 + (i & 1)),
        ("m16n8k8", 32 | 64) => (low_or(i == 1 || i == 3, g), if i < 2 { t } else { t + 4 }),
        ("m16n8k16", 16) => (
            low_or(!(i < 2 || (4..6).contains(&i)), g),
            if i < 4 {
                t * 2 + (i & 1)
            } else {
                t * 2 + (i & 1) + 8
            },
        ),
        ("m16n8k16", 64) => (
            low_or(i % 2 == 1, g),
            if i.is_multiple_of(2) {
                i * 2 + t
            } else {
                i * 2 - 2 + t
            },
        ),
        ("m16n8k16", 8) => (low_or(i >= 4, g), t * 4 + (i & 3)),
        ("m16n8k32", 4) => (low_or(i >= 8, g), t * 8 + (i & 7)),
        ("m16n8k32", 8) => (
            low_or(!(i < 4 || (8..12).contains(&i)), g),
            if i < 8 {
                t * 4 + (i & 3)
            } else {
                t * 4 + (i & 3) + 16
            },
        ),
        ("m16n8k64", 4) => (
            low_or(!(i < 8 || (16..24).contains(&i)), g),
            if i < 16 {
                t * 8 + (i & 7)
            } else {
                t * 8 + (i & 7) + 32
            },
        ),
        ("m16n8k128", 1) => (low_or(i >= 32, g), t * 32 + (i & 31)),
        ("m16n8k256", 1) => (
            low_or(!(i < 32 || (64..96).contains(&i)), g),
            if i < 64 {
                t * 32 + (i & 31)
            } else {
                t * 32 + (i & 31) + 128
            },
        ),
        _ => panic!("{shape} of {bits} bits"),
    }
}

/// Of B, likewise; the row is k.
pub fn b(shape: &str, bits: usize, lane: usize, i: usize) -> (usize, usize) {
    let (g, t) = split(lane);
    let row = match (shape, bits) {
        ("m8n8k4", 64) => t,
        ("m8n8k16", 8) => t * 4 + i,
        ("m8n8k32", 4) => t * 8 + i,
        ("m8n8k128", 1) => t * 32 + i,
        ("m16n8k4", 32 | 64) => t,
        ("m16n8k8", 16) => t * 2 + i,
        ("m16n8k8", 32 | 64) => [t, t + 4][i],
        ("m16n8k16", 16) => t * 2 + (i & 1) + if i >= 2 { 8 } else { 0 },
        ("m16n8k16", 64) => t + i * 4,
        ("m16n8k16", 8) => t * 4 + i,
        ("m16n8k32", 4) => t * 8 + i,
        ("m16n8k32", 8) => t * 4 + (i & 3) + if i >= 4 { 16 } else { 0 },
        ("m16n8k64", 4) => t * 8 + (i & 7) + if i >= 8 { 32 } else { 0 },
        ("m16n8k128", 1) => t * 32 + i,
        ("m16n8k256", 1) => t * 32 + (i & 31) + if i >= 32 { 128 } else { 0 },
        _ => panic!("{shape} of {bits} bits"),
    };
    (row, g)
}

/// Of C and D.
pub fn sum(lane: usize, i: usize) -> (usize, usize) {
    let (g, t) = split(lane);
    (low_or(i >= 2, g), t * 2 + (i & 1))
}
