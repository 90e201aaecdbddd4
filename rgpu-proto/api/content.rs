//! Content that the server has told the client of in its welcome. `known` is its place in the list there: of code, or of pieces.

unsafe extern "C" {
    /// As `rgpuModuleLoad`; the table of functions has come with the welcome.
    #[op(0x0c00, one_way, server)]
    fn rgpuModuleLoadKnown(id: u64, known: u32);
    /// As `rgpuLibraryLoad`.
    #[op(0x0c01, one_way, server, no_context)]
    fn rgpuLibraryLoadKnown(id: u64, known: u32);
    /// As `rgpuCopyIn`.
    #[op(0x0c02, one_way, server)]
    fn rgpuCopyInKnown(dst: DevicePtr, stream: Stream, sync: u32, known: u32);
}
