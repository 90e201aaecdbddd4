//! One of each form that PTX has up to sm_90: what is accepted, and what is refused, by name and line.

use softgpu_engine::{CompileError, interpreter};

use crate::common::{Machine, Random};

const DECLARATIONS: &str = ".version 8.6\n.target sm_100a\n.address_size 64
.extern .func (.param .b64 r) malloc(.param .b64 n);
.extern .func free(.param .b64 p);
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.const .align 8 .b8 constants[64];
.global .align 16 .b8 g[1024];
.global .texref tex0; .global .samplerref smp0; .global .surfref suf0;
.func (.param .b32 r) callee(.param .b32 x) { ret; }
.alias other, callee;
.visible .entry k(.param .u64 p)
{
.reg .b16 %h<8>; .reg .b32 %r<8>; .reg .b64 %d<8>; .reg .f32 %f<8>; .reg .f64 %g<8>; .reg .pred %p<4>; .reg .b128 %q<4>;
.reg .v2 .f32 %v; .reg .v4 .b32 %w;
.shared .align 16 .b8 s[1024]; .local .align 16 .b8 l[64];\n";

pub fn compile(body: &str) -> Result<(), CompileError> {
    let text = format!("{DECLARATIONS}{body}\nret; }}");
    let module = softgpu_ptx::parse(&text).map_err(|error| CompileError {
        function: "text".into(),
        line: error.line,
        message: error.message,
    })?;
    interpreter().compile(&module)?.prepare(0)
}

/// `{}` stands for each of the words behind the colon.
fn expand(line: &str) -> Vec<String> {
    match line.split_once(" : ") {
        None => vec![line.to_owned()],
        Some((form, words)) => words
            .split_whitespace()
            .map(|word| form.replace("{}", word))
            .collect(),
    }
}

const ACCEPTED: &str = "
add.{} %h0, %h1, %h2; : u16 s16 f16 rn.f16 ftz.sat.f16 bf16 rn.bf16
add.{} %r0, %r1, %r2; : u32 s32 sat.s32 cc.u32 u16x2 s16x2 f16x2 rn.ftz.f16x2 sat.f16x2 bf16x2 rn.bf16x2
add.{} %d0, %d1, %d2; : u64 s64 cc.u64
add.{} %f0, %f1, %f2; : f32 rn.f32 rz.ftz.f32 rm.sat.f32 rp.ftz.sat.f32
add.{} %g0, %g1, %g2; : f64 rn.f64 rz.f64 rm.f64 rp.f64
sub.{} %h0, %h1, %h2; : u16 s16 f16 bf16
sub.{} %r0, %r1, %r2; : u32 s32 sat.s32 cc.s32 f16x2 bf16x2
addc.{} %r0, %r1, %r2; : u32 cc.s32
subc.{} %d0, %d1, %d2; : u64 cc.s64
mul.{} %h0, %h1, %h2; : lo.u16 hi.s16 f16 bf16
mul.{} %r0, %r1, %r2; : lo.u32 hi.s32 f16x2 bf16x2 rn.f16x2
mul.wide.{} %r0, %h1, %h2; : u16 s16
mul.wide.{} %d0, %r1, %r2; : u32 s32
mul.{} %d0, %d1, %d2; : lo.u64 hi.s64
mad.{} %h0, %h1, %h2, %h3; : lo.u16 hi.u16 hi.s16
mad.{} %r0, %r1, %r2, %r3; : lo.u32 hi.s32 hi.sat.s32 lo.cc.u32
madc.{} %r0, %r1, %r2, %r3; : lo.u32 hi.cc.s32
mad.wide.{} %d0, %r1, %r2, %d3; : u32 s32
mul24.{} %r0, %r1, %r2; : lo.u32 hi.u32 lo.s32 hi.s32
mad24.{} %r0, %r1, %r2, %r3; : lo.u32 hi.u32 lo.s32 hi.s32 hi.sat.s32
sad.{} %h0, %h1, %h2, %h3; : u16 s16
sad.{} %d0, %d1, %d2, %d3; : u64 s64
div.{} %r0, %r1, %r2; : u32 s32
rem.{} %d0, %d1, %d2; : u64 s64
abs.{} %h0, %h1; : s16 f16 bf16 ftz.f16
neg.{} %r0, %r1; : s32 f16x2 bf16x2 ftz.f16x2
abs.{} %d0, %d1; : s64
min.{} %h0, %h1, %h2; : u16 s16 f16 ftz.f16 NaN.f16 ftz.NaN.xorsign.abs.f16 xorsign.abs.f16 bf16 NaN.bf16 NaN.xorsign.abs.bf16
max.{} %r0, %r1, %r2; : u32 s32 relu.s32 u16x2 s16x2 relu.s16x2 f16x2 NaN.f16x2 ftz.f16x2 xorsign.abs.f16x2 bf16x2 NaN.bf16x2
min.{} %f0, %f1, %f2; : f32 ftz.f32 NaN.f32 ftz.NaN.f32 xorsign.abs.f32 ftz.NaN.xorsign.abs.f32
max.{} %g0, %g1, %g2; : f64
popc.b64 %r0, %d1; clz.b32 %r0, %r1; bfind.shiftamt.s64 %r0, %d1; brev.b64 %d0, %d1;
fns.b32 %r0, %r1, %r2, -3;
bfe.{} %d0, %d1, %r2, %r3; : u64 s64
bfi.b64 %d0, %d1, %d2, %r3, %r4;
szext.{} %r0, %r1, %r2; : clamp.u32 clamp.s32 wrap.u32 wrap.s32
bmsk.{}.b32 %r0, %r1, %r2; : clamp wrap
dp4a.{} %r0, %r1, %r2, %r3; : u32.u32 s32.u32
dp2a.{} %r0, %r1, %r2, %r3; : lo.u32.s32 hi.s32.s32
testp.{}.f32 %p0, %f1; : finite infinite number notanumber normal subnormal
copysign.f64 %g0, %g1, %g2;
fma.{} %f0, %f1, %f2, %f3; : rn.f32 rz.ftz.f32 rm.sat.f32 rp.f32
fma.{} %h0, %h1, %h2, %h3; : rn.f16 rn.ftz.f16 rn.sat.f16 rn.relu.f16 rn.ftz.relu.f16 rn.bf16 rn.relu.bf16
fma.{} %r0, %r1, %r2, %r3; : rn.f16x2 rn.ftz.sat.f16x2 rn.relu.f16x2 rn.bf16x2 rn.relu.bf16x2
div.{} %f0, %f1, %f2; : approx.f32 approx.ftz.f32 full.f32 full.ftz.f32 rn.f32 rz.ftz.f32
div.{} %g0, %g1, %g2; : rn.f64 rp.f64
rcp.{} %f0, %f1; : approx.f32 approx.ftz.f32 rn.f32 rm.ftz.f32
rcp.{} %g0, %g1; : rn.f64 approx.ftz.f64
sqrt.{} %f0, %f1; : approx.f32 approx.ftz.f32 rn.f32 rp.ftz.f32
rsqrt.{} %g0, %g1; : approx.f64 approx.ftz.f64
rsqrt.{} %f0, %f1; : approx.f32 approx.ftz.f32
sin.approx.ftz.f32 %f0, %f1; cos.approx.f32 %f0, %f1; lg2.approx.f32 %f0, %f1; ex2.approx.ftz.f32 %f0, %f1; tanh.approx.f32 %f0, %f1;
ex2.{} %h0, %h1; : approx.f16 approx.ftz.bf16
tanh.{} %r0, %r1; : approx.f16x2 approx.bf16x2
set.{} %r0, %f1, %f2; : lt.u32.f32 ge.ftz.s32.f32 nan.f32.f32
set.{} %h0, %h1, %h2; : lt.f16.f16 ge.ftz.u16.f16 ne.s16.f16 equ.bf16.bf16 lt.u16.bf16
set.{} %r0, %r1, %r2; : lt.f16x2.f16x2 gtu.ftz.f16x2.f16x2 le.bf16x2.bf16x2
set.lt.and.u32.s32 %r0, %r1, %r2, !%p0; set.gt.or.f16.f32 %h0, %f1, %f2, %p0;
setp.{} %p0|%p1, %r1, %r2; : lt.f16x2 ge.ftz.f16x2 num.bf16x2 hi.u32 ne.b32
setp.lt.xor.f16x2 %p0|%p1, %r1, %r2, %p2; setp.lt.ftz.f16 %p0, %h1, %h2;
selp.{} %d0, %d1, %d2, %p0; : b64 u64 f64
slct.{} %r0, %r1, %r2, %f3; : u32.f32 ftz.b32.f32
and.pred %p0, %p1, %p2; not.b64 %d0, %d1; cnot.b16 %h0, %h1; xor.b16 %h0, %h1, %h2;
lop3.b32 %r0, %r1, %r2, %r3, 0x96; lop3.or.b32 %r0|%p0, %r1, %r2, %r3, 0x3f, %p1; lop3.and.b32 _|%p0, %r1, %r2, %r3, 0x3f, !%p1;
shf.{}.b32 %r0, %r1, %r2, %r3; : l.clamp l.wrap r.clamp r.wrap
shl.b16 %h0, %h1, %r2; shr.s64 %d0, %d1, %r2;
prmt.b32{} %r0, %r1, %r2, %r3; : .f4e .b4e .rc8 .ecl .ecr .rc16
mov.b128 %q0, %q1; mov.b128 %q0, {%d0, %d1}; mov.b128 {%d0, %d1}, %q0;
mov.b64 %d0, {%r0, %r1}; mov.b32 {%h0, %h1}, %r0; mov.b64 {%h0, _, %h1, %h2}, %d0; mov.u64 %d0, g+8; mov.u64 %d0, callee;
mov.f32 %f0, %v.x; mov.b64 %d0, %v; mov.b64 %v, %d0; mov.v2.f32 %v, {%f0, %f1}; mov.v4.b32 %w, %tid; mov.u32 %w.z, %r1; mov.pred %p0, %p1;
shfl.sync.{}.b32 %r0|%p0, %r1, 1, 31, -1; : up down bfly idx
shfl.bfly.b32 %r0, %r1, 1, 31;
ld.{} %r0, [%d1]; : global.u32 global.nc.b32 weak.global.u32 global.L1::evict_last.L2::evict_first.u32 global.ca.L2::128B.u32 const.u32 volatile.u32 volatile.global.u32 relaxed.sys.global.u32 acquire.gpu.u32 acquire.cta.shared.u32 mmio.relaxed.sys.global.u32 local.u32 global.nc.L1::no_allocate.L2::256B.u32 global.s8 param.u32 u32 relaxed.cluster.shared::cta.u32 global.cv.f32
ld.global.L2::cache_hint.u32 %r0, [%d1], %d2; ld.global.v4.f32 {%f0, %f1, %f2, _}, [%d1]; ld.global.v2.f32 %v, [%d1]; ld.global.v8.b32 {%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}, [%d1];
ld.global.b128 %q0, [%d1]; ld.acquire.gpu.global.b128 %q0, [%d1]; ldu.global.v2.u32 {%r0, %r1}, [%d1]; ld.shared::cta.u16 %h0, [s+2]; ld.const.b64 %d0, [constants]; ld.param.b64 %d0, [p]; ld.param::entry.b64 %d0, [p];
st.{} [%d1], %r0; : global.u32 weak.global.wb.u32 global.cs.b8 volatile.shared.u32 relaxed.gpu.global.u32 release.sys.u32 release.cta.shared::cta.u32 mmio.relaxed.sys.global.u32 local.u16 global.L1::no_allocate.u32
st.global.b128 [%d1], %q0; st.global.v4.b32 [%d1], %w; st.global.L2::cache_hint.u32 [%d1], %r0, %d2; st.shared.v2.u64 [s], {%d0, %d1};
prefetch.{} [%d0]; : L1 L2 global.L1 global.L2 local.L2 global.L2::evict_last global.L2::evict_normal
prefetchu.L1 [%d0]; applypriority.global.L2::evict_normal [%d0], 128; discard.global.L2 [%d0], 128;
createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64 %d0, 0f3F000000; createpolicy.range.global.L2::evict_last.b64 %d0, [%d1], 64, 128; createpolicy.cvt.L2.b64 %d0, %d1; createpolicy.fractional.L2::evict_first.b64 %d0;
isspacep.{} %p0, %d0; : const global local shared shared::cta shared::cluster param param::entry
cvta.{}.u64 %d0, %d1; : global shared shared::cta local const param to.global to.shared to.local to.const
cvt.{} %r0, %h1; : u32.u16 s32.s16 rni.s32.f16 rzi.u32.bf16 s32.s8 u32.u8
cvt.{} %h0, %f1; : rn.f16.f32 rz.f16.f32 rm.ftz.f16.f32 rn.relu.f16.f32 rn.satfinite.f16.f32 rz.relu.satfinite.f16.f32 rn.bf16.f32 rz.satfinite.bf16.f32 rn.sat.f16.f32 rp.bf16.f32
cvt.{} %h0, %h1; : rn.bf16.f16 f16.f16 rni.f16.f16 rzi.bf16.bf16 u8.u16 rn.f16.u8 rn.f16.bf16
cvt.{} %f0, %h1; : f32.f16 f32.bf16 ftz.f32.f16 sat.f32.f16
cvt.{} %g0, %d1; : rn.f64.s64 rz.f64.u64
cvt.{} %h0, %d1; : rn.f16.u64 rn.bf16.s64
cvt.{} %f0, %g1; : rn.f32.f64 rz.ftz.sat.f32.f64
cvt.{} %r0, %f1, %f2; : rn.f16x2.f32 rz.relu.f16x2.f32 rn.satfinite.bf16x2.f32 rn.relu.satfinite.bf16x2.f32
cvt.{} %r0, %f1; : rna.tf32.f32 rna.satfinite.tf32.f32 rn.tf32.f32 rz.relu.tf32.f32 rn.satfinite.relu.tf32.f32
cvt.{} %h0, %f1, %f2; : rn.satfinite.e4m3x2.f32 rn.satfinite.relu.e5m2x2.f32
cvt.{} %h0, %r1; : rn.satfinite.e4m3x2.f16x2 rn.satfinite.relu.e5m2x2.f16x2
cvt.{} %r0, %h1; : rn.f16x2.e4m3x2 rn.relu.f16x2.e5m2x2
cvt.pack.sat.{} %r0, %r1, %r2; : u16.s32 s16.s32
cvt.pack.sat.{} %r0, %r1, %r2, %r3; : u2.s32.b32 s2.s32.b32 u4.s32.b32 s4.s32.b32 u8.s32.b32 s8.s32.b32
cp.async.ca.shared.global [s], [%d0], {}; : 4 8 16
cp.async.cg.shared::cta.global.L2::128B [%r0], [%d0], 16; cp.async.ca.shared.global [%r0+4], [g], 8, %r1; cp.async.cg.shared.global [%r0], [%d0+16], 16, %p0; cp.async.ca.shared.global.L2::cache_hint [s], [%d0], 4, %r1, %d2; cp.async.ca.shared.global [s], [%d0], 4, !%p1;
cp.async.{}; : commit_group wait_all
cp.async.wait_group 1;
cp.async.mbarrier.arrive.{} [%d0]; : b64 shared.b64 noinc.shared::cta.b64
mbarrier.init.shared.b64 [s], 5; mbarrier.inval.b64 [%d0]; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [s], 64; mbarrier.complete_tx.shared::cta.relaxed.cta.b64 [s], %r0;
mbarrier.arrive.{} %d0, [s]; : b64 shared.b64 shared::cta.b64 release.cta.shared::cta.b64
mbarrier.arrive.b64 _, [%d0], 3; mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [s], %r0; mbarrier.arrive.noComplete.shared.b64 %d0, [s], 2; mbarrier.arrive_drop.shared.b64 %d0, [s]; mbarrier.arrive_drop.noComplete.release.cta.shared::cta.b64 %d0, [s], 1; mbarrier.arrive_drop.expect_tx.shared::cta.b64 %d0, [s], 8;
mbarrier.{} %p0, [s], %d0; : test_wait.b64 test_wait.shared.b64 try_wait.acquire.cta.shared::cta.b64
mbarrier.{}.shared::cta.b64 %p0, [s], %r0; : test_wait.parity try_wait.parity
mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p0, [s], 1, 0x989680; mbarrier.pending_count.b64 %r0, %d0;
bar.sync 0; bar.sync %r0, 64; bar.arrive 1, 64; bar.cta.sync 0; barrier.cta.sync.aligned 1, 32; barrier.sync 0; barrier.cta.arrive 2, %r0; bar.red.popc.u32 %r0, 0, %p0; barrier.cta.red.and.aligned.pred %p0, 1, 64, !%p1; bar.red.or.pred %p0, %r1, %p2; bar.warp.sync -1;
membar.{}; : cta gl sys
fence.{}; : sc.gpu acq_rel.cta acq_rel.sys sc.cluster acquire.gpu release.cta proxy.alias proxy.async proxy.async.global proxy.async.shared::cta mbarrier_init.release.cluster
atom.{} %r0, [%d0], %r1; : add.u32 global.add.s32 shared.min.u32 max.s32 relaxed.gpu.global.add.u32 acq_rel.sys.global.exch.b32 acquire.cta.shared::cta.or.b32 release.cluster.and.b32 xor.b32 inc.u32 dec.u32 add.noftz.f16x2 global.add.noftz.bf16x2
atom.{} %d0, [%d1], %d2; : add.u64 global.min.s64 max.u64 and.b64 exch.b64 min.u64
atom.{} %f0, [%d0], %f1; : add.f32 shared.add.f32 relaxed.gpu.global.add.f32
atom.{} %g0, [%d0], %g1; : add.f64 global.add.f64
atom.{} %h0, [%d0], %h1; : add.noftz.f16 global.add.noftz.bf16
atom.cas.b16 %h0, [%d0], %h1, %h2; atom.cas.b32 %r0, [s], %r1, %r2; atom.acq_rel.gpu.global.cas.b64 %d0, [%d1], %d2, %d3; atom.global.add.L2::cache_hint.u32 %r0, [%d0], %r1, %d2;
atom.cas.b128 %q0, [%d0], %q1, %q2; atom.global.exch.b128 %q0, [%d0], %q1; atom.exch.b128 {%d0, %d1}, [%d2], {%d3, %d4};
atom.global.add.v2.f32 {%f0, %f1}, [%d0], {%f2, %f3}; atom.global.add.v4.f32 {%f0, _, %f1, %f2}, [%d0], {%f2, %f3, %f4, %f5}; atom.global.v2.f32.add _, [%d0], %v;
atom.global.{} {%h0, %h1}, [%d0], {%h2, %h3}; : add.noftz.v2.f16 min.noftz.v2.bf16 max.noftz.v2.f16
atom.global.{} {%r0, %r1}, [%d0], {%r2, %r3}; : add.noftz.v2.f16x2 min.noftz.v2.f16x2 max.noftz.v2.bf16x2
red.{} [%d0], %r1; : add.u32 global.max.s32 shared.and.b32 relaxed.gpu.global.add.u32 release.sys.global.or.b32 add.noftz.f16x2 inc.u32
red.global.add.v4.f32 [%d0], {%f0, %f1, %f2, %f3}; red.global.v8.bf16.add.noftz [%d0], {%h0, %h1, %h2, %h3, %h4, %h5, %h6, %h7}; red.global.add.noftz.v4.f16x2 [%d0], {%r0, %r1, %r2, %r3}; red.add.f64 [%d0], %g0;
vote.sync.{}.pred %p0, %p1, -1; : all any uni
vote.sync.ballot.b32 %r0, !%p1, -1; vote.ballot.b32 %r0, %p1; match.any.sync.b64 %r0, %d1, -1; match.all.sync.b32 %r0|%p0, %r1, -1; activemask.b32 %r0; elect.sync %r0|%p0, -1; elect.sync _|%p0, %r1;
redux.sync.{} %r0, %r1, -1; : add.u32 add.s32 min.u32 max.s32 and.b32 or.b32 xor.b32
redux.sync.{} %f0, %f1, -1; : min.f32 max.abs.f32 min.NaN.f32 max.abs.NaN.f32
griddepcontrol.{}; : launch_dependents wait
setmaxnreg.{}.sync.aligned.u32 232; : inc dec
nanosleep.u32 100; nanosleep.u32 %r0; pmevent 7; pmevent.mask 0x0f; brkpt; trap; exit;
bra E; E: bra.uni E;
T: .branchtargets A, B; @%p0 brx.idx %r0, T; A: B:
alloca.u64 %d0, %d1; alloca.u32 %r0, %r1, 32; stacksave.u64 %d0; stackrestore.u64 %d0; stacksave.u32 %r0; stackrestore.u32 %r0;
{ .param .b32 a; .param .b32 b; call.uni (b), callee, (a); call (b), other, (a); mov.u64 %d0, callee; P: .callprototype (.param .b32 _) _ (.param .b32 _); call (b), %d0, (a), P; Q: .calltargets callee, other; call (b), %d0, (a), Q; }
{ .param .b64 a; .param .b64 b; st.param.b64 [a], 64; call.uni (b), malloc, (a); ld.param.b64 %d0, [b]; call.uni free, (b); .param .b32 c; call.uni (c), vprintf, (a, b); }
v{}.u32.s32.u32.sat %r0, %r1.b0, %r2.h1; : add sub absdiff min max
v{}.s32.s32.s32.add %r0, %r1, %r2.b3, %r3; : add sub absdiff min max
vadd.u32.u32.u32 %r0.h1, %r1, %r2, %r3; vshl.s32.u32.u32.clamp %r0, %r1, %r2; vshr.u32.u32.u32.wrap %r0, %r1, %r2.h1; vshr.s32.s32.u32.sat.clamp.max %r0, %r1, %r2, %r3;
vmad.s32.s32.u32.sat %r0, %r1, %r2, -%r3; vmad.u32.u32.u32.shr15 %r0, %r1.h0, %r2.h0, %r3; vmad.u32.u32.u32.po.shr7 %r0, %r1, %r2, %r3; vmad.s32.s32.s32 %r0, -%r1.b1, %r2, %r3;
vset.s32.u32.lt %r0, %r1, %r2; vset.u32.u32.ne.add %r0, %r1, %r2.h1, %r3; vset.s32.s32.ge %r0.b2, %r1, %r2, %r3;
v{}.s32.s32.u32.sat %r0, %r1, %r2, %r3; : add2 sub2 avrg2 absdiff2 min2 max2 add4 sub4 avrg4 absdiff4 min4 max4
vadd2.s32.s32.s32.add %r0.h1, %r1.h30, %r2.h22, %r3; vabsdiff4.u32.u32.u32.add %r0, %r1, %r2, %r3; vmin4.s32.u32.u32 %r0.b20, %r1.b0000, %r2.b2765, %r3; vset4.u32.u32.ne %r0, %r1, %r2, %r3; vset2.s32.s32.lt.add %r0, %r1, %r2, %r3;
mov.u32 %r0, {}; : %tid.x %ntid.y %ctaid.z %nctaid.x %laneid %warpid %nwarpid %smid %nsmid %gridid %lanemask_eq %lanemask_le %lanemask_lt %lanemask_ge %lanemask_gt %clock %clock_hi %pm0 %envreg3 %clusterid.x %nclusterid.y %cluster_ctaid.x %cluster_nctaid.z %cluster_ctarank %cluster_nctarank %globaltimer_lo %globaltimer_hi %reserved_smem_offset_begin %reserved_smem_offset_2 %total_smem_size %aggr_smem_size %dynamic_smem_size
mov.u64 %d0, {}; : %clock64 %globaltimer %gridid %current_graph_exec %pm0_64
mov.pred %p0, %is_explicit_cluster;
tex.{}.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f4, %f5}]; : 2d base.2d
tex.1d.v4.{} {%r0, _, _, %r3}, [%d0, %r4]; : s32.s32 u32.s32 f32.f32
tex.a2d.v4.f16.f32 {%h0, %h1, %h2, %h3}, [tex0, smp0, {%r0, %f1, %f2}], {1, -1}; tex.3d.v2.f16x2.f32 {%r0, %r1}|%p0, [%d0, %d1, {%f1, %f2, %f3, %f4}];
tex.level.cube.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f4, %f5, %f6, %f6}], %f7; tex.grad.a1d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%r0, %f5}], {%f6}, {%f7};
tld4.{}.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f4, %f5}]; : r g b a
txq.{}.b32 %r0, [tex0]; : width height depth channel_data_type channel_order normalized_coords array_size num_mipmap_levels num_samples filter_mode addr_mode_0
txq.{}.b32 %r0, [smp0]; : force_unnormalized_coords filter_mode addr_mode_2
txq.level.height.b32 %r0, [%d0], %r1;
suq.{}.b32 %r0, [suf0]; : width height depth channel_data_type channel_order array_size memory_layout
suld.b.{}.trap %r0, [suf0, {%r1, %r2}]; : 2d.b32 2d.cg.b32
suld.b.a2d.v4.b8.zero {%h0, %h1, %h2, %h3}, [%d0, {%r0, %r1, %r2, %r2}]; suld.b.1d.v2.b64.clamp {%d0, %d1}, [suf0, {%r1}];
sust.b.3d.v4.b32.clamp [suf0, {%r0, %r1, %r2, %r3}], {%r4, %r5, 1, %r7}; sust.p.1d.v2.b32.zero [suf0, {%r0}], {%r1, %r2}; sust.b.2d.wt.b16.trap [%d0, {%r0, %r1}], %h0;
sured.{}.trap [suf0, {%r0, %r1}], %r2; : b.add.2d.u32 b.max.2d.s32 b.and.2d.b32 p.or.2d.b32
sured.b.min.1d.s64.zero [suf0, {%r0}], %d0;
istypep.{} %p0, %d0; : texref samplerref surfref
mov.u64 %d0, tex0; istypep.texref %p0, tex0;
";

