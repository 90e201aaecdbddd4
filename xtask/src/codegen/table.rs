//! Reads the call table: `rgpu-proto/api/*.rs` and the lists of cuda.h's names beside it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, FnArg, ForeignItem, Item, Pat, Type};

/// How an entry is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Op(Op),
    /// Client half by hand in `rgpu_client::calls::FILE`.
    Local,
    /// By hand in the shim.
    Shim,
    /// In the server's driver table only.
    Driver,
    /// Exported to say why it is not served.
    Refused(Refusal),
}

/// Why a name of cuda.h is not served, and what it returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    /// Of CUresult, without CUDA_ERROR_.
    pub code: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Op {
    pub number: u16,
    /// `None` for a one-way call, else why the caller waits.
    pub waits: Option<String>,
    pub server: bool,
    pub blocks: bool,
    pub no_context: bool,
    pub reaped: bool,
    /// Its success must be noted on both sides, whatever became of earlier commands.
    pub makes: bool,
    /// Its handles may be of different servers of the client's: `rgpu_client::calls::across` comes first.
    pub apart: bool,
}

/// What a parameter is to the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Value,
    Handle(String),
    Makes(String),
    Consumes(String),
    Out {
        optional: bool,
    },
    /// Input bytes; the named parameter is the length, or the slice's own where there is none.
    Bytes(Option<String>),
    OutBytes,
    ReplyBytes,
    Str,
}

/// The bits that cuda.h defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    pub known: u32,
    /// A bit, and the one without which it may not be.
    pub needs: Option<(u32, u32)>,
}

impl Parse for Flags {
    fn parse(input: ParseStream<'_>) -> syn::Result<Flags> {
        let number = || input.parse::<syn::LitInt>()?.base10_parse();
        let known = number()?;
        let mut needs = None;
        if input.parse::<Option<syn::Token![,]>>()?.is_some() {
            let bit = number()?;
            input.parse::<syn::Token![=]>()?;
            needs = Some((bit, number()?));
        }
        Ok(Flags { known, needs })
    }
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: String,
    pub ty: Type,
    pub role: Role,
    /// For a parameter of flags.
    pub flags: Option<Flags>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub file: String,
    pub mode: Mode,
    pub params: Vec<Param>,
}

impl Entry {
    pub fn op(&self) -> Option<&Op> {
        match &self.mode {
            Mode::Op(op) => Some(op),
            _ => None,
        }
    }

    /// Whether the name is CUDA's and exported with an implementation.
    pub fn is_served(&self) -> bool {
        self.name.starts_with("cu") && !matches!(self.mode, Mode::Driver | Mode::Refused(_))
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.mode {
            Mode::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// One name of cuda.h.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub name: String,
    pub section: String,
    pub base: String,
    /// 1000 * major + 10 * minor.
    pub since: u32,
    /// "", "ptds" or "ptsz".
    pub variant: String,
}

pub struct Table {
    pub entries: Vec<Entry>,
    pub symbols: Vec<Symbol>,
}

const HANDLES: &[&str] = &[
    "Context",
    "Module",
    "Function",
    "Stream",
    "Event",
    "Graph",
    "GraphNode",
    "GraphExec",
    "Array",
    "MipmappedArray",
    "TextureRef",
    "SurfaceRef",
];

pub fn is_handle(name: &str) -> bool {
    HANDLES.contains(&name)
}

/// Last path segment of a plain type, empty for pointers.
pub fn type_name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map(|s| s.ident.to_string())
            .unwrap_or_default(),
        _ => String::new(),
    }
}

