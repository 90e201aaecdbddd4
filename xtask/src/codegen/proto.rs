//! `rgpu-proto/src/gen/calls.rs`: operation numbers, and the fixed part of each call's arguments and reply.

use anyhow::Result;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::emit::{format, ident, is_fixed, is_segment, outs, wire_imports, wire_type};
use super::table::{Entry, Param, Table};

pub fn generate(table: &Table) -> Result<String> {
    let mut numbers = TokenStream::new();
    let mut infos = TokenStream::new();
    let mut structs = TokenStream::new();
    let mut entries: Vec<_> = table.ops().collect();
    entries.sort_by_key(|(_, op)| op.number);
    for (entry, op) in entries {
        let name = ident(&entry.name);
        let text = &entry.name;
        let number = op.number;
        let waits = match &op.waits {
            Some(why) => quote!(Some(#why)),
            None => quote!(None),
        };
        let (blocks, no_context, reaped) = (op.blocks, op.no_context, op.reaped);
        numbers.extend(quote!(pub const #name: u16 = #number;));
        infos.extend(quote! {
            CallInfo {
                name: #text, op: #number, waits: #waits, blocks: #blocks,
                no_context: #no_context, reaped: #reaped,
            },
        });
        structs.extend(arguments(entry));
        structs.extend(reply(entry));
    }
    let imports = wire_imports(&structs);
    format(quote! {
        #![allow(non_upper_case_globals, non_camel_case_types, non_snake_case)]

        #imports
        use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

        /// What the table says of a call.
        #[derive(Clone, Copy, Debug)]
        pub struct CallInfo {
            pub name: &'static str,
            pub op: u16,
            /// Why the caller waits; `None` for a one-way call.
            pub waits: Option<&'static str>,
            /// The server may block for long.
            pub blocks: bool,
            /// Needs no current context.
            pub no_context: bool,
            /// Performed when earlier work is done.
            pub reaped: bool,
        }

        /// Operation numbers: explicit in the table, never reused.
        pub mod op {
            #numbers
        }

        /// In order of their numbers.
        pub static CALLS: &[CallInfo] = &[#infos];

        /// The entry of an operation number.
        pub fn info(op: u16) -> Option<&'static CallInfo> {
            CALLS.binary_search_by_key(&op, |call| call.op).ok().map(|at| &CALLS[at])
        }

        #structs
    })
}

fn derive() -> TokenStream {
    quote! {
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
    }
}

fn arguments(entry: &Entry) -> TokenStream {
    let name = format_ident!("{}Args", entry.name);
    let derive = derive();
    let fixed = entry.params.iter().filter(|p| is_fixed(p)).map(|p| {
        let (field, ty) = (ident(&p.name), wire_type(p));
        quote!(pub #field: #ty,)
    });
    let lens = entry.params.iter().filter(|p| is_segment(p)).map(|p| {
        let field = format_ident!("{}_len", p.name);
        quote!(pub #field: U64,)
    });
    quote! {
        #derive
        pub struct #name { #(#fixed)* #(#lens)* }
    }
}

/// The fields of a call's arguments and of its reply, as text.
pub fn layout(entry: &Entry) -> (String, String) {
    let field = |p: &Param| format!("{}: {}", p.name, wire_type(p)).replace(' ', "");
    let fixed = entry.params.iter().filter(|p| is_fixed(p)).map(field);
    let segments = entry.params.iter().filter(|p| is_segment(p));
    let segments = segments.map(|p| format!("{}_len", p.name));
    let arguments: Vec<String> = fixed.chain(segments).collect();
    let reply: Vec<String> = outs(entry).map(field).collect();
    (arguments.join(" "), reply.join(" "))
}

fn reply(entry: &Entry) -> TokenStream {
    if outs(entry).next().is_none() {
        return TokenStream::new();
    }
    let name = format_ident!("{}Reply", entry.name);
    let derive = derive();
    let fields = outs(entry).map(|p| {
        let (field, ty) = (ident(&p.name), wire_type(p));
        quote!(pub #field: #ty,)
    });
    quote! {
        #derive
        pub struct #name { #(#fields)* }
    }
}
