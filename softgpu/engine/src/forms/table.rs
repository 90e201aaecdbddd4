//! Every opcode that the engine runs, with its modifiers and types: what is not here is refused by name.
//!
//! A line has mnemonics, a colon, and slots. A slot holds one of its words; with `?` it may stay empty. `$name` stands
//! for the words of a class. A slot with `~` holds a hint: it changes nothing but how fast a program might be, so that
//! each hint counts as one form of its instruction instead of doubling all of them. Types, and the layouts of matrices,
//! come in the order of their slots. Other modifiers may come in any order, as compilers write them.

pub const CLASSES: &[(&str, &str)] = &[
    ("int", "u16|u32|u64|s16|s32|s64"),
    ("int8", "u8|u16|u32|u64|s8|s16|s32|s64"),
    ("word", "u32|s32"),
    ("words", "u32|u64|s32|s64"),
    ("bits", "b16|b32|b64"),
    ("half", "f16|f16x2"),
    ("brain", "bf16|bf16x2"),
    ("mem", "b8|u8|s8|b16|u16|s16|b32|u32|s32|f32"),
    ("mem32", "b32|u32|s32|f32"),
    ("mem64", "b64|u64|s64|f64"),
    ("round", "rn|rz|rm|rp"),
    ("whole", "rni|rzi|rmi|rpi"),
    ("scope", "cta|cluster|gpu|sys"),
    ("block", "shared|shared::cta"),
    ("near", "global|shared|shared::cta"),
    (
        "load",
        "const|global|local|shared|shared::cta|param|param::entry|param::func",
    ),
    ("store", "global|local|shared|shared::cta|param|param::func"),
    ("cached", "ca|cg|cs|lu|cv"),
    ("written", "wb|cg|cs|wt"),
    (
        "l1",
        "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate",
    ),
    ("l2", "L2::evict_normal|L2::evict_first|L2::evict_last"),
    ("ahead", "L2::64B|L2::128B|L2::256B"),
    ("same", "eq|ne"),
    ("order", "eq|ne|lt|le|gt|ge"),
    ("above", "lo|ls|hi|hs"),
    (
        "compare",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan",
    ),
    ("join", "and|or|xor"),
    ("ab", "u8|s8"),
    ("nibble", "u4|s4"),
    ("eighth", "e4m3|e5m2"),
    ("cube", "m16n16k16|m32n8k16|m8n32k16"),
    ("way", "row|col"),
    ("rows", "1d|2d|3d|a1d|a2d"),
    ("image", "1d|2d|3d|a1d|a2d|cube|acube"),
    ("outside", "trap|clamp|zero"),
];

pub const TABLE: &str = "
add sub: $int
add sub: sat s32
add sub: cc $words
addc subc: cc? $words
add min max: u16x2|s16x2
add sub mul: $round? ftz? sat? f32
add sub mul: $round? f64
add sub mul: rn? ftz? sat? $half
add sub mul: rn? $brain
mul mad: hi|lo $int
mul mad: wide u16|u32|s16|s32
mad: hi sat s32
mad: hi|lo cc $words
madc: hi|lo cc? $words
mad fma: $round ftz? sat? f32
mad fma: $round f64
fma: rn ftz? sat? $half
fma: rn ftz? relu $half
fma: rn relu? $brain
mul24 mad24: hi|lo $word
mad24: hi sat s32
sad div rem min max: $int
min max: relu s16x2|s32
min max: ftz? NaN? f32
min max: ftz? NaN? xorsign abs f32
min max: f64
min max: ftz? NaN? $half
min max: ftz? NaN? xorsign abs $half
min max: NaN? $brain
min max: NaN? xorsign abs $brain
abs neg: s16|s32|s64
abs neg: ftz? f32
abs neg: f64
abs neg: ftz? $half
abs neg: $brain
div: full|approx ftz? f32
div rcp sqrt: $round ftz? f32
div rcp sqrt: $round f64
rcp sqrt rsqrt sin cos lg2 ex2: approx ftz? f32
rcp rsqrt: approx ftz f64
rsqrt: approx f64
ex2: approx $half
ex2: approx ftz $brain
tanh: approx f32|f16|f16x2|bf16|bf16x2
copysign: f32|f64
testp: finite|infinite|number|notanumber|normal|subnormal f32|f64

popc clz brev bfi: b32|b64
bfind: shiftamt? $words
bfe: $words
fns: b32
szext: clamp|wrap $word
bmsk: clamp|wrap b32
dp4a: $word $word
dp2a: lo|hi $word $word
and or xor not: pred|b16|b32|b64
cnot shl shr: $bits
shr: $int
lop3: and|or? b32
shf: l|r clamp|wrap b32
prmt: b32 f4e|b4e|rc8|ecl|ecr|rc16?

