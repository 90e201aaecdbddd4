//! Which of two events of one key came later.

use std::cmp::Ordering;
use std::fmt;

const LIMIT: usize = 64;

/// A hexadecimal number that grows from one event of a key to the next. It says nothing about events of different keys.
///
/// Lengths differ: S3's guide has the shorter one padded with zeros on the left (editions from about 2018 to 2023 said
/// the right) and the digits compared, which is to compare numbers, and MinIO's are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequencer(String);

impl Sequencer {
    /// None if it is no hexadecimal number of 1 to 64 digits.
    pub fn parse(text: &str) -> Option<Sequencer> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && text.len() <= LIMIT)
            .then(|| Sequencer(text.trim_start_matches('0').to_ascii_uppercase()))
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Sequencer) -> Ordering {
        // Without the zeros in front, the longer number is the greater one.
        let length = self.0.len().cmp(&other.0.len());
        length.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Sequencer) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "0" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequencer(text: &str) -> Sequencer {
        Sequencer::parse(text).unwrap()
    }

    #[test]
    fn numbers_of_any_length_and_case() {
        assert!(sequencer("153C9A7A7A3FB6AE") < sequencer("153c9a7a7a3fb6af"));
        assert!(sequencer("FF") < sequencer("100"));
        assert_eq!(
            sequencer("0055AED6DCD90281E5"),
            sequencer("55aed6dcd90281e5")
        );
        assert_eq!(sequencer("000"), sequencer("0"));
        assert_eq!(sequencer("00").to_string(), "0");
        for bad in ["", "xyz", "0x1", "-1", " 1", "1 "] {
            assert_eq!(Sequencer::parse(bad), None, "{bad:?}");
        }
        assert!(Sequencer::parse(&"f".repeat(64)).is_some());
        assert!(Sequencer::parse(&"f".repeat(65)).is_none());
    }

    proptest! {
        #[test]
        fn ordered_as_numbers(a: u64, b: u64, padding in 0usize..20) {
            let zeros = "0".repeat(padding);
            let (x, y) = (sequencer(&format!("{zeros}{a:x}")), sequencer(&format!("{b:X}")));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
