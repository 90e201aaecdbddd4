//! What the environment says about the machine's software devices.

use std::path::PathBuf;
use std::time::Duration;

/// Most devices a machine can have; the shared ledger has room for this many.
pub const MAX_DEVICES: usize = 16;
const MAX_THREADS: usize = 1024;
const MIN_MEMORY: u64 = 16 << 20;
/// All devices live in one reserved window.
const MAX_MEMORY: u64 = 512 << 30;

#[derive(Clone, Debug)]
pub struct Config {
    pub home: PathBuf,
    pub devices: usize,
    /// Bytes of each device.
    pub memory: u64,
    pub capability: (u32, u32),
    /// Threads that run blocks of the kernel which holds a device.
    pub threads: usize,
    /// Device time after which a kernel is ended with CUDA_ERROR_LAUNCH_TIMEOUT; None: never.
    pub kernel_timeout: Option<Duration>,
    /// Byte-exact bounds of allocations (`SOFTGPU_CHECK=memory`).
    pub check_memory: bool,
    /// Ordinals that CUDA_VISIBLE_DEVICES leaves, in its order.
    pub visible: Vec<usize>,
    /// CUDA_LAUNCH_BLOCKING: launches return when the kernel has ended.
    pub launch_blocking: bool,
}

impl Config {
    pub fn from_environment() -> Result<Config, String> {
        Config::parse(&|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    /// `get` looks up one variable; an empty value counts as absent, except for CUDA_VISIBLE_DEVICES.
    pub fn parse(get: &dyn Fn(&str) -> Option<String>) -> Result<Config, String> {
        let set = |name: &str| get(name).filter(|v| !v.trim().is_empty());
        let devices = match set("SOFTGPU_DEVICES") {
            None => 1,
            Some(v) => number(&v, MAX_DEVICES as u64)
                .map(|n| n as usize)
                .ok_or_else(|| {
                    format!("SOFTGPU_DEVICES={v:?} is no number from 0 to {MAX_DEVICES}")
                })?,
        };
        let memory = match set("SOFTGPU_MEMORY") {
            None => 4 << 30,
            Some(v) => bytes(&v).filter(|b| (MIN_MEMORY..=MAX_MEMORY / devices.max(1) as u64).contains(b)).ok_or_else(|| {
                format!(
                    "SOFTGPU_MEMORY={v:?} is no size from 16MiB to {}GiB for {devices} device(s); write for example 512MiB or 4GiB",
                    (MAX_MEMORY / devices.max(1) as u64) >> 30
                )
            })?,
        } & !((2 << 20) - 1);
        let capability = match set("SOFTGPU_COMPUTE_CAPABILITY") {
            None => (8, 6),
            Some(v) => v
                .trim()
                .split_once('.')
                .and_then(|(a, b)| Some((number(a, 12)? as u32, number(b, 9)? as u32)))
                .filter(|c| c.0 >= 5)
                .ok_or_else(|| format!("SOFTGPU_COMPUTE_CAPABILITY={v:?} is no capability from 5.0 to 12.9; write for example 8.6"))?,
        };
        let threads = match set("SOFTGPU_THREADS") {
            None => std::thread::available_parallelism()
                .map_or(1, |n| n.get())
                .min(MAX_THREADS),
            Some(v) => number(&v, MAX_THREADS as u64)
                .filter(|n| *n > 0)
                .map(|n| n as usize)
                .ok_or_else(|| {
                    format!("SOFTGPU_THREADS={v:?} is no number from 1 to {MAX_THREADS}")
                })?,
        };
        let kernel_timeout = match set("SOFTGPU_KERNEL_TIMEOUT_MS") {
            None => Some(Duration::from_secs(60)),
            Some(v) => number(&v, u32::MAX as u64)
                .map(|ms| (ms > 0).then(|| Duration::from_millis(ms)))
                .ok_or_else(|| {
                    format!(
                        "SOFTGPU_KERNEL_TIMEOUT_MS={v:?} is no number of milliseconds (0: no limit)"
                    )
                })?,
        };
        let check_memory = match set("SOFTGPU_CHECK").as_deref().map(str::trim) {
            None | Some("off" | "0") => false,
            Some("memory") => true,
            Some(v) => {
                return Err(format!(
                    "SOFTGPU_CHECK={v:?} is neither \"off\" nor \"memory\""
                ));
            }
        };
        Ok(Config {
            home: home(&set),
            devices,
            memory,
            capability,
            threads,
            kernel_timeout,
            check_memory,
            visible: visible(get("CUDA_VISIBLE_DEVICES").as_deref(), devices),
            launch_blocking: set("CUDA_LAUNCH_BLOCKING").is_some_and(|v| v.trim() == "1"),
        })
    }
}

fn home(set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(home) = set("SOFTGPU_HOME") {
        return home.into();
    }
    if let Some(run) = set("XDG_RUNTIME_DIR") {
        return PathBuf::from(run).join("softgpu");
    }
    // SAFETY: geteuid has no preconditions.
    PathBuf::from(format!("/tmp/softgpu-{}", unsafe { libc::geteuid() }))
}

fn number(text: &str, max: u64) -> Option<u64> {
    let text = text.trim();
    // u64's parser also takes "+1".
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| *n <= max)
}

/// "4GiB", "512MiB", "1048576": powers of 1024; the short suffixes K, M, G and KB… mean the same, as in CUDA tools.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number(&text[..digits], u64::MAX >> shift)
        .filter(|_| digits > 0)
        .map(|n| n << shift)
}

