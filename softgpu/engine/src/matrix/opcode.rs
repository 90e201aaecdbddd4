//! The modifiers of matrix instructions, sorted out. Their order is not checked beyond that of types and of layouts.

use softgpu_ptx::Instruction;

use super::element::Element;
use super::shape::Shape;
use crate::access::{GENERIC, GLOBAL, SHARED};
use crate::float::Rounding;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOperation {
    Xor,
    And,
}

#[derive(Debug, Default)]
pub struct Opcode {
    pub sync: bool,
    pub aligned: bool,
    pub shape: Option<Shape>,
    /// True for `.col`.
    pub layouts: Vec<bool>,
    pub elements: Vec<Element>,
    pub saturate: bool,
    pub rounding: Option<Rounding>,
    pub bits: Option<BitOperation>,
    pub popc: bool,
    pub space: Option<u32>,
    /// `load.a` and the like.
    pub names: Vec<String>,
    /// Tiles of `ldmatrix`, whose shape and type have no other value.
    pub tiles: Option<u32>,
    pub tile: bool,
    pub b16: bool,
    pub transposed: bool,
}

fn once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

impl Opcode {
    /// None when a modifier is unknown, or there twice.
    pub fn read(instruction: &Instruction) -> Option<Opcode> {
        let mut opcode = Opcode::default();
        for word in instruction.modifiers() {
            opcode.modifier(word)?;
        }
        Some(opcode)
    }

    fn modifier(&mut self, word: &str) -> Option<()> {
        match word {
            "sync" => once(&mut self.sync),
            "aligned" => once(&mut self.aligned),
            "satfinite" => once(&mut self.saturate),
            "popc" => once(&mut self.popc),
            "trans" => once(&mut self.transposed),
            "b16" => once(&mut self.b16),
            "m8n8" => once(&mut self.tile),
            "x1" => set(&mut self.tiles, 1),
            "x2" => set(&mut self.tiles, 2),
            "x4" => set(&mut self.tiles, 4),
            "xor" => set(&mut self.bits, BitOperation::Xor),
            "and" => set(&mut self.bits, BitOperation::And),
            "rn" => set(&mut self.rounding, Rounding::Nearest),
            "rz" => set(&mut self.rounding, Rounding::Zero),
            "rm" => set(&mut self.rounding, Rounding::Down),
            "rp" => set(&mut self.rounding, Rounding::Up),
            "global" => set(&mut self.space, GLOBAL),
            "shared" | "shared::cta" => set(&mut self.space, SHARED),
            "row" | "col" => {
                self.layouts.push(word == "col");
                Some(())
            }
            "load" | "store" | "mma" | "a" | "b" | "c" | "d" => {
                self.names.push(word.to_owned());
                Some(())
            }
            _ => match (Element::parse(word), Shape::parse(word)) {
                (Some(element), _) => {
                    self.elements.push(element);
                    Some(())
                }
                (None, Some(shape)) => set(&mut self.shape, shape),
                (None, None) => None,
            },
        }
    }

    pub fn space(&self) -> u32 {
        self.space.unwrap_or(GENERIC)
    }

    /// Whether nothing is there that only products have.
    pub fn only_moves(&self) -> bool {
        !self.saturate && !self.popc && self.rounding.is_none() && self.bits.is_none()
    }

    /// Whether nothing is there that only tiles have.
    pub fn no_tile(&self) -> bool {
        self.tiles.is_none() && !self.tile && !self.b16 && !self.transposed
    }

    /// Whether nothing is there that only tiles do not have.
    pub fn only_tile(&self) -> bool {
        self.tile
            && self.b16
            && self.shape.is_none()
            && self.layouts.is_empty()
            && self.elements.is_empty()
            && self.names.is_empty()
            && self.only_moves()
    }
}
