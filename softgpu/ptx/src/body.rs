//! Bodies of functions: scopes, registers, labels, instructions.

mod operands;

use std::collections::HashMap;

use crate::lexer::Token;
use crate::parser::{MAX_DEPTH, Names, Parser, Result};
use crate::{
    Base, BranchTable, CallTargets, Function, Guard, Instruction, Label, LabelId, Linkage, Operand,
    Param, Prototype, RegId, Register, ScalarType, Space, Span,
};

/// Registers that a function really uses.
const MAX_REGISTERS: usize = 1 << 20;
const MAX_OPERANDS: usize = 4096;

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    exact: Names<Named>,
    /// `%r<10>`: prefix to count and type.
    ranges: Names<(u64, Shape)>,
    /// Variables, under the unique name that the function knows them by.
    variables: Names<String>,
    labels: Names<LabelId>,
}

/// What a declaration makes of each name: so many registers of a type.
#[derive(Clone, Copy)]
struct Shape {
    ty: ScalarType,
    parts: u32,
}

/// A name's registers, one behind the other.
#[derive(Clone, Copy)]
struct Named {
    first: RegId,
    parts: u32,
}

impl Named {
    fn scalar(self) -> Option<RegId> {
        (self.parts == 1).then_some(self.first)
    }

    fn part(self, index: u32) -> RegId {
        RegId(self.first.0 + index)
    }

    fn operand(self) -> Operand {
        match self.scalar() {
            Some(register) => Operand::Register(register),
            None => Operand::Vector(
                (0..self.parts)
                    .map(|index| Operand::Register(self.part(index)))
                    .collect(),
            ),
        }
    }
}

/// Bytes or halves that a video instruction picks: `b0`, `b3210`, `h1`, `h32`.
fn is_selector(word: &str) -> bool {
    let digits = word.strip_prefix(['b', 'h']).unwrap_or("");
    matches!(digits.len(), 1..=4) && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'))
}

/// A label by name, to be looked up when all are known.
struct Pending {
    scope: usize,
    name: String,
    span: Span,
    place: Place,
}

enum Place {
    Operand { instruction: usize, operand: usize },
    Table { table: usize, index: usize },
}

struct Body<'p, 't, 'f> {
    parser: &'p mut Parser<'t>,
    function: &'f mut Function,
    scopes: Vec<Scope>,
    scope: usize,
    depth: usize,
    unique: HashMap<String, u32>,
    pending: Vec<Pending>,
}

pub fn read(
    parser: &mut Parser<'_>,
    function: &mut Function,
    returns: Vec<(Param, bool)>,
    params: Vec<(Param, bool)>,
) -> Result<()> {
    let scopes = vec![Scope::default()];
    let mut body = Body {
        parser,
        function,
        scopes,
        scope: 0,
        depth: 0,
        unique: HashMap::new(),
        pending: Vec::new(),
    };
    body.function.returns = body.own_params(returns)?;
    body.function.params = body.own_params(params)?;
    body.block()?;
    body.resolve()
}

impl<'t> Body<'_, 't, '_> {
    fn own_params(&mut self, params: Vec<(Param, bool)>) -> Result<Vec<Param>> {
        let mut own = Vec::with_capacity(params.len());
        for (mut param, register) in params {
            if register {
                if param.element == ScalarType::B128 {
                    return self
                        .parser
                        .expected("a parameter of no more than 64 bits in a register");
                }
                let named = self.new_registers(Shape {
                    ty: param.element,
                    parts: 1,
                })?;
                self.scopes[0].exact.insert(param.name.clone(), named);
                param.register = Some(named.first);
            } else {
                self.scopes[0]
                    .variables
                    .insert(param.name.clone(), param.name.clone());
            }
            own.push(param);
        }
        Ok(own)
    }

    fn new_registers(&mut self, shape: Shape) -> Result<Named> {
        let first = self.function.registers.len();
        if first + shape.parts as usize > MAX_REGISTERS {
            return self.parser.expected(&format!(
                "no more than {MAX_REGISTERS} registers in a function"
            ));
        }
        for _ in 0..shape.parts {
            self.function.registers.push(Register { ty: shape.ty });
        }
        Ok(Named {
            first: RegId(first as u32),
            parts: shape.parts,
        })
    }

