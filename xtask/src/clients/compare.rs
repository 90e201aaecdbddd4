//! The same tests at both places: what passes directly is to pass remoted.

use std::collections::BTreeMap;

use super::client::CLIENTS;
use super::outcome::{self, Outcome, Test};
use super::place::Place;
use crate::bench::Figure;

/// A client's tests at both places.
pub struct Compared<'a> {
    pub passed_directly: usize,
    /// Of these: the test as it came out remoted, if it was begun there.
    pub not_remoted: Vec<(&'a str, Option<&'a Test>)>,
}

impl<'a> Compared<'a> {
    pub fn of(direct: &'a [Test], remoted: &'a [Test]) -> Compared<'a> {
        let there: BTreeMap<&str, &Test> = remoted
            .iter()
            .map(|test| (test.name.as_str(), test))
            .collect();
        let passed: Vec<&Test> = direct
            .iter()
            .filter(|test| test.outcome == Outcome::Passed)
            .collect();
        let not_remoted = passed
            .iter()
            .map(|test| (test.name.as_str(), there.get(test.name.as_str()).copied()))
            .filter(|(_, there)| there.is_none_or(|test| test.outcome != Outcome::Passed));
        Compared {
            passed_directly: passed.len(),
            not_remoted: not_remoted.collect(),
        }
    }
}

/// Over the clients that have been run at both places in this checkout; none if no client has.
pub fn figure() -> Option<Figure> {
    let (mut passed, mut equal) = (0, 0);
    for client in CLIENTS {
        let of = |place| outcome::load(place, client.name).map(|(_, tests)| tests);
        let (Some(direct), Some(remoted)) = (of(Place::Direct), of(Place::Remoted)) else {
            continue;
        };
        let compared = Compared::of(&direct, &remoted);
        passed += compared.passed_directly;
        equal += compared.passed_directly - compared.not_remoted.len();
    }
    (passed > 0).then(|| {
        let share = rounded_down(equal, passed);
        Figure::at_least("coverage.suites_remote_equal", share, "ratio", 1.0)
    })
}

/// To three digits, so that one test that is left out shows.
pub fn rounded_down(part: usize, whole: usize) -> f64 {
    (part as f64 / whole as f64 * 1000.0).floor() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_remoted_is_named() {
        let test = |name: &str, outcome| Test {
            name: name.into(),
            outcome,
            why: String::new(),
        };
        let direct = [
            test("both", Outcome::Passed),
            test("skipped there", Outcome::Passed),
            test("absent there", Outcome::Passed),
            test("fails anyway", Outcome::Failed),
        ];
        let remoted = [
            test("skipped there", Outcome::Skipped),
            test("both", Outcome::Passed),
            test("fails anyway", Outcome::Failed),
            test("only there", Outcome::Failed),
        ];
        let compared = Compared::of(&direct, &remoted);
        assert_eq!(compared.passed_directly, 3);
        let names: Vec<_> = compared.not_remoted.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["skipped there", "absent there"]);
        assert_eq!(rounded_down(2999, 3000), 0.999);
        assert_eq!(rounded_down(3, 3), 1.0);
    }
}
