//! Numbers as people read them.

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// `512 MiB`, `1.5 GiB`.
pub fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `12 s`, `3 min`, `2 h 05`, `3 d 04`.
pub fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..86_400 => format!("{} h {:02}", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {:02}", whole / 86_400, whole / 3600 % 24),
    }
}

/// What a client has named may hold anything: nothing of it reaches the terminal as a command.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 KiB"),
            (20.0 * 1024.0, "20 KiB"),
            (80e9, "75 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (seconds, text) in [
            (3.9, "3 s"),
            (61.0, "1 min"),
            (7500.0, "2 h 05"),
            (273_600.0, "3 d 04"),
        ] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(printable("a\x1b[2Jb"), "a?[2Jb");
    }
}
