//! How a library gets its symbols. The linker takes the version node of a symbol from our script only if rustc's own script, which has none,
//! does not name it; so the symbol is a jump to a function that rustc does not export.

macro_rules! export {
    ($name:ident) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.", stringify!($name), ",\"ax\",@progbits"),
            concat!(".globl ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            "jmp {function}",
            concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            ".popsection",
            function = sym $name,
        );
    };
}
