//! Secrets that are made here, and how secrets are compared.

use std::fmt;

use subtle::ConstantTimeEq;

/// Characters of a function's token, as in OSCAR: 32 random bytes in hexadecimal.
pub const TOKEN_LENGTH: usize = 64;

pub type Hash = [u8; 32];

/// A secret on its way to its owner, who sees it once.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn random() -> std::io::Result<Token> {
        Ok(Token(hexadecimal(&random()?)))
    }

    /// The secret itself, for its owner's eyes.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

pub fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // The kernel gives as few bytes as these whole.
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    if got != bytes.len() {
        return Err(std::io::Error::other("the system has no random numbers"));
    }
    Ok(bytes)
}

pub fn hexadecimal(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

/// What is kept of a random secret. It needs no slow hash: nobody guesses 256 bits.
pub fn hash(secret: &[u8]) -> Hash {
    blake3::derive_key("rgpu-faas-access 2026 hash of a random secret", secret)
}

/// Whether two secrets are one, in a time that tells neither how much of them agrees nor how long they are.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    hash(a).ct_eq(&hash(b)).into()
}

pub fn same_hash(a: &Hash, b: &Hash) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_unlike_and_silent() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(a, b);
        for token in [&a, &b] {
            assert_eq!(token.reveal().len(), TOKEN_LENGTH);
            assert!(token.reveal().bytes().all(|b| b.is_ascii_hexdigit()));
            assert!(!format!("{token:?}").contains(token.reveal()));
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same(b"s3cret", b"s3cret") && same(b"", b""));
        for other in [&b"s3cre"[..], b"s3cret2", b"", b"S3cret", b"s3cret\0"] {
            assert!(!same(b"s3cret", other));
        }
        assert_ne!(hash(b"a"), *blake3::hash(b"a").as_bytes());
    }

    /// What a comparison costs does not depend on where two secrets differ: a byte-by-byte one of a mebibyte would be 100 times as fast
    /// where the first differs.
    #[test]
    fn the_time_of_a_comparison_tells_nothing() {
        let secret = vec![b'a'; 1 << 20];
        let (mut early, mut late) = (secret.clone(), secret.clone());
        early[0] = b'b';
        late[secret.len() - 1] = b'b';
        let fastest = |other: &[u8]| {
            let time = |_| {
                let begin = std::time::Instant::now();
                assert!(!same(&secret, std::hint::black_box(other)));
                begin.elapsed()
            };
            (0..20).map(time).min().unwrap()
        };
        let ratio = fastest(&early).as_secs_f64() / fastest(&late).as_secs_f64();
        assert!((0.2..5.0).contains(&ratio), "{ratio}");
    }
}
