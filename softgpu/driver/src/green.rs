//! Green contexts: parts of a device's multiprocessors, and lanes of its primary context for each. Which multiprocessors run a kernel is
//! not this device's to choose, so that parts are counted and change nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::abi::{DevResource, SmGroup};
use crate::context::Context;
use crate::error::{Error, Result};

/// CU_DEV_RESOURCE_TYPE_SM
pub const SM: u32 = 1;

/// CU_DEV_SM_RESOURCE_SPLIT_*.
const IGNORE_COSCHEDULING: u32 = 1;
const MAX_CLUSTER: u32 = 2;
/// CU_DEV_SM_RESOURCE_GROUP_BACKFILL
const BACKFILL: u32 = 1;

/// What a resource of this library's begins with inside.
const MAGIC: u32 = 0x5347_5245;

/// What a green context is made of.
pub struct Description {
    pub device: u32,
    pub resource: DevResource,
}

pub struct Green {
    pub handle: u64,
    pub device: i32,
    pub context: Arc<Context>,
    pub resource: DevResource,
}

/// Least multiprocessors of a part, and of what it is a multiple.
fn granularity(capability: u32) -> (u32, u32) {
    match capability {
        9.. => (8, 8),
        8 => (4, 2),
        _ => (2, 2),
    }
}

/// Multiprocessors that are scheduled together: by default, and at most.
fn coscheduled(capability: u32) -> (u32, u32) {
    if capability >= 9 { (8, 32) } else { (2, 2) }
}

impl DevResource {
    /// `split`: of which split it is a part; 0 for what can be split.
    fn of(device: u32, capability: u32, count: u32, split: u32, alignment: u32) -> DevResource {
        let mut resource = DevResource::default();
        if count == 0 {
            return resource;
        }
        resource.kind = SM;
        resource.inside[..4].copy_from_slice(&[MAGIC, device, split, capability]);
        resource.sm = [count, granularity(capability).0, alignment, 0, 0];
        resource
    }

    /// All multiprocessors of a device.
    pub fn whole(device: u32, capability: u32, count: u32) -> DevResource {
        DevResource::of(device, capability, count, 0, granularity(capability).1)
    }

    fn check(&self) -> Result {
        if self.kind != SM {
            return Err(Error::ERROR_INVALID_RESOURCE_TYPE);
        }
        if self.inside[0] != MAGIC || self.sm[0] == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Ok(())
    }

    fn part(&self, count: u32, split: u32, alignment: u32) -> DevResource {
        DevResource::of(self.inside[1], self.inside[3], count, split, alignment)
    }

    /// May it be split? Parts of a split first have to become green contexts.
    fn check_whole(&self) -> Result {
        self.check()?;
        if self.inside[2] != 0 {
            return Err(Error::ERROR_INVALID_RESOURCE_CONFIGURATION);
        }
        Ok(())
    }
}

fn fresh_split() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed).max(1)
}

