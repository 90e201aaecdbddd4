//! The C ABI, by the sections of nvml.h. `gen/unsupported.rs` has what is not served.

// The names are C's, and those of its constants.
#![allow(non_snake_case, non_upper_case_globals)]

/// Exports functions that need NVML to be initialised, each under all names that it has.
macro_rules! served {
    ($($(#[$doc:meta])* fn $($name:ident),+ ($($args:tt)*) |$open:ident| $body:block)+) => {
        $(served!(@each [$($name)+] ($($args)*) |$open| $body);)+
    };
    (@each [$($name:ident)+] $args:tt |$open:ident| $body:block) => {
        $(served!(@one $name $args |$open| $body);)+
    };
    (@one $name:ident ($($arg:ident: $type:ty),* $(,)?) |$open:ident| $body:block) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: $type),*) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            crate::state::enter(|$open| $body)
        }
    };
}

mod board;
mod device;
mod events;
mod hardware;
mod internal;
mod life;
mod memory;
mod system;
#[path = "../gen/unsupported.rs"]
mod unsupported;

/// What the hardware may not have.
fn read<T>(reading: Option<T>) -> crate::state::Answer<T> {
    reading.ok_or(crate::state::NOT_SUPPORTED)
}
