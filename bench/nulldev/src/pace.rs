//! How long kernels take: lines `KERNEL_NAME MICROSECONDS`, `* MICROSECONDS` for all others, `# comment`. A kernel that no line names takes no time.

use std::collections::HashMap;

/// Longest time of a kernel, in microseconds.
const MOST: f64 = 1e9;

#[derive(Debug, Default, PartialEq)]
pub struct Pace {
    /// Nanoseconds.
    named: HashMap<String, u64>,
    others: u64,
}

impl Pace {
    /// The error says which line, and why.
    pub fn parse(text: &str) -> Result<Pace, String> {
        let mut pace = Pace::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("");
            let (name, time) = match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => continue,
                [name, time] => (name, time),
                _ => return Err(format!("line {number} is no `KERNEL_NAME MICROSECONDS`")),
            };
            let time = match time.parse::<f64>() {
                Ok(time) if (0.0..=MOST).contains(&time) => (time * 1e3).round() as u64,
                _ => {
                    return Err(format!(
                        "line {number}: {time} is no number of microseconds from 0 to {MOST}"
                    ));
                }
            };
            match name {
                "*" => pace.others = time,
                _ => drop(pace.named.insert(name.to_owned(), time)),
            }
        }
        Ok(pace)
    }

    /// Nanoseconds of a kernel.
    pub fn of(&self, kernel: &str) -> u64 {
        self.named.get(kernel).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_their_time_and_others_theirs() {
        let pace = Pace::parse("# times\n\nadd 12.5\n  mul\t3 # short\n* 0.1\n").unwrap();
        assert_eq!(
            ["add", "mul", "sub"].map(|name| pace.of(name)),
            [12_500, 3_000, 100]
        );
        assert_eq!(Pace::parse("add 1").unwrap().of("mul"), 0);
        assert_eq!(Pace::parse("add 1\nadd 2").unwrap().of("add"), 2_000);
        assert_eq!(Pace::parse(""), Ok(Pace::default()));
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in [
            "add", "add 1 2", "add x", "add -1", "add NaN", "add inf", "* 1e10",
        ] {
            let error = Pace::parse(&format!("good 1\n{bad}\n")).unwrap_err();
            assert!(error.starts_with("line 2"), "{bad}: {error}");
        }
    }
}
