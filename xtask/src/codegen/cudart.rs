//! libcudart.so.12 and .13: from `shim/cudart/api/runtime.tsv` what each exports, the driver's functions that they call, and
//! `docs/cudart-coverage.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::ctype::Prototype;
use super::emit::{format, ident};

/// A function of the driver: of cuda.h, from `rgpu-proto/api`.
pub struct Function {
    prototype: String,
    /// What cuGetProcAddress is asked for, and with which version.
    base: String,
    since: u32,
}

pub type Driver = BTreeMap<String, Function>;

/// Every function of cuda.h by its name.
pub fn functions(root: &Path) -> Result<Driver> {
    let read = |file: &str| {
        let path = root.join("rgpu-proto/api").join(file);
        std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
    };
    let versions = read("cuda_functions_versions.tsv")?;
    let versions: BTreeMap<&str, (&str, u32)> = versions
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (name, base, since) = (columns.next()?, columns.next()?, columns.next()?);
            // cuProfiler.h does not say since when its functions exist: since 4.0.
            Some((name, (base, since.parse().unwrap_or(4000))))
        })
        .collect();
    let functions = read("cuda_functions.tsv")?;
    let rows = functions.lines().skip(1).filter_map(|line| {
        let (name, rest) = line.split_once('\t')?;
        let (prototype, _) = rest.split_once('\t')?;
        let (base, since) = *versions.get(name)?;
        let function = Function {
            prototype: prototype.to_owned(),
            base: base.to_owned(),
            since,
        };
        Some((name.to_owned(), function))
    });
    Ok(rows.collect())
}

/// Names of libcudart.so.13 and how many of them are served, without those of compiled code.
pub fn count(rows: &[Row]) -> (usize, usize) {
    let public = || {
        rows.iter()
            .filter(|row| row.in_library("13") && !row.name.starts_with("__"))
    };
    let names = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|row| row.names().count()).sum();
    let served = names(&mut public().filter(|row| !matches!(row.how, How::Refused(_))));
    (served, names(&mut public()))
}

/// A line of the table.
pub struct Row {
    pub name: String,
    /// `ptsz`, `ptds` or nothing: the suffix of its form for the per-thread default stream.
    variant: String,
    /// Version nodes, which are the libraries' sonames.
    nodes: Vec<String>,
    section: String,
    how: How,
    prototype: Prototype,
}

enum How {
    /// As the driver's function does it; with a current context, or only with CUDA initialised.
    Driver {
        function: String,
        context: bool,
    },
    /// A function of ours, after which the thread's error is set.
    Own(String),
    /// A function of ours that is called as it is.
    Raw(String),
    Refused(String),
}

impl Row {
    pub fn read(root: &Path) -> Result<Vec<Row>> {
        let path = root.join("shim/cudart/api/runtime.tsv");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let lines = text.lines().skip(1).filter(|line| !line.is_empty());
        lines
            .map(|line| Row::parse(line).with_context(|| format!("runtime.tsv: {line}")))
            .collect()
    }

    fn parse(line: &str) -> Result<Row> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, variant, nodes, section, how, prototype] = columns[..] else {
            bail!("a line has six columns");
        };
        let prototype = Prototype::parse(prototype)?;
        ensure!(prototype.name == name, "another function's prototype");
        let (word, rest) = how.split_once(' ').context("how?")?;
        let how = match word {
            "ctx" | "init" => How::Driver {
                function: rest.to_owned(),
                context: word == "ctx",
            },
            "fn" => How::Own(rest.to_owned()),
            "raw" => How::Raw(rest.to_owned()),
            "refused" => How::Refused(rest.to_owned()),
            _ => bail!("how is it served? {word}"),
        };
        Ok(Row {
            name: name.to_owned(),
            variant: variant.to_owned(),
            nodes: nodes.split(',').map(str::to_owned).collect(),
            section: section.to_owned(),
            how,
            prototype,
        })
    }

    fn in_library(&self, version: &str) -> bool {
        self.nodes
            .iter()
            .any(|node| node.strip_prefix("libcudart.so.") == Some(version))
    }

    /// Its symbols, with whether they are for the per-thread default stream.
    fn names(&self) -> impl Iterator<Item = (String, bool)> {
        let per_thread =
            (!self.variant.is_empty()).then(|| (format!("{}_{}", self.name, self.variant), true));
        std::iter::once((self.name.clone(), false)).chain(per_thread)
    }
}

/// What libcudart.so.VERSION exports.
pub fn exports(rows: &[Row], version: &str, driver: &Driver) -> Result<String> {
    let mut functions = TokenStream::new();
    for row in rows.iter().filter(|row| row.in_library(version)) {
        for (name, per_thread) in row.names() {
            functions.extend(export(row, &name, per_thread, driver)?);
        }
    }
    format(quote! {
        #![allow(non_snake_case, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks, clippy::too_many_arguments)]
        #![allow(clippy::unnecessary_cast, unused_unsafe)]

        use std::ffi::{c_char, c_void};

        use rgpu_cudart::abi::*;

        use crate::{LEGACY, PER_THREAD};

        #functions
    })
}