impl Table {
    pub fn read(root: &Path) -> Result<Table> {
        let api = root.join("rgpu-proto/api");
        let mut files: Vec<_> = std::fs::read_dir(&api)
            .with_context(|| format!("{}", api.display()))?
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .collect();
        files.sort();
        let mut entries = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(&path)?;
            let file = syn::parse_file(&text).with_context(|| format!("{}", path.display()))?;
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            for item in file.items {
                let Item::ForeignMod(block) = item else {
                    bail!(
                        "{}: only `unsafe extern \"C\" {{ … }}` blocks belong here",
                        path.display()
                    )
                };
                let refusal = block.attrs.iter().find(|a| a.path().is_ident("refused"));
                for item in block.items {
                    let ForeignItem::Fn(mut function) = item else {
                        bail!("{}: only functions belong here", path.display())
                    };
                    let name = function.sig.ident.to_string();
                    function.attrs.extend(refusal.cloned());
                    entries.push(
                        entry(&stem, function)
                            .with_context(|| format!("{}: {name}", path.display()))?,
                    );
                }
            }
        }
        let symbols = symbols(&api)?;
        let table = Table { entries, symbols };
        table.check()?;
        Ok(table)
    }

    /// Operation numbers and names are unique.
    fn check(&self) -> Result<()> {
        let mut numbers = BTreeMap::new();
        let mut names = BTreeMap::new();
        for entry in &self.entries {
            if let Some(op) = entry.op()
                && let Some(other) = numbers.insert(op.number, &entry.name)
            {
                bail!(
                    "operation {:#06x} is both {other} and {}",
                    op.number,
                    entry.name
                );
            }
            if entry.mode != Mode::Driver
                && let Some(other) = names.insert(&entry.name, &entry.file)
            {
                bail!(
                    "{} stands in both {other}.rs and {}.rs",
                    entry.name,
                    entry.file
                );
            }
        }
        Ok(())
    }

    pub fn served(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_served())
    }

    /// Every name that is served with the entry that serves it: its own, and its forms for the per-thread default stream.
    pub fn spellings(&self) -> Vec<(&str, &Entry)> {
        self.with_variants(self.served())
    }

    /// Every name that is refused for a written reason, in the same forms.
    pub fn refusals(&self) -> Vec<(&str, &Refusal)> {
        let refused = self.entries.iter().filter(|e| e.refusal().is_some());
        let all = self.with_variants(refused);
        all.into_iter()
            .filter_map(|(name, entry)| Some((name, entry.refusal()?)))
            .collect()
    }

    fn with_variants<'a>(
        &'a self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Vec<(&'a str, &'a Entry)> {
        let own: BTreeMap<&str, &Entry> =
            entries.map(|entry| (entry.name.as_str(), entry)).collect();
        let per_thread = self.symbols.iter().filter_map(|symbol| {
            let name = symbol.name.as_str();
            let plain = name.strip_suffix("_ptsz").or(name.strip_suffix("_ptds"))?;
            Some((name, *own.get(plain)?))
        });
        // A form with an entry of its own is served by that.
        let per_thread = per_thread.filter(|(name, _)| !own.contains_key(name));
        let mut all: Vec<_> = own.iter().map(|(name, entry)| (*name, *entry)).collect();
        all.extend(per_thread);
        all
    }

    pub fn ops(&self) -> impl Iterator<Item = (&Entry, &Op)> {
        self.entries
            .iter()
            .filter_map(|entry| entry.op().map(|op| (entry, op)))
    }
}

fn entry(file: &str, function: syn::ForeignItemFn) -> Result<Entry> {
    let name = function.sig.ident.to_string();
    ensure!(
        name.starts_with("cu") || name.starts_with("rgpu"),
        "a name begins with cu or rgpu"
    );
    let mut mode = None;
    for attribute in &function.attrs {
        let found = if attribute.path().is_ident("local") {
            Mode::Local
        } else if attribute.path().is_ident("shim") {
            Mode::Shim
        } else if attribute.path().is_ident("driver") {
            Mode::Driver
        } else if attribute.path().is_ident("op") {
            Mode::Op(op(attribute)?)
        } else if attribute.path().is_ident("refused") {
            Mode::Refused(refusal(attribute)?)
        } else if attribute.path().is_ident("doc") {
            continue;
        } else {
            bail!("unknown attribute #[{}]", quote::quote!(#attribute))
        };
        ensure!(
            mode.replace(found).is_none(),
            "one of #[op], #[local], #[shim], #[driver], #[refused]"
        );
    }
    let mode = mode.context("needs one of #[op], #[local], #[shim], #[driver], #[refused]")?;
    if name.starts_with("rgpu") {
        ensure!(
            matches!(&mode, Mode::Op(op) if op.server),
            "an rgpu… entry is #[op(…, server)]"
        );
    }
    let by_hand = !matches!(mode, Mode::Op(_));
    let params = function
        .sig
        .inputs
        .into_iter()
        .map(|input| param(input, by_hand))
        .collect::<Result<Vec<_>>>()?;
    for param in &params {
        if let Role::Bytes(Some(len)) = &param.role {
            ensure!(
                params.iter().any(|p| p.name == *len),
                "#[bytes({len})]: no parameter {len}"
            );
        }
    }
    if let Mode::Op(op) = &mode
        && op.waits.is_none()
    {
        let answers =
            |role: &Role| matches!(role, Role::Out { .. } | Role::OutBytes | Role::ReplyBytes);
        ensure!(
            !params.iter().any(|p| answers(&p.role)),
            "a one-way call has no outputs"
        );
    }
    Ok(Entry {
        name,
        file: file.to_owned(),
        mode,
        params,
    })
}

/// `#[refused("why")]`, or `#[refused("why", CODE)]` for another code than NOT_SUPPORTED.
fn refusal(attribute: &Attribute) -> Result<Refusal> {
    let mut code = "NOT_SUPPORTED".to_owned();
    let mut reason = String::new();
    attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
        reason = input.parse::<syn::LitStr>()?.value();
        if !input.is_empty() {
            input.parse::<syn::Token![,]>()?;
            code = input.parse::<syn::Ident>()?.to_string();
        }
        Ok(())
    })?;
    ensure!(!reason.is_empty(), "a refusal says why");
    Ok(Refusal { reason, code })
}

