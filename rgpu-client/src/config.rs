//! What the environment asks for, read once at cuInit.

use std::fmt::Display;

use rgpu_proto::handshake::{MAX_GROUP, Token, VgpuRequest};
use rgpu_transport::ServerList;

use crate::compression;
use crate::content::{self, Setting};

/// Variables that CUDA's own driver reads at cuInit; they are told to the server's driver. (CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER act
/// here.)
const FORWARDED: &[&str] = &[
    "CUDA_CACHE_DISABLE",
    "CUDA_CACHE_MAXSIZE",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_FORCE_JIT",
    "CUDA_FORCE_PTX_JIT",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    // For the server's accounts.
    "RGPU_JOB",
];

/// The variable by which a caller's trace goes on in what it starts, as W3C's trace context has it.
const TRACE: &str = "TRACEPARENT";
/// Bytes of its value in the version that there is.
const TRACE_BYTES: usize = 55;

/// What servers are told of the environment. Of a trace nothing, where it cannot be one: it must not keep a program from its GPU.
fn forwarded(text: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let trace = text(TRACE).filter(|it| it.len() == TRACE_BYTES && it.is_ascii());
    let cuda = FORWARDED
        .iter()
        .filter_map(|name| Some((*name, text(name)?)))
        // None of them needs more, and a greeting is bounded.
        .filter(|(_, value)| value.len() <= 256);
    cuda.chain(trace.map(|trace| (TRACE, trace)))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The client's settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub servers: ServerList,
    pub token: Token,
    pub vgpu: VgpuRequest,
    /// Processes of one name here have one vGPU together; empty: each its own.
    pub group: String,
    pub visible_devices: Option<String>,
    pub device_order: Option<String>,
    /// CUDA_LAUNCH_BLOCKING=1: every one-way call waits, so that its error returns at the call.
    pub launch_blocking: bool,
    pub forwarded: Vec<(String, String)>,
    pub transport: Transport,
    /// Whether what earlier sessions have sent is not sent again.
    pub content: Setting,
    /// Whether bodies of commands go compressed.
    pub compression: compression::Setting,
    /// Which function this is, to servers that keep what it sends.
    pub function: String,
}

/// How to reach a server on this host, which has a unix socket. (Others are reached as their addresses say.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By shared memory, or the socket where there is none.
    Auto,
    /// Not without shared memory.
    Shm,
    /// By the socket alone.
    Socket,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

fn wrong(name: &str, what: impl Display) -> ConfigError {
    ConfigError(format!("{name}: {what}"))
}

/// What a variable says: auto, which is also what it says if it is not there, on, or off.
fn choice<T>(
    name: &str,
    text: impl Fn(&str) -> Option<String>,
    [auto, on, off]: [T; 3],
) -> Result<T, ConfigError> {
    match text(name).as_deref() {
        None | Some("auto") => Ok(auto),
        Some("on") => Ok(on),
        Some("off") => Ok(off),
        Some(other) => Err(wrong(
            name,
            format!("{other:?} is none of auto, on and off"),
        )),
    }
}

impl Config {
    /// Reads RGPU_SERVERS, RGPU_TOKEN or RGPU_TOKEN_FILE, RGPU_VGPU, RGPU_VGPU_MEMORY, RGPU_VGPU_SHARE, RGPU_TRANSPORT, RGPU_CONTENT, RGPU_COMPRESS,
    /// RGPU_FUNCTION and CUDA's own variables.
    pub fn from_environment() -> Result<Config, ConfigError> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let servers = text("RGPU_SERVERS").ok_or_else(|| {
            ConfigError("RGPU_SERVERS is not set: name a server, such as tcp://gpuhost:7070 or unix:///run/rgpu/rgpud.sock, or several with commas between them".into())
        })?;
        let servers =
            ServerList::parse([servers.as_str()]).map_err(|error| wrong("RGPU_SERVERS", error))?;
        let token = match (text("RGPU_TOKEN"), text("RGPU_TOKEN_FILE")) {
            (Some(token), _) => Token::new(&token),
            (None, Some(file)) => Token::new(
                &std::fs::read_to_string(&file)
                    .map_err(|error| wrong("RGPU_TOKEN_FILE", format!("{file}: {error}")))?,
            ),
            (None, None) => Token::default(),
        };
        let number = |name: &str| {
            text(name)
                .map(|value| {
                    value
                        .trim()
                        .parse::<u64>()
                        .map_err(|_| wrong(name, format!("{value:?} is no whole number")))
                })
                .transpose()
        };
        let share_percent = match number("RGPU_VGPU_SHARE")? {
            None => None,
            Some(share @ 1..=100) => Some(share as u32),
            Some(share) => {
                return Err(wrong(
                    "RGPU_VGPU_SHARE",
                    format!("{share} is not 1 to 100 percent"),
                ));
            }
        };
        let transport = match text("RGPU_TRANSPORT").as_deref() {
            None | Some("auto") => Transport::Auto,
            Some("shm") => Transport::Shm,
            Some("unix" | "tcp" | "quic" | "rdma") => Transport::Socket,
            Some(other) => {
                return Err(wrong(
                    "RGPU_TRANSPORT",
                    format!("{other:?} is none of auto, shm, unix, tcp, quic and rdma"),
                ));
            }
        };
        let content = choice(
            "RGPU_CONTENT",
            text,
            [Setting::Auto, Setting::On, Setting::Off],
        )?;
        let compression = {
            use compression::Setting::{Auto, Off, On};
            choice("RGPU_COMPRESS", text, [Auto, On, Off])?
        };
        let function = match text("RGPU_FUNCTION") {
            Some(name) => content::bounded(&name),
            None => {
                let words = std::env::args_os();
                let words = words.map(|word| word.to_string_lossy().into_owned());
                content::function(&crate::greeting::client_info().program, words)
            }
        };
        let group = text("RGPU_VGPU").unwrap_or_default();
        if group.len() > MAX_GROUP {
            return Err(wrong(
                "RGPU_VGPU",
                format!("a name has at most {MAX_GROUP} bytes"),
            ));
        }
        Ok(Config {
            group,
            content,
            compression,
            function,
            servers,
            token,
            vgpu: VgpuRequest {
                memory_mib: match number("RGPU_VGPU_MEMORY")? {
                    Some(0) => return Err(wrong("RGPU_VGPU_MEMORY", "0 MiB is no memory")),
                    memory => memory,
                },
                share_percent,
            },
            visible_devices: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
            device_order: text("CUDA_DEVICE_ORDER"),
            launch_blocking: text("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value.trim() == "1"),
            forwarded: forwarded(text),
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_along_if_it_is_one() {
        let told = |trace: &str| {
            let text = |name: &str| match name {
                TRACE => Some(trace.to_owned()),
                "CUDA_LAUNCH_BLOCKING" => Some("1".to_owned()),
                _ => None,
            };
            forwarded(text)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(told(trace), ["CUDA_LAUNCH_BLOCKING", TRACE]);
        for wrong in ["", "x", &"x".repeat(100_000)] {
            assert_eq!(told(wrong), ["CUDA_LAUNCH_BLOCKING"]);
        }
    }
}
