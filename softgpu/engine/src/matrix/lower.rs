//! Lowering of matrix instructions.

use softgpu_ptx::{Base, Instruction, Operand, ScalarType};

use super::element::{Class, Element};
use super::fragments::{LoadFragment, StoreFragment, Stored};
use super::layout::{Layout, Part, registers};
use super::multiply::{AND, Bits, Doubles, Floats, Form, Integers, SATURATE, rounding};
use super::opcode::{BitOperation, Opcode};
use super::shape::{VOLTA, mma_since, wmma_since, wmma_sum_since};
use super::tiles::{LoadTiles, StoreTiles, TRANSPOSED, TurnTile};
use super::volta::{A_BY_COLUMNS, B_BY_ROWS, QuadPairs};
use crate::access::{GENERIC, SHARED};
use crate::build::{Field, VReg};
use crate::float::Rounding;
use crate::kernel::Constant;
use crate::lanes::{Handler, Kind, NONE, body};
use crate::lower::{Lowering, Result};

/// `.aligned` goes without saying in older PTX.
pub const ALIGNED_SINCE: (u32, u32) = (6, 3);

impl Lowering<'_> {
    pub fn matrix(&mut self, instruction: &Instruction) -> Result<()> {
        let Some(opcode) = Opcode::read(instruction) else {
            return self.unsupported(instruction);
        };
        let mnemonic = instruction.mnemonic();
        if !opcode.sync {
            return self.error(instruction, format!("`{mnemonic}` needs `.sync`"));
        }
        let implied = mnemonic == "wmma" && self.module.version < ALIGNED_SINCE;
        if !opcode.aligned && !implied {
            return self.error(instruction, format!("`{mnemonic}` needs `.aligned`"));
        }
        let names: Vec<&str> = opcode.names.iter().map(String::as_str).collect();
        match (mnemonic, names.as_slice()) {
            ("mma", []) => self.mma(instruction, &opcode),
            ("wmma", ["mma"]) => self.wmma(instruction, &opcode),
            ("wmma", ["load", "a"]) => self.fragment(instruction, &opcode, Part::A, true),
            ("wmma", ["load", "b"]) => self.fragment(instruction, &opcode, Part::B, true),
            ("wmma", ["load", "c"]) => self.fragment(instruction, &opcode, Part::Sum, true),
            ("wmma", ["store", "d"]) => self.fragment(instruction, &opcode, Part::Sum, false),
            ("ldmatrix", []) => self.tiles(instruction, &opcode, true),
            ("stmatrix", []) => self.tiles(instruction, &opcode, false),
            ("movmatrix", []) => self.turn(instruction, &opcode),
            _ => self.unsupported(instruction),
        }
    }

    /// The module's target must have the instruction.
    pub fn needs_target(&self, instruction: &Instruction, since: u32) -> Result<()> {
        let target = &self.module.target;
        let digits: String = target.chars().filter(char::is_ascii_digit).collect();
        if digits.parse::<u32>().is_ok_and(|number| number >= since) {
            return Ok(());
        }
        self.error(
            instruction,
            format!(
                "`{}` needs `.target sm_{since}` or a newer one, the module's is {target}",
                instruction.opcode
            ),
        )
    }

    fn mma(&mut self, instruction: &Instruction, opcode: &Opcode) -> Result<()> {
        let (Some(shape), &[d, a, b, c]) = (opcode.shape, opcode.elements.as_slice()) else {
            return self.unsupported(instruction);
        };
        let form = Form { shape, a, b, c, d };
        let class = self.class(instruction, &form)?;
        let Some(mut since) = mma_since(shape, class) else {
            return self.unsupported(instruction);
        };
        let &[a_by_columns, b_by_columns] = opcode.layouts.as_slice() else {
            return self.unsupported(instruction);
        };
        let volta = shape == VOLTA && class == Class::Half;
        // A sum is not narrowed to f16 on the way, and only the oldest shape widens it.
        let sums = if volta {
            c == d || c == Element::F16
        } else {
            c == d && !a_by_columns && b_by_columns
        };
        if !sums || opcode.space.is_some() {
            return self.unsupported(instruction);
        }
        if opcode.bits == Some(BitOperation::And) {
            since = since.max(80);
        }
        self.needs_target(instruction, since)?;
        if !volta {
            return self.multiply(instruction, opcode, &form, class, false);
        }
        if !self.plain(opcode) {
            return self.unsupported(instruction);
        }
        let per = |element: Element| 8 / element.per_register();
        let run = body::<QuadPairs>();
        let op = self.product(instruction, &form, run, [per(d), 2, 2, per(c)], false)?;
        self.builder.code[op].imm =
            if a_by_columns { A_BY_COLUMNS } else { 0 } | if b_by_columns { 0 } else { B_BY_ROWS };
        Ok(())
    }

    fn wmma(&mut self, instruction: &Instruction, opcode: &Opcode) -> Result<()> {
        let Some(shape) = opcode.shape else {
            return self.unsupported(instruction);
        };
        let form = match *opcode.elements.as_slice() {
            [d, a, b, c] if a == b && a != Element::F16 => Form { shape, a, b, c, d },
            [d, c] => Form {
                shape,
                a: Element::F16,
                b: Element::F16,
                c,
                d,
            },
            _ => return self.unsupported(instruction),
        };
        let class = self.class(instruction, &form)?;
        let Some(mut since) = wmma_since(shape, class) else {
            return self.unsupported(instruction);
        };
        // Bits and half bytes lie along k only.
        let along = !matches!(class, Class::Nibble | Class::Bit) || opcode.layouts == [false, true];
        if opcode.layouts.len() != 2 || !along || opcode.space.is_some() {
            return self.unsupported(instruction);
        }
        if opcode.bits == Some(BitOperation::And) {
            since = since.max(80);
        }
        self.needs_target(instruction, since)?;
        self.multiply(instruction, opcode, &form, class, true)
    }

    /// The class of both multiplicands, which the sums must fit.
    fn class(&self, instruction: &Instruction, form: &Form) -> Result<Class> {
        match (form.a.class(), form.b.class()) {
            (Some(class), Some(other))
                if class == other && class.sums_as(form.c) && class.sums_as(form.d) =>
            {
                Ok(class)
            }
            _ => self.unsupported(instruction),
        }
    }

    /// Whether nothing is there that only some products have.
    fn plain(&self, opcode: &Opcode) -> bool {
        opcode.only_moves() && opcode.no_tile()
    }

    fn multiply(
        &mut self,
        instruction: &Instruction,
        opcode: &Opcode,
        form: &Form,
        class: Class,
        wmma: bool,
    ) -> Result<()> {
        let fits = opcode.no_tile()
            && (!opcode.saturate || matches!(class, Class::Byte | Class::Nibble))
            && (opcode.rounding.is_none() || class == Class::Double)
            && opcode.popc == (class == Class::Bit)
            && opcode.bits.is_some() == (class == Class::Bit);
        if !fits {
            return self.unsupported(instruction);
        }
        let (run, imm) = match class {
            Class::Double => (
                body::<Doubles>(),
                rounding(opcode.rounding.unwrap_or(Rounding::Nearest)),
            ),
            Class::Byte | Class::Nibble => (
                body::<Integers>(),
                if opcode.saturate { SATURATE } else { 0 },
            ),
            Class::Bit if opcode.bits == Some(BitOperation::And) => (body::<Bits>(), AND),
            Class::Bit => (body::<Bits>(), 0),
            Class::Half | Class::Brain | Class::Tensor | Class::Float8 => (body::<Floats>(), 0),
        };
        let &Form { shape, a, b, c, d } = form;
        let counts = [(Part::Sum, d), (Part::A, a), (Part::B, b), (Part::Sum, c)]
            .map(|(part, element)| registers(part, shape, element, wmma));
        let op = self.product(instruction, form, run, counts, wmma)?;
        self.builder.code[op].imm = imm;
        Ok(())
    }

    /// The operation of a product, given how many registers D, A, B and C have.
    fn product(
        &mut self,
        instruction: &Instruction,
        form: &Form,
        run: Handler,
        counts: [usize; 4],
        wmma: bool,
    ) -> Result<usize> {
        let [d, a, b, c] = self.operands::<4>(instruction)?;
        let mut sources = Vec::new();
        for (operand, element, count, part) in [
            (a, form.a, counts[1], Part::A),
            (b, form.b, counts[2], Part::B),
            (c, form.c, counts[3], Part::Sum),
        ] {
            let mut found = self.sources(instruction, operand, element.register(), count)?;
            if wmma {
                // Further registers repeat the first ones.
                found.truncate(Layout::new(part, form.shape, element).registers);
            }
            sources.extend(found);
        }
        let targets = self.targets(instruction, d, form.d.register(), counts[0])?;
        let op = self.collective(run);
        self.builder.code[op].a = self.builder.list(op, &sources, false);
        self.builder.code[op].dst = self.builder.list(op, &targets, true);
        self.builder.code[op].b = form.elements_code();
        self.builder.code[op].c = form.shape.code();
        Ok(op)
    }

    fn fragment(
        &mut self,
        instruction: &Instruction,
        opcode: &Opcode,
        part: Part,
        load: bool,
    ) -> Result<()> {
        let (Some(shape), &[element], &[by_columns]) = (
            opcode.shape,
            opcode.elements.as_slice(),
            opcode.layouts.as_slice(),
        ) else {
            return self.unsupported(instruction);
        };
        let since = match part {
            Part::Sum => wmma_sum_since(shape, |class| class.sums_as(element)),
            _ => element.class().and_then(|class| wmma_since(shape, class)),
        };
        let along = element.bits() >= 8 || by_columns == (part == Part::B);
        let Some(since) = since.filter(|_| along && self.plain(opcode)) else {
            return self.unsupported(instruction);
        };
        self.needs_target(instruction, since)?;
        let (operands, stride) = match instruction.operands.as_slice() {
            [first, second] => ([first, second], None),
            [first, second, stride] => {
                let stride = self.source(instruction, stride, ScalarType::U32)?;
                ([first, second], Some(stride))
            }
            others => {
                let message = format!(
                    "`{}` takes 2 or 3 operands, {} are there",
                    instruction.opcode,
                    others.len()
                );
                return self.error(instruction, message);
            }
        };
        let count = registers(part, shape, element, true);
        let op = if load {
            let targets = self.targets(instruction, operands[0], element.register(), count)?;
            let op = self.collective(body::<LoadFragment>());
            self.address(instruction, op, operands[1], opcode.space())?;
            self.builder.code[op].dst = self.builder.list(op, &targets, true);
            op
        } else {
            let sources = self.sources(instruction, operands[1], element.register(), count)?;
            let op = self.collective(body::<StoreFragment>());
            self.address(instruction, op, operands[0], opcode.space())?;
            self.builder.code[op].dst = self.builder.list(op, &sources, false);
            op
        };
        match stride {
            Some(stride) => self.builder.reads(op, Field::B, stride),
            None => self.builder.code[op].b = NONE,
        }
        let stored = Stored {
            shape,
            part,
            element,
            by_columns,
        };
        self.builder.code[op].c = stored.code();
        Ok(())
    }

    fn tiles(&mut self, instruction: &Instruction, opcode: &Opcode, load: bool) -> Result<()> {
        let count = match opcode.tiles {
            Some(count) if opcode.only_tile() => count,
            _ => return self.unsupported(instruction),
        };
        if !matches!(opcode.space(), GENERIC | SHARED) {
            return self.unsupported(instruction);
        }
        self.needs_target(instruction, if load { 75 } else { 90 })?;
        let [first, second] = self.operands::<2>(instruction)?;
        let (address, registers) = if load {
            (second, first)
        } else {
            (first, second)
        };
        let space = if self.must_be_shared(address) {
            SHARED
        } else {
            opcode.space()
        };
        let op = if load {
            let targets = self.targets(instruction, registers, 4, count as usize)?;
            let op = self.collective(body::<LoadTiles>());
            self.builder.code[op].dst = self.builder.list(op, &targets, true);
            op
        } else {
            let sources = self.sources(instruction, registers, 4, count as usize)?;
            let op = self.collective(body::<StoreTiles>());
            self.builder.code[op].dst = self.builder.list(op, &sources, false);
            op
        };
        self.address(instruction, op, address, space)?;
        self.builder.code[op].c = count | if opcode.transposed { TRANSPOSED } else { 0 };
        Ok(())
    }

    /// Tiles lie in shared memory, so an address that cannot be a generic one is of that.
    fn must_be_shared(&mut self, address: &Operand) -> bool {
        match address {
            Operand::Address {
                base: Base::Register(register),
                ..
            } => self.register_type(*register).size() == 4,
            Operand::Address {
                base: Base::Symbol(_),
                ..
            } => true,
            _ => false,
        }
    }

    fn turn(&mut self, instruction: &Instruction, opcode: &Opcode) -> Result<()> {
        let fits = opcode.only_tile()
            && opcode.transposed
            && opcode.tiles.is_none()
            && opcode.space.is_none();
        if !fits {
            return self.unsupported(instruction);
        }
        self.needs_target(instruction, 75)?;
        let [dst, src] = self.operands::<2>(instruction)?;
        let src = self.whole(instruction, src, 4)?;
        let dst = self.whole(instruction, dst, 4)?;
        let op = self.collective(body::<TurnTile>());
        self.builder.reads(op, Field::A, src);
        self.builder.writes(op, Field::Dst, dst);
        Ok(())
    }

    /// An operation that all lanes of a warp must have come to.
    fn collective(&mut self, run: Handler) -> usize {
        self.uses_warps();
        let everyone = self.builder.constant(Constant::Bits(u32::MAX.into()), 4);
        let op = self.builder.push(run, Kind::Collective);
        self.builder.reads(op, Field::D, everyone);
        op
    }

    /// The items of a vector of that many.
    fn items<'i>(
        &self,
        instruction: &Instruction,
        operand: &'i Operand,
        count: usize,
    ) -> Result<&'i [Operand]> {
        let there = match operand {
            Operand::Vector(items) if items.len() == count => return Ok(items),
            Operand::Vector(items) => format!("{} are there", items.len()),
            _ => "no vector is there".to_owned(),
        };
        self.error(
            instruction,
            format!(
                "`{}` takes a vector of {count} where {there}",
                instruction.opcode
            ),
        )
    }

    /// The values of a vector, in registers of that size.
    fn sources(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        size: u32,
        count: usize,
    ) -> Result<Vec<Option<VReg>>> {
        let mut found = Vec::with_capacity(count);
        for item in self.items(instruction, operand, count)? {
            found.push(Some(match item {
                Operand::Int(_) | Operand::F32(_) | Operand::F64(_) => {
                    let ty = if size == 8 {
                        ScalarType::B64
                    } else {
                        ScalarType::B32
                    };
                    self.source(instruction, item, ty)?
                }
                _ => self.whole(instruction, item, size)?,
            }));
        }
        Ok(found)
    }

    /// The registers of a vector that is written; what goes to `_` goes to one that nobody reads.
    fn targets(
        &mut self,
        instruction: &Instruction,
        operand: &Operand,
        size: u32,
        count: usize,
    ) -> Result<Vec<Option<VReg>>> {
        let mut found = Vec::with_capacity(count);
        for item in self.items(instruction, operand, count)? {
            found.push(Some(match item {
                Operand::Discard => self.builder.reg(size),
                _ => self.whole(instruction, item, size)?,
            }));
        }
        Ok(found)
    }

    /// A register of just that size.
    fn whole(&mut self, instruction: &Instruction, operand: &Operand, size: u32) -> Result<VReg> {
        let reg = match operand {
            Operand::Register(register) if self.register_type(*register) != ScalarType::Pred => {
                self.reg_of(*register)
            }
            _ => return self.error(instruction, "a register is needed here"),
        };
        let has = self.builder.size(reg);
        if has == size {
            return Ok(reg);
        }
        self.error(
            instruction,
            format!(
                "a register of {} bits stands where {} bits are needed",
                has * 8,
                size * 8
            ),
        )
    }
}