setp: $same $join? $bits
setp: $order $join? $int
setp: $above $join? u16|u32|u64
setp: $compare $join? ftz? f32
setp: $compare $join? f64
setp: $compare $join? ftz? $half
setp: $compare $join? $brain
set: $same $join? u32|s32|f32|f16|bf16 $bits
set: $order $join? u32|s32|f32|f16|bf16 $int
set: $above $join? u32|s32|f32|f16|bf16 u16|u32|u64
set: $compare $join? ftz? u32|s32|f32|f16 f32
set: $compare $join? u32|s32|f32|f16|bf16 f64
set: $compare $join? bf16 f16|f32
set: $compare $join? ftz? f16|u16|s16|u32|s32 f16
set: $compare $join? bf16|u16|s16|u32|s32 bf16
set: $compare $join? ftz? u32|s32|f16x2 f16x2
set: $compare $join? u32|s32|bf16x2 bf16x2
selp: b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64
slct: b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 s32
slct: ftz? b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 f32

mov: pred|b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f32|f64
mov: v2|v4 b16|b32|u16|u32|s16|s32|f32
mov: v2 b64|u64|s64|f64
cvta: to? const|global|local|shared|shared::cta|param|param::entry u64
isspacep: const|global|local|shared|shared::cta|shared::cluster|param|param::entry

cvt: sat? $int8 $int8
cvt: $round ftz? sat? f32 $int8
cvt: $round sat? f16|f64 $int8
cvt: $round bf16 $int
cvt: $whole ftz? sat? $int8 f32
cvt: $whole sat? $int8 f16|f64
cvt: $whole $int bf16
cvt: $whole? ftz? sat? f32 f32
cvt: $whole? sat? f16 f16
cvt: $whole? sat? f64 f64
cvt: $whole? bf16 bf16
cvt: ftz? sat? f32 f16
cvt: ftz? f32 bf16
cvt: ftz? sat? f64 f32
cvt: sat? f64 f16
cvt: f64 bf16
cvt: $round ftz? sat? f32 f64
cvt: $round ftz? sat? f16 f32
cvt: $round sat? f16 f64
cvt: rn|rz relu? satfinite? f16|bf16|f16x2|bf16x2 f32
cvt: $round ftz? bf16 f32
cvt: $round bf16 f64
cvt: $round bf16 f16
cvt: $round f16 bf16
cvt: rna satfinite? tf32 f32
cvt: rn|rz satfinite? relu? tf32 f32
cvt: rn satfinite relu? e4m3x2|e5m2x2 f32|f16x2
cvt: rn relu? f16x2 e4m3x2|e5m2x2
cvt: pack sat u16|s16 s32
cvt: pack sat u2|s2|u4|s4|u8|s8 s32 b32

ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead weak? $load? v2|v4? $mem
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead weak? $load? v2? $mem64
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead weak? $load? b128
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead weak? global nc? v8 $mem32
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead weak? global nc? v4 $mem64
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead global nc v2|v4? $mem
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead global nc v2? $mem64
ld: ~$cached ~$l1 ~$l2 ~L2::cache_hint ~$ahead global nc b128
ld: ~$ahead volatile global|local|shared|shared::cta? v2|v4? $mem
ld: ~$ahead volatile global|local|shared|shared::cta? v2? $mem64
ld: ~$ahead volatile global|local|shared|shared::cta? b128
ld: ~$l1 ~$l2 ~L2::cache_hint ~$ahead relaxed|acquire $scope $near? v2|v4? $mem
ld: ~$l1 ~$l2 ~L2::cache_hint ~$ahead relaxed|acquire $scope $near? v2? $mem64
ld: ~$l1 ~$l2 ~L2::cache_hint ~$ahead relaxed|acquire $scope $near? b128
ld: mmio relaxed sys global? $mem
ld: mmio relaxed sys global? $mem64
ldu: global? v2|v4? $mem
ldu: global? v2? $mem64
st: ~$written ~$l1 ~$l2 ~L2::cache_hint weak? $store? v2|v4? $mem
st: ~$written ~$l1 ~$l2 ~L2::cache_hint weak? $store? v2? $mem64
st: ~$written ~$l1 ~$l2 ~L2::cache_hint weak? $store? b128
st: ~$written ~$l1 ~$l2 ~L2::cache_hint weak? global v8 $mem32
st: ~$written ~$l1 ~$l2 ~L2::cache_hint weak? global v4 $mem64
st: volatile global|local|shared|shared::cta? v2|v4? $mem
st: volatile global|local|shared|shared::cta? v2? $mem64
st: volatile global|local|shared|shared::cta? b128
st: ~$l1 ~$l2 ~L2::cache_hint relaxed|release $scope $near? v2|v4? $mem
st: ~$l1 ~$l2 ~L2::cache_hint relaxed|release $scope $near? v2? $mem64
st: ~$l1 ~$l2 ~L2::cache_hint relaxed|release $scope $near? b128
st: mmio relaxed sys global? $mem
st: mmio relaxed sys global? $mem64

atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? and|or|xor b32|b64
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? exch b32|b64|b128
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? cas b16|b32|b64|b128
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? add u32|s32|u64|f32|f64
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? add noftz f16|f16x2|bf16|bf16x2
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? min|max $words
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? $near? inc|dec u32
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? global? add v2|v4 f32
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? global? add|min|max noftz v2|v4|v8 f16|bf16
atom: ~L2::cache_hint relaxed|acquire|release|acq_rel? $scope? global? add|min|max noftz v2|v4 f16x2|bf16x2
red: ~L2::cache_hint relaxed|release? $scope? $near? and|or|xor b32|b64
red: ~L2::cache_hint relaxed|release? $scope? $near? add u32|s32|u64|f32|f64
red: ~L2::cache_hint relaxed|release? $scope? $near? add noftz f16|f16x2|bf16|bf16x2
red: ~L2::cache_hint relaxed|release? $scope? $near? min|max $words
red: ~L2::cache_hint relaxed|release? $scope? $near? inc|dec u32
red: ~L2::cache_hint relaxed|release? $scope? global? add v2|v4 f32
red: ~L2::cache_hint relaxed|release? $scope? global? add|min|max noftz v2|v4|v8 f16|bf16
red: ~L2::cache_hint relaxed|release? $scope? global? add|min|max noftz v2|v4 f16x2|bf16x2

prefetch: global|local? L1|L2
prefetch: global L2::evict_last|L2::evict_normal
prefetchu: L1
applypriority: global? L2::evict_normal
discard: global? L2
createpolicy: fractional L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged b64
createpolicy: fractional L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged L2::evict_first|L2::evict_unchanged b64
createpolicy: range global? L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged b64
createpolicy: range global? L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged L2::evict_first|L2::evict_unchanged b64
createpolicy: cvt L2 b64
cp: async commit_group|wait_group|wait_all
cp: async mbarrier arrive noinc? $block? b64
cp: ~L2::cache_hint ~$ahead async ca|cg $block global
mbarrier: init|inval $block? b64
mbarrier: expect_tx|complete_tx $block? b64
mbarrier: expect_tx|complete_tx relaxed cta|cluster $block? b64
mbarrier: arrive|arrive_drop expect_tx|noComplete? $block? b64
mbarrier: arrive|arrive_drop expect_tx? relaxed|release cta|cluster $block? b64
mbarrier: arrive|arrive_drop noComplete release cta $block? b64
mbarrier: test_wait|try_wait parity? $block? b64
mbarrier: test_wait|try_wait parity? relaxed|acquire cta|cluster $block? b64
mbarrier: pending_count b64

bra call ret: uni?
brx: idx uni?
exit trap brkpt:
pmevent: mask?
nanosleep: u32
membar: cta|gl|sys
fence: sc|acq_rel|acquire|release? $scope
fence: proxy alias
fence: proxy async global|shared::cta|shared::cluster?
fence: mbarrier_init release cluster
bar: cta? sync|arrive
bar: warp sync
bar: cta? red popc u32
bar: cta? red and|or pred
barrier: cta? sync|arrive aligned?
barrier: cta? red popc aligned? u32
barrier: cta? red and|or aligned? pred
shfl: sync? up|down|bfly|idx b32
vote: sync? all|any|uni pred
vote: sync? ballot b32
match: any|all sync b32|b64
redux: sync add|min|max $word
redux: sync and|or|xor b32
redux: sync min|max abs? NaN? f32
activemask: b32
elect: sync
griddepcontrol: launch_dependents|wait
setmaxnreg: inc|dec sync aligned u32
alloca stacksave stackrestore: u32|u64

vadd vsub vabsdiff vmin vmax: $word $word $word sat? add|min|max?
vshl vshr: $word $word u32 sat? clamp|wrap add|min|max?
vmad: $word $word $word po? sat? shr7|shr15?
vset: $word $word $order add|min|max?
vadd2 vsub2 vavrg2 vabsdiff2 vmin2 vmax2: $word $word $word sat?
vadd2 vsub2 vavrg2 vabsdiff2 vmin2 vmax2: $word $word $word add
vadd4 vsub4 vavrg4 vabsdiff4 vmin4 vmax4: $word $word $word sat?
vadd4 vsub4 vavrg4 vabsdiff4 vmin4 vmax4: $word $word $word add
vset2 vset4: $word $word $order add?

