//! From a coordinate to the texels of one axis.

/// CUaddress_mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressMode {
    Wrap,
    Clamp,
    Mirror,
    Border,
}

/// Fixed point of weights and of the coordinates that they come from: 8 bits of fraction.
const ONE: f64 = 256.0;

/// The texels beside a coordinate. `None` is the border.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    pub at: [Option<u32>; 2],
    /// How much the second counts; the first counts what is missing to 1.
    pub weight: f32,
    /// The same, not brought inside.
    pub raw: [i64; 2],
}

impl Axis {
    /// The one axis position of an image that has no more.
    pub const ORIGIN: Axis = Axis {
        at: [Some(0); 2],
        weight: 0.0,
        raw: [0; 2],
    };

    /// `size`: texels of the axis, at least 1.
    pub fn new(coordinate: f32, offset: i32, size: u32, how: How) -> Axis {
        let size = size.max(1);
        let extent = f64::from(size);
        let mut x = f64::from(coordinate);
        if how.normalized {
            x *= extent;
        }
        x += f64::from(offset);
        match how.mode() {
            AddressMode::Wrap => x = x.rem_euclid(extent),
            AddressMode::Mirror => {
                x = x.rem_euclid(2.0 * extent);
                x = x.min(2.0 * extent - x);
            }
            AddressMode::Clamp | AddressMode::Border => {}
        }
        // A coordinate that is no number becomes 0, by Rust's conversion.
        if how.linear {
            let fixed = ((x - 0.5) * ONE + 0.5).floor() as i64;
            let first = fixed >> 8;
            Axis {
                at: [first, first + 1].map(|at| how.inside(at, size)),
                weight: (fixed & 255) as f32 / ONE as f32,
                raw: [first, first + 1],
            }
        } else {
            Axis::texel(x.floor() as i64, size, how)
        }
    }

    /// By the number of the texel.
    pub fn texel(at: i64, size: u32, how: How) -> Axis {
        Axis {
            at: [how.inside(at, size.max(1)); 2],
            weight: 0.0,
            raw: [at; 2],
        }
    }

    /// The texels with what each counts.
    pub fn parts(&self) -> [(usize, f32); 2] {
        [(0, 1.0 - self.weight), (1, self.weight)]
    }
}

/// How coordinates are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct How {
    pub address: AddressMode,
    pub normalized: bool,
    pub linear: bool,
}

impl How {
    /// Images repeat only where coordinates are normalized.
    fn mode(self) -> AddressMode {
        match self.address {
            AddressMode::Border => AddressMode::Border,
            mode if self.normalized => mode,
            _ => AddressMode::Clamp,
        }
    }

    fn inside(self, at: i64, size: u32) -> Option<u32> {
        let last = i64::from(size) - 1;
        match self.mode() {
            AddressMode::Wrap => Some(at.rem_euclid(i64::from(size)) as u32),
            // Mirrored coordinates leave the image by one texel at most.
            AddressMode::Clamp | AddressMode::Mirror => Some(at.clamp(0, last) as u32),
            AddressMode::Border => (0..=last).contains(&at).then_some(at as u32),
        }
    }
}
