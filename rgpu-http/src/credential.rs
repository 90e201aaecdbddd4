//! What a request shows of its sender.

use crate::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use std::fmt;

/// It is never shown.
#[derive(Clone, Default)]
pub enum Credential {
    #[default]
    None,
    /// A token, as `Bearer`.
    Token(String),
    /// A name and a password, as `Basic`.
    User(String, String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::None => "no credential",
            Credential::Token(_) => "a token",
            Credential::User(..) => "a name and a password",
        })
    }
}

impl Credential {
    /// The `Authorization` header's value.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, Error> {
        let text = match self {
            Credential::None => return Ok(None),
            Credential::Token(token) => {
                if token.is_empty() || !token.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
                    return Err(Error::Input(
                        "a token has only visible characters of ASCII; this one is empty, or has a space, a control character or something else"
                            .into(),
                    ));
                }
                format!("Bearer {token}")
            }
            Credential::User(name, password) => {
                let is_odd = |text: &str| text.chars().any(char::is_control);
                if name.is_empty() || name.contains(':') || is_odd(name) || is_odd(password) {
                    return Err(Error::Input(
                        "a user's name is not empty and has no colon, and neither it nor the password has control characters"
                            .into(),
                    ));
                }
                format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Error::Input("the credential is no header's value".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_headers_that_are_not_shown() {
        let user = Credential::User("ann".into(), "pässword".into());
        let value = user.header().unwrap().unwrap();
        assert_eq!(value, "Basic YW5uOnDDpHNzd29yZA==");
        let token = Credential::Token("s3cret".into());
        for shown in [
            format!("{user:?} {token:?}"),
            format!("{value:?} {:?}", token.header().unwrap()),
        ] {
            assert!(
                !shown.contains("s3cret") && !shown.contains("YW5u"),
                "{shown}"
            );
        }
    }

    #[test]
    fn no_credential_ends_its_line() {
        for odd in ["", "a\r\nX: y", "a b", "ü", "a\0"] {
            let error = Credential::Token(odd.into()).header().unwrap_err();
            assert!(!error.to_string().contains("X: y"), "{error}");
        }
        for (name, password) in [("", "p"), ("a:b", "p"), ("a\n", "p"), ("a", "p\r\nX: y")] {
            assert!(
                Credential::User(name.into(), password.into())
                    .header()
                    .is_err()
            );
        }
    }
}
