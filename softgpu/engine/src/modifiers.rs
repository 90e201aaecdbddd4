//! Which modifiers each instruction may have. One that is not here is refused by name rather than overlooked.

use softgpu_ptx::{Instruction, ScalarType};

const INTS: &str = "u16 u32 u64 s16 s32 s64";
const CACHE: &str = "ca cg cs lu cv cop wb wt nc L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last \
                     L1::no_allocate L2::evict_normal L2::evict_first L2::evict_last L2::cache_hint L2::64B L2::128B L2::256B";
const SPACES: &str = "global const shared shared::cta local param param::entry param::func";
const ORDER: &str =
    "weak volatile relaxed acquire release acq_rel mmio cta cluster gpu sys gl unified";
const COMPARE: &str = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor";
const ROUND: &str = "rn rz rm rp";
const VIDEO: &str = "u32 s32 sat add min max eq ne lt le gt ge clamp wrap shr7 shr15 po";

/// Words of several lists; where a list says `types`, any type of the language may stand.
fn allowed(mnemonic: &str) -> Option<&'static [&'static str]> {
    Some(match mnemonic {
        "abs" | "neg" => &["ftz types"],
        "add" | "sub" => &["ftz sat cc u16x2 s16x2 types", ROUND],
        "addc" | "subc" => &["cc types"],
        "madc" => &["cc hi lo types"],
        "mul" => &["hi lo wide ftz sat types", ROUND],
        "mad" => &["hi lo wide cc ftz sat types", ROUND],
        "mul24" | "mad24" => &["hi lo sat u32 s32"],
        "fma" => &["ftz sat relu types", ROUND],
        "div" => &["full approx ftz types", ROUND],
        "rem" | "sad" => &[INTS],
        "min" | "max" => &["ftz NaN xorsign abs relu u16x2 s16x2 types"],
        "rcp" | "sqrt" => &["approx ftz f32 f64", ROUND],
        "rsqrt" => &["approx ftz f32 f64"],
        "sin" | "cos" | "lg2" => &["approx ftz f32"],
        "ex2" => &["approx ftz types"],
        "tanh" => &["approx types"],
        "copysign" => &["f32 f64"],
        "testp" => &["finite infinite number notanumber normal subnormal f32 f64"],
        "popc" | "clz" | "brev" => &["b32 b64"],
        "cnot" | "shl" => &["b16 b32 b64"],
        "shr" => &["b16 b32 b64", INTS],
        "bfind" => &["shiftamt u32 u64 s32 s64"],
        "bfe" => &["u32 u64 s32 s64"],
        "bfi" => &["b32 b64"],
        "fns" => &["b32"],
        "szext" => &["clamp wrap u32 s32"],
        "bmsk" => &["clamp wrap b32"],
        "dp4a" => &["u32 s32"],
        "dp2a" => &["lo hi u32 s32"],
        "and" | "or" | "xor" | "not" => &["pred b16 b32 b64"],
        "lop3" => &["and or b32"],
        "shf" => &["l r clamp wrap b32"],
        "prmt" => &["b32 f4e b4e rc8 ecl ecr rc16"],
        "set" | "setp" => &["ftz types", COMPARE],
        "selp" => &["types"],
        "slct" => &["ftz types"],
        "mov" => &["v2 v4 types"],
        "cvta" => &["to u32 u64", SPACES],
        "isspacep" => &["shared::cluster", SPACES],
        "cvt" => &[
            "rni rzi rmi rpi rna ftz sat relu satfinite pack u2 s2 u4 s4 tf32 e4m3x2 e5m2x2 types",
            ROUND,
        ],
        "ld" | "ldu" => &["v2 v4 v8 types", CACHE, SPACES, ORDER],
        "st" => &["v2 v4 v8 types", CACHE, SPACES, ORDER],
        "atom" | "red" => &[
            "add min max inc dec and or xor exch cas noftz v2 v4 v8 types",
            CACHE,
            SPACES,
            ORDER,
        ],
        "prefetch" | "prefetchu" => &["global local L1 L2 L2::evict_last L2::evict_normal"],
        "applypriority" | "discard" => &["global L2 L2::evict_normal"],
        "createpolicy" => &[
            "range fractional cvt global L2 L2::evict_last L2::evict_normal L2::evict_first L2::evict_unchanged b64",
        ],
        "cp" => &[
            "async ca cg shared shared::cta global commit_group wait_group wait_all mbarrier arrive noinc b64",
            "L2::cache_hint L2::64B L2::128B L2::256B",
        ],
        "mbarrier" => &[
            "init inval arrive arrive_drop expect_tx complete_tx noComplete test_wait try_wait parity pending_count",
            "relaxed acquire release cta cluster shared shared::cta b64",
        ],
        "bra" | "call" | "ret" => &["uni"],
        "brx" => &["idx uni"],
        "exit" | "trap" | "brkpt" => &[],
        "pmevent" => &["mask"],
        "nanosleep" => &["u32"],
        "membar" => &["cta gl sys proxy alias"],
        "fence" => &[
            "sc acq_rel acquire release cta cluster gpu sys proxy alias async async::generic async.global",
            "global shared::cta shared::cluster async::global async::shared::cta mbarrier_init",
        ],
        "bar" | "barrier" => &["cta warp sync arrive red popc and or aligned u32 pred"],
        "shfl" => &["sync up down bfly idx b32"],
        "vote" => &["sync all any uni ballot pred b32"],
        "match" => &["any all sync b32 b64"],
        "redux" => &["sync add min max and or xor abs NaN u32 s32 b32 f32"],
        "activemask" => &["b32"],
        "elect" => &["sync"],
        "griddepcontrol" => &["launch_dependents wait"],
        "setmaxnreg" => &["inc dec sync aligned u32"],
        "alloca" | "stacksave" | "stackrestore" => &["u32 u64"],
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset"
        | "vadd2" | "vsub2" | "vavrg2" | "vabsdiff2" | "vmin2" | "vmax2" | "vset2" | "vadd4"
        | "vsub4" | "vavrg4" | "vabsdiff4" | "vmin4" | "vmax4" | "vset4" => &[VIDEO],
        _ => return None,
    })
}

