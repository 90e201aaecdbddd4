//! Programs of instructions from the list of forms: computations in any place, branches and loops that lanes take in
//! different ways, exchanges between lanes whose members are known, exchanges through shared memory between barriers that
//! all threads come to, and atomics whose order does not matter.

use std::fmt::Write;

use crate::common::Random;
use crate::coverage::computations;
use crate::coverage::run::Case;
use crate::coverage::values::width;

pub const BLOCKS: usize = 4;
/// Not a power of two, three warps.
pub const THREADS: usize = 96;
/// Words of input and of output of a thread.
pub const WORDS: usize = 8;
/// Words behind them that all threads add to.
pub const SUMS: usize = 4;

const HEAD: &str = ".version 8.6\n.target sm_100a\n.address_size 64\n";
/// Registers of each size.
const REGISTERS: u64 = 6;
/// Names by which cases know their operands and what they may use besides.
const SCRATCH: &str = ".reg .b32 %x, %y; .reg .b64 %w; .reg .b16 %h, %g; .reg .pred %p, %q;";

pub struct Program {
    lines: Vec<Line>,
    counters: u32,
    divergence: bool,
    barriers: bool,
    shuffles: bool,
}

#[derive(Clone)]
struct Line {
    text: String,
    /// Without it the program is still well defined.
    removable: bool,
}

impl Program {
    pub fn is_mixed(&self) -> bool {
        self.divergence && self.barriers && self.shuffles
    }

    /// The smallest program found for which `fails` still holds, by leaving out what can be left out.
    pub fn reduced(mut self, fails: impl Fn(&Program) -> bool) -> Program {
        let mut size = self.lines.len();
        while size > 0 {
            let mut at = 0;
            while at < self.lines.len() {
                let end = (at + size).min(self.lines.len());
                let part = self.lines[at..end].to_vec();
                let kept = part.iter().filter(|line| !line.removable).cloned();
                let shorter: Vec<Line> = kept.collect();
                let count = shorter.len();
                self.lines.splice(at..end, shorter);
                if count == part.len() || fails(&self) {
                    at += count;
                } else {
                    self.lines.splice(at..at + count, part);
                    at = end;
                }
            }
            size /= 2;
        }
        self
    }

    pub fn text(&self) -> String {
        let body: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
        kernel(&body.join("\n"), self.counters)
    }
}

/// Which threads come to a place.
#[derive(Clone, Copy, PartialEq)]
enum Here {
    /// All of the block, together.
    Everyone,
    /// Of each warp these lanes, which differ by multiples of four.
    Known(u32),
    Somebody,
}

pub struct Generator {
    cases: Vec<Case>,
    random: Random,
    lines: Vec<Line>,
    labels: u32,
    /// Loop counters.
    counters: u32,
    divergence: bool,
    barriers: bool,
    shuffles: bool,
}

