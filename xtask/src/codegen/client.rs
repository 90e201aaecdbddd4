//! `rgpu-client/src/gen/`: `send.rs`, one function per operation that puts it on the wire, and `stubs.rs`, the client half of every
//! call that needs nothing else.

use anyhow::Result;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::emit::{
    c_type, format, ident, is_fixed, is_segment, outs, plain, to_wire, wire_imports,
};
use super::table::{Entry, Flags, Op, Role, Table};

pub fn send(table: &Table) -> Result<String> {
    let functions: TokenStream = table.ops().map(|(entry, op)| send_one(entry, op)).collect();
    let imports = wire_imports(&functions);
    format(quote! {
        #![allow(non_snake_case, clippy::too_many_arguments, clippy::unnecessary_cast)]

        use rgpu_proto::CudaError;
        use rgpu_proto::calls::{self, op};
        use zerocopy::IntoBytes;
        #imports

        use crate::session::{Session, Sink};

        #functions
    })
}

fn send_one(entry: &Entry, op: &Op) -> TokenStream {
    let name = ident(&entry.name);
    let args = format_ident!("{}Args", entry.name);
    let mut params = TokenStream::new();
    let mut fields = TokenStream::new();
    let mut segments = TokenStream::new();
    let mut sink = quote!(Sink::None);
    for param in &entry.params {
        let field = ident(&param.name);
        if is_fixed(param) {
            let ty = if matches!(param.role, Role::Value) {
                plain(param)
            } else {
                quote!(u64)
            };
            params.extend(quote!(#field: #ty,));
            let value = to_wire(param, quote!(#field));
            fields.extend(quote!(#field: #value,));
        } else if is_segment(param) {
            params.extend(quote!(#field: &[u8],));
            let len = format_ident!("{}_len", param.name);
            fields.extend(quote!(#len: U64::new(#field.len() as u64),));
            segments.extend(quote!(#field,));
        } else if param.role == Role::OutBytes {
            params.extend(quote!(#field: &mut [u8],));
            sink = quote!(Sink::Exact(#field));
        } else if param.role == Role::ReplyBytes {
            params.extend(quote!(#field: &mut Vec<u8>,));
            sink = quote!(Sink::Append(#field));
        }
    }
    let prepare = quote! {
        let args = calls::#args { #fields };
    };
    if op.waits.is_none() {
        return quote! {
            pub fn #name(session: &Session, #params) -> Result<(), CudaError> {
                #prepare
                session.one_way(op::#name, args.as_bytes(), &[#segments])
            }
        };
    }
    let (reply_param, reply) = if outs(entry).next().is_some() {
        let ty = format_ident!("{}Reply", entry.name);
        (
            quote!(reply: &mut calls::#ty,),
            quote!(reply.as_mut_bytes()),
        )
    } else {
        (TokenStream::new(), quote!(&mut []))
    };
    let makes = op.makes
        || entry
            .params
            .iter()
            .any(|p| matches!(p.role, Role::Makes(_)));
    let call = format_ident!("{}", if makes { "call_making" } else { "call" });
    quote! {
        pub fn #name(session: &Session, #params #reply_param) -> Result<(), CudaError> {
            #prepare
            session.#call(op::#name, args.as_bytes(), &[#segments], #reply, #sink)
        }
    }
}

pub fn stubs(table: &Table) -> Result<String> {
    let functions = table
        .ops()
        .filter(|(entry, _)| entry.name.starts_with("cu"))
        .map(|(entry, op)| stub(entry, op));
    format(quote! {
        #![allow(non_snake_case, unused_imports, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks, clippy::unnecessary_cast, clippy::too_many_arguments)]

        use std::ffi::{c_char, c_void};

        use rgpu_proto::{CudaError, calls};

        use super::send;
        use crate::calls::across;
        use crate::entry::{Needs, input_bytes, input_str, output_bytes, required};
        use crate::handles::Kind;
        use crate::servers::Of;

        #(#functions)*
    })
}

/// What a call is about: what its first handle names, or the stream that an event is to be in. Contexts are named beside the current one.
fn of(entry: &Entry) -> TokenStream {
    let handles = || {
        entry.params.iter().filter_map(|param| match &param.role {
            Role::Handle(kind) | Role::Consumes(kind) if kind != "Context" => Some((kind, param)),
            _ => None,
        })
    };
    let first = handles().next();
    let stream = handles().find(|(kind, _)| *kind == "Stream");
    let chosen = match first {
        Some((kind, _)) if kind == "Event" => stream.or(first),
        _ => first,
    };
    match chosen {
        Some((_, param)) => {
            let field = ident(&param.name);
            quote!(Of::Handle(#field))
        }
        None => quote!(Of::Current),
    }
}

fn stub(entry: &Entry, op: &Op) -> TokenStream {
    let name = ident(&entry.name);
    let text = &entry.name;
    let needs = if op.no_context {
        quote!(Needs::Session)
    } else {
        quote!(Needs::Context)
    };
    let params = entry.params.iter().map(|p| {
        let (field, ty) = (ident(&p.name), c_type(p));
        quote!(#field: #ty)
    });
    let mut first = TokenStream::new();
    let mut checks = TokenStream::new();
    let mut arguments = TokenStream::new();
    let mut after = TokenStream::new();
    let mut undo = TokenStream::new();
    for param in &entry.params {
        let field = ident(&param.name);
        match &param.role {
            Role::Value => {
                if let Some(Flags { known, needs }) = param.flags {
                    // Before anything is made or consumed.
                    let unknown = match known {
                        0 => quote!(#field),
                        known => quote!(#field & !#known),
                    };
                    let lacking = needs.map(|(bit, needed)| {
                        let both = bit | needed;
                        quote!(|| #field & #both == #bit)
                    });
                    first.extend(quote! {
                        if #unknown != 0 #lacking {
                            return Err(CudaError::INVALID_VALUE);
                        }
                    });
                }
                arguments.extend(quote!(#field,));
            }
            Role::Handle(kind) => {
                let kind = ident(kind);
                checks.extend(quote!(session.handles.check(Kind::#kind, #field)?;));
                arguments.extend(quote!(#field,));
            }
            Role::Consumes(kind) => {
                let kind = ident(kind);
                checks.extend(quote!(session.handles.consume(Kind::#kind, #field)?;));
                arguments.extend(quote!(#field,));
            }
            Role::Makes(kind) => {
                let kind = ident(kind);
                let id = format_ident!("{}_id", param.name);
                // A stream is the current context's own; all else is its primary context's where that is a green one.
                let owner = ident(if kind == "Stream" { "context" } else { "owner" });
                checks.extend(quote! {
                    required(#field)?;
                    let #id = session.handles.make(Kind::#kind, session.#owner());
                });
                arguments.extend(quote!(#id,));
                undo.extend(quote!(session.handles.forget(#id);));
                after.extend(quote! {
                    // SAFETY: checked against NULL; the caller owns the place (cuda.h).
                    unsafe { #field.write(#id) };
                });
            }
            Role::Out { optional } => {
                if !optional {
                    checks.extend(quote!(required(#field)?;));
                }
                let value = super::emit::from_wire(param, quote!(reply.#field));
                let write = quote! {
                    // SAFETY: not NULL; the caller owns the place (cuda.h).
                    unsafe { #field.write(#value) };
                };
                after.extend(if *optional {
                    quote!(if !#field.is_null() { #write })
                } else {
                    write
                });
            }
            Role::Bytes(len) => {
                let len = ident(len.as_deref().unwrap_or("len"));
                checks.extend(quote! {
                    // SAFETY: the caller promises `#len` readable bytes (cuda.h).
                    let #field = unsafe { input_bytes(#field, #len as usize) }?;
                });
                arguments.extend(quote!(#field,));
            }
            Role::OutBytes | Role::ReplyBytes => {
                checks.extend(quote! {
                    // SAFETY: the caller promises a writable buffer of the length it passes (cuda.h).
                    let #field = unsafe { output_bytes(#field, bytes as usize) }?;
                });
                arguments.extend(quote!(#field,));
            }
            Role::Str => {
                checks.extend(quote! {
                    // SAFETY: the caller promises a NUL-terminated string (cuda.h).
                    let #field = unsafe { input_str(#field) }?;
                });
                arguments.extend(quote!(#field,));
            }
        }
    }
    let (reply, reply_argument) = if outs(entry).next().is_some() {
        let ty = format_ident!("{}Reply", entry.name);
        (
            quote!(let mut reply = calls::#ty::default();),
            quote!(&mut reply,),
        )
    } else {
        (TokenStream::new(), TokenStream::new())
    };
    let sent = quote!(send::#name(session, #arguments #reply_argument));
    let sent = if undo.is_empty() {
        quote!(#sent?;)
    } else {
        quote!(if let Err(error) = #sent { #undo return Err(error); })
    };
    let of = of(entry);
    let across = if op.apart {
        let fields = entry.params.iter().map(|param| ident(&param.name));
        quote! {
            if let Some(result) = across::#name(session, #(#fields),*) {
                return result;
            }
        }
    } else {
        TokenStream::new()
    };
    quote! {
        pub unsafe fn #name(#(#params),*) -> u32 {
            #of.enter(#text, #needs, |session| {
                #first
                #across
                #checks
                #reply
                #sent
                #after
                Ok(())
            })
        }
    }
}
