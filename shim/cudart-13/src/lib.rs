//! `libcudart.so.13`: the names and structures of CUDA 13.5's runtime on `rgpu-cudart`.

#[macro_use]
#[path = "../../cudart/src/export.rs"]
mod export;
#[path = "gen/exports.rs"]
mod exports;

use rgpu_cudart::{Runtime, Streams, Version};

static LEGACY: Runtime = Runtime::new(Version::V13, Streams::Legacy);
static PER_THREAD: Runtime = Runtime::new(Version::V13, Streams::PerThread);
