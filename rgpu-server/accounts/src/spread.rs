//! What came within a stretch of time, on the spans of the clock that it touches. Pure.

use crate::amounts::Amounts;
use crate::time::{self, MINUTE};

/// The finest spans that are kept.
pub const FINE: i64 = 5 * MINUTE;
/// Longer stretches count as their last part: a bound for what one report can cost.
const LONGEST: u64 = 31 * time::DAY as u64;

/// What belongs to one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the span starts.
    pub at: i64,
    pub amounts: Amounts,
}

/// Spreads evenly what came in the `length` microseconds before `end`. The pieces sum up to it exactly; the last span has the end in it.
pub fn spread(amounts: Amounts, end: i64, length: u64) -> Vec<Piece> {
    let length = length.min(LONGEST);
    let start = end.saturating_sub(length as i64);
    let mut pieces = Vec::new();
    let (mut at, mut before) = (time::floor(start, FINE), Amounts::default());
    loop {
        let next = at.saturating_add(FINE);
        let is_last = next >= end;
        let done = if is_last {
            length
        } else {
            (next - start) as u64
        };
        // Nothing can be said of how a moment is spread.
        let so_far = if length == 0 || is_last {
            amounts
        } else {
            amounts.up_to(done, length)
        };
        let piece = so_far.since(before);
        if !piece.is_nothing() {
            pieces.push(Piece { at, amounts: piece });
        }
        if is_last {
            return pieces;
        }
        (at, before) = (next, so_far);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amounts::COUNT;
    use crate::time::{HOUR, SECOND};
    use proptest::prelude::*;

    #[test]
    fn a_stretch_over_two_spans_is_cut_where_they_meet() {
        let amounts = Amounts {
            gpu_us: 40,
            ..Amounts::default()
        };
        let pieces = spread(amounts, HOUR + SECOND, 4 * SECOND as u64);
        let parts: Vec<_> = pieces.iter().map(|it| (it.at, it.amounts.gpu_us)).collect();
        assert_eq!(parts, [(HOUR - FINE, 30), (HOUR, 10)]);
        let pieces = spread(amounts, HOUR, 0);
        assert_eq!((pieces.len(), pieces[0].amounts), (1, amounts));
        assert!(spread(Amounts::default(), HOUR, 100).is_empty());
    }

    proptest! {
        #[test]
        fn pieces_sum_up_and_lie_within(
            numbers in proptest::array::uniform7(0u64..1 << 52),
            end in -4_000_000_000_000_000i64..4_000_000_000_000_000,
            length in prop_oneof![0u64..100, 0u64..10_000_000_000, any::<u64>()],
        ) {
            let amounts = Amounts::from_array(numbers);
            let pieces = spread(amounts, end, length);
            let sum = pieces.iter().fold(Amounts::default(), |sum, it| sum.plus(it.amounts));
            prop_assert_eq!(sum, amounts);
            let start = end - length.min(LONGEST) as i64;
            for piece in &pieces {
                prop_assert_eq!(time::floor(piece.at, FINE), piece.at);
                prop_assert!(piece.at + FINE > start && piece.at <= end);
            }
            prop_assert!(pieces.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(pieces.len() <= LONGEST as usize / FINE as usize + 2);
        }

        #[test]
        fn no_piece_has_more_than_its_time(length in 1u64..20_000_000_000, end in 0i64..1 << 50) {
            let amounts = Amounts { duration_us: length, ..Amounts::default() };
            for piece in spread(amounts, end, length) {
                prop_assert!(piece.amounts.duration_us <= FINE as u64 + COUNT as u64);
            }
        }
    }
}
