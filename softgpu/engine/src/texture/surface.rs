//! Surfaces: where their bytes are, and formatted stores.

use super::{MAX_TEXEL, Surface};

/// What happens outside of a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    Trap,
    /// The nearest place inside is meant.
    Clamp,
    /// Loads give zero, stores do nothing.
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    At(u64),
    Nowhere,
    Trap,
}

impl Surface {
    /// Address of `size` bytes, of which the first is byte `x` of row `y` of a slice.
    pub fn place(&self, x: i64, y: i64, slice: i64, size: u64, outside: Outside) -> Place {
        let level = &self.image.levels[0];
        let row = u64::from(level.width) * self.image.format.size() as u64;
        let Some(room) = row.checked_sub(size) else {
            return match outside {
                Outside::Trap => Place::Trap,
                _ => Place::Nowhere,
            };
        };
        // The last whole access of a row.
        let last = [
            (room - room % size) as i64,
            i64::from(level.height) - 1,
            i64::from(level.slices) - 1,
        ];
        let wanted = [x, y, slice];
        let at = [0, 1, 2].map(|axis| wanted[axis].clamp(0, last[axis].max(0)));
        let is_inside = at[1..] == wanted[1..] && (0..=room as i64).contains(&x);
        let x = match (is_inside, outside) {
            (true, _) => x,
            (false, Outside::Clamp) => at[0],
            (false, Outside::Zero) => return Place::Nowhere,
            (false, Outside::Trap) => return Place::Trap,
        };
        Place::At(level.row(at[1] as u32, at[2] as u32).wrapping_add(x as u64))
    }

    /// Bytes of a texel that a formatted store makes of components. Those that it does not have are zero.
    pub fn encode(&self, values: [u32; 4]) -> ([u8; MAX_TEXEL], usize) {
        let format = self.image.format;
        (format.encode(values), format.size())
    }
}
