//! `shim/cuda/src/gen/exports.rs`: every name of cuda.h, and the list that cuGetProcAddress resolves from.

use std::collections::BTreeSet;

use anyhow::Result;
use proc_macro2::TokenStream;
use quote::quote;

use super::emit::{c_type, format, ident};
use super::table::{Entry, Mode, Table};

pub fn exports(table: &Table) -> Result<String> {
    let mut functions = TokenStream::new();
    let mut resolvable = TokenStream::new();
    let mut said = BTreeSet::new();
    for (text, entry) in table.spellings() {
        said.insert(text);
        functions.extend(export(text, entry));
        let name = ident(text);
        let known = table.symbols.iter().find(|symbol| symbol.name == text);
        let base = known.map_or(text, |symbol| symbol.base.as_str());
        let since = known.map_or(0, |symbol| symbol.since);
        let per_thread = known.is_some_and(|symbol| !symbol.variant.is_empty());
        resolvable.extend(quote! {
            Symbol { base: #base, since: #since, per_thread: #per_thread, address: #name as *const () },
        });
    }
    for (text, refusal) in table.refusals() {
        said.insert(text);
        let (name, code) = (ident(text), ident(&refusal.code));
        let reason = &refusal.reason;
        functions.extend(quote! {
            #[unsafe(no_mangle)]
            pub extern "C" fn #name() -> u32 {
                rgpu_client::refused(#text, #reason, rgpu_client::CudaError::#code)
            }
        });
    }
    for symbol in table
        .symbols
        .iter()
        .filter(|symbol| !said.contains(symbol.name.as_str()))
    {
        let (name, text) = (ident(&symbol.name), &symbol.name);
        functions.extend(quote! {
            #[unsafe(no_mangle)]
            pub extern "C" fn #name() -> u32 { rgpu_client::unsupported(#text) }
        });
    }
    format(quote! {
        #![allow(non_snake_case, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks, clippy::too_many_arguments)]

        use std::ffi::{c_char, c_void};

        use crate::proc_address::Symbol;

        /// What is served, for cuGetProcAddress.
        pub static SYMBOLS: &[Symbol] = &[#resolvable];

        #functions
    })
}

fn export(text: &str, entry: &Entry) -> TokenStream {
    let (symbol, name) = (ident(text), ident(&entry.name));
    let per_thread = text != entry.name;
    let params = entry.params.iter().map(|p| {
        let (field, ty) = (ident(&p.name), c_type(p));
        quote!(#field: #ty)
    });
    let arguments = entry.params.iter().map(|p| {
        let field = ident(&p.name);
        if per_thread && p.name == "stream" {
            // Calls without a stream are ordered with the legacy one, which waits for the thread's too.
            quote!(rgpu_client::per_thread(#field))
        } else {
            quote!(#field)
        }
    });
    let target = match &entry.mode {
        Mode::Op(_) => quote!(rgpu_client::stubs::#name),
        Mode::Shim => quote!(crate::proc_address::#name),
        Mode::Local | Mode::Driver | Mode::Refused(_) => {
            let file = ident(&entry.file);
            quote!(rgpu_client::calls::#file::#name)
        }
    };
    quote! {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn #symbol(#(#params),*) -> u32 {
            // SAFETY: the caller keeps cuda.h's contract for its arguments.
            unsafe { #target(#(#arguments),*) }
        }
    }
}
