//! `rgpu-server/worker/src/gen/`: `driver.rs`, the functions taken from the driver, and `dispatch.rs`, the server half of each
//! operation.

use std::collections::BTreeMap;

use anyhow::Result;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::emit::{
    c_type, driver_type, format, from_wire, ident, is_segment, outs, plain, to_wire, wire_imports,
};
use super::table::{Entry, Mode, Op, Role, Table};

pub fn driver(table: &Table) -> Result<String> {
    let mut wanted: BTreeMap<&str, Vec<TokenStream>> = BTreeMap::new();
    for entry in &table.entries {
        let types = match &entry.mode {
            Mode::Driver => entry.params.iter().map(c_type).collect(),
            Mode::Op(_) if entry.name.starts_with("cu") => {
                entry.params.iter().map(driver_type).collect()
            }
            _ => continue,
        };
        wanted.entry(&entry.name).or_insert(types);
    }
    let fields = wanted.iter().map(|(name, types)| {
        let name = ident(name);
        quote!(pub #name: Option<unsafe extern "C" fn(#(#types),*) -> u32>,)
    });
    let loads = wanted.keys().map(|text| {
        let name = ident(text);
        let symbol = format!("{text}\0");
        quote! {
            // SAFETY: cuda.h gives the function this signature.
            #name: unsafe { symbol(&library, #symbol.as_bytes()) },
        }
    });
    format(quote! {
        #![allow(non_snake_case, clippy::undocumented_unsafe_blocks)]

        use std::ffi::{c_char, c_void};

        use libloading::Library;

        /// The driver's functions; one that it does not have is `None`.
        pub struct Driver {
            #(#fields)*
            _library: Library,
        }

        impl Driver {
            /// Looks the functions up in a loaded libcuda.
            pub fn from_library(library: Library) -> Driver {
                Driver { #(#loads)* _library: library }
            }
        }

        /// # Safety
        /// `T` is the function's true signature.
        unsafe fn symbol<T: Copy>(library: &Library, name: &[u8]) -> Option<T> {
            // SAFETY: the caller's promise.
            unsafe { library.get::<T>(name) }.ok().map(|symbol| *symbol)
        }
    })
}

pub fn dispatch(table: &Table) -> Result<String> {
    let arms: TokenStream = table.ops().map(|(entry, op)| arm(entry, op)).collect();
    let imports = wire_imports(&arms);
    format(quote! {
        #![allow(non_snake_case, unused_variables, clippy::undocumented_unsafe_blocks, clippy::question_mark, clippy::redundant_closure_call, clippy::unnecessary_cast)]

        use rgpu_proto::CudaError;
        use rgpu_proto::calls::{self, op};
        use rgpu_proto::frame::{FrameError, segments};
        #imports
        use zerocopy::{FromBytes, IntoBytes};

        use crate::calls as by_hand;
        use crate::handles::Kind;
        use crate::state::State;

        /// Performs one operation. The outer error ends the session, the inner one is the call's result; `reply` gets the
        /// fixed reply and the bulk bytes after it.
        pub fn dispatch(
            state: &State,
            operation: u16,
            body: &[u8],
            reply: &mut Vec<u8>,
        ) -> Result<Result<(), CudaError>, FrameError> {
            match operation {
                #arms
                op => Err(FrameError::UnknownOp { op }),
            }
        }

        fn malformed(op: u16, got: usize, want: usize) -> FrameError {
            FrameError::Body { op, got, want }
        }
    })
}

fn arm(entry: &Entry, op: &Op) -> TokenStream {
    let name = ident(&entry.name);
    let args = format_ident!("{}Args", entry.name);
    let segment_names: Vec<_> = entry
        .params
        .iter()
        .filter(|p| is_segment(p))
        .map(|p| ident(&p.name))
        .collect();
    let segment_lens = entry.params.iter().filter(|p| is_segment(p)).map(|p| {
        let len = format_ident!("{}_len", p.name);
        quote!(args.#len.get())
    });
    let body = if op.server {
        hand_written(entry)
    } else {
        direct(entry)
    };
    quote! {
        op::#name => {
            let (args, rest) = calls::#args::ref_from_prefix(body)
                .map_err(|_| malformed(operation, body.len(), size_of::<calls::#args>()))?;
            let [#(#segment_names),*] = segments(operation, rest, [#(#segment_lens),*])?;
            Ok((|| { #body })())
        }
    }
}

fn handle_lookup(role: &Role, field: &proc_macro2::Ident) -> TokenStream {
    match role {
        Role::Handle(kind) => {
            let kind = ident(kind);
            quote!(let #field = state.handles.get(Kind::#kind, args.#field.get())?;)
        }
        Role::Consumes(kind) => {
            let kind = ident(kind);
            quote!(let #field = state.handles.take(Kind::#kind, args.#field.get())?;)
        }
        _ => TokenStream::new(),
    }
}

/// Calls `crate::calls::FILE::NAME` with the decoded parameters, then the fixed reply and the bulk buffer where there are such.
fn hand_written(entry: &Entry) -> TokenStream {
    let (file, name) = (ident(&entry.file), ident(&entry.name));
    let mut lookups = TokenStream::new();
    let mut arguments = TokenStream::new();
    let mut bulk = false;
    for param in &entry.params {
        let field = ident(&param.name);
        lookups.extend(handle_lookup(&param.role, &field));
        match &param.role {
            Role::Value => {
                let value = from_wire(param, quote!(args.#field));
                arguments.extend(quote!(#value,));
            }
            Role::Makes(_) => arguments.extend(quote!(args.#field.get(),)),
            Role::Out { .. } => {}
            Role::OutBytes | Role::ReplyBytes => bulk = true,
            _ => arguments.extend(quote!(#field,)),
        }
    }
    let has_reply = outs(entry).next().is_some();
    let out = if has_reply {
        quote!(&mut out,)
    } else {
        TokenStream::new()
    };
    let bulk = if bulk {
        quote!(reply,)
    } else {
        TokenStream::new()
    };
    let call = quote!(by_hand::#file::#name(state, #arguments #out #bulk));
    if !has_reply {
        return quote!(#lookups #call);
    }
    let ty = format_ident!("{}Reply", entry.name);
    quote! {
        #lookups
        let mut out = calls::#ty::default();
        let at = reply.len();
        reply.extend_from_slice(out.as_bytes());
        let result = #call;
        reply[at..at + size_of::<calls::#ty>()].copy_from_slice(out.as_bytes());
        result
    }
}

/// Calls the driver's function of the same name.
/// What ends an object of a kind that calls with a generated server half make.
fn destroyer(kind: &str) -> TokenStream {
    match kind {
        "Stream" => quote!(cuStreamDestroy_v2),
        "Event" => quote!(cuEventDestroy_v2),
        "Graph" => quote!(cuGraphDestroy),
        other => {
            let problem = format!("nobody has said what destroys a {other}");
            quote!(compile_error!(#problem))
        }
    }
}

fn direct(entry: &Entry) -> TokenStream {
    let name = ident(&entry.name);
    let mut before = TokenStream::new();
    let mut arguments = TokenStream::new();
    let mut on_success = TokenStream::new();
    let mut on_error = TokenStream::new();
    let mut fields = TokenStream::new();
    for param in &entry.params {
        let field = ident(&param.name);
        before.extend(handle_lookup(&param.role, &field));
        match &param.role {
            Role::Value => {
                let value = from_wire(param, quote!(args.#field));
                arguments.extend(quote!(#value,));
            }
            Role::Handle(_) | Role::Consumes(_) => arguments.extend(quote!(#field,)),
            Role::Makes(kind) => {
                let kind = ident(kind);
                before.extend(quote!(let mut #field = std::ptr::null_mut();));
                arguments.extend(quote!(&mut #field,));
                let destroy = destroyer(&kind.to_string());
                on_success.extend(quote! {
                    if let Err(error) = state.handles.insert(Kind::#kind, args.#field.get(), #field) {
                        // It was made above, and nobody knows it.
                        unsafe { driver_call!(state.driver.#destroy(#field)) }?;
                        return Err(error);
                    }
                });
                on_error
                    .extend(quote!(state.handles.poison(Kind::#kind, args.#field.get(), error);));
            }
            Role::Out { .. } => {
                let ty = plain(param);
                before.extend(quote!(let mut #field: #ty = Default::default();));
                arguments.extend(quote!(&mut #field,));
                let value = to_wire(param, quote!(#field));
                fields.extend(quote!(#field: #value,));
            }
            Role::Bytes(_) => arguments.extend(quote!(#field.as_ptr().cast(),)),
            Role::Str => {
                before.extend(quote! {
                    let #field = std::ffi::CString::new(#field).map_err(|_| CudaError::INVALID_VALUE)?;
                });
                arguments.extend(quote!(#field.as_ptr(),));
            }
            Role::OutBytes | Role::ReplyBytes => {
                before.extend(quote!(let mut #field = state.output(args.bytes.get())?;));
                arguments.extend(quote!(#field.as_mut_ptr().cast(),));
                on_success.extend(quote!(reply.extend_from_slice(&#field);));
            }
        }
    }
    let write_reply = if outs(entry).next().is_some() {
        let ty = format_ident!("{}Reply", entry.name);
        quote!(reply.extend_from_slice(calls::#ty { #fields }.as_bytes());)
    } else {
        TokenStream::new()
    };
    let failed = if on_error.is_empty() {
        quote!(return Err(error);)
    } else {
        quote!(#on_error return Err(error);)
    };
    quote! {
        #before
        let result = match state.driver.#name {
            // SAFETY: handles are the driver's own, buffers have the lengths that are passed.
            Some(function) => CudaError::check(unsafe { function(#arguments) }),
            None => Err(CudaError::NOT_SUPPORTED),
        };
        if let Err(error) = result { #failed }
        #write_reply
        #on_success
        Ok(())
    }
}
