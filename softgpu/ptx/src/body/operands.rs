//! Operands of instructions: registers, constants, lists, names, addresses.

use super::*;

const MAX_NESTED: usize = 8;

/// First parts of the names of special registers.
const SPECIAL: &[&str] = &[
    "tid",
    "ntid",
    "ctaid",
    "nctaid",
    "laneid",
    "warpid",
    "nwarpid",
    "smid",
    "nsmid",
    "gridid",
    "clusterid",
    "nclusterid",
    "cluster_ctaid",
    "cluster_nctaid",
    "cluster_ctarank",
    "cluster_nctarank",
    "is_explicit_cluster",
    "lanemask_eq",
    "lanemask_le",
    "lanemask_lt",
    "lanemask_ge",
    "lanemask_gt",
    "clock",
    "clock64",
    "clock_hi",
    "globaltimer",
    "globaltimer_lo",
    "globaltimer_hi",
    "dynamic_smem_size",
    "total_smem_size",
    "aggr_smem_size",
    "current_graph_exec",
];

impl<'t> Body<'_, 't, '_> {
    pub(super) fn operand(&mut self, depth: usize) -> Result<Operand> {
        if depth > MAX_NESTED {
            return self.parser.expected("fewer brackets within each other");
        }
        let first = self.single(depth)?;
        if self.parser.eat('|') {
            let second = self.single(depth)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, close: char, depth: usize) -> Result<Vec<Operand>> {
        let mut items = Vec::new();
        while !self.parser.eat(close) {
            if items.len() == MAX_OPERANDS {
                return self
                    .parser
                    .expected(&format!("no more than {MAX_OPERANDS} operands"));
            }
            items.push(self.operand(depth + 1)?);
            if !self.parser.is(close) {
                self.parser.need(',')?;
            }
        }
        Ok(items)
    }

    fn single(&mut self, depth: usize) -> Result<Operand> {
        match self.parser.peek() {
            Token::Punct('{') => {
                self.parser.advance();
                Ok(Operand::Vector(self.list('}', depth)?))
            }
            Token::Punct('(') => {
                self.parser.advance();
                Ok(Operand::List(self.list(')', depth)?))
            }
            Token::Punct('[') => self.address(depth),
            Token::Punct('!') => {
                self.parser.advance();
                let span = self.parser.span();
                let name = self.parser.word("a predicate register")?;
                match self.register(name)?.and_then(Named::scalar) {
                    Some(register) => Ok(Operand::Negated(register)),
                    None => self
                        .parser
                        .error_at(span, format!("`{name}` is no register")),
                }
            }
            Token::Punct('-') => {
                self.parser.advance();
                if let Token::Word(name) = self.parser.peek() {
                    return match self.named(name)? {
                        Operand::Register(register) => Ok(Operand::Part {
                            register,
                            select: "".into(),
                            negated: true,
                        }),
                        Operand::Part {
                            register, select, ..
                        } => Ok(Operand::Part {
                            register,
                            select,
                            negated: true,
                        }),
                        _ => self.parser.expected("a number or a register after `-`"),
                    };
                }
                match self.parser.advance().token {
                    Token::Int(value) => Ok(Operand::Int(value.wrapping_neg())),
                    Token::F32(bits) => Ok(Operand::F32(bits ^ 0x8000_0000)),
                    Token::F64(bits) => Ok(Operand::F64(bits ^ (1 << 63))),
                    _ => self.parser.expected("a number after `-`"),
                }
            }
            Token::Int(value) => {
                self.parser.advance();
                Ok(Operand::Int(value))
            }
            Token::F32(bits) => {
                self.parser.advance();
                Ok(Operand::F32(bits))
            }
            Token::F64(bits) => {
                self.parser.advance();
                Ok(Operand::F64(bits))
            }
            Token::Word("_") => {
                self.parser.advance();
                Ok(Operand::Discard)
            }
            Token::Word("WARP_SZ") => {
                self.parser.advance();
                Ok(Operand::Int(32))
            }
            Token::Word(name) => self.named(name),
            _ => self.parser.expected("an operand"),
        }
    }

    fn named(&mut self, name: &'t str) -> Result<Operand> {
        let span = self.parser.span();
        self.parser.advance();
        if let Some(named) = self.register(name)? {
            if let (Some(register), Token::Dot(select)) = (named.scalar(), self.parser.peek())
                && is_selector(select)
            {
                self.parser.advance();
                return Ok(Operand::Part {
                    register,
                    select: select.into(),
                    negated: false,
                });
            }
            let component = match self.parser.peek() {
                Token::Dot("x" | "r") => Some(0),
                Token::Dot("y" | "g") => Some(1),
                Token::Dot("z" | "b") => Some(2),
                Token::Dot("w" | "a") => Some(3),
                _ => None,
            };
            return match component {
                Some(index) if named.parts > index.max(1) => {
                    self.parser.advance();
                    Ok(Operand::Register(named.part(index)))
                }
                Some(_) => self
                    .parser
                    .expected("a component that the register has, or none"),
                None => Ok(named.operand()),
            };
        }
        if let Some(special) = name.strip_prefix('%') {
            let known = SPECIAL.contains(&special)
                || ["envreg", "pm", "reserved_smem_offset"]
                    .iter()
                    .any(|stem| special.starts_with(stem));
            if !known {
                return self
                    .parser
                    .error_at(span, format!("register `{name}` is not declared"));
            }
            let mut whole = name.to_owned();
            if let Token::Dot(component @ ("x" | "y" | "z" | "w")) = self.parser.peek() {
                self.parser.advance();
                whole.push('.');
                whole.push_str(component);
            }
            return Ok(Operand::Special(whole));
        }
        let (name, mut offset) = self.symbol(name)?;
        offset = offset.wrapping_add(self.parser.offset()?);
        Ok(Operand::Symbol { name, offset })
    }

    /// The unique name of a symbol, and the offset of an index behind it: `array[2]`.
    fn symbol(&mut self, name: &str) -> Result<(String, i64)> {
        let unique = self
            .variable(name)
            .cloned()
            .unwrap_or_else(|| name.to_owned());
        if !self.parser.eat('[') {
            return Ok((unique, 0));
        }
        let span = self.parser.span();
        let index = self.parser.int("an index")? as i64;
        self.parser.need(']')?;
        let variable = self
            .function
            .variables
            .iter()
            .find(|variable| variable.name == unique);
        let size = match variable {
            Some(variable) => i64::from(variable.element.size() * variable.vector),
            None if index == 0 => 0,
            None => {
                return self
                    .parser
                    .error_at(span, format!("`{name}` is no array of this function"));
            }
        };
        Ok((unique, index.wrapping_mul(size)))
    }

    fn address(&mut self, depth: usize) -> Result<Operand> {
        self.parser.need('[')?;
        let base = match self.parser.peek() {
            Token::Word(name) => {
                let span = self.parser.span();
                self.parser.advance();
                match self.register(name)? {
                    Some(named) => match named.scalar() {
                        Some(register) => (Base::Register(register), 0),
                        None => {
                            return self
                                .parser
                                .error_at(span, format!("`{name}` is no single register"));
                        }
                    },
                    None if name.starts_with('%') => {
                        return self
                            .parser
                            .error_at(span, format!("register `{name}` is not declared"));
                    }
                    None => {
                        let (name, offset) = self.symbol(name)?;
                        (Base::Symbol(name), offset)
                    }
                }
            }
            Token::Int(_) | Token::Punct('-') => {
                (Base::Absolute, self.parser.int("an address")? as i64)
            }
            _ => return self.parser.expected("a register, a variable or a number"),
        };
        let offset = base.1.wrapping_add(self.parser.offset()?);
        let address = Operand::Address {
            base: base.0,
            offset,
        };
        if self.parser.eat(',') {
            // Textures and tensors: `[name, {x, y}]`.
            let mut items = vec![address];
            items.extend(self.list(']', depth)?);
            return Ok(Operand::List(items));
        }
        self.parser.need(']')?;
        self.parser.eat_dot("unified");
        Ok(address)
    }
}