mma: sync aligned m8n8k4 $way $way f16|f32 f16 f16 f16
mma: sync aligned m8n8k4 $way $way f32 f16 f16 f32
mma: sync aligned m16n8k8|m16n8k16 row col f16 f16 f16 f16
mma: sync aligned m16n8k8|m16n8k16 row col f32 f16 f16 f32
mma: sync aligned m16n8k8|m16n8k16 row col f32 bf16 bf16 f32
mma: sync aligned m16n8k4|m16n8k8 row col f32 tf32 tf32 f32
mma: sync aligned m16n8k16|m16n8k32 row col f16 $eighth $eighth f16
mma: sync aligned m16n8k16|m16n8k32 row col f32 $eighth $eighth f32
mma: sync aligned m8n8k4|m16n8k4|m16n8k8|m16n8k16 row col $round? f64 f64 f64 f64
mma: sync aligned m8n8k16|m16n8k16|m16n8k32 row col satfinite? s32 $ab $ab s32
mma: sync aligned m8n8k32|m16n8k32|m16n8k64 row col satfinite? s32 $nibble $nibble s32
mma: sync aligned m8n8k128|m16n8k128|m16n8k256 row col s32 b1 b1 s32 xor|and popc
wmma: mma sync aligned $way $way $cube f16|f32 f16|f32
wmma: mma sync aligned $way $way $cube s32 u8 u8 s32 satfinite?
wmma: mma sync aligned $way $way $cube s32 s8 s8 s32 satfinite?
wmma: mma sync aligned $way $way $cube f32 bf16 bf16 f32
wmma: mma sync aligned $way $way m16n16k8 f32 tf32 tf32 f32
wmma: mma sync aligned $way $way m8n8k4 $round? f64 f64 f64 f64
wmma: mma sync aligned row col m8n8k32 s32 u4 u4 s32 satfinite?
wmma: mma sync aligned row col m8n8k32 s32 s4 s4 s32 satfinite?
wmma: mma xor|and popc sync aligned row col m8n8k128 s32 b1 b1 s32
wmma: load a|b sync aligned $way $cube $near? f16|bf16|u8|s8
wmma: load a|b sync aligned $way m16n16k8 $near? tf32
wmma: load a|b sync aligned $way m8n8k4 $near? f64
wmma: load a sync aligned row m8n8k32 $near? u4|s4
wmma: load b sync aligned col m8n8k32 $near? u4|s4
wmma: load a sync aligned row m8n8k128 $near? b1
wmma: load b sync aligned col m8n8k128 $near? b1
wmma: load c sync aligned $way $cube $near? f16|f32|s32
wmma: load c sync aligned $way m16n16k8 $near? f32
wmma: load c sync aligned $way m8n8k4 $near? f64
wmma: load c sync aligned $way m8n8k32|m8n8k128 $near? s32
wmma: store d sync aligned $way $cube $near? f16|f32|s32
wmma: store d sync aligned $way m16n16k8 $near? f32
wmma: store d sync aligned $way m8n8k4 $near? f64
wmma: store d sync aligned $way m8n8k32|m8n8k128 $near? s32
ldmatrix stmatrix: sync aligned m8n8 x1|x2|x4 trans? $block? b16
movmatrix: sync aligned m8n8 trans b16

tex: base|level? $image v4 u32|s32|f32|f16 f32
tex: base|level? $image v2 f16x2 f32
tex: base|level? $rows v4 u32|s32|f32|f16 s32
tex: base|level? $rows v2 f16x2 s32
tex: grad $image v4 u32|s32|f32|f16 f32
tex: grad $image v2 f16x2 f32
tld4: r|g|b|a 2d|a2d|cube|acube v4 u32|s32|f32 f32
suld: b $rows ~ca|cg|cs|cv v2|v4? b8|b16|b32 $outside
suld: b $rows ~ca|cg|cs|cv v2? b64 $outside
sust: b $rows ~$written v2|v4? b8|b16|b32 $outside
sust: b $rows ~$written v2? b64 $outside
sust: p $rows v2|v4? b32 $outside
sured: b add 1d|2d|3d u32|u64|s32 $outside
sured: b min|max 1d|2d|3d $words $outside
sured: p add 1d|2d|3d b32 $outside
sured: p min|max 1d|2d|3d b32|b64 $outside
sured: b|p and|or 1d|2d|3d b32 $outside
txq: width|height|depth|channel_data_type|channel_order|normalized_coords|array_size|num_mipmap_levels|num_samples b32
txq: force_unnormalized_coords|filter_mode|addr_mode_0|addr_mode_1|addr_mode_2 b32
txq: level width|height|depth b32
suq: width|height|depth|channel_data_type|channel_order|array_size|memory_layout b32
istypep: texref|samplerref|surfref
";
