//! From instructions to operations.

use softgpu_ptx::{Base, Instruction, Opaque, Operand, ScalarType};

use super::forms::*;
use super::{accesses, lookups, opcodes, queries};
use crate::access::PARAM;
use crate::build::{Field, VReg};
use crate::kernel::Constant;
use crate::lanes::{Kind, NONE};
use crate::layout::Meaning;
use crate::lower::{Lowering, Result};
use crate::transfer;

/// What stands in brackets: texture or surface, sampler, coordinates.
struct Place<'i> {
    object: &'i Operand,
    sampler: Option<&'i Operand>,
    at: &'i [Operand],
}

/// The parts of a vector; a scalar is one of one.
fn parts(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(items) => items,
        single => std::slice::from_ref(single),
    }
}

impl Lowering<'_> {
    pub fn texture(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction.mnemonic() {
            "tex" | "tld4" => self.lookup(instruction),
            "txq" | "suq" => self.query(instruction),
            "istypep" => self.is_type(instruction),
            _ => self.surface(instruction),
        }
    }

    fn place<'i>(&self, instruction: &Instruction, operand: &'i Operand) -> Result<Place<'i>> {
        let items = match operand {
            Operand::List(items) => items.as_slice(),
            _ => &[],
        };
        match items {
            [object, at] => Ok(Place {
                object,
                sampler: None,
                at: parts(at),
            }),
            [object, sampler, at] if matches!(instruction.mnemonic(), "tex" | "tld4") => {
                Ok(Place {
                    object,
                    sampler: Some(sampler),
                    at: parts(at),
                })
            }
            _ => self.error(
                instruction,
                format!("`{}` takes coordinates in brackets", instruction.opcode),
            ),
        }
    }

    /// Register with the handle that an operand names: a register's, a variable's, that which a parameter has.
    fn handle(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        kind: Opaque,
    ) -> Result<VReg> {
        let name = match operand {
            Operand::Address {
                base: Base::Register(register),
                offset: 0,
            } => {
                return self.source(instruction, &Operand::Register(*register), ScalarType::B64);
            }
            Operand::Register(_) => return self.source(instruction, operand, ScalarType::B64),
            Operand::Address {
                base: Base::Symbol(name),
                offset: 0,
            }
            | Operand::Symbol { name, offset: 0 } => name,
            _ => {
                return self.error(
                    instruction,
                    format!("`{}` takes a name or a register", instruction.opcode),
                );
            }
        };
        match self.meaning(name) {
            Some(Meaning::Placed(index)) if self.symbols.opaque(index) == Some(kind) => {
                Ok(self.builder.constant(Constant::Global(index, 0), 8))
            }
            Some(Meaning::KernelParam(_) | Meaning::Framed(_)) => {
                let Some((run, _)) = transfer::handlers(8, false, 8) else {
                    return self.unsupported(instruction);
                };
                let address = Operand::Address {
                    base: Base::Symbol(name.clone()),
                    offset: 0,
                };
                let op = self.builder.push(run, Kind::Plain);
                self.address(instruction, op, &address, PARAM)?;
                let handle = self.builder.reg(8);
                self.builder.writes(op, Field::Dst, handle);
                Ok(handle)
            }
            _ => self.error(
                instruction,
                format!("`{name}` is not what `{}` takes", instruction.opcode),
            ),
        }
    }

    /// Parts of a vector into a list of sources; of four where three are meant, the last is not looked at.
    fn components(
        &mut self,
        instruction: &Instruction,
        parts: &[Operand],
        count: usize,
        ty: ScalarType,
        into: &mut [Option<VReg>],
    ) -> Result<()> {
        if parts.len() != count && !(count == 3 && parts.len() == 4) {
            return self.error(
                instruction,
                format!("{count} values are needed where {} stand", parts.len()),
            );
        }
        for (part, place) in parts[..count].iter().zip(into) {
            *place = Some(self.source(instruction, part, ty)?);
        }
        Ok(())
    }

    /// Layer and coordinates into the front of a list of sources.
    fn coordinates(
        &mut self,
        instruction: &Instruction,
        parts: &[Operand],
        geometry: Geometry,
        ty: ScalarType,
        into: &mut [Option<VReg>],
    ) -> Result<()> {
        let mut rest = parts;
        let layers = usize::from(geometry.layered);
        if let (true, Some((layer, others))) = (geometry.layered, parts.split_first()) {
            into[LAYER] = Some(self.source(instruction, layer, ScalarType::U32)?);
            rest = others;
        }
        // Vectors have two or four values: what is more than needed fills up.
        let needed = geometry.dimensions;
        if rest.len() == needed + 1 && needed + layers == 3 {
            rest = &rest[..needed];
        }
        self.components(instruction, rest, needed, ty, &mut into[AT..])
    }

    fn lookup(&mut self, instruction: &Instruction) -> Result<()> {
        let Some((form, register)) = opcodes::lookup(instruction) else {
            return self.unsupported(instruction);
        };
        let [dst, place, rest @ ..] = instruction.operands.as_slice() else {
            return self.error(
                instruction,
                format!("`{}` takes registers and a place", instruction.opcode),
            );
        };
        let mut rest = rest.iter();
        let (dst, resident) = match dst {
            Operand::Pair(dst, resident) => (&**dst, self.pred_target(instruction, resident)?),
            dst => (dst, NONE),
        };
        let place = self.place(instruction, place)?;
        let texture = self.handle(instruction, place.object, Opaque::Texture)?;
        let sampler = match place.sampler {
            Some(sampler) => Some(self.handle(instruction, sampler, Opaque::Sampler)?),
            None => None,
        };
        let coordinate = match form.integers {
            true => ScalarType::S32,
            false => ScalarType::F32,
        };
        let dimensions = form.geometry.dimensions;
        let mut sources = [None; SOURCES];
        self.coordinates(
            instruction,
            place.at,
            form.geometry,
            coordinate,
            &mut sources,
        )?;
        let missing = |lowering: &Self| {
            let message = format!("`{}` takes more operands", instruction.opcode);
            lowering.error(instruction, message)
        };
        match form.detail {
            Detail::Base => {}
            Detail::Level => {
                let Some(level) = rest.next() else {
                    return missing(self);
                };
                sources[DETAIL] = Some(self.source(instruction, level, coordinate)?);
            }
            Detail::Gradient => {
                for at in [DETAIL, DETAIL + 3] {
                    let Some(by) = rest.next() else {
                        return missing(self);
                    };
                    let into = &mut sources[at..at + 3];
                    self.components(instruction, parts(by), dimensions, ScalarType::F32, into)?;
                }
            }
        }
        if let (Some(Operand::Vector(offset)), false) = (rest.clone().next(), form.geometry.cube) {
            rest.next();
            let into = &mut sources[OFFSET..];
            self.components(instruction, offset, dimensions, ScalarType::S32, into)?;
        }
        if rest.next().is_some() {
            let message = format!(
                "`{}` has operands that are not supported: depth textures are not there",
                instruction.opcode
            );
            return self.error(instruction, message);
        }
        let wanted = if form.results == Results::Pairs { 2 } else { 4 };
        let dsts = self.destinations(instruction, parts(dst), wanted, register)?;
        let op = self.builder.push(lookups::lookup, Kind::Plain);
        self.builder.reads(op, Field::A, texture);
        match sampler {
            Some(sampler) => self.builder.reads(op, Field::B, sampler),
            None => self.builder.code[op].b = NONE,
        }
        self.builder.code[op].c = self.builder.list(op, &sources, false);
        self.builder.code[op].dst = self.builder.list(op, &dsts, true);
        self.builder.code[op].d = resident;
        self.builder.code[op].imm = form.code();
        Ok(())
    }

    /// Registers that are written; none for `_`.
    fn destinations(
        &mut self,
        instruction: &Instruction,
        parts: &[Operand],
        count: usize,
        ty: ScalarType,
    ) -> Result<Vec<Option<VReg>>> {
        if parts.len() != count {
            return self.error(
                instruction,
                format!("`{}` gives {count} values", instruction.opcode),
            );
        }
        let each = parts.iter().map(|part| match part {
            Operand::Discard => Ok(None),
            part => self.destination(instruction, part, ty).map(Some),
        });
        each.collect()
    }

    fn surface(&mut self, instruction: &Instruction) -> Result<()> {
        let Some((form, ty)) = opcodes::access(instruction) else {
            return self.unsupported(instruction);
        };
        let [first, second] = self.operands::<2>(instruction)?;
        let loads = instruction.mnemonic() == "suld";
        let (place, values) = if loads {
            (second, first)
        } else {
            (first, second)
        };
        let place = self.place(instruction, place)?;
        let surface = self.handle(instruction, place.object, Opaque::Surface)?;
        let mut sources = [None; DETAIL];
        let coordinate = ScalarType::S32;
        self.coordinates(
            instruction,
            place.at,
            form.geometry,
            coordinate,
            &mut sources,
        )?;
        let values = parts(values);
        if loads {
            let dsts = self.destinations(instruction, values, form.count, ty)?;
            let op = self.builder.push(accesses::load, Kind::Plain);
            self.builder.code[op].dst = self.builder.list(op, &dsts, true);
            self.finish_access(op, surface, &sources, form);
            return Ok(());
        }
        let mut regs = [None; 4];
        self.components(instruction, values, form.count, ty, &mut regs)?;
        if instruction.mnemonic() == "sured" {
            let op = self.builder.push(accesses::reduce, Kind::Waiting);
            if let Some(with) = regs[0] {
                self.builder.reads(op, Field::B, with);
            }
            self.finish_access(op, surface, &sources, form);
            return Ok(());
        }
        let run = match form.by_texels {
            true => accesses::store_formatted,
            false => accesses::store,
        };
        let op = self.builder.push(run, Kind::Plain);
        self.builder.code[op].dst = self.builder.list(op, &regs[..form.count], false);
        self.finish_access(op, surface, &sources, form);
        Ok(())
    }

    fn finish_access(&mut self, op: usize, surface: VReg, at: &[Option<VReg>], form: Access) {
        self.builder.reads(op, Field::A, surface);
        self.builder.code[op].c = self.builder.list(op, at, false);
        self.builder.code[op].imm = form.code();
    }

    fn query(&mut self, instruction: &Instruction) -> Result<()> {
        let mut words = opcodes::Words::of(instruction);
        let surface = instruction.mnemonic() == "suq";
        let level = words.eat("level");
        let query = words.take(Query::parse);
        let typed = words.eat("b32") && words.done().is_some();
        let Some(query) = query.filter(|query| {
            typed
                && match surface {
                    true => query.is_of_surface() && !level,
                    false if level => {
                        matches!(query, Query::Width | Query::Height | Query::Depth)
                    }
                    false => *query != Query::MemoryLayout,
                }
        }) else {
            return self.unsupported(instruction);
        };
        let (dst, object, level) = match instruction.operands.as_slice() {
            [dst, object] if !level => (dst, object, None),
            [dst, object, lod] if level => (dst, object, Some(lod)),
            _ => {
                return self.error(
                    instruction,
                    format!("`{}` has other operands", instruction.opcode),
                );
            }
        };
        let kind = match () {
            () if surface => Opaque::Surface,
            () if query.is_of_sampler() => Opaque::Sampler,
            () => Opaque::Texture,
        };
        // With one handle for both, a sampler's attributes are asked of the texture.
        let handle = match self.handle(instruction, object, kind) {
            Err(_) if kind == Opaque::Sampler => {
                self.handle(instruction, object, Opaque::Texture)?
            }
            found => found?,
        };
        let level = match level {
            Some(level) => Some(self.source(instruction, level, ScalarType::B32)?),
            None => None,
        };
        let dst = self.destination(instruction, dst, ScalarType::B32)?;
        let run = match surface {
            true => queries::surface,
            false => queries::texture,
        };
        let op = self.builder.push(run, Kind::Plain);
        self.builder.reads(op, Field::A, handle);
        match level {
            Some(level) => self.builder.reads(op, Field::B, level),
            None => self.builder.code[op].b = NONE,
        }
        self.builder.writes(op, Field::Dst, dst);
        self.builder.code[op].imm = query as u64;
        Ok(())
    }

    fn is_type(&mut self, instruction: &Instruction) -> Result<()> {
        let words: Vec<&str> = instruction.modifiers().collect();
        let kind = match words[..] {
            [word] => Opaque::parse(word),
            _ => None,
        };
        let Some(kind) = kind else {
            return self.unsupported(instruction);
        };
        let [dst, src] = self.operands::<2>(instruction)?;
        let src = self.source(instruction, src, ScalarType::U64)?;
        let dst = self.pred_target(instruction, dst)?;
        let op = self.builder.push(queries::is_type, Kind::Plain);
        self.builder.reads(op, Field::A, src);
        self.builder.code[op].dst = dst;
        let which = queries::KINDS.iter().position(|found| *found == kind);
        self.builder.code[op].imm = which.unwrap_or(0) as u64;
        Ok(())
    }
}