fn export(row: &Row, name: &str, per_thread: bool, driver: &Driver) -> Result<TokenStream> {
    let symbol = ident(name);
    let runtime = ident(if per_thread { "PER_THREAD" } else { "LEGACY" });
    let params = row.prototype.params.iter().map(|p| {
        let (field, ty) = (ident(&p.name), p.rust(true));
        quote!(#field: #ty)
    });
    let arguments: Vec<_> = row
        .prototype
        .params
        .iter()
        .map(|p| ident(&p.name))
        .collect();
    let own = |path: &str| -> Result<TokenStream> {
        let (module, function) = path.split_once("::").context("module::function")?;
        let (module, function) = (ident(module), ident(function));
        Ok(quote!(rgpu_cudart::#module::#function))
    };
    let body = match &row.how {
        How::Refused(_) => {
            return Ok(quote! {
                extern "C" fn #symbol() -> u32 { rgpu_cudart::refused(#name) }
                export!(#symbol);
            });
        }
        How::Raw(path) => {
            let path = own(path)?;
            quote!(#path(&#runtime, #(#arguments),*))
        }
        How::Own(path) => {
            let path = own(path)?;
            quote!(rgpu_cudart::enter(|| #path(&#runtime, #(#arguments),*)))
        }
        How::Driver { function, context } => {
            let entry = ident(if *context { "context" } else { "driver" });
            let target = prototype_of(driver, function)?;
            ensure!(
                target.params.len() == arguments.len(),
                "{name} and {function} take different arguments"
            );
            let pairs = target.params.iter().zip(&row.prototype.params);
            let arguments = pairs.map(|(to, from)| {
                let (field, to_type) = (ident(&from.name), to.rust(false));
                if to_type.to_string() == from.rust(true).to_string() {
                    quote!(#field)
                } else {
                    quote!(#field as #to_type)
                }
            });
            let function = ident(function);
            quote!(rgpu_cudart::enter(|| #runtime.#entry()?.#function(#(#arguments),*)))
        }
    };
    let returns = match row.prototype.returns.as_str() {
        "cudaError_t" | "unsigned int" => quote!(-> u32),
        "void" => quote!(),
        "void**" => quote!(-> *mut *mut c_void),
        "char" => quote!(-> c_char),
        "const char*" => quote!(-> *const c_char),
        "cudaChannelFormatDesc" => quote!(-> ChannelDesc),
        other => bail!("{name} returns {other}"),
    };
    Ok(quote! {
        unsafe extern "C" fn #symbol(#(#params),*) #returns { unsafe { #body } }
        export!(#symbol);
    })
}

fn prototype_of(driver: &Driver, function: &str) -> Result<Prototype> {
    let found = driver
        .get(function)
        .with_context(|| format!("{function} is not in cuda.h"))?;
    Prototype::parse(&found.prototype)
}

/// The version script: as the originals', the node has the library's name.
pub fn version_script(rows: &[Row], version: &str) -> String {
    let names = rows
        .iter()
        .filter(|row| row.in_library(version))
        .flat_map(Row::names);
    let mut text = format!(
        "/* Generated by `cargo xtask codegen` from shim/cudart/api/. Do not edit. */\nlibcudart.so.{version} {{\n  global:\n"
    );
    for (name, _) in names {
        let _ = writeln!(text, "    {name};");
    }
    text.push_str("  local:\n    *;\n};\n");
    text
}

/// The driver's functions that the runtime calls, as methods. `sources`: of the runtime, where the calls stand.
pub fn driver(rows: &[Row], driver: &Driver, sources: &[String]) -> Result<String> {
    let mut called: BTreeSet<&str> = sources.iter().flat_map(|text| calls(text)).collect();
    for row in rows {
        if let How::Driver { function, .. } = &row.how {
            called.insert(function);
        }
    }
    let (mut methods, mut entries) = (TokenStream::new(), TokenStream::new());
    for (slot, name) in called.iter().enumerate() {
        let function = driver
            .get(*name)
            .with_context(|| format!("{name} is called, and is not in cuda.h"))?;
        let prototype = prototype_of(driver, name)?;
        let method = ident(name);
        let fields: Vec<_> = prototype.params.iter().map(|p| ident(&p.name)).collect();
        let types: Vec<_> = prototype.params.iter().map(|p| p.rust(false)).collect();
        methods.extend(quote! {
            pub unsafe fn #method(&self, #(#fields: #types),*) -> Result {
                let function = self.find(#slot)?;
                check(unsafe { transmute::<Address, unsafe extern "C" fn(#(#types),*) -> u32>(function)(#(#fields),*) })
            }
        });
        let base = Literal::c_string(&std::ffi::CString::new(function.base.as_str())?);
        let since = function.since;
        let per_thread = ["_ptsz", "_ptds"]
            .iter()
            .find_map(|suffix| driver.get(&format!("{name}{suffix}")))
            .map_or(0, |function| function.since);
        entries.extend(quote!(Entry { base: #base, since: #since, per_thread: #per_thread },));
    }
    let count = called.len();
    format(quote! {
        #![allow(non_snake_case, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks, clippy::too_many_arguments)]

        use std::ffi::{c_char, c_void};
        use std::mem::transmute;

        use crate::abi::*;
        use crate::driver::{Address, Driver, Entry, check};
        use crate::error::Result;

        pub const ENTRIES: [Entry; #count] = [#entries];

        impl Driver { #methods }
    })
}

/// Names behind a dot, `.cuMemAlloc_v2(`, in source code.
fn calls(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(".cu").filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        let name = &rest[..end];
        let upper = name.as_bytes().get(2).is_some_and(u8::is_ascii_uppercase);
        (upper && rest[end..].starts_with('(')).then_some(name)
    })
}

/// Names of libcudart.so.13 that are the driver's calls and that no driver of this repository has yet. `known`: what these have.
pub fn waiting(rows: &[Row], known: &BTreeSet<&str>) -> usize {
    let waits = |row: &&Row| match &row.how {
        How::Driver { function, .. } => !known.contains(function.as_str()),
        _ => false,
    };
    let public = rows.iter().filter(|row| row.in_library("13"));
    public.filter(waits).map(|row| row.names().count()).sum()
}

/// `docs/cudart-coverage.md`.
pub fn page(rows: &[Row], known: &BTreeSet<&str>) -> String {
    let (served, all) = count(rows);
    let waiting = waiting(rows, known);
    let mut text = format!(
        "# CUDA runtime API coverage\n\n\
         Generated by `cargo xtask codegen` from `shim/cudart/api/`. {served} of the {all} public names of NVIDIA's libcudart.so.13 are \
         served by ours; every other one is exported, says its name once on stderr, and returns cudaErrorNotSupported.\n\n\
         Where a driver's function stands beside a name, the call is that one, after the context is made if there is none yet. A function that \
         the driver below does not have gives cudaErrorNotSupported too: for {waiting} of the names served neither softgpu nor the remoting has one \
         yet, and they need a newer driver. *Of* says which of libcudart.so.12 and .13 has the name; \
         *per thread*, which suffix its form for the per-thread default stream has.\n"
    );
    let mut sections: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        sections.entry(&row.section).or_default().push(row);
    }
    for (section, rows) in sections {
        let served = |row: &&&Row| !matches!(row.how, How::Refused(_));
        let _ = writeln!(
            text,
            "\n## {section}: {} of {}\n\n| name | of | per thread | how |\n|---|---|---|---|",
            rows.iter().filter(served).count(),
            rows.len()
        );
        for row in rows {
            let of: Vec<&str> = row
                .nodes
                .iter()
                .map(|node| node.trim_start_matches("libcudart.so."))
                .collect();
            let how = match &row.how {
                How::Driver { function, .. } if known.contains(function.as_str()) => {
                    function.clone()
                }
                How::Driver { function, .. } => format!("{function}, of a newer driver"),
                How::Own(_) | How::Raw(_) => "own".to_owned(),
                How::Refused(why) => format!("refused: {why}"),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {how} |",
                row.name,
                of.join(", "),
                row.variant
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found() {
        let text =
            "cu.cuMemAlloc_v2(&mut a, 1)?; cu.cuCtxSynchronize()?; x.cud(1); y.cuField; cuThing(2)";
        let found: Vec<&str> = calls(text).collect();
        assert_eq!(found, ["cuMemAlloc_v2", "cuCtxSynchronize"]);
    }

    #[test]
    fn rows_are_read() {
        let row = Row::parse(
            "cudaStreamQuery\tptsz\tlibcudart.so.12,libcudart.so.13\tStreams\tctx cuStreamQuery\tcudaError_t cudaStreamQuery(cudaStream_t stream)",
        )
        .unwrap();
        assert!(row.in_library("12") && row.in_library("13") && !row.in_library("1"));
        let names: Vec<_> = row.names().collect();
        assert_eq!(
            names,
            [
                ("cudaStreamQuery".to_owned(), false),
                ("cudaStreamQuery_ptsz".to_owned(), true)
            ]
        );
        assert!(Row::parse("a\tb").is_err());
        assert_eq!(count(&[row]), (2, 2));
    }
}
