//! A program's view of the driver: the C functions, called as C does.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

pub use softgpu_cuda::abi::{In, Out};
pub use softgpu_cuda::exports::*;

pub const SUCCESS: u32 = 0;
pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const NOT_INITIALIZED: u32 = 3;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_PTX: u32 = 218;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;

/// Kernels of the tests.
pub const PTX: &str = include_str!("kernels.ptx");

/// cuInit in a home of this program's own, with 256 MiB.
pub fn init() {
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        // A child of a test shares the home of its parent.
        if std::env::var_os("SOFTGPU_HOME").is_none() {
            // SAFETY: the first thing that a test does, before it starts threads; libtest's own read no environment now.
            unsafe { std::env::set_var("SOFTGPU_HOME", home.path()) };
        }
        for (name, value) in [
            ("SOFTGPU_MEMORY", "256MiB"),
            ("SOFTGPU_THREADS", "2"),
            ("SOFTGPU_DEVICES", "2"),
        ] {
            if std::env::var_os(name).is_none() {
                // SAFETY: as above.
                unsafe { std::env::set_var(name, value) };
            }
        }
        assert_eq!(cuInit(0), SUCCESS);
        home
    });
}

#[track_caller]
pub fn ok(result: u32) {
    assert_eq!(result, SUCCESS, "{}", name(result));
}

pub fn name(result: u32) -> String {
    let mut text: *const c_char = std::ptr::null();
    cuGetErrorName(result, Out::of(&mut text));
    if text.is_null() {
        return format!("{result}");
    }
    // SAFETY: the driver's names are static.
    unsafe { std::ffi::CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// A value that a call writes.
#[track_caller]
pub fn get<T: Default>(call: impl FnOnce(Out<T>) -> u32) -> T {
    let mut value = T::default();
    ok(call(Out::of(&mut value)));
    value
}

pub fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub fn c(text: &CString) -> In<c_char> {
    In::of_slice(text.as_bytes_with_nul()).cast()
}

/// A context of the test's own, with the kernels loaded.
pub struct Program {
    pub context: u64,
    pub module: u64,
}

impl Program {
    pub fn new() -> Program {
        Program::of(PTX)
    }

    /// With other kernels.
    pub fn of(ptx: &str) -> Program {
        init();
        let context = get(|out| cuCtxCreate_v2(out, 0, 0));
        let image = text(ptx);
        let module = get(|out| cuModuleLoadData(out, c(&image).cast()));
        Program { context, module }
    }

    pub fn function(&self, name: &str) -> u64 {
        let name = text(name);
        get(|out| cuModuleGetFunction(out, self.module, c(&name)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let result = cuCtxDestroy_v2(self.context);
        if !std::thread::panicking() {
            ok(result);
        }
    }
}

pub fn alloc(bytes: usize) -> u64 {
    get(|out| cuMemAlloc_v2(out, bytes))
}

pub fn upload<T: Copy>(values: &[T]) -> u64 {
    let address = alloc(size_of_val(values));
    ok(cuMemcpyHtoD_v2(
        address,
        values.as_ptr() as u64,
        size_of_val(values),
    ));
    address
}

pub fn download<T: Copy + Default>(address: u64, count: usize) -> Vec<T> {
    let mut values = vec![T::default(); count];
    ok(cuMemcpyDtoH_v2(
        values.as_mut_ptr() as u64,
        address,
        count * size_of::<T>(),
    ));
    values
}

/// cuLaunchKernel with a pointer for each parameter, all of 64 bits.
pub fn launch_in(function: u64, grid: u32, block: u32, stream: u64, values: &[u64]) -> u32 {
    let pointers: Vec<u64> = values
        .iter()
        .map(|value| std::ptr::from_ref(value) as u64)
        .collect();
    cuLaunchKernel(
        function,
        grid,
        1,
        1,
        block,
        1,
        1,
        0,
        stream,
        In::of_slice(&pointers),
        In::null(),
    )
}

pub fn launch(function: u64, grid: u32, block: u32, values: &[u64]) -> u32 {
    launch_in(function, grid, block, 0, values)
}
