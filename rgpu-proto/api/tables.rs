//! Tables of functions that NVIDIA's own libraries ask for; none is here.

unsafe extern "C" {
    #[local]
    fn cuGetExportTable(table: *mut *const c_void, id: *const c_void);
}
