//! From tokens to a module: directives and declarations. Bodies of functions are read in `body`.

mod opaque;

use std::collections::HashMap;

use crate::body;
use crate::lexer::{Lexeme, Token, describe, tokens};
use crate::{
    Alias, Function, Init, LaunchBounds, Linkage, Module, Opaque, Param, ParseError, ScalarType,
    Space, Span, Variable,
};

/// Largest text, in bytes.
pub const MAX_TEXT: usize = 256 << 20;
/// Largest variable or parameter, in bytes.
const MAX_VARIABLE: u64 = 1 << 40;
/// Elements of all initialisers of a module.
const MAX_INIT: usize = 64 << 20;
/// Functions and variables of a module.
const MAX_SYMBOLS: usize = 1 << 20;
/// Braces or parentheses within each other.
pub const MAX_DEPTH: usize = 64;

pub type Result<T> = std::result::Result<T, ParseError>;

pub struct Parser<'t> {
    pub text: &'t str,
    all: Vec<Lexeme<'t>>,
    at: usize,
    init_elements: usize,
}

/// Type of a declaration: `.align 4 .v2 .b8`.
#[derive(Clone, Copy)]
pub struct DeclaredType {
    pub element: ScalarType,
    pub vector: u32,
    /// 0: that of the type.
    pub align: u64,
    pub opaque: Option<Opaque>,
    pub managed: bool,
}

/// What follows a declaration's state space: `.align 4 .v2 .b8 name[16]`.
pub struct Declarator {
    pub name: String,
    pub size: u64,
    pub align: u64,
    pub span: Span,
    /// For `name<10>` of registers.
    pub count: Option<u64>,
}

pub fn parse(text: &str) -> Result<Module> {
    if text.len() > MAX_TEXT {
        let message = format!("the text has {} bytes, more than {MAX_TEXT}", text.len());
        return Err(ParseError {
            line: 1,
            column: 1,
            message,
        });
    }
    let mut parser = Parser {
        text,
        all: tokens(text)?,
        at: 0,
        init_elements: 0,
    };
    parser.module()
}

