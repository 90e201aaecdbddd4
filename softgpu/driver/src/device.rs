//! The devices: one object each, with its executor and its primary context.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::Config;
use crate::context::{Context, check_flags};
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::runtime::Runtime;
use crate::slot::Gate;

pub struct Device {
    /// Of the machine.
    pub ordinal: usize,
    pub capability: (u32, u32),
    pub memory: u64,
    pub executor: Executor,
    /// Bytes that graphs hold.
    pub graph_memory: Level,
    primary: Mutex<Primary>,
}

/// An amount, and the most that it was since somebody reset that.
#[derive(Default)]
pub struct Level {
    now: AtomicU64,
    high: AtomicU64,
}

impl Level {
    pub fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, AcqRel) + bytes;
        self.high.fetch_max(now, AcqRel);
    }

    pub fn take(&self, bytes: u64) {
        self.now.fetch_sub(bytes, AcqRel);
    }

    pub fn now(&self) -> u64 {
        self.now.load(Acquire)
    }

    pub fn high(&self) -> u64 {
        self.high.load(Acquire)
    }

    pub fn reset_high(&self) {
        self.high.store(self.now(), Release);
    }
}

#[derive(Default)]
struct Primary {
    users: usize,
    flags: u32,
    context: Option<Arc<Context>>,
}

impl Device {
    pub fn new(config: &Config, ordinal: usize, gate: Gate) -> Device {
        Device {
            ordinal,
            capability: config.capability,
            memory: config.memory,
            executor: Executor::new(gate, config.threads, config.kernel_timeout),
            graph_memory: Level::default(),
            primary: Mutex::default(),
        }
    }

    pub fn name(&self) -> String {
        format!(
            "softgpu (compute capability {}.{})",
            self.capability.0, self.capability.1
        )
    }

    /// Fixed, so that the grids that programs choose do not depend on the machine.
    pub fn multiprocessors(&self) -> u32 {
        16
    }

    /// Largest shared memory of a block that asks for it.
    pub fn max_shared_optin(&self) -> u32 {
        match self.capability {
            (7, 0) => 96 << 10,
            (7, _) => 64 << 10,
            (8, 0 | 7) => 163 << 10,
            (8, _) | (12.., _) => 99 << 10,
            (9..=11, _) => 227 << 10,
            _ => 48 << 10,
        }
    }

    pub fn max_shared_per_multiprocessor(&self) -> u32 {
        match self.capability.0 {
            5 | 6 => 96 << 10,
            _ => self.max_shared_optin() + (1 << 10),
        }
    }

    pub fn threads_per_multiprocessor(&self) -> u32 {
        match self.capability {
            (7, 5) => 1024,
            (8, 6..) | (12.., _) => 1536,
            _ => 2048,
        }
    }

    pub fn blocks_per_multiprocessor(&self) -> u32 {
        match self.capability {
            (7, 5) | (8, 6 | 7) => 16,
            (8, 9) | (12.., _) => 24,
            _ => 32,
        }
    }

    fn primary(&self) -> MutexGuard<'_, Primary> {
        self.primary.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn retain_primary(self: &Arc<Self>, runtime: &Runtime) -> Result<Arc<Context>> {
        let mut primary = self.primary();
        let context = match &primary.context {
            Some(context) => context.clone(),
            None => Context::create(runtime, self, primary.flags, true)?,
        };
        primary.context = Some(context.clone());
        primary.users += 1;
        Ok(context)
    }

    pub fn release_primary(&self, runtime: &Runtime) -> Result {
        let mut primary = self.primary();
        primary.users = primary
            .users
            .checked_sub(1)
            .ok_or(Error::ERROR_INVALID_CONTEXT)?;
        if primary.users > 0 {
            return Ok(());
        }
        match primary.context.take() {
            Some(context) => context.destroy(runtime),
            None => Ok(()),
        }
    }

    /// Destroys the primary context whoever uses it; a later retain makes a new one.
    pub fn reset_primary(&self, runtime: &Runtime) -> Result {
        let mut primary = self.primary();
        primary.users = 0;
        match primary.context.take() {
            Some(context) => context.destroy(runtime),
            None => Ok(()),
        }
    }

    pub fn set_primary_flags(&self, flags: u32) -> Result {
        check_flags(flags)?;
        let mut primary = self.primary();
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Release);
        }
        Ok(())
    }

    /// (flags, active)
    pub fn primary_state(&self) -> (u32, bool) {
        let primary = self.primary();
        (primary.flags, primary.context.is_some())
    }
}

/// Of the machine's device, the same in every process.
pub fn uuid(ordinal: usize) -> [u8; 16] {
    let mut uuid = *b"\x73\x6f\x66\x74\x67\x70\x45\x75\x80\x00\x00\x00\x00\x00\x00\x00";
    // In front, so that a short prefix tells the devices apart.
    uuid[0] = ordinal as u8;
    uuid
}

/// As tools print it and CUDA_VISIBLE_DEVICES takes it.
pub fn uuid_text(ordinal: usize) -> String {
    let hex: Vec<String> = uuid(ordinal)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let part = |from: usize, to: usize| hex[from..to].concat();
    format!(
        "GPU-{}-{}-{}-{}-{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 16)
    )
}

/// Domain, bus, device: high numbers, which real machines rarely reach.
pub fn pci(ordinal: usize) -> (u32, u32, u32) {
    (0, 0xa0 + ordinal as u32, 0)
}

pub fn pci_text(ordinal: usize) -> String {
    let (domain, bus, device) = pci(ordinal);
    format!("{domain:04X}:{bus:02X}:{device:02X}.0")
}

/// Reads what [`pci_text`] writes, and the forms without domain or function, or with other digits.
pub fn parse_pci(text: &str) -> Option<(u32, u32, u32)> {
    let (address, function) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    if u32::from_str_radix(function, 16).ok()? != 0 {
        return None;
    }
    let parts = address
        .split(':')
        .map(|part| u32::from_str_radix(part, 16).ok());
    match parts.collect::<Option<Vec<u32>>>()?[..] {
        [domain, bus, device] => Some((domain, bus, device)),
        [bus, device] => Some((0, bus, device)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_ids_come_back() {
        for ordinal in [0, 3, 15] {
            assert_eq!(parse_pci(&pci_text(ordinal)), Some(pci(ordinal)));
        }
        assert_eq!(parse_pci("a1:00"), Some(pci(1)));
        assert_eq!(parse_pci("0000:a1:00.1"), None);
        assert_eq!(parse_pci("no:bus"), None);
    }
}
