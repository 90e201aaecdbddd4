//! Copies of a row from or to an array. They are boxes of one row like any other.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use super::copy::boxed;
use crate::area::{Corner3d, Memcpy3d};
use crate::entry::Needs;
use crate::transfer::{NOW, When, ordered};

fn host(at: *const c_void) -> Corner3d {
    Corner3d {
        kind: 1,
        host: at as u64,
        ..Corner3d::default()
    }
}

fn device(device: u64) -> Corner3d {
    Corner3d {
        kind: 2,
        device,
        ..Corner3d::default()
    }
}

fn array(array: u64, x: usize) -> Corner3d {
    Corner3d {
        kind: 3,
        array,
        x,
        ..Corner3d::default()
    }
}

/// `bytes` bytes of the first row, the only one of an array of one dimension.
fn row(name: &'static str, dst: Corner3d, src: Corner3d, bytes: usize, when: When) -> u32 {
    when.of().enter(name, Needs::Context, |session| {
        let params = Memcpy3d {
            src,
            dst,
            width: bytes,
            height: 1,
            depth: 1,
            ..Memcpy3d::default()
        };
        boxed(session, &params, (0, 0), when)
    })
}

/// Both versions of a copy: of the first, sizes and device addresses have 32 bits. `bytes` is the last but a stream.
macro_rules! rows {
    ($($old:ident, $new:ident, ($($name:ident: $narrow:ty as $wide:ty),*), $to:expr, $from:expr, $bytes:ident, $when:expr;)*) => {$(
        pub unsafe fn $new($($name: $wide),*) -> u32 {
            row(stringify!($new), $to, $from, $bytes, $when)
        }

        pub unsafe fn $old($($name: $narrow),*) -> u32 {
            // SAFETY: the same contract.
            unsafe { $new($($name as $wide),*) }
        }
    )*};
}

type Host = *mut c_void;
type Source = *const c_void;

rows! {
    cuMemcpyAtoA, cuMemcpyAtoA_v2,
        (dst: u64 as u64, dst_offset: u32 as usize, src: u64 as u64, src_offset: u32 as usize, bytes: u32 as usize),
        array(dst, dst_offset), array(src, src_offset), bytes, NOW;
    cuMemcpyAtoD, cuMemcpyAtoD_v2, (dst: u32 as u64, src: u64 as u64, src_offset: u32 as usize, bytes: u32 as usize),
        device(dst), array(src, src_offset), bytes, NOW;
    cuMemcpyDtoA, cuMemcpyDtoA_v2, (dst: u64 as u64, dst_offset: u32 as usize, src: u32 as u64, bytes: u32 as usize),
        array(dst, dst_offset), device(src), bytes, NOW;
    cuMemcpyAtoH, cuMemcpyAtoH_v2, (dst: Host as Host, src: u64 as u64, src_offset: u32 as usize, bytes: u32 as usize),
        host(dst), array(src, src_offset), bytes, NOW;
    cuMemcpyHtoA, cuMemcpyHtoA_v2, (dst: u64 as u64, dst_offset: u32 as usize, src: Source as Source, bytes: u32 as usize),
        array(dst, dst_offset), host(src), bytes, NOW;
    cuMemcpyAtoHAsync, cuMemcpyAtoHAsync_v2,
        (dst: Host as Host, src: u64 as u64, src_offset: u32 as usize, bytes: u32 as usize, stream: u64 as u64),
        host(dst), array(src, src_offset), bytes, ordered(stream);
    cuMemcpyHtoAAsync, cuMemcpyHtoAAsync_v2,
        (dst: u64 as u64, dst_offset: u32 as usize, src: Source as Source, bytes: u32 as usize, stream: u64 as u64),
        array(dst, dst_offset), host(src), bytes, ordered(stream);
}
