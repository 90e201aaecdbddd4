//! Operations too rare for handlers of their own for each processor: one plain loop over the active lanes. What the
//! modifiers say is in `Op::aux`.

use crate::lanes::{Elem, Handler, Lanes, Op, Step, WORD};

pub trait Rare: 'static {
    type D: Elem;
    type A: Elem;
    type B: Elem;
    type C: Elem;
    /// Operands read, 1 to 3.
    const ARITY: usize;
    fn f(a: Self::A, b: Self::B, c: Self::C, aux: u32) -> Self::D;
}

unsafe fn each<O: Rare>(lanes: &mut Lanes<'_>, op: &Op) -> Step {
    for word in 0..lanes.words {
        let mut left = lanes.mask[word];
        while left != 0 {
            let at = word * WORD + left.trailing_zeros() as usize;
            left &= left - 1;
            // SAFETY: lowering gave registers of these sizes for as many operands as are read.
            unsafe {
                let a = *lanes.reg::<O::A>(op.a).add(at);
                let b = if O::ARITY > 1 {
                    *lanes.reg::<O::B>(op.b).add(at)
                } else {
                    O::B::default()
                };
                let c = if O::ARITY > 2 {
                    *lanes.reg::<O::C>(op.c).add(at)
                } else {
                    O::C::default()
                };
                *lanes.reg::<O::D>(op.dst).add(at) = O::f(a, b, c, op.aux);
            }
        }
    }
    Step::Next
}

pub fn rare<O: Rare>() -> Handler {
    each::<O>
}

/// `rare_op!(Name, result, |a: type, b: type, c: type; aux| expression)`, with one to three operands.
macro_rules! rare_op {
    ($name:ident, $d:ty, |$a:ident: $ta:ty; $x:ident| $e:expr) => {
        rare_op!(@ $name, 1, $d, $ta, $ta, $ta, $a, _b, _c, $x, $e);
    };
    ($name:ident, $d:ty, |$a:ident: $ta:ty, $b:ident: $tb:ty; $x:ident| $e:expr) => {
        rare_op!(@ $name, 2, $d, $ta, $tb, $tb, $a, $b, _c, $x, $e);
    };
    ($name:ident, $d:ty, |$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty; $x:ident| $e:expr) => {
        rare_op!(@ $name, 3, $d, $ta, $tb, $tc, $a, $b, $c, $x, $e);
    };
    (@ $name:ident, $n:expr, $d:ty, $ta:ty, $tb:ty, $tc:ty, $a:ident, $b:ident, $c:ident, $x:ident, $e:expr) => {
        pub struct $name;
        impl $crate::rare::Rare for $name {
            type D = $d;
            type A = $ta;
            type B = $tb;
            type C = $tc;
            const ARITY: usize = $n;
            fn f($a: $ta, $b: $tb, $c: $tc, $x: u32) -> $d {
                $e
            }
        }
    };
}
pub(crate) use rare_op;
