//! Shares of kernels that ended, over stretches of time.

/// How far, at most, the shares of any stretch of `long` milliseconds are from `due` (which sum to 1), moved on by a twentieth of it from `from` to
/// `to`. `ends`: for each client, when its kernels ended, in order; all kernels have the same work.
pub fn worst(ends: &[Vec<f64>], due: &[f64], from: f64, to: f64, long: f64) -> f64 {
    let mut worst = f64::NAN;
    let mut at = from;
    while at + long <= to + 1e-6 {
        let counts: Vec<f64> = ends.iter().map(|ends| count(ends, at, at + long)).collect();
        let all: f64 = counts.iter().sum();
        for (count, due) in counts.iter().zip(due) {
            let off = (count / all - due).abs();
            // Where nobody got anything there are no shares.
            worst = if off.is_nan() {
                f64::INFINITY
            } else {
                worst.max(off)
            };
        }
        at += long / 20.0;
    }
    worst
}

/// How many ended from `from` until before `to`.
pub fn count(ends: &[f64], from: f64, to: f64) -> f64 {
    let before = |time: f64| ends.partition_point(|end| *end < time);
    (before(to) - before(from)) as f64
}

/// The value below which so much of all lies.
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * part).ceil() as usize;
    values
        .get(at.clamp(1, values.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stretch_counts() {
        // One kernel a millisecond each; the second stands still for 50 ms.
        let steady: Vec<f64> = (0..1000).map(f64::from).collect();
        let halting: Vec<f64> = steady
            .iter()
            .copied()
            .filter(|end| !(500.0..550.0).contains(end))
            .collect();
        let even = [steady.clone(), steady.clone()];
        assert_eq!(worst(&even, &[0.5, 0.5], 0.0, 1000.0, 100.0), 0.0);
        let ends = [steady, halting];
        let short = worst(&ends, &[0.5, 0.5], 0.0, 1000.0, 100.0);
        assert!((short - (100.0 / 150.0 - 0.5)).abs() < 1e-9, "{short}");
        let long = worst(&ends, &[0.5, 0.5], 0.0, 1000.0, 1000.0);
        assert!((long - (1000.0 / 1950.0 - 0.5)).abs() < 1e-9, "{long}");
        assert_eq!(
            worst(&[Vec::new(), Vec::new()], &[0.5, 0.5], 0.0, 10.0, 5.0),
            f64::INFINITY
        );
        assert!(worst(&ends, &[0.5, 0.5], 0.0, 10.0, 20.0).is_nan());
    }

    #[test]
    fn quantiles() {
        let hundred = || (1..=100).map(f64::from).collect::<Vec<_>>();
        assert_eq!(quantile(hundred(), 0.99), 99.0);
        assert_eq!(quantile(hundred(), 1.0), 100.0);
        assert_eq!(quantile(vec![7.0], 0.5), 7.0);
        assert!(quantile(Vec::new(), 0.5).is_nan());
    }
}