impl Generator {
    pub fn new() -> Generator {
        Generator {
            cases: computations(),
            random: Random(1),
            lines: Vec::new(),
            labels: 0,
            counters: 0,
            divergence: false,
            barriers: false,
            shuffles: false,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.random.next() >> 16) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    fn line(&mut self, text: &str) {
        self.push(text, false);
    }

    fn push(&mut self, text: &str, removable: bool) {
        self.lines.push(Line {
            text: text.to_owned(),
            removable,
        });
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn register(&mut self, kind: &str) -> String {
        let at = self.below(REGISTERS);
        format!("%{kind}{at}")
    }

    fn of_type(&mut self, ty: &str) -> String {
        let kind = match (ty, width(ty)) {
            ("pred", _) => "pp",
            (_, 16) => "hh",
            (_, 32) => "rr",
            _ => "dd",
        };
        self.register(kind)
    }

    /// One instruction of the list, on registers of the program.
    fn computation(&mut self) {
        let at = self.below(self.cases.len() as u64) as usize;
        let (text, srcs, dst) = {
            let case = &self.cases[at];
            (case.text.clone(), case.srcs.clone(), case.dst.clone())
        };
        let mut names = vec![("o", self.of_type(&dst))];
        for (letter, ty) in ["a", "b", "c", "d"].into_iter().zip(&srcs) {
            let name = self.of_type(ty);
            names.push((letter, name));
        }
        let guard = match self.below(8) {
            // Only where the text is one instruction does a guard hold for all of it.
            0 if text.matches(';').count() == 1 => {
                self.divergence = true;
                format!("@{} ", self.register("pp"))
            }
            _ => String::new(),
        };
        let mut rest = text.as_str();
        let mut line = guard;
        while let Some(at) = rest.find('%') {
            line.push_str(&rest[..at]);
            let word = &rest[at + 1..];
            let end = word
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(word.len());
            let name = &word[..end];
            match names.iter().find(|(letter, _)| *letter == name) {
                Some((_, register)) => line.push_str(register),
                None => {
                    line.push('%');
                    line.push_str(name);
                }
            }
            rest = &word[end..];
        }
        line.push_str(rest);
        self.push(&line, true);
    }

    fn predicate(&mut self) -> String {
        let register = self.register("pp");
        let (a, b) = (self.register("rr"), self.register("rr"));
        let compare = self.pick(&["lt.u32", "ge.s32", "ne.b32", "gt.f32"]);
        self.line(&format!("setp.{compare} {register}, {a}, {b};"));
        register
    }

    /// Lanes go either way by what they hold.
    fn branch(&mut self, depth: u32) {
        self.divergence = true;
        let (other, end) = (self.label(), self.label());
        let condition = self.predicate();
        let not = self.pick(&["", "!"]);
        self.line(&format!("@{not}{condition} bra {other};"));
        self.block(depth + 1, Here::Somebody);
        self.line(&format!("bra {end}; {other}:"));
        if self.below(3) != 0 {
            self.block(depth + 1, Here::Somebody);
        }
        self.line(&format!("{end}:"));
    }

    /// A quarter of the lanes of each warp goes one way, and is known to be complete there.
    fn known_branch(&mut self, depth: u32, here: Here) {
        self.divergence = true;
        let end = self.label();
        let chosen = self.below(4) as u32;
        self.line(&format!(
            "and.b32 %x, %lane, 3; setp.ne.u32 %q, %x, {chosen}; @%q bra {end};"
        ));
        let members = 0x1111_1111u32 << chosen;
        self.block(
            depth + 1,
            if here == Here::Somebody {
                here
            } else {
                Here::Known(members)
            },
        );
        self.line(&format!("{end}:"));
    }

    /// A loop that ends: after as many rounds for all, or for each lane as many as it holds.
    fn repetition(&mut self, depth: u32, here: Here) {
        let (top, counter) = (self.label(), self.counters);
        self.counters += 1;
        let together = here != Here::Somebody && self.below(2) == 0;
        if together {
            let rounds = 1 + self.below(3);
            self.line(&format!("mov.u32 %count{counter}, {rounds};"));
        } else {
            self.divergence = true;
            let from = self.register("rr");
            self.line(&format!(
                "and.b32 %count{counter}, {from}, 3; add.u32 %count{counter}, %count{counter}, 1;"
            ));
        }
        self.line(&format!("{top}:"));
        self.block(depth + 1, if together { here } else { Here::Somebody });
        self.line(&format!(
            "sub.u32 %count{counter}, %count{counter}, 1; setp.ne.u32 %q, %count{counter}, 0; @%q bra {top};"
        ));
    }

    /// Among lanes that are known.
    fn lanes(&mut self, members: u32) {
        self.shuffles = true;
        let (to, from, by) = (
            self.register("rr"),
            self.register("rr"),
            self.register("rr"),
        );
        let pred = self.register("pp");
        let members = format!("{members:#x}");
        let text = match self.below(6) {
            0 => {
                let mode = self.pick(&["up", "down", "bfly"]);
                let edge = if mode == "up" { 0 } else { 31 };
                format!(
                    "and.b32 %x, {by}, 28; shfl.sync.{mode}.b32 {to}|{pred}, {from}, %x, {edge}, {members};"
                )
            }
            1 => format!(
                "and.b32 %x, {by}, 28; and.b32 %y, %lane, 3; or.b32 %x, %x, %y; shfl.sync.idx.b32 {to}, {from}, %x, 31, {members};"
            ),
            2 => format!("vote.sync.ballot.b32 {to}, {pred}, {members};"),
            3 => {
                let mode = self.pick(&["all", "any", "uni"]);
                format!("vote.sync.{mode}.pred {pred}, !{pred}, {members};")
            }
            4 => {
                let operation = self.pick(&["add.u32", "min.s32", "max.u32", "xor.b32"]);
                format!("redux.sync.{operation} {to}, {from}, {members};")
            }
            _ => format!("and.b32 %x, {from}, 3; match.any.sync.b32 {to}, %x, {members};"),
        };
        self.line(&text);
    }

    /// All threads write, wait, and read what another one wrote.
    fn exchange(&mut self) {
        self.barriers = true;
        let barrier = self.pick(&[
            "bar.sync 0;",
            "barrier.sync 1;",
            "barrier.cta.sync.aligned 2, 96;",
            "bar.cta.sync 3;",
        ]);
        let (kind, bits) = if self.below(2) == 0 {
            ("rr", 32)
        } else {
            ("dd", 64)
        };
        let (from, to) = (self.register(kind), self.register(kind));
        let by = 1 + self.below(THREADS as u64 - 1);
        self.line(&format!(
            "st.shared.b{bits} [%slot], {from}; {barrier} add.u32 %x, %tid.x, {by}; rem.u32 %x, %x, {THREADS}; shl.b32 %x, %x, 3;
mov.u32 %y, slots; add.u32 %x, %x, %y; ld.shared.b{bits} {to}, [%x]; {barrier}"
        ));
    }

    /// How many, and whether all or any.
    fn poll(&mut self) {
        self.barriers = true;
        let (pred, to) = (self.register("pp"), self.register("rr"));
        let text = match self.below(3) {
            0 => format!("bar.red.popc.u32 {to}, 0, {pred};"),
            1 => format!("barrier.red.and.pred {pred}, 1, !{pred};"),
            _ => format!("bar.red.or.pred {pred}, 2, {pred};"),
        };
        self.line(&text);
    }

    /// Updates in any order come to the same. Nobody looks at what was there before.
    fn update(&mut self) {
        let at = self.below(SUMS as u64);
        // One operation for each word, so that they commute.
        let (operation, kind) = [
            ("add.u64", "dd"),
            ("max.u64", "dd"),
            ("xor.b64", "dd"),
            ("add.u32", "rr"),
        ][at as usize];
        let from = self.register(kind);
        let text = match self.below(3) {
            0 => format!("red.global.{operation} [%sums+{}], {from};", 8 * at),
            1 => format!(
                "red.relaxed.gpu.global.{operation} [%sums+{}], {from};",
                8 * at
            ),
            _ => format!("atom.global.{operation} _, [%sums+{}], {from};", 8 * at),
        };
        self.push(&text, true);
    }

    /// The same in shared memory, which is read when all have come.
    fn gather(&mut self) {
        self.barriers = true;
        let (from, to) = (self.register("rr"), self.register("rr"));
        let operation = self.pick(&["add.u32", "min.u32", "max.s32", "or.b32"]);
        self.line(&format!(
            "bar.sync 0; st.shared.b32 [cell], 0; bar.sync 0; red.shared.{operation} [cell], {from}; bar.sync 0; ld.shared.b32 {to}, [cell];"
        ));
    }

    fn block(&mut self, depth: u32, here: Here) {
        let count = 2 + self.below(if depth == 0 { 10 } else { 4 });
        for _ in 0..count {
            match (self.below(16), here) {
                (0 | 1, _) if depth < 3 => self.branch(depth),
                (2, _) if depth < 3 => self.known_branch(depth, here),
                (3 | 4, _) if depth < 3 => self.repetition(depth, here),
                (5 | 6, Here::Everyone) => self.exchange(),
                (7, Here::Everyone) => self.poll(),
                (8, Here::Everyone) => self.gather(),
                (5..=9, Here::Known(members)) => self.lanes(members),
                (9 | 10, Here::Everyone) => self.lanes(u32::MAX),
                (11, _) => self.update(),
                _ => (0..3).for_each(|_| self.computation()),
            }
        }
    }

    /// A program by its seed; one that mixes has of each at least one.
    pub fn program(&mut self, seed: u64, mixes: bool) -> Program {
        self.random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        self.lines.clear();
        (self.labels, self.counters) = (0, 0);
        (self.divergence, self.barriers, self.shuffles) = (false, false, false);
        self.block(0, Here::Everyone);
        if mixes {
            self.branch(1);
            self.lanes(u32::MAX);
            self.known_branch(1, Here::Everyone);
            self.exchange();
            self.block(0, Here::Everyone);
        }
        Program {
            lines: std::mem::take(&mut self.lines),
            counters: self.counters,
            divergence: self.divergence,
            barriers: self.barriers,
            shuffles: self.shuffles,
        }
    }
}

fn kernel(body: &str, counters: u32) -> String {
    let mut loads = String::new();
    let mut stores = String::new();
    for at in 0..REGISTERS {
        // Each word gives a register of each size, and gets all of them back.
        let _ = writeln!(
            loads,
            "ld.global.b64 %dd{at}, [%in+{0}]; cvt.u32.u64 %rr{at}, %dd{at}; shr.u64 %w, %dd{at}, 40; cvt.u16.u64 %hh{at}, %w; setp.lt.s64 %pp{at}, %dd{at}, 0;",
            8 * at
        );
        let _ = writeln!(
                stores,
                "cvt.u64.u32 %w, %rr{at}; mad.lo.u64 %dd{at}, %dd{at}, 31, %w; cvt.u64.u16 %w, %hh{at}; mad.lo.u64 %dd{at}, %dd{at}, 31, %w;
selp.u64 %w, 1, 0, %pp{at}; mad.lo.u64 %dd{at}, %dd{at}, 31, %w; st.global.b64 [%out+{}], %dd{at};",
                8 * at
            );
    }
    let counters = counters.max(1);
    let (each, sums) = (8 * WORDS, 8 * WORDS * BLOCKS * THREADS);
    format!(
            "{HEAD}.visible .entry k(.param .u64 p0, .param .u64 p1) {{
.reg .b32 %rr<{REGISTERS}>, %count<{counters}>, %lane, %slot, %i; .reg .b64 %dd<{REGISTERS}>, %in, %out, %sums, %off; .reg .b16 %hh<{REGISTERS}>; .reg .pred %pp<{REGISTERS}>;
{SCRATCH} .shared .align 8 .b64 slots[{THREADS}]; .shared .b32 cell;
ld.param.u64 %out, [p0]; ld.param.u64 %in, [p1]; add.u64 %sums, %out, {sums}; mov.u32 %lane, %laneid;
mov.u32 %i, %tid.x; shl.b32 %slot, %i, 3; mov.u32 %x, slots; add.u32 %slot, %slot, %x;
mov.u32 %x, %ctaid.x; mad.lo.u32 %i, %x, {THREADS}, %i; mul.wide.u32 %off, %i, {each}; add.u64 %in, %in, %off; add.u64 %out, %out, %off;
{loads}{body}
{stores}ret; }}\n")
}
