//! An issuer's keys (JWKS, RFC 7517), and which of them may have signed a token. Pure.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Bytes of a token. Its header may be as large as the HTTP header that it comes in.
pub const MAX_TOKEN: usize = crate::credential::MAX_AUTHORIZATION;
/// Bytes of a set of keys, and keys in it.
pub const MAX_SET: usize = 256 << 10;
const MAX_KEYS: usize = 100;
/// Bytes of a key's name.
const MAX_KID: usize = 256;
/// Bits of an RSA modulus: fewer are no security (RFC 7518 section 3.3), and more the library does not take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Which algorithms a key can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self {
            Kind::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Kind::P256 => algorithm == ES256,
            Kind::P384 => algorithm == ES384,
            Kind::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// What the token says of how it was signed: not believed, but used to find the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
}

impl Head {
    /// # Errors
    /// What is wrong with the token's form.
    pub fn of(token: &str) -> Result<Head, String> {
        if token.len() > MAX_TOKEN {
            return Err(format!("it is larger than {MAX_TOKEN} bytes"));
        }
        // `none`, and what else nobody should sign with, the library does not know.
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            "it is no JSON Web Token that is signed with a known algorithm".to_owned()
        })?;
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err("its header asks for an extension that is not served".into());
        }
        // Keys that a token brings along (`jwk`, `jku`, `x5u`) are not looked at. A name is only ever compared, never opened.
        if header.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(format!("its key's name is longer than {MAX_KID} bytes"));
        }
        Ok(Head {
            algorithm: header.alg,
            kid: header.kid,
        })
    }
}

pub struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The only one it is for, if it says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// What is signed, by a key that `find` has given for this algorithm.
    ///
    /// # Errors
    /// That this key has not signed it.
    pub fn verify(&self, token: &str, algorithm: Algorithm) -> Result<Map<String, Value>, String> {
        // Claims are checked by `claims`: by a clock that tests can set, and an issuer that is one.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &self.key, &validation)
            .map(|data| data.claims)
            .map_err(|_| "its signature is not its issuer's".into())
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// None if it is of a kind that is not for this.
    fn of(value: Value) -> Option<Key> {
        let jwk = Jwk::deserialize(value).ok()?;
        let common = &jwk.common;
        let signs = match &common.public_key_use {
            Some(usage) => *usage == PublicKeyUse::Signature,
            None => true,
        };
        let verifies = match &common.key_operations {
            Some(all) => all.contains(&KeyOperations::Verify),
            None => true,
        };
        let kid = common.key_id.clone();
        if !signs || !verifies || kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return None;
        }
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
                let leading = modulus.iter().take_while(|byte| **byte == 0).count();
                let bits = 8 * (modulus.len() - leading);
                (RSA_BITS.contains(&bits) && rsa.e.len() <= 8).then_some(Kind::Rsa)?
            }
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => Kind::P256,
                EllipticCurve::P384 => Kind::P384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
                EllipticCurve::Ed25519 => Kind::Ed25519,
                _ => return None,
            },
            // A shared secret among public keys: whoever reads the set could sign with it.
            _ => return None,
        };
        let algorithm = match common.key_algorithm {
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
            None => None,
        };
        Some(Key {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            kid,
            kind,
            algorithm,
        })
    }
}

#[derive(Default)]
pub struct KeySet(Vec<Arc<Key>>);

impl KeySet {
    /// Reads a set. Keys of kinds that are not known, or not for signatures, are left out, as RFC 7517 section 5 says.
    ///
    /// # Errors
    /// That it is no set, or has no key of use.
    pub fn parse(bytes: &[u8]) -> Result<KeySet, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if bytes.len() > MAX_SET {
            return Err(format!("it is larger than {MAX_SET} bytes"));
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is no set of keys (JWKS): {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .filter_map(Key::of)
            .map(Arc::new)
            .collect();
        if keys.is_empty() {
            return Err(
                "it has no key for signatures; RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 are known"
                    .into(),
            );
        }
        Ok(KeySet(keys))
    }

    /// The key that may have signed a token with this head. Without a name there must be one alone that can be meant.
    pub fn find(&self, head: &Head) -> Option<Arc<Key>> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits(head.algorithm) && (head.kid.is_none() || key.kid == head.kid));
        let key = fitting.next()?;
        (head.kid.is_some() || fitting.next().is_none()).then(|| key.clone())
    }
}
