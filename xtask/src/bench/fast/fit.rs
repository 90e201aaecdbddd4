//! A straight line through measured points.

/// `fixed + each * x`.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub fixed: f64,
    pub each: f64,
}

/// By least squares. Of fewer than two places it knows nothing.
pub fn line(points: &[(f64, f64)]) -> Line {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let each = match spread > 0.0 {
        true => together / spread,
        false => f64::NAN,
    };
    Line {
        fixed: y - each * x,
        each,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thesis's own columns, and the fit that its table gives.
    #[test]
    fn the_fit_of_the_thesis() {
        let frames = [60.0, 120.0, 180.0, 240.0, 300.0, 360.0];
        let fit = |seconds: [f64; 6]| {
            let points: Vec<_> = frames.into_iter().zip(seconds).collect();
            let line = line(&points);
            (
                (line.fixed * 10.0).round() / 10.0,
                (line.each * 1000.0).round(),
            )
        };
        assert_eq!(fit([7.0, 11.0, 15.0, 18.0, 22.0, 27.0]), (3.1, 65.0));
        assert_eq!(fit([26.0, 40.0, 52.0, 69.0, 84.0, 95.0]), (11.6, 235.0));
    }

    #[test]
    fn one_place_has_no_slope() {
        assert!(line(&[(1.0, 2.0), (1.0, 3.0)]).each.is_nan());
        assert!(line(&[]).each.is_nan());
    }
}
