//! The typed form of a PTX module: names of registers and labels are resolved, types are enums, opcodes keep their text.
//!
//! Opcodes stay text (`add.rn.f32`) because a module may hold instructions that nobody launches: only the engine,
//! when it compiles a function that is reachable, decides what it can do with one.

use std::fmt;

/// A place in the source, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub line: u32,
    pub column: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScalarType {
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64,
    Pred,
}

impl ScalarType {
    /// The type of a modifier without its dot: `f32`.
    pub fn parse(text: &str) -> Option<Self> {
        use ScalarType::*;
        Some(match text {
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "b128" => B128,
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => BF16,
            "bf16x2" => BF16x2,
            "f32" => F32,
            "f64" => F64,
            "pred" => Pred,
            _ => return None,
        })
    }

    /// Size in memory, in bytes; a predicate has none and counts 1.
    pub fn size(self) -> u32 {
        use ScalarType::*;
        match self {
            B8 | U8 | S8 | Pred => 1,
            B16 | U16 | S16 | F16 | BF16 => 2,
            B32 | U32 | S32 | F32 | F16x2 | BF16x2 => 4,
            B64 | U64 | S64 | F64 => 8,
            B128 => 16,
        }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F16 | Self::F16x2 | Self::BF16 | Self::BF16x2 | Self::F32 | Self::F64
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Const => "const",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Param => "param",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Linkage {
    #[default]
    Internal,
    Visible,
    Weak,
    Extern,
    Common,
}

/// A register of a function, index into [`Function::registers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegId(pub u32);

/// A label of a function, index into [`Function::labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LabelId(pub u32);

/// What a variable of a type without a size is: a reference to a texture, a sampler or a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opaque {
    Texture,
    Sampler,
    Surface,
}

impl Opaque {
    /// The type's name without its dot: `texref`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "texref" => Opaque::Texture,
            "samplerref" => Opaque::Sampler,
            "surfref" => Opaque::Surface,
            _ => return None,
        })
    }
}

/// One initial value of a variable's element.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    Int(u64),
    Float(f64),
    /// `filter_mode = linear`, of a texture, sampler or surface; numbers as they are written.
    Field {
        name: String,
        value: String,
    },
    /// `symbol + offset`, or `generic(symbol) + offset`; `mask` keeps one byte of it (`0xff00(symbol)`).
    Address {
        symbol: String,
        offset: i64,
        generic: bool,
        mask: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub linkage: Linkage,
    /// Of opaque types, that of a handle: 64 bits.
    pub element: ScalarType,
    pub opaque: Option<Opaque>,
    /// Host and device share it.
    pub managed: bool,
    /// Components of a `.v2` or `.v4` variable, else 1.
    pub vector: u32,
    /// Bytes of the whole variable; 0 for `extern .shared x[]`.
    pub size: u64,
    pub align: u64,
    /// Elements in order; what is missing is zero. Empty when there is no initialiser.
    pub init: Vec<Init>,
    pub span: Span,
}

/// A parameter of an entry or a function, or a return value.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: String,
    pub element: ScalarType,
    pub size: u64,
    pub align: u64,
    /// Older functions pass in registers: `.func (.reg .f32 r) f (.reg .f32 a)`.
    pub register: Option<RegId>,
}

/// One register. Vector registers and those of 128 bits are taken apart while reading: where they stand whole, an
/// operand is the [`Operand::Vector`] of their parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Register {
    pub ty: ScalarType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    pub register: RegId,
    pub negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    Register(RegId),
    Symbol(String),
    Absolute,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Register(RegId),
    /// `!%p`
    Negated(RegId),
    /// `%r.h1` or `-%r.b0` of video instructions; `select` is empty for the whole register.
    Part {
        register: RegId,
        select: Box<str>,
        negated: bool,
    },
    /// `%tid.x`, `%laneid`, …, with the percent sign.
    Special(String),
    /// An integer constant, its bits; a negative one is two's complement.
    Int(u64),
    F32(u32),
    F64(u64),
    /// A variable, function, parameter, or label that a branch names elsewhere (call target, table of branch targets).
    Symbol {
        name: String,
        offset: i64,
    },
    /// `[base+offset]`
    Address {
        base: Base,
        offset: i64,
    },
    /// `{a, b, c, d}`
    Vector(Vec<Operand>),
    /// `p|q`
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)` of a call
    List(Vec<Operand>),
    Label(LabelId),
    /// `_`
    Discard,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// With all its modifiers: `ld.global.v4.f32`.
    pub opcode: Box<str>,
    pub guard: Option<Guard>,
    pub operands: Vec<Operand>,
    pub span: Span,
}

impl Instruction {
    /// The name before the first dot.
    pub fn mnemonic(&self) -> &str {
        self.opcode.split('.').next().unwrap_or("")
    }

    /// What follows it, dots removed.
    pub fn modifiers(&self) -> impl Iterator<Item = &str> {
        self.opcode.split('.').skip(1)
    }
}

/// `.callprototype`: what an indirect call passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Prototype {
    pub name: String,
    pub returns: Vec<Param>,
    pub params: Vec<Param>,
}

/// `name: .branchtargets L0, L1;`
#[derive(Debug, Clone, PartialEq)]
pub struct BranchTable {
    pub name: String,
    pub targets: Vec<LabelId>,
}

/// `name: .calltargets f, g;`: what an indirect call may reach; all have the same parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct CallTargets {
    pub name: String,
    pub functions: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaunchBounds {
    pub maxntid: Option<[u32; 3]>,
    pub reqntid: Option<[u32; 3]>,
    pub minnctapersm: Option<u32>,
    pub maxnreg: Option<u32>,
    /// Blocks of a cluster.
    pub reqnctapercluster: Option<[u32; 3]>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub name: String,
    /// Index of the instruction that it stands before; the number of instructions when it stands at the end.
    pub position: u32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Function {
    pub name: String,
    pub is_entry: bool,
    pub linkage: Linkage,
    pub returns: Vec<Param>,
    pub params: Vec<Param>,
    pub bounds: LaunchBounds,
    pub registers: Vec<Register>,
    /// Variables declared in the body, by scope; a name that an inner scope repeats is made unique (`name@2`).
    pub variables: Vec<Variable>,
    /// `.param` variables of call sequences, declared in the body.
    pub call_params: Vec<Param>,
    pub labels: Vec<Label>,
    pub tables: Vec<BranchTable>,
    pub prototypes: Vec<Prototype>,
    pub targets: Vec<CallTargets>,
    pub body: Vec<Instruction>,
    /// False for a declaration.
    pub defined: bool,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Module {
    pub version: (u32, u32),
    /// First word of `.target`: `sm_86`.
    pub target: String,
    pub address_size: u32,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
    /// `.alias name, function;`
    pub aliases: Vec<Alias>,
}

/// Another name of a function of the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    pub name: String,
    pub function: String,
    pub span: Span,
}
