//! The least device memory that code takes when it is loaded, by what it says itself: PTX its `.global` variables, a cubin its sections of such. What is
//! not understood counts nothing. The text is the client's: it may say anything.

const GLOBAL: &[u8] = b".global";

/// Bytes that loading this surely takes.
pub fn least(image: &[u8]) -> u64 {
    match image.strip_prefix(b"\x7fELF") {
        Some(_) => of_cubin(image).unwrap_or(0),
        None if memchr::memmem::find(image, GLOBAL).is_some() => of_ptx(image),
        None => 0,
    }
}

/// Of the sections that hold variables: `.nv.global` and `.nv.global.init`.
fn of_cubin(image: &[u8]) -> Option<u64> {
    const HEADER: u64 = 64;
    const IS_64_LITTLE: &[u8] = &[2, 1];
    const LONGEST: usize = 32;
    let half = |at: u64| Some(u64::from(u16::from_le_bytes(bytes(image, at)?)));
    let word = |at: u64| Some(u64::from(u32::from_le_bytes(bytes(image, at)?)));
    let long = |at: u64| Some(u64::from_le_bytes(bytes(image, at)?));
    if image.get(4..6)? != IS_64_LITTLE {
        return None;
    }
    let (start, size, count, names) = (long(40)?, half(58)?, half(60)?, half(62)?);
    if size != HEADER {
        return None;
    }
    let section = |number: u64| start.checked_add(number.checked_mul(HEADER)?);
    let names = long(section(names)?.checked_add(24)?)?;
    let mut all = 0_u64;
    for number in 0..count {
        let header = section(number)?;
        let name = usize::try_from(names.checked_add(word(header)?)?).ok()?;
        let rest = image.get(name..)?;
        let rest = &rest[..rest.len().min(LONGEST)];
        let end = rest.iter().position(|byte| *byte == 0);
        let name = &rest[..end.unwrap_or(rest.len())];
        if name == b".nv.global" || name == b".nv.global.init" {
            all = all.saturating_add(long(header.checked_add(32)?)?);
        }
    }
    Some(all)
}

fn bytes<const N: usize>(image: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    image.get(at..)?.first_chunk().copied()
}

/// Words, and single characters that are none; neither comments nor strings nor space.
struct Tokens<'a>(&'a [u8]);

fn is_of_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$%.".contains(byte)
}

impl<'a> Tokens<'a> {
    fn skip_past(&mut self, end: &[u8]) {
        let found = memchr::memmem::find(self.0, end);
        self.0 = found.map_or(&[], |at| &self.0[at + end.len()..]);
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            self.0 = self.0.trim_ascii_start();
            match self.0 {
                [] | [0, ..] => return None,
                [b'/', b'/', ..] => self.skip_past(b"\n"),
                [b'/', b'*', ..] => {
                    self.0 = &self.0[2..];
                    self.skip_past(b"*/");
                }
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    self.skip_past(b"\"");
                }
                _ => break,
            }
        }
        let end = self.0.iter().position(|byte| !is_of_word(byte));
        let (token, rest) = self.0.split_at(end.unwrap_or(self.0.len()).max(1));
        self.0 = rest;
        Some(token)
    }
}

fn of_ptx(image: &[u8]) -> u64 {
    let mut tokens = Tokens(image);
    let (mut all, mut depth) = (0_u64, 0_u64);
    let mut before: &[u8] = b"";
    while let Some(token) = tokens.next() {
        match token {
            b"{" | b"(" => depth += 1,
            b"}" | b")" => depth = depth.saturating_sub(1),
            // One that another module has takes nothing here; and a parameter may point to such memory.
            GLOBAL if depth == 0 && before != b".extern" && before != b".ptr" => {
                // What follows is read a second time: it has no other such word.
                let size = variable(Tokens(tokens.0)).unwrap_or(0);
                all = all.saturating_add(size);
            }
            _ => {}
        }
        before = token;
    }
    all
}

/// Size of the first variable that is declared: `.align 4 .v2 .f32 name[3][4]`.
fn variable(mut tokens: Tokens<'_>) -> Option<u64> {
    let (mut size, mut lanes) = (0_u64, 1);
    loop {
        match tokens.next()? {
            b".align" => _ = tokens.next()?,
            b".v2" => lanes = 2,
            b".v4" => lanes = 4,
            b".b8" | b".u8" | b".s8" => size = 1,
            b".b16" | b".u16" | b".s16" | b".f16" => size = 2,
            b".b32" | b".u32" | b".s32" | b".f32" => size = 4,
            b".b64" | b".u64" | b".s64" | b".f64" => size = 8,
            [b'.', ..] => return None,
            _ => break,
        }
    }
    let mut all = size * lanes;
    while tokens.next() == Some(&b"["[..]) {
        let count = std::str::from_utf8(tokens.next()?).ok()?;
        let count = match count.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok()?,
            // Octal, or no number.
            None if count.starts_with('0') => return None,
            None => count.parse().ok()?,
        };
        all = all.saturating_mul(count);
        if tokens.next()? != b"]" {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_says_what_its_variables_take() {
        let text = b".version 8.0\n.target sm_80\n.address_size 64\n\
            .visible .global .align 4 .b8 big[943718400];\n\
            .global .v4 .f32 four[0x10] = {0};\n\
            .extern .global .b8 others[1000000];\n\
            /* .global .b8 none[1000000]; */ // .global .b8 none[1000000];\n\
            .file 1 \".global .b8 none[1000000];\"\n\
            .global .u64 one;\n\
            .global .texref texture;\n\
            .visible .entry k(.param .u64 .ptr .global .align 4 p) {\n\
            ld.global.u32 %r1, [%rd1];\n .global .b8 inner[1000000];\n }\n\0";
        assert_eq!(least(text), 943_718_400 + 256 + 8);
    }

    #[test]
    fn what_is_not_understood_counts_nothing() {
        for text in [
            &b""[..],
            b".global",
            b".global .b8 a[",
            b".global .b8 a[010];",
            b".global .b8 a[99999999999999999999];",
            b".global .b8 a[];",
            b".global .b8 a[4)",
            b"\x7fELF",
            b"fake image",
            b"/* .global .b8 a[4];",
        ] {
            assert_eq!(least(text), 0, "{text:?}");
        }
        let large = b".global .b64 a[18446744073709551615][18446744073709551615];";
        assert_eq!(least(large), u64::MAX);
    }

    #[test]
    fn a_cubin_says_what_its_variables_take_and_no_bytes_are_trusted() {
        const NAMES: &[u8] = b"\0.nv.global\0.text\0";
        let mut image = vec![0; 64];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let start = 64 + NAMES.len() as u64;
        image[40..48].copy_from_slice(&start.to_le_bytes());
        for (at, value) in [(58, 64_u16), (60, 3), (62, 0)] {
            image[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        image.extend_from_slice(NAMES);
        for (name, at, size) in [(0_u32, 64_u64, 18_u64), (1, 0, 900), (12, 0, 5)] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
            image.extend_from_slice(&header);
        }
        assert_eq!(least(&image), 900);
        for at in 4..image.len() {
            for value in [0, 0x7f, 0xff] {
                let mut changed = image.clone();
                changed[at] = value;
                least(&changed);
                least(&changed[..at]);
            }
        }
    }
}
