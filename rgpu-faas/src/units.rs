//! Quantities ("512Mi") and durations ("90s") as people write them in YAML.

use std::time::Duration;

/// Bytes of a Kubernetes quantity: a number with an optional suffix `k M G T P` (powers of 1000) or `Ki Mi Gi Ti Pi`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, suffix) = split(text);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000u64.pow(2),
        "G" => 1000u64.pow(3),
        "T" => 1000u64.pow(4),
        "P" => 1000u64.pow(5),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => {
            return Err(format!(
                "{text:?} is not a size; write a number and Ki, Mi, Gi, Ti or k, M, G, T, as in 512Mi"
            ));
        }
    };
    scaled(number, factor).ok_or_else(|| {
        format!("{text:?} is not a size; write a positive number and a unit, as in 512Mi")
    })
}

/// The shortest way to write a number of bytes that loses nothing.
pub fn quantity(bytes: u64) -> String {
    let units = [
        (1 << 50, "Pi"),
        (1 << 40, "Ti"),
        (1 << 30, "Gi"),
        (1 << 20, "Mi"),
        (1 << 10, "Ki"),
    ];
    match units
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Cores of a Kubernetes quantity, as in `2`, `0.5` or `1500m`.
pub fn cores(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 1000.0),
        None => (text, 1.0),
    };
    let is_number = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let cores = number.parse::<f64>().ok().filter(|_| is_number)? / unit;
    (cores > 0.0 && cores <= 65_536.0).then_some(cores)
}

/// A duration: a number of seconds, or a number with `us`, `ms`, `s`, `m`, `h` or `d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, suffix) = split(text);
    let micros: u64 = match suffix {
        "us" => 1,
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "m" => 60 * 1_000_000,
        "h" => 3600 * 1_000_000,
        "d" => 86_400 * 1_000_000,
        _ => {
            return Err(format!(
                "{text:?} is not a duration; write a number and ms, s, m, h or d, as in 90s"
            ));
        }
    };
    scaled(number, micros)
        .map(Duration::from_micros)
        .ok_or_else(|| format!("{text:?} is not a duration; write a number and a unit, as in 90s"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `number * factor`, exact for whole numbers; None when it is no number or too large to be meant.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).filter(|n| *n <= i64::MAX as u64);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.is_finite() && value < i64::MAX as f64).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("256Mi"), Ok(256 << 20));
        assert_eq!(bytes("1.5Gi"), Ok(3 << 29));
        assert_eq!(bytes("2G"), Ok(2_000_000_000));
        assert_eq!(bytes(" 77 "), Ok(77));
        for bad in [
            "",
            "Mi",
            "-1",
            "1 GB",
            "1e9",
            "..",
            "1.2.3Mi",
            "99999999999P",
        ] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quantities_are_read_as_they_are_written() {
        for (number, text) in [
            (0, "0"),
            (1, "1"),
            (1536, "1536"),
            (3 << 29, "1536Mi"),
            (1 << 30, "1Gi"),
            (5 << 50, "5Pi"),
        ] {
            assert_eq!(quantity(number), text);
            assert_eq!(bytes(text), Ok(number));
        }
    }

    #[test]
    fn cores_are_numbers_or_thousandths() {
        assert_eq!(
            ["2", "0.5", " 1500m "].map(cores),
            [Some(2.0), Some(0.5), Some(1.5)]
        );
        for bad in [
            "", "m", "0", "-1", "1e3", "inf", "NaN", "1 core", "99999999",
        ] {
            assert_eq!(cores(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        for bad in ["", "s", "-1s", "1 week", "1y", "9999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
