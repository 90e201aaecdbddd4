//! Micro-benchmarks (`cargo bench -p rgpu-bench`); the figures of whole programs are `cargo xtask bench`.

use rgpu_proto::handshake::{ClientInfo, Hello, Purpose, Token, VgpuRequest};

/// A greeting as a client sends it.
pub fn greeting() -> Hello {
    Hello {
        purpose: Purpose::Data,
        token: Token::new("a-token-of-the-benchmarks"),
        client: ClientInfo {
            pid: 1,
            program: "python3".into(),
            host: "host".into(),
        },
        vgpu: VgpuRequest::default(),
        windows: Vec::new(),
        environment: Vec::new(),
        rings: false,
        reuse: Default::default(),
        group: String::new(),
    }
}
