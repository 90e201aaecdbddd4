//! CUDA_VISIBLE_DEVICES, as CUDA's programming guide describes it: a pure function of the value and the server's devices.

use rgpu_proto::snapshot::uuid_text;

/// The server's ordinals that the program sees, in its order. Parsing ends at the first entry that names no device; a device
/// named twice leaves none.
pub fn visible(value: Option<&str>, uuids: &[[u8; 16]]) -> Vec<usize> {
    let Some(value) = value else {
        return (0..uuids.len()).collect();
    };
    let by_uuid = value.trim_start().starts_with("GPU-");
    let mut chosen = Vec::new();
    for entry in value.split(',').map(str::trim) {
        let found = if by_uuid {
            entry
                .strip_prefix("GPU-")
                .and_then(|prefix| find(prefix, uuids))
        } else {
            index(entry, uuids.len())
        };
        let Some(ordinal) = found else { break };
        if chosen.contains(&ordinal) {
            return Vec::new();
        }
        chosen.push(ordinal);
    }
    chosen
}

/// Read as strtoul does: leading digits count, what follows them does not.
fn index(entry: &str, count: usize) -> Option<usize> {
    let digits = entry
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(entry.len());
    entry[..digits]
        .parse()
        .ok()
        .filter(|ordinal| *ordinal < count)
}

/// The one device whose UUID begins so.
fn find(prefix: &str, uuids: &[[u8; 16]]) -> Option<usize> {
    let wanted = format!("GPU-{}", prefix.to_ascii_lowercase());
    let mut matches = uuids
        .iter()
        .enumerate()
        .filter(|(_, uuid)| uuid_text(uuid).starts_with(&wanted));
    let (ordinal, _) = matches.next().filter(|_| !prefix.is_empty())?;
    matches.next().is_none().then_some(ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_documented() {
        let uuids = [[0x11; 16], [0x12; 16], [0x22; 16]];
        assert_eq!(visible(None, &uuids), [0, 1, 2]);
        assert_eq!(visible(Some(""), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("0,2,-1,1"), &uuids), [0, 2]);
        assert_eq!(visible(Some("2, 0"), &uuids), [2, 0]);
        assert_eq!(visible(Some("1gpu2,2ampere"), &uuids), [1, 2]);
        assert_eq!(visible(Some("1,1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("7,1"), &uuids), [0usize; 0]);
        assert_eq!(visible(Some("GPU-22222222"), &uuids), [2]);
        assert_eq!(
            visible(Some("GPU-1"), &uuids),
            [0usize; 0],
            "an ambiguous prefix"
        );
        assert_eq!(visible(Some("GPU-22222222-2222,0"), &uuids), [2]);
    }
}
