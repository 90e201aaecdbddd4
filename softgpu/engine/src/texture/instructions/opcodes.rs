//! Opcodes as they are written, modifiers in PTX's order.

use softgpu_ptx::{Instruction, ScalarType};

use super::forms::*;
use crate::texture::{MAX_TEXEL, Outside};

/// Modifiers, taken from the front.
pub struct Words<'i>(Vec<&'i str>);

impl<'i> Words<'i> {
    pub fn of(instruction: &'i Instruction) -> Words<'i> {
        let mut words: Vec<&str> = instruction.modifiers().collect();
        words.reverse();
        Words(words)
    }

    pub fn take<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = read(self.0.last()?)?;
        self.0.pop();
        Some(found)
    }

    pub fn eat(&mut self, word: &str) -> bool {
        self.take(|found| (found == word).then_some(())).is_some()
    }

    pub fn done(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Form of a lookup, and the type of each of its registers.
pub fn lookup(instruction: &Instruction) -> Option<(Lookups, ScalarType)> {
    use ScalarType::*;
    let mut words = Words::of(instruction);
    let gathers = instruction.mnemonic() == "tld4";
    let (mut detail, mut component) = (Detail::Base, None);
    if gathers {
        component = Some(words.take(|word| ["r", "g", "b", "a"].iter().position(|c| *c == word))?);
    } else {
        let found = words.take(|word| match word {
            "base" => Some(Detail::Base),
            "level" => Some(Detail::Level),
            "grad" => Some(Detail::Gradient),
            _ => None,
        });
        detail = found.unwrap_or(Detail::Base);
    }
    let geometry = words.take(Geometry::parse)?;
    let four = words.take(|word| match word {
        "v4" => Some(true),
        "v2" => Some(false),
        _ => None,
    })?;
    let ty = words.take(ScalarType::parse)?;
    let coordinates = words.take(ScalarType::parse)?;
    words.done()?;
    let integers = match coordinates {
        F32 => false,
        S32 if !geometry.cube && !gathers && detail != Detail::Gradient => true,
        _ => return None,
    };
    let (results, register) = match (ty, four) {
        (U32 | S32 | F32, true) => (Results::Words, B32),
        (F16, true) if !gathers => (Results::Halves, B16),
        (F16x2, false) if !gathers => (Results::Pairs, B32),
        _ => return None,
    };
    if gathers && !(geometry.cube || geometry.dimensions == 2) {
        return None;
    }
    let form = Lookups {
        geometry,
        integers,
        detail,
        results,
        component,
    };
    Some((form, register))
}

/// Form of an access to a surface, and its type.
pub fn access(instruction: &Instruction) -> Option<(Access, ScalarType)> {
    use ScalarType::*;
    let mut words = Words::of(instruction);
    let mnemonic = instruction.mnemonic();
    let by_texels = words.eat("p");
    if by_texels == words.eat("b") || by_texels && mnemonic == "suld" {
        return None;
    }
    let reduces = mnemonic == "sured";
    let reduction = match reduces {
        true => words.take(|word| {
            Some(match word {
                "add" => Reduction::Add,
                "min" => Reduction::Min,
                "max" => Reduction::Max,
                "and" => Reduction::And,
                "or" => Reduction::Or,
                _ => return None,
            })
        })?,
        false => Reduction::Add,
    };
    let geometry = words.take(Geometry::parse)?;
    if geometry.cube || reduces && geometry.layered {
        return None;
    }
    let caches: &[&str] = match mnemonic {
        "suld" => &["ca", "cg", "cs", "cv"],
        "sust" if !by_texels => &["wb", "cg", "cs", "wt"],
        _ => &[],
    };
    words.take(|word| caches.contains(&word).then_some(()));
    let vector = words.take(|word| match word {
        "v2" if !reduces => Some(2),
        "v4" if !reduces => Some(4),
        _ => None,
    });
    let count = vector.unwrap_or(1);
    let ty = words.take(ScalarType::parse)?;
    let outside = words.take(|word| {
        Some(match word {
            "trap" => Outside::Trap,
            "clamp" => Outside::Clamp,
            "zero" => Outside::Zero,
            _ => return None,
        })
    })?;
    words.done()?;
    let fits = match (mnemonic, by_texels, reduction) {
        ("suld" | "sust", false, _) => {
            matches!(ty, B8 | B16 | B32 | B64) && ty.size() as usize * count <= MAX_TEXEL
        }
        ("sust", true, _) => ty == B32,
        (_, false, Reduction::Add) => matches!(ty, U32 | U64 | S32),
        (_, false, Reduction::Min | Reduction::Max) => matches!(ty, U32 | S32 | U64 | S64),
        (_, false, Reduction::And | Reduction::Or) => ty == B32,
        (_, true, Reduction::Min | Reduction::Max) => matches!(ty, B32 | B64),
        (_, true, _) => ty == B32,
    };
    let form = Access {
        geometry,
        outside,
        element: ty.size() as usize,
        register: ty.size().max(2) as usize,
        count,
        by_texels,
        reduction,
        signed: ty.is_signed(),
    };
    fits.then_some((form, ty))
}
