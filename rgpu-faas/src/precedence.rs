//! Which of the running jobs the CPU serves first: those that began first. Pure.
//!
//! Jobs that share a core evenly all end late; in order, the first ends as if it were alone, and the last no later. It also keeps the
//! GPU busy: while one job computes there, the next prepares on the CPU, instead of all doing the same at the same time.

/// One step makes a weight of about a third; three of them leave a little to everyone.
const STEP: u8 = 5;
const LAST: u8 = 15;

/// The nice value of a job that begins while jobs with these values run: behind all of them. While there are cores left, nobody needs to
/// stand back.
pub fn nice_beside(running: impl IntoIterator<Item = u8>, cores: usize) -> u8 {
    let (count, last) = running
        .into_iter()
        .fold((0, 0), |(count, last), nice| (count + 1, nice.max(last)));
    if count < cores {
        return 0;
    }
    (last + STEP).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::nice_beside;

    #[test]
    fn cores_are_filled_before_anyone_stands_back() {
        assert_eq!(nice_beside([], 2), 0);
        assert_eq!(nice_beside([0], 2), 0);
        assert_eq!(nice_beside([0, 0], 2), 5);
        assert_eq!(nice_beside([0, 0, 5], 2), 10);
        assert_eq!(nice_beside([0; 15], 16), 0);
    }

    #[test]
    fn a_long_queue_does_not_sink_for_ever() {
        assert_eq!(nice_beside([10], 2), 0);
        assert_eq!(nice_beside([15; 40], 2), 15);
    }
}
