//! `shim/cuda/src/gen/exports.rs`: every name of cuda.h, and the list that cuGetProcAddress resolves from.

use std::collections::BTreeSet;

use anyhow::Result;
use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::emit::{c_type, format, ident};
use super::table::{Entry, Mode, Table};

pub fn exports(table: &Table) -> Result<String> {
    let mut functions = TokenStream::new();
    let mut resolvable = TokenStream::new();
    let mut served = BTreeSet::new();
    for entry in table.served() {
        served.insert(entry.name.as_str());
        functions.extend(export(entry));
        let (name, text) = (ident(&entry.name), &entry.name);
        let known = table
            .symbols
            .iter()
            .find(|symbol| symbol.name == entry.name);
        let base = known.map_or(text.as_str(), |symbol| symbol.base.as_str());
        let since = known.map_or(0, |symbol| symbol.since);
        let per_thread = known.is_some_and(|symbol| !symbol.variant.is_empty());
        resolvable.extend(quote! {
            Symbol { base: #base, since: #since, per_thread: #per_thread, address: #name as *const () },
        });
    }
    for symbol in table
        .symbols
        .iter()
        .filter(|symbol| !served.contains(symbol.name.as_str()))
    {
        let (name, text) = (ident(&symbol.name), &symbol.name);
        if let Some(entry) = table.per_thread_form(symbol) {
            functions.extend(per_thread(&name, entry));
            let (base, since) = (&symbol.base, symbol.since);
            resolvable.extend(quote! {
                Symbol { base: #base, since: #since, per_thread: true, address: #name as *const () },
            });
            continue;
        }
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

/// Calls the plain form with CU_STREAM_PER_THREAD for NULL.
fn per_thread(name: &Ident, entry: &Entry) -> TokenStream {
    let params = entry.params.iter().map(|p| {
        let (field, ty) = (ident(&p.name), c_type(p));
        quote!(#field: #ty)
    });
    let arguments = entry.params.iter().map(|p| {
        let field = ident(&p.name);
        if p.is_stream() {
            quote!(if #field == 0 { 2 } else { #field })
        } else {
            quote!(#field)
        }
    });
    let plain = ident(&entry.name);
    quote! {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn #name(#(#params),*) -> u32 {
            // SAFETY: the caller keeps cuda.h's contract for its arguments.
            unsafe { #plain(#(#arguments),*) }
        }
    }
}

fn export(entry: &Entry) -> TokenStream {
    let name = ident(&entry.name);
    let params = entry.params.iter().map(|p| {
        let (field, ty) = (ident(&p.name), c_type(p));
        quote!(#field: #ty)
    });
    let arguments = entry.params.iter().map(|p| ident(&p.name));
    let target = match &entry.mode {
        Mode::Op(_) => quote!(rgpu_client::stubs::#name),
        Mode::Shim => quote!(crate::proc_address::#name),
        Mode::Local | Mode::Driver => {
            let file = ident(&entry.file);
            quote!(rgpu_client::calls::#file::#name)
        }
    };
    quote! {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn #name(#(#params),*) -> u32 {
            // SAFETY: the caller keeps cuda.h's contract for its arguments.
            unsafe { #target(#(#arguments),*) }
        }
    }
}
