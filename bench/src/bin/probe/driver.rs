//! The calls of cuda.h that are made here, of whatever libcuda.so.1 the loader finds.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

use anyhow::{Context as _, Result, ensure};
use libloading::Library;

pub type Handle = *mut c_void;

macro_rules! driver {
    ($($name:ident($($type:ty),*);)*) => {
        #[allow(non_snake_case)]
        pub struct Driver {
            $(pub $name: unsafe extern "C" fn($($type),*) -> c_int,)*
            _library: Library,
        }
        impl Driver {
            pub fn load() -> Result<Driver> {
                // SAFETY: a CUDA driver, whose initialisers are made for this.
                let library = unsafe { Library::new("libcuda.so.1") }.context("no CUDA driver")?;
                Ok(Driver {
                    // SAFETY: the types are cuda.h's.
                    $($name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }?,)*
                    _library: library,
                })
            }
        }
    };
}

pub(crate) use driver;

driver! {
    cuInit(c_uint);
    cuDeviceGetAttribute(*mut c_int, c_uint, c_int);
    cuCtxCreate_v2(*mut Handle, c_uint, c_int);
    cuCtxGetCurrent(*mut Handle);
    cuCtxSynchronize();
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut u64, usize);
    cuMemFree_v2(u64);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemcpyHtoD_v2(u64, *const c_void, usize);
    cuMemcpyDtoH_v2(*mut c_void, u64, usize);
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
    cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, Handle);
    cuMemsetD32Async(u64, c_uint, usize, Handle);
    cuModuleLoadData(*mut Handle, *const c_char);
    cuModuleUnload(Handle);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamSynchronize(Handle);
    cuEventCreate(*mut Handle, c_uint);
    cuEventDestroy_v2(Handle);
    cuEventRecord(Handle, Handle);
    cuEventQuery(Handle);
    cuEventSynchronize(Handle);
    cuGraphCreate(*mut Handle, c_uint);
    cuGraphAddKernelNode_v2(*mut Handle, Handle, *const Handle, usize, *const KernelNode);
    cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    cuGraphLaunch(Handle, Handle);
    cuLaunchKernel(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
}

/// CUDA_KERNEL_NODE_PARAMS_v2.
#[repr(C)]
pub struct KernelNode {
    pub function: Handle,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared: c_uint,
    pub params: *mut *mut c_void,
    pub extra: *mut *mut c_void,
    pub kernel: Handle,
    pub context: Handle,
}

pub fn check(result: c_int) -> Result<()> {
    ensure!(result == 0, "CUDA error {result}");
    Ok(())
}

/// A call whose arguments are as cuda.h wants them.
macro_rules! call {
    ($driver:ident.$name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: every pointer is to a place of ours that lives longer than the call.
        anyhow::Context::context($crate::driver::check(unsafe { ($driver.$name)($($argument),*) }), stringify!($name))
    };
}
pub(crate) use call;

impl Driver {
    /// With a context that is current.
    pub fn ready() -> Result<Driver> {
        let driver = Driver::load()?;
        call!(driver.cuInit(0))?;
        let mut context = null_mut();
        call!(driver.cuCtxCreate_v2(&mut context, 0, 0))?;
        call!(driver.cuCtxSynchronize())?;
        Ok(driver)
    }

    pub fn kernel(&self, ptx: &CStr, name: &CStr) -> Result<Handle> {
        let (mut module, mut kernel) = (null_mut(), null_mut());
        call!(self.cuModuleLoadData(&mut module, ptx.as_ptr()))?;
        call!(self.cuModuleGetFunction(&mut kernel, module, name.as_ptr()))?;
        Ok(kernel)
    }

    pub fn stream(&self) -> Result<Handle> {
        let mut stream = null_mut();
        call!(self.cuStreamCreate(&mut stream, 1))?;
        Ok(stream)
    }

    pub fn allocate(&self, bytes: usize) -> Result<u64> {
        let mut address = 0;
        call!(self.cuMemAlloc_v2(&mut address, bytes))?;
        Ok(address)
    }

    /// Pinned memory, which its pages are taken of.
    pub fn pinned(&self, bytes: usize) -> Result<*mut u8> {
        let mut memory = null_mut();
        call!(self.cuMemHostAlloc(&mut memory, bytes, 0))?;
        // SAFETY: memory of that length, which nobody uses yet.
        unsafe { std::ptr::write_bytes(memory.cast::<u8>(), 5, bytes) };
        Ok(memory.cast())
    }

    /// One block of one thread.
    pub fn launch(
        &self,
        kernel: Handle,
        stream: Handle,
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        call!(self.cuLaunchKernel(
            kernel,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            stream,
            parameters.as_mut_ptr(),
            null_mut()
        ))
    }

    /// A graph of the same kernel `count` times, each behind the last.
    pub fn graph(
        &self,
        kernel: Handle,
        parameters: &mut [*mut c_void],
        count: usize,
    ) -> Result<Handle> {
        let mut graph = null_mut();
        call!(self.cuGraphCreate(&mut graph, 0))?;
        let node = KernelNode {
            function: kernel,
            grid: [1; 3],
            block: [1; 3],
            shared: 0,
            params: parameters.as_mut_ptr(),
            extra: null_mut(),
            kernel: null_mut(),
            context: null_mut(),
        };
        let mut last: Vec<Handle> = Vec::new();
        for _ in 0..count {
            let mut made = null_mut();
            call!(self.cuGraphAddKernelNode_v2(
                &mut made,
                graph,
                last.as_ptr(),
                last.len(),
                &node
            ))?;
            last = vec![made];
        }
        let mut executable = null_mut();
        call!(self.cuGraphInstantiateWithFlags(&mut executable, graph, 0))?;
        Ok(executable)
    }
}
