//! What the modifiers say, and how it stands in `Op::imm`.

use crate::texture::Outside;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub dimensions: usize,
    pub cube: bool,
    pub layered: bool,
}

impl Geometry {
    /// `1d` to `acube`; textures of several samples are not there.
    pub fn parse(word: &str) -> Option<Geometry> {
        let plain = |dimensions, cube, layered| Geometry {
            dimensions,
            cube,
            layered,
        };
        Some(match word {
            "1d" => plain(1, false, false),
            "2d" => plain(2, false, false),
            "3d" => plain(3, false, false),
            "a1d" => plain(1, false, true),
            "a2d" => plain(2, false, true),
            "cube" => plain(3, true, false),
            "acube" => plain(3, true, true),
            _ => return None,
        })
    }

    fn code(self) -> u64 {
        self.dimensions as u64 | u64::from(self.cube) << 2 | u64::from(self.layered) << 3
    }

    fn of_code(code: u64) -> Geometry {
        Geometry {
            dimensions: (code & 3) as usize,
            cube: code >> 2 & 1 != 0,
            layered: code >> 3 & 1 != 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Base,
    Level,
    Gradient,
}

/// What a lookup's registers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    Words,
    Halves,
    /// Two halves each.
    Pairs,
}

/// `tex` and `tld4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookups {
    pub geometry: Geometry,
    /// Coordinates are numbers of texels.
    pub integers: bool,
    pub detail: Detail,
    pub results: Results,
    /// Of `tld4`.
    pub component: Option<usize>,
}

/// Registers that a lookup reads, in the order of its list.
pub const LAYER: usize = 0;
pub const AT: usize = 1;
/// The level, or the two gradients.
pub const DETAIL: usize = 4;
pub const OFFSET: usize = 10;
pub const SOURCES: usize = 13;

impl Lookups {
    pub fn code(self) -> u64 {
        self.geometry.code()
            | u64::from(self.integers) << 4
            | (self.detail as u64) << 5
            | (self.results as u64) << 7
            | self.component.map_or(0, |at| at as u64 + 1) << 9
    }

    pub fn of_code(code: u64) -> Lookups {
        Lookups {
            geometry: Geometry::of_code(code),
            integers: code >> 4 & 1 != 0,
            detail: match code >> 5 & 3 {
                0 => Detail::Base,
                1 => Detail::Level,
                _ => Detail::Gradient,
            },
            results: match code >> 7 & 3 {
                0 => Results::Words,
                1 => Results::Halves,
                _ => Results::Pairs,
            },
            component: ((code >> 9) as usize).checked_sub(1),
        }
    }
}

/// `suld`, `sust`, `sured`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub geometry: Geometry,
    pub outside: Outside,
    /// Bytes of an element, and of each of the registers.
    pub element: usize,
    pub register: usize,
    pub count: usize,
    /// `x` counts texels, not bytes; the surface's format says what they are.
    pub by_texels: bool,
    pub reduction: Reduction,
    pub signed: bool,
}

/// Of `sured`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    Add,
    Min,
    Max,
    And,
    Or,
}

const REDUCTIONS: [Reduction; 5] = [
    Reduction::Add,
    Reduction::Min,
    Reduction::Max,
    Reduction::And,
    Reduction::Or,
];

impl Access {
    pub fn code(self) -> u64 {
        self.geometry.code()
            | (self.outside as u64) << 4
            | (self.element as u64) << 8
            | (self.register as u64) << 16
            | (self.count as u64) << 24
            | (self.reduction as u64) << 32
            | u64::from(self.by_texels) << 40
            | u64::from(self.signed) << 41
    }

    pub fn of_code(code: u64) -> Access {
        let byte = |at: u32| (code >> at & 255) as usize;
        Access {
            geometry: Geometry::of_code(code),
            outside: match code >> 4 & 3 {
                0 => Outside::Trap,
                1 => Outside::Clamp,
                _ => Outside::Zero,
            },
            element: byte(8),
            register: byte(16),
            count: byte(24),
            reduction: REDUCTIONS[byte(32) % REDUCTIONS.len()],
            by_texels: code >> 40 & 1 != 0,
            signed: code >> 41 & 1 != 0,
        }
    }
}

/// `txq` and `suq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    Width,
    Height,
    Depth,
    DataType,
    Order,
    NormalizedCoords,
    ArraySize,
    Levels,
    Samples,
    ForceUnnormalized,
    Filter,
    Address0,
    Address1,
    Address2,
    MemoryLayout,
}

/// Each with its name, in the order of their numbers.
const QUERIES: [(&str, Query); 15] = [
    ("width", Query::Width),
    ("height", Query::Height),
    ("depth", Query::Depth),
    ("channel_data_type", Query::DataType),
    ("channel_order", Query::Order),
    ("normalized_coords", Query::NormalizedCoords),
    ("array_size", Query::ArraySize),
    ("num_mipmap_levels", Query::Levels),
    ("num_samples", Query::Samples),
    ("force_unnormalized_coords", Query::ForceUnnormalized),
    ("filter_mode", Query::Filter),
    ("addr_mode_0", Query::Address0),
    ("addr_mode_1", Query::Address1),
    ("addr_mode_2", Query::Address2),
    ("memory_layout", Query::MemoryLayout),
];

impl Query {
    pub fn parse(word: &str) -> Option<Query> {
        let found = QUERIES.iter().find(|(name, _)| *name == word);
        found.map(|&(_, query)| query)
    }

    pub fn of_code(code: u64) -> Query {
        QUERIES[code as usize % QUERIES.len()].1
    }

    /// Of a sampler rather than of an image.
    pub fn is_of_sampler(self) -> bool {
        (Query::ForceUnnormalized as u64..=Query::Address2 as u64).contains(&(self as u64))
    }

    /// Whether surfaces have it.
    pub fn is_of_surface(self) -> bool {
        matches!(
            self,
            Query::Width
                | Query::Height
                | Query::Depth
                | Query::DataType
                | Query::Order
                | Query::ArraySize
                | Query::MemoryLayout
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_come_back() {
        for word in ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"] {
            let geometry = Geometry::parse(word).unwrap();
            let lookup = Lookups {
                geometry,
                integers: true,
                detail: Detail::Gradient,
                results: Results::Pairs,
                component: Some(3),
            };
            assert_eq!(Lookups::of_code(lookup.code()), lookup);
            for reduction in REDUCTIONS {
                let access = Access {
                    geometry,
                    outside: Outside::Zero,
                    element: 8,
                    register: 4,
                    count: 2,
                    by_texels: false,
                    reduction,
                    signed: true,
                };
                assert_eq!(Access::of_code(access.code()), access);
            }
        }
        for (name, query) in QUERIES {
            assert_eq!(Query::parse(name), Some(query));
            assert_eq!(Query::of_code(query as u64), query);
        }
    }
}