/// Each is refused, and the message has the instruction's name.
const REFUSED: &str = "
add.frob.u32 %r0, %r1, %r2;
add.f32x2 %d0, %d1, %d2;
add.rn.f32.f16 %f0, %h1, %f2;
add.rn.u32 %r0, %r1, %r2;
add.b32 %r0, %r1, %r2;
add.u32.u32 %r0, %r1, %r2;
add.rn.f32.rz %f0, %f1, %f2;
add.ftz.bf16 %h0, %h1, %h2;
div.approx.rn.f32 %f0, %f1, %f2;
neg.u32 %r0, %r1;
ld.global.u32.f32 %r0, [%d0];
ld.global.shared.u32 %r0, [%d0];
ld.relaxed.acquire.gpu.u32 %r0, [%d0];
atom.add.min.u32 %r0, [%d0], %r1;
red.add.noftz.f32 [%d0], %f1;
setp.lt.gt.u32 %p0, %r1, %r2;
add.sat.u32 %r0, %r1, %r2;
mul.u32 %r0, %r1, %r2;
add.u32 %r0, %r1;
add.u32 %r0, %r1, %r2, %r3;
add.u32 %r0, %r1, %d2;
add.u32 %d0, %r1, %r2;
add.u64 %q0, %d1, %d2;
add.f32 %f0, %f1, %p0;
min.relu.u32 %r0, %r1, %r2;
min.xorsign.f32 %f0, %f1, %f2;
fma.rz.f16 %h0, %h1, %h2, %h3;
fma.rn.relu.f32 %f0, %f1, %f2, %f3;
sin.approx.f64 %g0, %g1;
rcp.approx.f64 %g0, %g1;
lop3.b32 %r0, %r1, %r2, %r3, %r4;
lop3.or.b32 %r0, %r1, %r2, %r3, 1, %p0;
setp.lt.f16x2 %p0, %r1, %r2;
szext.u32 %r0, %r1, %r2;
cvt.rs.f16x2.f32 %r0, %f1, %f2, %r3;
cvt.rn.satfinite.e2m1x2.f32 %h0, %f1, %f2;
cvt.rn.e4m3x2.f32 %h0, %f1, %f2;
cvt.rp.f16x2.f32 %r0, %f1, %f2;
cvt.rn.satfinite.f32.f64 %f0, %g1;
cvt.pack.sat.u8.s32 %r0, %r1, %r2;
cvt.u32.f32 %r0, %f1;
ld.global.v4.f64 {%g0, %g1, %g2}, [%d0];
ld.global.v8.b64 {%d0, %d1, %d2, %d3, %d4, %d5, %d6, %d7}, [%d0];
ld.shared::cluster.u32 %r0, [%r1];
ld.global.u32 %r0, %r1;
ld.global.u32 %r0, [%d0], %d1;
ld.global.u64 %r0, [%d0];
st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r0], %r1, [%r2];
st.const.u32 [%d0], %r1;
st.bulk.shared::cta [%d0], 8, 0;
prefetch.tensormap [%d0];
mapa.u64 %d0, %d1, %r2;
getctarank.u32 %r0, %d1;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [s], [%d0], 16, [s];
cp.async.bulk.commit_group;
cp.async.cg.shared.global [s], [%d0], 8;
cp.async.ca.shared.global [s], [%d0], 12;
cp.async.ca.shared.global [s], [%d0], %r0;
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r0];
mbarrier.init.global.b64 [%d0], 1;
mbarrier.test_wait.b64 %p0, [s];
barrier.cluster.arrive;
bar.arrive 1;
fence.proxy.tensormap::generic.acquire.gpu [%d0], 128;
atom.add.b32 %r0, [%d0], %r1;
atom.exch.b32 %r0, [%d0];
atom.cas.b32 %r0, [%d0], %r1;
atom.shared.add.v2.f32 {%f0, %f1}, [%d0], {%f2, %f3};
atom.global.add.v8.f32 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, [%d0], {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7};
atom.global.add.v2.f32 {%f0, %f1}, [%d0], {%f2, %f3, %f4};
atom.min.f32 %f0, [%d0], %f1;
atom.add.u32 %d0, [%d0], %r1;
red.exch.b32 [%d0], %r1;
red.async.relaxed.cluster.global.add.u32 [%d0], %r1, [%d1];
multimem.ld_reduce.global.add.u32 %r0, [%d0];
redux.sync.add.f32 %f0, %f1, -1;
redux.sync.min.abs.u32 %r0, %r1, -1;
elect.sync %r0, -1;
wgmma.fence.sync.aligned;
tcgen05.commit.cta_group::1.b64 [%d0];
tensormap.replace.tile.rank.b1024.b32 [%d0], 1;
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [g, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [smp0, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [suf0, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [nobody, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [tex0, tex0, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [%r0, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %f3}, [tex0];
tex.1d.v4.f32.s32 {%f0, %f1, %f2}, [tex0, {%r0}];
tex.1d.v4.f32.s32 {%f0, %f1, %f2, %g3}, [tex0, {%r0}];
tex.1d.v4.f64.s32 {%g0, %g1, %g2, %g3}, [tex0, {%r0}];
tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0}];
tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1}], %f2;
tex.2d.v2.f32.f32 {%f0, %f1}, [tex0, {%f0, %f1}];
tex.2dms.v4.f32.s32 {%f0, %f1, %f2, %f3}, [tex0, {%r0, %r1, %r2, %r3}];
tex.cube.v4.f32.s32 {%f0, %f1, %f2, %f3}, [tex0, {%r0, %r1, %r2, %r3}];
tex.level.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1}];
tex.grad.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1}], {%f2, %f3};
tex.v4.2d.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1}];
tld4.r.3d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1, %f2, %f3}];
tld4.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [tex0, {%f0, %f1}];
txq.width.b32 %r0, [suf0];
txq.level.array_size.b32 %r0, [tex0], 0;
txq.memory_layout.b32 %r0, [tex0];
suq.filter_mode.b32 %r0, [suf0];
suld.b.cube.b32.trap %r0, [suf0, {%r0, %r1, %r2, %r3}];
suld.b.2d.b32 %r0, [suf0, {%r0, %r1}];
suld.p.2d.b32.trap %r0, [suf0, {%r0, %r1}];
suld.b.2d.v4.b64.trap {%d0, %d1, %d2, %d3}, [suf0, {%r0, %r1}];
suld.b.2d.f32.trap %f0, [suf0, {%r0, %r1}];
sust.b.2d.ca.b32.trap [suf0, {%r0, %r1}], %r0;
sust.p.2d.b16.trap [suf0, {%r0, %r1}], %h0;
sust.b.2d.b32.trap [tex0, {%r0, %r1}], %r0;
sured.b.add.a2d.u32.trap [suf0, {%r0, %r1, %r2, %r2}], %r0;
sured.b.xor.2d.b32.trap [suf0, {%r0, %r1}], %r0;
sured.p.add.2d.b64.trap [suf0, {%r0, %r1}], %d0;
istypep.frob %p0, %d0;
alloca.u64 %d0, %d1, 3;
trap 1;
exit %r0;
setmaxnreg.inc.sync.aligned.u32 %r0;
vadd.u32.u32.u32 %r0, -%r1, %r2;
vadd.u32.u32.u32 %r0, %r1.b5, %r2;
vadd.u32.u32 %r0, %r1, %r2;
vadd4.u32.u32.u32 %r0.h0, %r1, %r2, %r3;
vavrg.u32.u32.u32 %r0, %r1, %r2;
vshl2.u32.u32.u32 %r0, %r1, %r2, %r3;
vmad.u32.u32.u32.po %r0, -%r1, %r2, %r3;
mov.b128 %q0, {%d0, %d1, %d2};
mov.u32 %r0, %ctaid_of_nobody;
mov.v2.f32 %v, {%f0, %f1, %f2};
call frob, (%r0);
";

