//! Objects of the program that graphs keep alive. Their destructors run in the client.

unsafe extern "C" {
    #[local]
    fn cuUserObjectCreate(object: *mut u64, data: u64, destroy: u64, references: u32, flags: u32);
    #[local]
    fn cuUserObjectRetain(object: u64, count: u32);
    #[local]
    fn cuUserObjectRelease(object: u64, count: u32);
    #[local]
    fn cuGraphRetainUserObject(graph: u64, object: u64, count: u32, flags: u32);
    #[local]
    fn cuGraphReleaseUserObject(graph: u64, object: u64, count: u32);

    #[op(0x0760, waits = "an object can fail to be made", server, no_context, makes)]
    fn rgpuUserObjectCreate(id: u64, destroy: u64, data: u64, references: u32);
    /// `release` 0: `count` references more, 1: fewer.
    #[op(0x0761, waits = "the server counts the references", server, no_context)]
    fn rgpuUserObjectCount(id: u64, release: u32, count: u32);
    /// `release` 0: the graph gets references, and with `moved` 1 they are the program's own; 1: it loses them.
    #[op(0x0762, waits = "the server counts the references", server, no_context)]
    fn rgpuGraphUserObject(graph: Graph, id: u64, release: u32, count: u32, moved: u32);
    #[driver]
    fn cuUserObjectCreate(object: *mut *mut c_void, data: *mut c_void, destroy: *mut c_void, references: u32, flags: u32);
    #[driver]
    fn cuUserObjectRetain(object: *mut c_void, count: u32);
    #[driver]
    fn cuUserObjectRelease(object: *mut c_void, count: u32);
    #[driver]
    fn cuGraphRetainUserObject(graph: *mut c_void, object: *mut c_void, count: u32, flags: u32);
    #[driver]
    fn cuGraphReleaseUserObject(graph: *mut c_void, object: *mut c_void, count: u32);
}
