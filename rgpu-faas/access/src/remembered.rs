//! Passwords that were right a moment ago, so that a program that sends one with every request does not cost a slow hash each time.
//! What is kept is a hash under a key of this process. Pure: time is handed in.

use std::collections::HashMap;
use std::time::Duration;

use crate::secret::Hash;

/// How long a password is believed without being checked.
const LASTS: Duration = Duration::from_secs(300);
const MOST: usize = 1024;

/// What a password was right for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// The server's token.
    Operator,
    /// A line of the users file; which, by its fingerprint.
    User(Hash),
}

pub struct Remembered {
    key: [u8; 32],
    known: HashMap<Hash, (Right, Duration)>,
}

impl Remembered {
    pub fn new(key: [u8; 32]) -> Remembered {
        Remembered {
            key,
            known: HashMap::new(),
        }
    }

    fn hash(&self, user: &str, password: &str) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(user.len() as u64).to_le_bytes());
        hasher.update(user.as_bytes());
        hasher.update(password.as_bytes());
        *hasher.finalize().as_bytes()
    }

    pub fn get(&self, user: &str, password: &str, now: Duration) -> Option<Right> {
        let (right, since) = self.known.get(&self.hash(user, password))?;
        (now.saturating_sub(*since) < LASTS).then(|| right.clone())
    }

    pub fn put(&mut self, user: &str, password: &str, right: Right, now: Duration) {
        if self.known.len() >= MOST {
            self.known
                .retain(|_, (_, since)| now.saturating_sub(*since) < LASTS);
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let hash = self.hash(user, password);
        self.known.insert(hash, (right, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_for_a_while() {
        let mut remembered = Remembered::new([1; 32]);
        let right = Right::User([2; 32]);
        remembered.put("ann", "pass", right.clone(), LASTS);
        assert_eq!(remembered.get("ann", "pass", LASTS), Some(right.clone()));
        assert_eq!(
            remembered.get("ann", "pass", LASTS * 2 - Duration::from_millis(1)),
            Some(right)
        );
        assert_eq!(remembered.get("ann", "pass", LASTS * 2), None);
        for (user, password) in [
            ("ann", "pas"),
            ("annp", "ass"),
            ("an", "npass"),
            ("", "annpass"),
        ] {
            assert_eq!(remembered.get(user, password, LASTS), None);
        }
    }

    #[test]
    fn no_number_of_users_takes_more_room() {
        let mut remembered = Remembered::new([1; 32]);
        for number in 0..10 * MOST {
            remembered.put(&number.to_string(), "p", Right::Operator, Duration::ZERO);
            assert!(remembered.known.len() <= MOST);
        }
    }
}