    fn block(&mut self) -> Result<()> {
        self.parser.need('{')?;
        loop {
            match self.parser.peek() {
                Token::Punct('{') => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return self.parser.expected(&format!(
                            "no more than {MAX_DEPTH} braces within each other"
                        ));
                    }
                    self.parser.advance();
                    self.scopes.push(Scope {
                        parent: Some(self.scope),
                        ..Scope::default()
                    });
                    self.scope = self.scopes.len() - 1;
                }
                Token::Punct('}') => {
                    self.parser.advance();
                    if self.depth == 0 {
                        return Ok(());
                    }
                    self.depth -= 1;
                    self.scope = self.scopes[self.scope].parent.unwrap_or(0);
                }
                Token::Punct(';') => {
                    self.parser.advance();
                }
                Token::Dot(word) => self.directive(word)?,
                Token::Punct('@') => self.instruction()?,
                Token::Word(name) if self.parser.peek_ahead(1) == Token::Punct(':') => {
                    self.label(name)?
                }
                Token::Word(_) => self.instruction()?,
                Token::End => {
                    let message = format!("the body of `{}` has no end", self.function.name);
                    return self.parser.error_at(self.parser.span(), message);
                }
                _ => {
                    return self
                        .parser
                        .expected("an instruction, a label or a directive");
                }
            }
        }
    }

    fn directive(&mut self, word: &str) -> Result<()> {
        match word {
            "loc" | "file" => self.parser.skip_line(),
            "pragma" => {
                while !self.parser.eat(';') {
                    if self.parser.advance().token == Token::End {
                        return self.parser.expected("`;`");
                    }
                }
            }
            "reg" => {
                self.parser.advance();
                self.registers()?;
            }
            _ => {
                while matches!(
                    self.parser.peek(),
                    Token::Dot("visible" | "extern" | "weak")
                ) {
                    self.parser.advance();
                }
                let Some(space) = self.parser.space() else {
                    return self
                        .parser
                        .expected("a directive such as `.reg`, `.local` or `.shared`");
                };
                self.locals(space)?;
            }
        }
        Ok(())
    }

    fn registers(&mut self) -> Result<()> {
        let declared_type = self.parser.declared_type()?;
        if declared_type.opaque.is_some() {
            return self.parser.expected("a type that registers have");
        }
        let shape = match (declared_type.element, declared_type.vector) {
            (ScalarType::B128, 1) => Shape {
                ty: ScalarType::B64,
                parts: 2,
            },
            (ScalarType::B128 | ScalarType::Pred, 2..) => {
                return self.parser.expected("a vector of another type");
            }
            (ty, parts) => Shape { ty, parts },
        };
        loop {
            let declared = self.parser.declarator(declared_type)?;
            match declared.count {
                Some(count) => {
                    self.scopes[self.scope]
                        .ranges
                        .insert(declared.name, (count, shape));
                }
                None => {
                    let named = self.new_registers(shape)?;
                    self.scopes[self.scope].exact.insert(declared.name, named);
                }
            }
            if !self.parser.eat(',') {
                return self.parser.need(';');
            }
        }
    }

    fn locals(&mut self, space: Space) -> Result<()> {
        let mut found = Vec::new();
        self.parser
            .variables(space, Linkage::Internal, &mut found)?;
        for mut variable in found {
            let name = variable.name.clone();
            let seen = self.unique.entry(name.clone()).or_insert(0);
            *seen += 1;
            let taken = *seen > 1 || self.scopes[0].variables.contains_key(&name);
            if taken {
                variable.name = format!("{name}@{seen}");
            }
            self.scopes[self.scope]
                .variables
                .insert(name, variable.name.clone());
            if space == Space::Param {
                self.function.call_params.push(Param {
                    name: variable.name,
                    element: variable.element,
                    size: variable.size,
                    align: variable.align,
                    register: None,
                });
            } else {
                self.function.variables.push(variable);
            }
        }
        Ok(())
    }

    fn label(&mut self, name: &str) -> Result<()> {
        let span = self.parser.span();
        self.parser.advance();
        self.parser.advance();
        match self.parser.peek() {
            Token::Dot("branchtargets") => {
                self.parser.advance();
                let table = self.function.tables.len();
                let mut targets = Vec::new();
                loop {
                    let span = self.parser.span();
                    let target = self.parser.word("a label")?.to_owned();
                    let place = Place::Table {
                        table,
                        index: targets.len(),
                    };
                    self.pending.push(Pending {
                        scope: self.scope,
                        name: target,
                        span,
                        place,
                    });
                    targets.push(LabelId(0));
                    if !self.parser.eat(',') {
                        break;
                    }
                }
                self.function.tables.push(BranchTable {
                    name: name.to_owned(),
                    targets,
                });
                self.parser.need(';')
            }
            Token::Dot("callprototype") => {
                self.parser.advance();
                let strip = |params: Vec<(Param, bool)>| {
                    params.into_iter().map(|(param, _)| param).collect()
                };
                let returns = if self.parser.is('(') {
                    strip(self.parser.params()?)
                } else {
                    Vec::new()
                };
                self.parser.word("`_`")?;
                let params = if self.parser.is('(') {
                    strip(self.parser.params()?)
                } else {
                    Vec::new()
                };
                while matches!(self.parser.peek(), Token::Dot(_) | Token::Int(_)) {
                    self.parser.advance();
                }
                self.function.prototypes.push(Prototype {
                    name: name.to_owned(),
                    returns,
                    params,
                });
                self.parser.need(';')
            }
            Token::Dot("calltargets") => {
                self.parser.advance();
                let mut functions = Vec::new();
                loop {
                    functions.push(self.parser.word("the name of a function")?.to_owned());
                    if !self.parser.eat(',') {
                        break;
                    }
                }
                self.function.targets.push(CallTargets {
                    name: name.to_owned(),
                    functions,
                });
                self.parser.need(';')
            }
            _ => {
                let id = LabelId(self.function.labels.len() as u32);
                let position = self.function.body.len() as u32;
                self.function.labels.push(Label {
                    name: name.to_owned(),
                    position,
                });
                if self.scopes[self.scope]
                    .labels
                    .insert(name.to_owned(), id)
                    .is_some()
                {
                    return self
                        .parser
                        .error_at(span, format!("label `{name}` is there twice"));
                }
                Ok(())
            }
        }
    }

    /// The registers of that name, from the innermost scope that has it.
    fn register(&mut self, name: &str) -> Result<Option<Named>> {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        let canonical = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
        let number = if canonical {
            digits.parse::<u64>().ok()
        } else {
            None
        };
        let mut scope = Some(self.scope);
        while let Some(index) = scope {
            if let Some(&named) = self.scopes[index].exact.get(name) {
                return Ok(Some(named));
            }
            // A digit may belong to the prefix: `%f32_<4>` is fine, `%r1<4>` declares %r10 … %r13.
            let mut cut = stem.len();
            while cut < name.len() && number.is_some() {
                let (prefix, rest) = name.split_at(cut);
                let plain = rest == "0" || !rest.starts_with('0');
                if let (Some(&(count, shape)), true, Ok(at)) = (
                    self.scopes[index].ranges.get(prefix),
                    plain,
                    rest.parse::<u64>(),
                ) && at < count
                {
                    let named = self.new_registers(shape)?;
                    self.scopes[index].exact.insert(name.to_owned(), named);
                    return Ok(Some(named));
                }
                cut += 1;
            }
            scope = self.scopes[index].parent;
        }
        Ok(None)
    }

    fn variable(&self, name: &str) -> Option<&String> {
        let mut scope = Some(self.scope);
        while let Some(index) = scope {
            if let Some(unique) = self.scopes[index].variables.get(name) {
                return Some(unique);
            }
            scope = self.scopes[index].parent;
        }
        None
    }

    fn instruction(&mut self) -> Result<()> {
        let mut guard = None;
        if self.parser.eat('@') {
            let negated = self.parser.eat('!');
            let span = self.parser.span();
            let name = self.parser.word("a predicate register")?;
            match self.register(name)?.and_then(Named::scalar) {
                Some(register)
                    if self.function.registers[register.0 as usize].ty == ScalarType::Pred =>
                {
                    guard = Some(Guard { register, negated });
                }
                _ => {
                    return self
                        .parser
                        .error_at(span, format!("`{name}` is no predicate register"));
                }
            }
        }
        let first = self.parser.lexeme();
        self.parser.word("an instruction")?;
        let mut end = first.end;
        while let (Token::Dot(_), true) = (self.parser.peek(), self.parser.lexeme().start == end) {
            end = self.parser.advance().end;
        }
        let opcode: Box<str> = self.parser.text[first.start as usize..end as usize].into();
        let branch = opcode.split('.').next() == Some("bra");
        let instruction = self.function.body.len();
        let mut operands = Vec::new();
        while !self.parser.is(';') {
            if !operands.is_empty() {
                // A call's argument list follows its target after a comma, too.
                self.parser.need(',')?;
            }
            if operands.len() == MAX_OPERANDS {
                return self
                    .parser
                    .expected(&format!("no more than {MAX_OPERANDS} operands"));
            }
            let span = self.parser.span();
            let operand = match self.parser.peek() {
                Token::Word(name) if branch => {
                    self.parser.advance();
                    let place = Place::Operand {
                        instruction,
                        operand: operands.len(),
                    };
                    self.pending.push(Pending {
                        scope: self.scope,
                        name: name.to_owned(),
                        span,
                        place,
                    });
                    Operand::Label(LabelId(0))
                }
                _ => self.operand(0)?,
            };
            operands.push(operand);
        }
        self.parser.need(';')?;
        self.function.body.push(Instruction {
            opcode,
            guard,
            operands,
            span: first.span,
        });
        Ok(())
    }

    fn resolve(&mut self) -> Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            let mut scope = Some(pending.scope);
            let mut found = None;
            while let (Some(index), None) = (scope, found) {
                found = self.scopes[index].labels.get(&pending.name).copied();
                scope = self.scopes[index].parent;
            }
            let Some(label) = found else {
                return self
                    .parser
                    .error_at(pending.span, format!("label `{}` is nowhere", pending.name));
            };
            match pending.place {
                Place::Operand {
                    instruction,
                    operand,
                } => {
                    self.function.body[instruction].operands[operand] = Operand::Label(label);
                }
                Place::Table { table, index } => self.function.tables[table].targets[index] = label,
            }
        }
        Ok(())
    }
}
