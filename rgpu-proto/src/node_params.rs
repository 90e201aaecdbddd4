//! A graph node's parameters as they travel: cuda.h's CUgraphNodeParams, word by word, little-endian. Handles in it are ids, and addresses
//! of host memory and host functions are the client's. Pointers to a kernel's parameters, and to lists, do not travel.

/// 8-byte words of a CUgraphNodeParams.
pub const WORDS: usize = 32;
pub type NodeParams = [u64; WORDS];

// CUgraphNodeType.
pub const KERNEL: u32 = 0;
pub const MEMCPY: u32 = 1;
pub const MEMSET: u32 = 2;
pub const HOST: u32 = 3;
pub const GRAPH: u32 = 4;
pub const EMPTY: u32 = 5;
pub const WAIT_EVENT: u32 = 6;
pub const EVENT_RECORD: u32 = 7;
pub const MEM_ALLOC: u32 = 10;
pub const MEM_FREE: u32 = 11;
pub const BATCH_MEM_OP: u32 = 12;
pub const CONDITIONAL: u32 = 13;
pub const LAST: u32 = 13;

/// Where the kind's own parameters begin.
pub const BODY: usize = 2;

/// Words of a CUDA_KERNEL_NODE_PARAMS after [`BODY`].
pub mod kernel {
    pub const FUNCTION: usize = 2;
    /// Three words of grid and block, then shared bytes.
    pub const SHAPE: usize = 3;
    pub const SHARED: usize = 6;
    pub const PARAMS: usize = 7;
    pub const EXTRA: usize = 8;
    pub const KERNEL: usize = 9;
    pub const CONTEXT: usize = 10;
}

/// Words of a CUDA_MEMCPY_NODE_PARAMS: flags, context, and from [`memcpy::COPY`] on a CUDA_MEMCPY3D.
pub mod memcpy {
    pub const FLAGS: usize = 2;
    pub const CONTEXT: usize = 3;
    pub const COPY: usize = 4;
    pub const COPY_WORDS: usize = 25;
    // Of one end of the copy, from its first word on; the destination's begins at `DST`.
    pub const SRC: usize = 4;
    pub const DST: usize = 15;
    pub const X: usize = 0;
    pub const Y: usize = 1;
    pub const Z: usize = 2;
    pub const LOD: usize = 3;
    pub const TYPE: usize = 4;
    pub const HOST: usize = 5;
    pub const DEVICE: usize = 6;
    pub const ARRAY: usize = 7;
    pub const RESERVED: usize = 8;
    pub const PITCH: usize = 9;
    pub const HEIGHT: usize = 10;
    // Of the whole.
    pub const WIDTH: usize = 26;
    pub const ROWS: usize = 27;
    pub const DEPTH: usize = 28;
    /// CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE and CU_MEMORYTYPE_ARRAY.
    pub const HOST_MEMORY: u32 = 1;
    pub const DEVICE_MEMORY: u32 = 2;
    pub const ARRAY_MEMORY: u32 = 3;
}

/// Words of a CUDA_MEMSET_NODE_PARAMS.
pub mod memset {
    pub const DST: usize = 2;
    pub const WORDS: usize = 5;
    pub const CONTEXT: usize = 7;
}

/// Words of a CUDA_HOST_NODE_PARAMS.
pub mod host {
    pub const FUNCTION: usize = 2;
    pub const DATA: usize = 3;
}

/// The one word of a child graph, an event, or memory to free.
pub const ONLY: usize = 2;

/// Words of a CUDA_MEM_ALLOC_NODE_PARAMS: a CUmemPoolProps, a list of access descriptors, size and address.
pub mod mem_alloc {
    pub const PROPS: usize = 2;
    pub const LOCATION: usize = 3;
    pub const ACCESS: usize = 13;
    pub const BYTES: usize = 15;
    pub const ADDRESS: usize = 16;
    /// Words of the whole.
    pub const WORDS: usize = 15;
}

