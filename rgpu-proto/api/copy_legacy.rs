//! Boxes as CUDA's first versions described them: sizes and addresses of 32 bits.

unsafe extern "C" {
    #[local]
    fn cuMemcpy2D(params: *const c_void);
    #[local]
    fn cuMemcpy2DUnaligned(params: *const c_void);
    #[local]
    fn cuMemcpy2DAsync(params: *const c_void, stream: u64);
    #[local]
    fn cuMemcpy3D(params: *const c_void);
    #[local]
    fn cuMemcpy3DAsync(params: *const c_void, stream: u64);
}
