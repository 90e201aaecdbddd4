//! On which device a vGPU goes. What is reserved on a device is never more than it has; of vGPUs whose memory may be moved away while they are
//! idle, as much more as the server allows, and each of them fits beside all that may not be moved.

use crate::profile::{Denied, mib};

/// Which of the devices that have room is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The fullest, so that large vGPUs find room later.
    #[default]
    BinPack,
    /// The emptiest, so that each has the most of a device to itself.
    Spread,
    /// Where the tenant's and the function's are; else the fullest.
    Affinity,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    total: u64,
    /// Reserved for vGPUs that stay, and for those that may be moved away.
    fixed: u64,
    movable: u64,
    /// What vGPUs have for which nothing is reserved.
    open: u64,
}

impl Room {
    fn reserved(&self) -> u64 {
        self.fixed.saturating_add(self.movable)
    }

    /// What is there for those for whom something is reserved.
    fn there(&self) -> u64 {
        self.total.saturating_sub(self.open)
    }

    /// How much may be reserved in all by such vGPUs.
    fn allowed(&self, movable: bool, overcommit_percent: u32) -> u128 {
        let percent = if movable {
            overcommit_percent.max(100)
        } else {
            100
        };
        u128::from(self.there()) * u128::from(percent) / 100
    }

    fn fits(&self, bytes: u64, movable: bool, overcommit_percent: u32) -> bool {
        let allowed = self.allowed(movable, overcommit_percent);
        let beside_fixed = u128::from(self.fixed) + u128::from(bytes);
        beside_fixed <= u128::from(self.there())
            && beside_fixed + u128::from(self.movable) <= allowed
    }
}

/// The devices of a server, by ordinal.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    policy: Policy,
    overcommit_percent: u32,
    devices: Vec<Room>,
}

impl Placement {
    pub fn set_policy(&mut self, policy: Policy, overcommit_percent: u32) {
        self.policy = policy;
        self.overcommit_percent = overcommit_percent;
    }

    /// What the devices have, in bytes. What is reserved stays so.
    pub fn set_devices(&mut self, totals: &[u64]) {
        self.devices.resize(totals.len(), Room::default());
        for (room, total) in self.devices.iter_mut().zip(totals) {
            room.total = *total;
        }
    }

    /// What vGPUs have of a device for which nothing is reserved: a reservation waits until it is free.
    pub fn set_open(&mut self, device: u32, bytes: u64) {
        if let Some(room) = self.devices.get_mut(device as usize) {
            room.open = bytes;
        }
    }

    /// (total, reserved) of each device, in bytes.
    pub fn devices(&self) -> impl Iterator<Item = (u64, u64)> {
        self.devices.iter().map(|it| (it.total, it.reserved()))
    }

    /// What a device has beside what is reserved for those that stay, and what others have of it.
    pub fn beside_fixed(&self, device: u32) -> u64 {
        let room = self.devices.get(device as usize);
        room.map_or(0, |room| room.there().saturating_sub(room.fixed))
    }

    /// The device for a vGPU of so many bytes. `near`: how much speaks for a device, where that counts.
    pub fn choose(
        &self,
        bytes: u64,
        movable: bool,
        near: impl Fn(u32) -> u64,
    ) -> Result<u32, Denied> {
        let most = self.devices.iter().map(|it| it.total).max().unwrap_or(0);
        if bytes > most {
            return Err(Denied::TooLarge {
                wanted: mib(bytes),
                most: mib(most),
            });
        }
        let fits = (0..)
            .zip(&self.devices)
            .filter(|(_, room)| room.fits(bytes, movable, self.overcommit_percent));
        let chosen = match self.policy {
            Policy::BinPack => fits.min_by_key(|(device, room)| (left(room), *device)),
            Policy::Spread => fits.min_by(|(a, one), (b, other)| {
                let of =
                    |room: &Room, by: &Room| u128::from(room.reserved()) * u128::from(by.total);
                let (one, other) = (of(one, other), of(other, one));
                one.cmp(&other).then(a.cmp(b))
            }),
            Policy::Affinity => {
                fits.min_by_key(|(device, room)| (u64::MAX - near(*device), left(room), *device))
            }
        };
        chosen
            .map(|(device, _)| device)
            .ok_or(Denied::NoRoom { wanted: mib(bytes) })
    }

    /// How many more of such vGPUs there is room for; `empty`: would be, if nothing were reserved. `None`: they need none, or no device is known.
    pub fn room_for(&self, bytes: u64, movable: bool, empty: bool) -> Option<u32> {
        if bytes == 0 || self.devices.is_empty() {
            return None;
        }
        let of = |room: &Room| {
            let room = match empty {
                true => Room {
                    total: room.total,
                    ..Room::default()
                },
                false => *room,
            };
            if !room.fits(bytes, movable, self.overcommit_percent) {
                return 0;
            }
            let allowed = room.allowed(movable, self.overcommit_percent);
            allowed.saturating_sub(room.reserved().into()) / u128::from(bytes)
        };
        let all: u128 = self.devices.iter().map(of).sum();
        Some(u32::try_from(all).unwrap_or(u32::MAX))
    }

    pub fn reserve(&mut self, device: u32, bytes: u64, movable: bool) {
        if let Some(part) = self.part(device, movable) {
            *part = part.saturating_add(bytes);
        }
    }

    /// The same, even of a device that has not been told of.
    pub fn reserve_again(&mut self, device: u32, bytes: u64, movable: bool) {
        let least = (device as usize).saturating_add(1);
        if self.devices.len() < least {
            self.devices.resize(least, Room::default());
        }
        self.reserve(device, bytes, movable);
    }

    pub fn release(&mut self, device: u32, bytes: u64, movable: bool) {
        if let Some(part) = self.part(device, movable) {
            *part = part.saturating_sub(bytes);
        }
    }

    fn part(&mut self, device: u32, movable: bool) -> Option<&mut u64> {
        let room = self.devices.get_mut(device as usize)?;
        Some(match movable {
            true => &mut room.movable,
            false => &mut room.fixed,
        })
    }
}

/// Bytes that are not reserved.
fn left(room: &Room) -> u64 {
    room.total.saturating_sub(room.reserved())
}