/// Words of a CUDA_BATCH_MEM_OP_NODE_PARAMS. The list travels behind all words: CUstreamBatchMemOpParams of [`mem_ops::OPERATION`] bytes.
pub mod mem_ops {
    pub const CONTEXT: usize = 2;
    pub const COUNT: usize = 3;
    pub const LIST: usize = 4;
    pub const FLAGS: usize = 5;
    /// Words of the whole.
    pub const WORDS: usize = 4;
    pub const OPERATION: usize = 48;
    pub const MOST: usize = 256;
}

/// Words of a CUDA_CONDITIONAL_NODE_PARAMS: type and size share one. Ids of the graphs travel behind all words.
pub mod conditional {
    pub const HANDLE: usize = 2;
    pub const SHAPE: usize = 3;
    pub const GRAPHS: usize = 4;
    pub const CONTEXT: usize = 5;
    // CUgraphConditionalNodeType.
    pub const IF: u32 = 0;
    pub const WHILE: u32 = 1;
    pub const SWITCH: u32 = 2;
    /// Of one node.
    pub const MOST_GRAPHS: u32 = 4096;
}

/// Whether rows and slices of one end of a copy lie apart, as CUDA wants them.
pub fn rows_fit(params: &NodeParams, end: usize) -> bool {
    let of = |word: usize| params[end + word];
    let fits =
        |first: u64, count: u64, room: u64| first.checked_add(count).is_some_and(|end| end <= room);
    let (rows, depth) = (params[memcpy::ROWS], params[memcpy::DEPTH]);
    let flat = rows <= 1 && depth <= 1;
    (flat || fits(of(memcpy::X), params[memcpy::WIDTH], of(memcpy::PITCH)))
        && (depth <= 1 || fits(of(memcpy::Y), rows, of(memcpy::HEIGHT)))
}

/// The bytes that one end of a copy touches, as an offset from its base and a length; `None` if there are none or no such memory.
pub fn span(params: &NodeParams, end: usize) -> Option<(u64, u64)> {
    let of = |word: usize| params[end + word];
    let (width, rows, depth) = (
        params[memcpy::WIDTH],
        params[memcpy::ROWS],
        params[memcpy::DEPTH],
    );
    if width == 0 || rows == 0 || depth == 0 {
        return None;
    }
    let row = |y: u64, z: u64| {
        let height = of(memcpy::HEIGHT);
        z.checked_mul(height)?
            .checked_add(y)?
            .checked_mul(of(memcpy::PITCH))?
            .checked_add(of(memcpy::X))
    };
    let first = row(of(memcpy::Y), of(memcpy::Z))?;
    let last = row(
        of(memcpy::Y).checked_add(rows - 1)?,
        of(memcpy::Z).checked_add(depth - 1)?,
    )?;
    let end = last.checked_add(width)?;
    Some((first, end.checked_sub(first)?))
}

pub fn to_bytes(params: &NodeParams) -> Vec<u8> {
    params.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn from_bytes(bytes: &[u8]) -> Option<NodeParams> {
    let (words, []) = bytes.as_chunks::<8>() else {
        return None;
    };
    let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
    Some(words.map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_of_rows_and_slices() {
        let mut params = [0; WORDS];
        let at = memcpy::SRC;
        (params[at + memcpy::X], params[at + memcpy::Y]) = (3, 1);
        (params[at + memcpy::PITCH], params[at + memcpy::HEIGHT]) = (100, 10);
        (
            params[memcpy::WIDTH],
            params[memcpy::ROWS],
            params[memcpy::DEPTH],
        ) = (5, 2, 3);
        assert_eq!(span(&params, at), Some((103, 2105)));
        assert_eq!(from_bytes(&to_bytes(&params)), Some(params));
        assert!(rows_fit(&params, at));
        params[memcpy::WIDTH] = 98;
        assert!(!rows_fit(&params, at));
        params[memcpy::WIDTH] = 5;
        params[memcpy::ROWS] = 10;
        assert!(!rows_fit(&params, at));
        params[at + memcpy::PITCH] = u64::MAX;
        assert_eq!(span(&params, at), None);
        params[memcpy::WIDTH] = 0;
        assert_eq!(span(&params, at), None);
    }
}
