//! Kernels as compilers write them.

use crate::common::{HEAD, Machine};

#[test]
fn adds_vectors_with_a_tail() {
    let ptx = format!(
        "{HEAD}
.visible .entry add(.param .u64 o, .param .u64 a, .param .u64 b, .param .u32 n)
{{
    .reg .pred %p<2>; .reg .f32 %f<4>; .reg .b32 %r<6>; .reg .b64 %rd<11>;
    ld.param.u64 %rd1, [o]; ld.param.u64 %rd2, [a]; ld.param.u64 %rd3, [b]; ld.param.u32 %r2, [n];
    mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x;
    mad.lo.s32 %r1, %r3, %r4, %r5;
    setp.ge.s32 %p1, %r1, %r2;
    @%p1 bra $L__BB0_2;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.s32 %rd5, %r1, 4;
    add.s64 %rd6, %rd4, %rd5; add.s64 %rd8, %rd3, %rd5;
    ld.global.f32 %f1, [%rd8]; ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f2, %f1;
    add.s64 %rd10, %rd1, %rd5;
    st.global.f32 [%rd10], %f3;
$L__BB0_2:
    ret;
}}"
    );
    let mut machine = Machine::new(&ptx);
    let n = 1000usize;
    let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
    let b: Vec<f32> = (0..n).map(|i| 1000.0 - i as f32).collect();
    let (pa, pb, po) = (
        machine.buffer(&a),
        machine.buffer(&b),
        machine.buffer(&vec![-1f32; n + 24]),
    );
    for block in [1, 7, 16, 32, 100, 256, 1024] {
        machine.launch(
            "add",
            (n as u32).div_ceil(block),
            block,
            &[po, pa, pb, n as u64],
        );
        let got = machine.read::<f32>(po, n + 24);
        for i in 0..n {
            assert_eq!(got[i], a[i] + b[i], "{i} in blocks of {block}");
        }
        assert!(got[n..].iter().all(|&value| value == -1.0));
    }
}

/// A product of two 64×64 matrices as tinygrad's own PTX renderer writes it; small integers, so that sums are exact.
#[test]
fn multiplies_matrices_as_tinygrad_does() {
    let mut machine = Machine::new(include_str!("data/matmul_f32.ptx"));
    let name = machine.program.kernels()[0].name.clone();
    let a: Vec<f32> = (0..64 * 64).map(|i| (i * 7 % 23) as f32 - 11.0).collect();
    let b: Vec<f32> = (0..64 * 64).map(|i| (i * 13 % 29) as f32 - 14.0).collect();
    let (pa, pb, out) = (
        machine.buffer(&a),
        machine.buffer(&b),
        machine.buffer(&vec![0f32; 64 * 64]),
    );
    let done = machine.launch_with(
        &name,
        [2, 1, 1],
        [8, 16, 1],
        0,
        &[out, pa, pb],
        (1000, 10_000),
    );
    assert_eq!(done, Ok(true));
    let got = machine.read::<f32>(out, 64 * 64);
    for (at, got) in got.into_iter().enumerate() {
        let (row, column) = (at / 64, at % 64);
        let wanted: f32 = (0..64).map(|k| a[row * 64 + k] * b[k * 64 + column]).sum();
        assert_eq!(got, wanted, "row {row}, column {column}");
    }
}