/// CUDA's rule: a list of ordinals or UUID prefixes; the first that names no device, or repeats one, ends the list.
fn visible(list: Option<&str>, devices: usize) -> Vec<usize> {
    let Some(list) = list else {
        return (0..devices).collect();
    };
    let mut out = Vec::new();
    for item in list.split(',') {
        let item = item.trim();
        let found = match number(item, MAX_DEVICES as u64) {
            Some(n) if !item.is_empty() => Some(n as usize).filter(|n| *n < devices),
            _ if item.len() > 4 && item.starts_with("GPU-") => {
                let mut hits = (0..devices).filter(|d| {
                    crate::device::uuid_text(*d)
                        .starts_with(&item.to_ascii_lowercase().replacen("gpu-", "GPU-", 1))
                });
                hits.next().filter(|_| hits.next().is_none())
            }
            _ => None,
        };
        match found {
            Some(n) if !out.contains(&n) => out.push(n),
            // A repeated ordinal makes the whole list invalid: no device.
            Some(_) => return Vec::new(),
            None => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Config, String> {
        Config::parse(&|name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned()))
    }

    #[test]
    fn defaults_and_sizes() {
        let config = parse(&[]).unwrap();
        assert_eq!(
            (config.devices, config.memory, config.capability),
            (1, 4 << 30, (8, 6))
        );
        assert_eq!(
            parse(&[("SOFTGPU_MEMORY", "512MiB")]).unwrap().memory,
            512 << 20
        );
        assert_eq!(
            parse(&[("SOFTGPU_MEMORY", " 1 GiB ")]).unwrap().memory,
            1 << 30
        );
        assert_eq!(
            parse(&[("SOFTGPU_KERNEL_TIMEOUT_MS", "0")])
                .unwrap()
                .kernel_timeout,
            None
        );
    }

    #[test]
    fn bad_values_name_the_variable() {
        for (name, value) in [
            ("SOFTGPU_MEMORY", "4GeeBee"),
            ("SOFTGPU_MEMORY", "99999999999999999999GiB"),
            ("SOFTGPU_MEMORY", "1KiB"),
            ("SOFTGPU_DEVICES", "-1"),
            ("SOFTGPU_DEVICES", "17"),
            ("SOFTGPU_THREADS", "0"),
            ("SOFTGPU_COMPUTE_CAPABILITY", "eight"),
            ("SOFTGPU_CHECK", "everything"),
            ("SOFTGPU_KERNEL_TIMEOUT_MS", "1s"),
        ] {
            let message = parse(&[(name, value)]).unwrap_err();
            assert!(
                message.contains(name) && message.contains(value),
                "{message}"
            );
        }
    }

    #[test]
    fn visible_devices_follow_cuda() {
        assert_eq!(visible(None, 3), [0, 1, 2]);
        assert_eq!(visible(Some(""), 3), [0usize; 0]);
        assert_eq!(visible(Some("2,0"), 3), [2, 0]);
        assert_eq!(visible(Some("1,-1,0"), 3), [1]);
        assert_eq!(visible(Some("0,0"), 3), [0usize; 0]);
        assert_eq!(visible(Some("9,0"), 3), [0usize; 0]);
        assert_eq!(visible(Some(&crate::device::uuid_text(1)), 3), [1]);
    }
}