/// How many parts there are to be had, and at most `most` of them with what is left.
pub fn split_by_count(
    input: &DevResource,
    flags: u32,
    least: u32,
    most: u32,
) -> Result<(u32, Vec<DevResource>, DevResource)> {
    input.check_whole()?;
    let (count, capability) = (input.sm[0], input.inside[3]);
    if flags & !(IGNORE_COSCHEDULING | MAX_CLUSTER) != 0
        || least > count
        || (flags & MAX_CLUSTER != 0 && capability < 9)
    {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let (smallest, alignment) = match flags & IGNORE_COSCHEDULING {
        0 => granularity(capability),
        _ => (2, 2),
    };
    let size = least.max(smallest).next_multiple_of(alignment);
    let (possible, split) = (count / size, fresh_split());
    let taken = possible.min(most);
    let part = || input.part(size, split, alignment);
    let parts = (0..taken).map(|_| part()).collect();
    let rest = input.part(count - taken * size, split, alignment);
    Ok((possible, parts, rest))
}

/// Parts as they are asked for, one after the other; counts that were left open are filled in. `wanted`: whether there have to be some.
pub fn split(
    input: &DevResource,
    groups: &mut [SmGroup],
    wanted: bool,
) -> Result<(Vec<DevResource>, DevResource)> {
    let invalid = Err(Error::ERROR_INVALID_VALUE);
    let impossible = Err(Error::ERROR_INVALID_RESOURCE_CONFIGURATION);
    input.check_whole()?;
    let (default, largest) = coscheduled(input.inside[3]);
    let split = fresh_split();
    let mut left = input.sm[0];
    let mut parts = Vec::new();
    for group in groups {
        let together = match group.coscheduled {
            0 => default,
            together => together,
        };
        let backfill = group.flags & BACKFILL != 0;
        // Localities are for devices that have several.
        if group.flags & !BACKFILL != 0
            || group.reserved != [0; 11]
            || together > largest
            || !together.is_multiple_of(2)
        {
            return invalid;
        }
        let step = if backfill { 2 } else { together };
        let count = match group.count {
            0 => left / step * step,
            count if count % 2 != 0 || count > input.sm[0] => return invalid,
            count if !backfill && !count.is_multiple_of(together) => return invalid,
            count => count,
        };
        if count > left || (wanted && count < together) {
            return impossible;
        }
        left -= count;
        group.count = count;
        parts.push(input.part(count, split, together));
    }
    Ok((parts, input.part(left, split, 2)))
}

/// Several of one type come from the same split.
pub fn describe(resources: &[DevResource]) -> Result<Description> {
    let first = resources.first().ok_or(Error::ERROR_INVALID_VALUE)?;
    let mut count = 0;
    for resource in resources {
        resource.check()?;
        let alike = resource.inside == first.inside && resource.sm[2] == first.sm[2];
        if resources.len() > 1 && (!alike || resource.inside[2] == 0) {
            return Err(Error::ERROR_INVALID_RESOURCE_CONFIGURATION);
        }
        count += resource.sm[0];
    }
    Ok(Description {
        device: first.inside[1],
        // What a green context has can be split again.
        resource: first.part(count, 0, first.sm[2]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_sizes_of_their_capability() {
        let sizes = |capability, flags, least, most| {
            let whole = DevResource::whole(0, capability, 20);
            let (possible, parts, rest) = split_by_count(&whole, flags, least, most).unwrap();
            let parts: Vec<u32> = parts.iter().map(|part| part.sm[0]).collect();
            (possible, parts, rest.sm[0])
        };
        assert_eq!(sizes(7, 0, 0, 2), (10, vec![2, 2], 16));
        assert_eq!(sizes(8, 0, 1, 9), (5, vec![4; 5], 0));
        assert_eq!(sizes(8, 0, 5, 2), (3, vec![6, 6], 8));
        assert_eq!(sizes(9, 0, 1, 9), (2, vec![8, 8], 4));
        assert_eq!(sizes(9, IGNORE_COSCHEDULING, 1, 1), (10, vec![2], 18));
        let whole = DevResource::whole(0, 8, 20);
        let (_, parts, rest) = split_by_count(&whole, 0, 8, 9).unwrap();
        assert_eq!(rest.kind, SM);
        let again = split_by_count(&parts[0], 0, 4, 1).map(|_| ());
        assert_eq!(again, Err(Error::ERROR_INVALID_RESOURCE_CONFIGURATION));
        assert_eq!(describe(&parts).unwrap().resource.sm[0], 16);
        let mixed = [parts[0], whole];
        let mixed = describe(&mixed).map(|_| ());
        assert_eq!(mixed, Err(Error::ERROR_INVALID_RESOURCE_CONFIGURATION));
    }

    #[test]
    fn groups_are_served_in_their_order() {
        let group = |count, coscheduled, flags| SmGroup {
            count,
            coscheduled,
            flags,
            ..SmGroup::default()
        };
        let whole = DevResource::whole(0, 9, 20);
        let mut groups = [group(8, 8, 0), group(0, 4, 0), group(0, 2, BACKFILL)];
        let (parts, rest) = split(&whole, &mut groups, false).unwrap();
        assert_eq!(groups.map(|group| group.count), [8, 12, 0]);
        assert_eq!((parts[1].sm[0], rest.kind), (12, 0));
        let none = split(&whole, &mut [group(20, 2, 0), group(0, 2, 0)], true);
        assert!(none.is_err());
        assert!(split(&whole, &mut [group(7, 2, 0)], true).is_err());
    }
}
