//! Copies that come as lists.

/// CUmemcpyAttributes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyAttributes {
    /// CUmemcpySrcAccessOrder.
    pub order: u32,
    /// Where memory is that is nowhere for good.
    pub hints: [u32; 4],
    pub flags: u32,
}

/// CUmemcpy3DOperand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Operand {
    /// CUmemcpy3DOperandType.
    pub kind: u32,
    /// An address or an array.
    pub object: u64,
    /// Of memory: elements of a row, rows of a layer, a hint. Of an array: where the copy begins.
    pub place: [usize; 3],
}

pub const OPERAND_POINTER: u32 = 1;
pub const OPERAND_ARRAY: u32 = 2;

/// CUDA_MEMCPY3D_BATCH_OP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOperation {
    pub src: Operand,
    pub dst: Operand,
    /// In elements.
    pub extent: [usize; 3],
    pub order: u32,
    pub flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys;
    use std::mem::offset_of;

    #[test]
    fn structures_lie_as_in_cuda_h() {
        assert_eq!(
            size_of::<CopyAttributes>(),
            size_of::<sys::CUmemcpyAttributes>()
        );
        assert_eq!(
            size_of::<CopyOperation>(),
            size_of::<sys::CUDA_MEMCPY3D_BATCH_OP>()
        );
        assert_eq!(
            offset_of!(CopyOperation, order),
            offset_of!(sys::CUDA_MEMCPY3D_BATCH_OP, srcAccessOrder)
        );
    }
}