/// Words of which an instruction has one at most.
const EXCLUSIVE: [&str; 12] = [
    "rn rz rm rp rni rzi rmi rpi rna approx full",
    "eq ne lt le gt ge lo ls hi hs wide equ neu ltu leu gtu geu num nan",
    "add min max inc dec and or xor exch cas popc",
    "weak volatile relaxed acquire release acq_rel sc",
    "cta cluster gpu sys gl",
    "v2 v4 v8",
    "clamp wrap",
    "l r",
    "up down bfly idx",
    "all any uni ballot",
    "f4e b4e rc8 ecl ecr rc16",
    "shr7 shr15",
];

/// Types, also those that no register or variable has.
fn is_type(word: &str) -> bool {
    ScalarType::parse(word).is_some()
        || matches!(word, "u16x2" | "s16x2" | "tf32" | "e4m3x2" | "e5m2x2")
        || matches!(word, "u2" | "s2" | "u4" | "s4")
}

/// How many types an opcode names, at most.
fn types(mnemonic: &str) -> usize {
    match mnemonic {
        "set" | "slct" | "dp4a" | "dp2a" => 2,
        // Lowering counts those of conversions and video instructions itself.
        "cvt" => 3,
        _ if mnemonic.starts_with('v') && mnemonic != "vote" => 3,
        _ => 1,
    }
}

/// The first modifier that the instruction does not have, or that does not go with those before it.
pub fn unknown(instruction: &Instruction) -> Option<&str> {
    let mnemonic = instruction.mnemonic();
    let lists = allowed(mnemonic)?;
    let known = |modifier: &str| {
        lists.iter().any(|list| {
            list.split_ascii_whitespace().any(|word| {
                word == modifier || word == "types" && ScalarType::parse(modifier).is_some()
            })
        })
    };
    // Spaces exclude each other, too, but for copies from one to the other.
    let spaces = if mnemonic == "cp" { "" } else { SPACES };
    let groups = EXCLUSIVE.iter().chain([&spaces]);
    let mut groups: Vec<(&str, bool)> = groups.map(|group| (*group, false)).collect();
    let mut left = types(mnemonic);
    let mut seen: Vec<&str> = Vec::new();
    instruction.modifiers().find(|modifier| {
        if !known(modifier) {
            return true;
        }
        if is_type(modifier) {
            let over = left == 0;
            left = left.saturating_sub(1);
            return over;
        }
        let mut clashes = seen.contains(modifier);
        seen.push(modifier);
        for (group, used) in &mut groups {
            if group.split_ascii_whitespace().any(|word| word == *modifier) {
                clashes |= *used;
                *used = true;
            }
        }
        clashes
    })
}
