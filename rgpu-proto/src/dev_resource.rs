//! A CUdevResource as it travels: cuda.h's 144 bytes, in which the driver's own are replaced by a number of the server's.

/// Bytes of the whole.
pub const BYTES: usize = 144;
pub type DevResource = [u8; BYTES];
/// Bytes of a CU_DEV_SM_RESOURCE_GROUP_PARAMS.
pub const GROUP: usize = 64;
/// Parts that one split makes at most.
pub const MOST_PARTS: u32 = 1024;

/// Where the number is, and where the kind's own fields are.
const NUMBER: std::ops::Range<usize> = 8..16;
const FIELDS: std::ops::Range<usize> = 96..136;

/// CUdevResourceType.
pub fn kind(resource: &DevResource) -> u32 {
    u32::from_le_bytes([resource[0], resource[1], resource[2], resource[3]])
}

/// What the client may see of a driver's resource.
pub fn shown(genuine: &DevResource, number: u64) -> DevResource {
    let mut shown = [0; BYTES];
    shown[..4].copy_from_slice(&genuine[..4]);
    shown[NUMBER].copy_from_slice(&number.to_le_bytes());
    shown[FIELDS].copy_from_slice(&genuine[FIELDS]);
    shown
}

/// The number of a resource that was shown.
pub fn number(resource: &DevResource) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&resource[NUMBER]);
    u64::from_le_bytes(bytes)
}

/// Gives it another number.
pub fn renumber(resource: &mut DevResource, number: u64) {
    resource[NUMBER].copy_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_and_the_fields_are_shown() {
        let genuine: DevResource = std::array::from_fn(|at| at as u8 + 1);
        let shown = shown(&genuine, 7);
        let mut other = shown;
        renumber(&mut other, 8);
        assert_eq!((number(&shown), number(&other)), (7, 8));
        assert_eq!(kind(&shown), kind(&genuine));
        assert_eq!(shown[FIELDS], genuine[FIELDS]);
        assert!(
            shown[16..96]
                .iter()
                .chain(&shown[136..])
                .all(|byte| *byte == 0)
        );
    }
}