impl<'t> Parser<'t> {
    pub fn peek(&self) -> Token<'t> {
        self.all[self.at].token
    }

    pub fn peek_ahead(&self, ahead: usize) -> Token<'t> {
        self.all[(self.at + ahead).min(self.all.len() - 1)].token
    }

    pub fn lexeme(&self) -> Lexeme<'t> {
        self.all[self.at]
    }

    pub fn span(&self) -> Span {
        self.all[self.at].span
    }

    /// Take the next token; the end stays where it is.
    pub fn advance(&mut self) -> Lexeme<'t> {
        let lexeme = self.all[self.at];
        if self.at + 1 < self.all.len() {
            self.at += 1;
        }
        lexeme
    }

    pub fn error_at<T>(&self, span: Span, message: impl Into<String>) -> Result<T> {
        Err(ParseError {
            line: span.line,
            column: span.column,
            message: message.into(),
        })
    }

    pub fn expected<T>(&self, what: &str) -> Result<T> {
        self.error_at(
            self.span(),
            format!("expected {what}, found {}", describe(self.peek())),
        )
    }

    pub fn is(&self, punct: char) -> bool {
        self.peek() == Token::Punct(punct)
    }

    pub fn eat(&mut self, punct: char) -> bool {
        let found = self.is(punct);
        if found {
            self.advance();
        }
        found
    }

    pub fn need(&mut self, punct: char) -> Result<()> {
        if self.eat(punct) {
            Ok(())
        } else {
            self.expected(&format!("`{punct}`"))
        }
    }

    pub fn eat_dot(&mut self, word: &str) -> bool {
        let found = self.peek() == Token::Dot(word);
        if found {
            self.advance();
        }
        found
    }

    pub fn word(&mut self, what: &str) -> Result<&'t str> {
        match self.peek() {
            Token::Word(word) => {
                self.advance();
                Ok(word)
            }
            _ => self.expected(what),
        }
    }

    pub fn int(&mut self, what: &str) -> Result<u64> {
        let negative = self.eat('-');
        match self.peek() {
            Token::Int(value) => {
                self.advance();
                Ok(if negative {
                    value.wrapping_neg()
                } else {
                    value
                })
            }
            Token::Word("WARP_SZ") => {
                self.advance();
                Ok(32)
            }
            _ => self.expected(what),
        }
    }

    fn small(&mut self, what: &str) -> Result<u32> {
        let span = self.span();
        let value = self.int(what)?;
        match u32::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => self.error_at(span, format!("{what} is too large: {value}")),
        }
    }

    /// Skip the rest of the source line: `.loc` and `.file` have no end of their own.
    pub fn skip_line(&mut self) {
        let line = self.span().line;
        while self.span().line == line && self.peek() != Token::End {
            self.advance();
        }
    }

    /// Skip `{ … }`.
    fn skip_braces(&mut self) -> Result<()> {
        self.need('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.advance().token {
                Token::Punct('{') => depth += 1,
                Token::Punct('}') => depth -= 1,
                Token::End => return self.expected("`}` of this section"),
                _ => {}
            }
        }
        Ok(())
    }

    fn module(&mut self) -> Result<Module> {
        let mut module = Module {
            // PTX's default is 32, but compilers for hosts of 64 bits take the host's, and so older texts do not say it.
            address_size: 64,
            ..Module::default()
        };
        if !self.eat_dot("version") {
            return self.expected("`.version`, with which a PTX text starts");
        }
        let span = self.span();
        module.version = match self.advance().token {
            Token::F64(bits) => {
                let value = f64::from_bits(bits);
                (
                    value as u32,
                    ((value - value.floor()) * 10.0).round() as u32,
                )
            }
            Token::Int(major) if major < 1000 => (major as u32, 0),
            _ => return self.error_at(span, "expected a version such as 8.0"),
        };
        loop {
            let span = self.span();
            if module.functions.len() + module.variables.len() > MAX_SYMBOLS {
                return self.error_at(
                    span,
                    format!("more than {MAX_SYMBOLS} functions and variables"),
                );
            }
            match self.peek() {
                Token::End => return Ok(module),
                Token::Dot("target") => {
                    self.advance();
                    module.target = self.word("a target such as sm_86")?.to_owned();
                    while self.eat(',') {
                        self.word("a target option")?;
                    }
                }
                Token::Dot("address_size") => {
                    self.advance();
                    module.address_size = self.small("the address size")?;
                }
                Token::Dot("file" | "loc") => self.skip_line(),
                Token::Dot("section") => {
                    self.advance();
                    self.advance();
                    self.skip_braces()?;
                }
                Token::Dot("pragma") => {
                    while !self.eat(';') {
                        if self.advance().token == Token::End {
                            return self.expected("`;`");
                        }
                    }
                }
                Token::Dot("alias") => {
                    self.advance();
                    let name = self.word("the name of an alias")?.to_owned();
                    self.need(',')?;
                    let function = self.word("the name of a function")?.to_owned();
                    self.need(';')?;
                    module.aliases.push(Alias {
                        name,
                        function,
                        span,
                    });
                }
                Token::Punct('@') => self.skip_line(),
                Token::Punct(';') => {
                    self.advance();
                }
                Token::Dot(_) => self.declaration(&mut module)?,
                _ => return self.expected("a directive such as `.entry` or `.global`"),
            }
        }
    }

    fn declaration(&mut self, module: &mut Module) -> Result<()> {
        let mut linkage = Linkage::Internal;
        loop {
            let Token::Dot(word) = self.peek() else {
                return self.expected("a directive");
            };
            match word {
                "visible" => linkage = Linkage::Visible,
                "weak" => linkage = Linkage::Weak,
                "extern" => linkage = Linkage::Extern,
                "common" => linkage = Linkage::Common,
                "entry" | "func" => {
                    self.advance();
                    let function = self.function(word == "entry", linkage)?;
                    module.functions.push(function);
                    return Ok(());
                }
                // The state space of textures before they had types.
                "tex" => {
                    self.advance();
                    return self.old_textures(linkage, &mut module.variables);
                }
                _ => {
                    let Some(space) = self.space() else {
                        return self
                            .expected("`.entry`, `.func` or a state space such as `.global`");
                    };
                    return self.variables(space, linkage, &mut module.variables);
                }
            }
            self.advance();
        }
    }

    /// Take a state space that variables are declared in.
    pub fn space(&mut self) -> Option<Space> {
        let Token::Dot(word) = self.peek() else {
            return None;
        };
        let space = match word {
            "global" => Space::Global,
            "const" => Space::Const,
            "shared" | "shared::cta" => Space::Shared,
            "local" => Space::Local,
            "param" => Space::Param,
            _ => return None,
        };
        self.advance();
        Some(space)
    }

    /// `.align 4 .b8 a[4] = {1, 2}, b[8];`
    pub fn variables(
        &mut self,
        space: Space,
        linkage: Linkage,
        into: &mut Vec<Variable>,
    ) -> Result<()> {
        let ty = self.declared_type()?;
        let element = ty.element;
        loop {
            let declared = self.declarator(ty)?;
            self.check_opaque(ty, space, &declared)?;
            if ty.managed && (space != Space::Global || ty.opaque.is_some()) {
                let message = format!(
                    "`{}`: only variables of `.global` are managed",
                    declared.name
                );
                return self.error_at(declared.span, message);
            }
            let init = match (self.eat('='), ty.opaque) {
                (false, _) => Vec::new(),
                (true, Some(_)) => self.fields()?,
                (true, None) => self.initialiser(declared.size, element)?,
            };
            let mut size = declared.size;
            if size == 0 {
                size = init.len() as u64 * u64::from(element.size());
            }
            into.push(Variable {
                name: declared.name,
                space,
                linkage,
                element,
                opaque: ty.opaque,
                managed: ty.managed,
                vector: ty.vector,
                size,
                align: declared.align,
                init,
                span: declared.span,
            });
            if !self.eat(',') {
                break;
            }
        }
        self.need(';')
    }

    /// Type of a declaration with what may stand around it, in any order.
    pub fn declared_type(&mut self) -> Result<DeclaredType> {
        let (mut element, mut vector, mut align, mut opaque) = (None, 1, 0, None);
        let mut managed = false;
        while let Token::Dot(word) = self.peek() {
            let span = self.span();
            match word {
                "align" => {
                    self.advance();
                    align = self.int("an alignment")?;
                    if !align.is_power_of_two() || align > 4096 {
                        return self.error_at(
                            span,
                            format!("alignment {align} is no power of two up to 4096"),
                        );
                    }
                    continue;
                }
                "v2" => vector = 2,
                "v4" => vector = 4,
                "v8" => vector = 8,
                "attribute" => {
                    self.advance();
                    self.need('(')?;
                    while !self.eat(')') {
                        match self.advance().token {
                            Token::Dot("managed") => managed = true,
                            Token::End => return self.expected("`)`"),
                            _ => {}
                        }
                    }
                    continue;
                }
                // `.param .u64 .ptr .global .align 4 name`: says something of what the pointer points to.
                "ptr" => {
                    self.advance();
                    while let Token::Dot(word) = self.peek() {
                        self.advance();
                        if word == "align" {
                            self.int("an alignment")?;
                        }
                    }
                    break;
                }
                _ => match (ScalarType::parse(word), Opaque::parse(word)) {
                    (Some(found), _) if element.is_none() => element = Some(found),
                    (_, Some(found)) if element.is_none() => {
                        element = Some(ScalarType::B64);
                        opaque = Some(found);
                    }
                    _ => return self.expected("a type such as `.f32` or a name"),
                },
            }
            self.advance();
        }
        match element {
            Some(element) => Ok(DeclaredType {
                element,
                vector,
                align,
                opaque,
                managed,
            }),
            None => self.expected("a type such as `.f32`"),
        }
    }

    pub fn declarator(&mut self, ty: DeclaredType) -> Result<Declarator> {
        let DeclaredType {
            element,
            vector,
            align,
            ..
        } = ty;
        let span = self.span();
        let name = self.word("a name")?.to_owned();
        let natural = u64::from(element.size()) * u64::from(vector);
        let mut size = natural;
        let mut count = None;
        if self.eat('<') {
            count = Some(self.int("a count of registers")?);
            self.need('>')?;
        }
        while self.eat('[') {
            let elements = if self.is(']') {
                0
            } else {
                self.int("a number of elements")?
            };
            self.need(']')?;
            size = match size.checked_mul(elements) {
                Some(size) if size <= MAX_VARIABLE => size,
                _ => {
                    return self.error_at(
                        span,
                        format!("`{name}` is larger than {MAX_VARIABLE} bytes"),
                    );
                }
            };
        }
        let align = if align == 0 {
            natural.next_power_of_two()
        } else {
            align
        };
        Ok(Declarator {
            name,
            size,
            align,
            span,
            count,
        })
    }

    fn initialiser(&mut self, size: u64, element: ScalarType) -> Result<Vec<Init>> {
        let mut values = Vec::new();
        let span = self.span();
        self.init_value(&mut values, 0)?;
        if size > 0 && values.len() as u64 * u64::from(element.size()) > size {
            return self.error_at(span, "the initialiser is larger than the variable");
        }
        Ok(values)
    }

    fn init_value(&mut self, into: &mut Vec<Init>, depth: usize) -> Result<()> {
        if depth > 8 {
            return self.expected("fewer braces within each other");
        }
        if self.eat('{') {
            while !self.eat('}') {
                self.init_value(into, depth + 1)?;
                if !self.is('}') {
                    self.need(',')?;
                }
            }
            return Ok(());
        }
        self.init_elements += 1;
        if self.init_elements > MAX_INIT {
            return self.expected(&format!("no more than {MAX_INIT} initial values"));
        }
        let negative = self.eat('-');
        let value = match self.advance().token {
            Token::Int(mask) if self.is('(') => {
                self.advance();
                let inner = self.init_address()?;
                self.need(')')?;
                match inner {
                    Init::Address {
                        symbol,
                        offset,
                        generic,
                        ..
                    } => Init::Address {
                        symbol,
                        offset,
                        generic,
                        mask: Some(mask),
                    },
                    other => other,
                }
            }
            Token::Int(value) => Init::Int(if negative {
                value.wrapping_neg()
            } else {
                value
            }),
            Token::F32(bits) => {
                Init::Float(f64::from(f32::from_bits(bits)) * if negative { -1.0 } else { 1.0 })
            }
            Token::F64(bits) => {
                Init::Float(f64::from_bits(bits) * if negative { -1.0 } else { 1.0 })
            }
            Token::Word(_) if !negative => {
                self.at -= 1;
                self.init_address()?
            }
            _ => {
                self.at -= 1;
                return self.expected("an initial value");
            }
        };
        into.push(value);
        Ok(())
    }

    fn init_address(&mut self) -> Result<Init> {
        let mut symbol = self.word("the name of a variable")?.to_owned();
        let generic = symbol == "generic" && self.eat('(');
        if generic {
            symbol = self.word("the name of a variable")?.to_owned();
            self.need(')')?;
        }
        let offset = self.offset()?;
        Ok(Init::Address {
            symbol,
            offset,
            generic,
            mask: None,
        })
    }

    /// `+8`, `-4`, `+-4` or nothing.
    pub fn offset(&mut self) -> Result<i64> {
        let mut total = 0i64;
        loop {
            let negative = if self.eat('+') {
                false
            } else if self.is('-') {
                self.advance();
                true
            } else {
                return Ok(total);
            };
            let value = self.int("an offset")? as i64;
            total = total.wrapping_add(if negative {
                value.wrapping_neg()
            } else {
                value
            });
        }
    }

    /// `(.param .b64 a, .reg .f32 b)`; registers get their ids in `body`.
    pub fn params(&mut self) -> Result<Vec<(Param, bool)>> {
        let mut params = Vec::new();
        self.need('(')?;
        while !self.eat(')') {
            let register = self.eat_dot("reg");
            if !register && !self.eat_dot("param") {
                return self.expected("`.param` or `.reg`");
            }
            let ty = self.declared_type()?;
            if register && ty.opaque.is_some() {
                return self.expected("a type that registers have");
            }
            let declared = if matches!(self.peek(), Token::Word(_)) {
                self.declarator(ty)?
            } else {
                return self.expected("the name of a parameter");
            };
            let (size, align) = (declared.size, declared.align);
            params.push((
                Param {
                    name: declared.name,
                    element: ty.element,
                    size,
                    align,
                    register: None,
                },
                register,
            ));
            if !self.is(')') {
                self.need(',')?;
            }
        }
        Ok(params)
    }

    fn dimensions(&mut self) -> Result<[u32; 3]> {
        let mut sizes = [1; 3];
        for (index, size) in sizes.iter_mut().enumerate() {
            if index > 0 && !self.eat(',') {
                break;
            }
            *size = self.small("a number of threads")?;
        }
        Ok(sizes)
    }

    fn function(&mut self, is_entry: bool, linkage: Linkage) -> Result<Function> {
        while self.eat_dot("attribute") {
            self.need('(')?;
            while !self.eat(')') {
                if self.advance().token == Token::End {
                    return self.expected("`)`");
                }
            }
        }
        let returns = if !is_entry && self.is('(') {
            self.params()?
        } else {
            Vec::new()
        };
        let span = self.span();
        let name = self.word("the name of a function")?.to_owned();
        let params = if self.is('(') {
            self.params()?
        } else {
            Vec::new()
        };
        let mut bounds = LaunchBounds::default();
        loop {
            match self.peek() {
                Token::Dot("maxntid") => {
                    self.advance();
                    bounds.maxntid = Some(self.dimensions()?);
                }
                Token::Dot("reqntid") => {
                    self.advance();
                    bounds.reqntid = Some(self.dimensions()?);
                }
                Token::Dot("reqnctapercluster") => {
                    self.advance();
                    bounds.reqnctapercluster = Some(self.dimensions()?);
                }
                Token::Dot("minnctapersm") => {
                    self.advance();
                    bounds.minnctapersm = Some(self.small("a number of blocks")?);
                }
                Token::Dot("maxnreg") => {
                    self.advance();
                    bounds.maxnreg = Some(self.small("a number of registers")?);
                }
                Token::Dot("pragma") => {
                    self.advance();
                    while matches!(self.peek(), Token::Text(_) | Token::Punct(',')) {
                        self.advance();
                    }
                    self.eat(';');
                }
                // What else tunes a function (.maxclusterrank, .noreturn, .explicitcluster, …): a word, maybe numbers.
                Token::Dot(_) => {
                    self.advance();
                    while matches!(self.peek(), Token::Int(_) | Token::Punct(',')) {
                        self.advance();
                    }
                }
                _ => break,
            }
        }
        let mut function = Function {
            name,
            is_entry,
            linkage,
            bounds,
            span,
            ..Function::default()
        };
        if self.is('{') {
            function.defined = true;
            body::read(self, &mut function, returns, params)?;
        } else {
            self.need(';')?;
            function.returns = returns.into_iter().map(|(param, _)| param).collect();
            function.params = params.into_iter().map(|(param, _)| param).collect();
        }
        Ok(function)
    }
}

/// Names of a scope, each with what it stands for.
pub type Names<V> = HashMap<String, V>;
