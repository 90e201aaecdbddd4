//! Attributes of a launch, as they travel: CUlaunchAttributeID and the first 32 bytes of the value, which hold all that is served.

/// Most attributes of one launch.
pub const MAX_ATTRIBUTES: usize = 64;
/// Id, padding, value.
const WIDTH: usize = 40;

pub const COOPERATIVE: u32 = 2;
pub const CLUSTER_DIMENSION: u32 = 4;

/// An attribute, the value as words.
pub type Attribute = (u32, [u64; 4]);

/// Whether the value begins with an event, and so must be translated.
pub fn has_event(id: u32) -> bool {
    // PROGRAMMATIC_EVENT, LAUNCH_COMPLETION_EVENT.
    matches!(id, 7 | 12)
}

/// Whether the attribute can travel; those that cannot hold addresses in the program, or ask for one.
pub fn is_served(id: u32) -> bool {
    matches!(id, 1..=12 | 14)
}

pub fn encode(attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(attributes.len() * WIDTH);
    for (id, value) in attributes {
        bytes.extend_from_slice(&u64::from(*id).to_le_bytes());
        for word in value {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// `None` for bytes that no client encodes so.
pub fn decode(bytes: &[u8]) -> Option<Vec<Attribute>> {
    let (attributes, rest) = bytes.as_chunks::<WIDTH>();
    if !rest.is_empty() || attributes.len() > MAX_ATTRIBUTES {
        return None;
    }
    attributes
        .iter()
        .map(|bytes| {
            let mut words = [0; 5];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            let [id, value @ ..] = words;
            let id = u32::try_from(id).ok()?;
            is_served(id).then_some((id, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_served_travels() {
        let attributes = [(COOPERATIVE, [1, 0, 0, 0]), (8, [u64::MAX, 2, 3, 4])];
        assert_eq!(decode(&encode(&attributes)), Some(attributes.to_vec()));
        // A node that the device updates.
        assert_eq!(decode(&encode(&[(13, [1, 0, 0, 0])])), None);
        assert_eq!(decode(&encode(&attributes)[1..]), None);
        assert_eq!(decode(&encode(&[(8, [0; 4]); MAX_ATTRIBUTES + 1])), None);
    }
}
