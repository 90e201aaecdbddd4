//! `libnvidia-ml.so.1`: what NVML tells, of the remote devices and as the tenant may see them.
//!
//! It has a connection of its own, which watches and holds nothing, so that `nvitop` shows the GPU that other programs use. What a device or
//! its server does not tell is NVML_ERROR_NOT_SUPPORTED, as NVML has it for every reading.

mod exports;
mod out;
mod state;
mod view;
