//! Names of jobs and of what is kept for them.

use std::io;

/// A random UUID (version 4).
pub fn new() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

/// Whether this could be one of them: what comes from outside and becomes part of a path is asked.
pub fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_known_as_one() {
        let (a, b) = (new().unwrap(), new().unwrap());
        assert_ne!(a, b);
        assert!(is_id(&a) && is_id(&b));
        assert_eq!(a.as_bytes()[14], b'4');
        for no in ["", "../../../../../../../../../../etc/pa", &a[1..]] {
            assert!(!is_id(no), "{no}");
        }
    }
}
