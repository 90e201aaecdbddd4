//! CUjit_option, as far as it travels: options whose values are numbers. Those whose values are addresses in the program mean
//! nothing elsewhere: the client serves the logs, and the rest are hints to a compiler.

/// Most options of one load or link.
pub const MAX_OPTIONS: usize = 64;
/// Longest log that is kept, of each of the two.
pub const MAX_LOG: u32 = 64 << 10;

/// Option and value, as they travel.
const WIDTH: usize = 12;

/// Whether the option's value is a number.
pub fn is_number(option: u32) -> bool {
    // Registers and threads; level, target, debugging, caching, floating point; unused variables, position, CTAs, threads, override.
    matches!(option, 0 | 1 | 7..=16 | 20..=24 | 29..=33)
}

pub fn encode(options: &[(u32, u64)]) -> Vec<u8> {
    options
        .iter()
        .flat_map(|(option, value)| {
            let mut bytes = [0; WIDTH];
            bytes[..4].copy_from_slice(&option.to_le_bytes());
            bytes[4..].copy_from_slice(&value.to_le_bytes());
            bytes
        })
        .collect()
}

/// `None` for bytes that no client encodes so.
pub fn decode(bytes: &[u8]) -> Option<Vec<(u32, u64)>> {
    let (options, rest) = bytes.as_chunks::<WIDTH>();
    if !rest.is_empty() || options.len() > MAX_OPTIONS {
        return None;
    }
    options
        .iter()
        .map(|bytes| {
            let (option, value) = bytes.split_first_chunk::<4>()?;
            let option = u32::from_le_bytes(*option);
            let value = u64::from_le_bytes(*value.first_chunk()?);
            is_number(option).then_some((option, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_travel() {
        let options = [(0, 64), (7, 4), (33, u64::MAX)];
        assert_eq!(decode(&encode(&options)), Some(options.to_vec()));
        // The address of a log buffer.
        assert_eq!(decode(&encode(&[(3, 0x1000)])), None);
        assert_eq!(decode(&encode(&options)[..35]), None);
        assert_eq!(decode(&encode(&[(0, 1); MAX_OPTIONS + 1])), None);
    }
}