fn op(attribute: &Attribute) -> Result<Op> {
    let mut op = Op::default();
    let mut one_way = false;
    attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
        op.number = input.parse::<syn::LitInt>()?.base10_parse()?;
        while !input.is_empty() {
            input.parse::<syn::Token![,]>()?;
            let word: syn::Ident = input.parse()?;
            match word.to_string().as_str() {
                "one_way" => one_way = true,
                "waits" => {
                    input.parse::<syn::Token![=]>()?;
                    op.waits = Some(input.parse::<syn::LitStr>()?.value());
                }
                "server" => op.server = true,
                "blocks" => op.blocks = true,
                "no_context" => op.no_context = true,
                "reaped" => op.reaped = true,
                "makes" => op.makes = true,
                "apart" => op.apart = true,
                other => return Err(input.error(format!("unknown word {other}"))),
            }
        }
        Ok(())
    })?;
    ensure!(op.number != 0, "operation 0 is reserved");
    ensure!(
        one_way != op.waits.is_some(),
        "either one_way or waits = \"why\""
    );
    Ok(op)
}

fn param(input: FnArg, by_hand: bool) -> Result<Param> {
    let FnArg::Typed(typed) = input else {
        bail!("self has no place here")
    };
    let Pat::Ident(ident) = &*typed.pat else {
        bail!("a parameter is a plain name")
    };
    let name = ident.ident.to_string();
    let ty = *typed.ty;
    let kind = type_name(&ty);
    if by_hand {
        ensure!(
            typed.attrs.is_empty(),
            "{name}: attributes only in #[op] entries"
        );
        return Ok(Param {
            name,
            ty,
            role: Role::Value,
            flags: None,
        });
    }
    let mut role = None;
    let mut flags = None;
    for attribute in &typed.attrs {
        let word = attribute
            .path()
            .get_ident()
            .map(ToString::to_string)
            .unwrap_or_default();
        if word == "flags" {
            ensure!(kind == "u32", "{name}: flags are a u32");
            flags = Some(attribute.parse_args()?);
            continue;
        }
        let found = match word.as_str() {
            "makes" => Role::Makes(kind.clone()),
            "consumes" => Role::Consumes(kind.clone()),
            "out" => Role::Out { optional: false },
            "out_opt" => Role::Out { optional: true },
            "bytes" => Role::Bytes(match &attribute.meta {
                syn::Meta::List(_) => Some(attribute.parse_args::<syn::Ident>()?.to_string()),
                _ => None,
            }),
            "out_bytes" => Role::OutBytes,
            "reply_bytes" => Role::ReplyBytes,
            "str" => Role::Str,
            other => bail!("{name}: unknown attribute #[{other}]"),
        };
        ensure!(role.replace(found).is_none(), "{name}: one attribute each");
    }
    let role = match role {
        Some(role @ (Role::Makes(_) | Role::Consumes(_))) => {
            ensure!(is_handle(&kind), "{name}: {kind} is no handle");
            role
        }
        Some(role) => role,
        None if is_handle(&kind) => Role::Handle(kind.clone()),
        None => Role::Value,
    };
    if matches!(role, Role::Value | Role::Out { .. }) {
        const PLAIN: &[&str] = &[
            "u8",
            "u16",
            "i32",
            "u32",
            "u64",
            "usize",
            "f32",
            "DevicePtr",
        ];
        ensure!(
            PLAIN.contains(&kind.as_str()),
            "{name}: {kind} is no type of the wire"
        );
    }
    Ok(Param {
        name,
        ty,
        role,
        flags,
    })
}

fn symbols(api: &Path) -> Result<Vec<Symbol>> {
    let read = |file: &str| {
        std::fs::read_to_string(api.join(file)).with_context(|| format!("rgpu-proto/api/{file}"))
    };
    let functions = read("cuda_functions.tsv")?;
    let sections: BTreeMap<&str, &str> = functions
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect();
    read("cuda_functions_versions.tsv")?
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, base, since, variant, ..] = columns[..] else {
                bail!("cuda_functions_versions.tsv: a line of five columns, not {line:?}")
            };
            Ok(Symbol {
                name: name.to_owned(),
                section: sections.get(name).copied().unwrap_or_default().to_owned(),
                base: base.to_owned(),
                // cuProfiler.h does not say since when its functions exist.
                since: if since.is_empty() {
                    0
                } else {
                    since
                        .parse()
                        .with_context(|| format!("version of {name}"))?
                },
                variant: variant.to_owned(),
            })
        })
        .collect()
}