#[test]
fn one_of_each_is_accepted() {
    let forms: Vec<String> = ACCEPTED.lines().flat_map(expand).collect();
    let bad: Vec<String> = forms
        .iter()
        .filter_map(|form| {
            compile(form)
                .err()
                .map(|error| format!("{form}\n    {error}"))
        })
        .collect();
    println!("{} forms", forms.len());
    assert!(bad.is_empty(), "{} refused:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn what_is_refused_names_its_line() {
    let first = DECLARATIONS.lines().count() as u32 + 1;
    let forms: Vec<&str> = REFUSED.lines().filter(|line| !line.is_empty()).collect();
    let bad: Vec<String> = forms
        .iter()
        .filter_map(|form| match compile(form) {
            Ok(()) => Some(format!("{form} is accepted")),
            Err(error) if error.line != first => Some(format!("{form}: {error}")),
            Err(_) => None,
        })
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Forms with operands and modifiers of others in place of their own: refused or run, but never worse than a fault.
#[test]
fn mixtures_never_panic() {
    let seed = 0x1234_5678_9abc_def1;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let forms: Vec<String> = ACCEPTED
        .lines()
        .chain(REFUSED.lines())
        .flat_map(expand)
        .flat_map(|line| {
            line.split(';')
                .map(|form| form.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|form| form.contains(' ') && !form.contains(['{', ':']) && !form.starts_with('.'))
        .collect();
    let words: Vec<&str> = forms
        .iter()
        .flat_map(|form| form.split(' ').skip(1))
        .collect();
    let modifiers: Vec<&str> = forms
        .iter()
        .flat_map(|form| form.split(' ').next().unwrap_or("").split('.').skip(1))
        .collect();
    let mut pick = |from: &[&str]| from[random.next() as usize % from.len()].to_owned();
    let (mut accepted, mut runs) = (0, 0);
    for round in 0..6000 {
        let form = pick(&forms.iter().map(String::as_str).collect::<Vec<_>>());
        let mut parts: Vec<String> = form.split(' ').map(str::to_owned).collect();
        match round % 3 {
            0 => {
                let at = 1 + pick(&["0", "1", "2", "3"]).parse::<usize>().unwrap();
                if let Some(operand) = parts.get_mut(at) {
                    let comma = operand.ends_with(',');
                    *operand = pick(&words).trim_end_matches(',').to_owned();
                    if comma {
                        operand.push(',');
                    }
                }
            }
            1 => parts[0] = format!("{}.{}", parts[0], pick(&modifiers)),
            _ => {
                let mut opcode: Vec<String> = parts[0].split('.').map(str::to_owned).collect();
                let last = opcode.len() - 1;
                opcode[last] = pick(&modifiers);
                parts[0] = opcode.join(".");
            }
        }
        let body = format!(
            "mov.u64 %d0, g; mov.u64 %d1, g; mov.u32 %r1, s; {};",
            parts.join(" ")
        );
        if compile(&body).is_err() {
            continue;
        }
        accepted += 1;
        if round % 8 != 0 {
            continue;
        }
        runs += 1;
        let mut machine = Machine::new(&format!("{DECLARATIONS}{body}\nret; }}"));
        let buffer = machine.buffer(&[0u64; 64]);
        let _ = machine.launch_with("k", [2, 1, 1], [40, 1, 1], 0, &[buffer], (1000, 10));
    }
    println!("{accepted} accepted, {runs} run");
    assert!(accepted > 500 && runs > 50);
}

/// Until PTX 3.1 a `mad.f32` that names no rounding rounds to nearest; later it is refused.
#[test]
fn old_multiplications_round_to_nearest() {
    let text = |head: &str| {
        format!(
            "{head}.visible .entry k(.param .u64 p) {{ .reg .f32 %a<4>; .reg .b64 %d;
ld.param.u64 %d, [p]; ld.global.f32 %a0, [%d]; ld.global.f32 %a1, [%d+4]; ld.global.f32 %a2, [%d+8];
mad.f32 %a3, %a0, %a1, %a2; st.global.f32 [%d+12], %a3; ret; }}"
        )
    };
    let (a, b, c) = (1.000_000_1_f32, 3.000_000_2_f32, -3.000_000_5_f32);
    for head in [
        ".version 1.4\n.target sm_10\n",
        ".version 3.1\n.target sm_20\n",
    ] {
        let mut machine = Machine::new(&text(head));
        let at = machine.buffer(&[a, b, c, 0.0]);
        machine.launch("k", 1, 1, &[at]);
        let got = machine.read::<f32>(at, 4)[3];
        assert_eq!(got.to_bits(), a.mul_add(b, c).to_bits(), "{head}");
    }
    let module = softgpu_ptx::parse(&text(".version 3.2\n.target sm_20\n")).unwrap();
    let error = interpreter()
        .compile(&module)
        .and_then(|program| program.prepare(0))
        .unwrap_err();
    assert!(error.message.contains("mad.f32"), "{}", error.message);
}
