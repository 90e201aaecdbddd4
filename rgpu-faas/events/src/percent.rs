//! Percent-decoding that refuses what is no escape: libraries pass it through, and two readers then see two keys.

/// Where and what an escape is that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoEscape {
    pub at: usize,
    pub text: String,
}

/// One round: `%XX` to its byte, and with `plus` `+` to a space, as queries are written.
pub(crate) fn decode(text: &[u8], plus: bool) -> Result<Vec<u8>, NoEscape> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        decoded.push(match byte {
            b'%' => {
                let digits = text
                    .get(at..at + 2)
                    .and_then(|digits| Some(digit(digits[0])? << 4 | digit(digits[1])?));
                at += 2;
                digits.ok_or_else(|| NoEscape {
                    at: at - 3,
                    text: String::from_utf8_lossy(&text[at - 3..text.len().min(at)]).into_owned(),
                })?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    Ok(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_round() {
        assert_eq!(decode(b"a+b%20c%2Bd", true).unwrap(), b"a b c+d");
        assert_eq!(decode(b"a+b%20c", false).unwrap(), b"a+b c");
        assert_eq!(decode(b"%252e%2e%00%fF", true).unwrap(), b"%2e.\0\xff");
        for (bad, at) in [
            ("%", 0),
            ("ab%2", 2),
            ("%zz", 0),
            ("%%30", 0),
            ("%+1", 0),
            ("%\u{20ac}", 0),
        ] {
            assert_eq!(decode(bad.as_bytes(), true).unwrap_err().at, at, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(bytes: Vec<u8>) {
            let escaped: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(escaped.as_bytes(), true).unwrap(), bytes);
        }
    }
}
