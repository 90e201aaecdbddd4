//! What a frame and a greeting cost by themselves, without a wire.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rgpu_bench::greeting;
use rgpu_proto::calls::{self, op};
use rgpu_proto::content::{Digest, Fingerprint};
use rgpu_proto::frame::{HEADER_LEN, Header};
use rgpu_proto::handshake::{ClientHandshake, ServerHandshake};
use zerocopy::{FromBytes, IntoBytes};

fn protocol(criterion: &mut Criterion) {
    criterion.bench_function(
        "launch: arguments and header to bytes and back",
        |bencher| {
            let args = calls::rgpuLaunchArgs::default();
            bencher.iter(|| {
                let args = black_box(&args).as_bytes();
                let header = Header::command(op::rgpuLaunch, 1, 2, 3, args.len(), false);
                let bytes: &[u8; HEADER_LEN] = header.as_bytes().first_chunk().unwrap();
                let header = Header::parse(black_box(bytes)).unwrap();
                let args = calls::rgpuLaunchArgs::ref_from_bytes(args).unwrap();
                black_box((header, args.shared_bytes.get()))
            });
        },
    );
    criterion.bench_function("greeting: made and taken in", |bencher| {
        let hello = greeting();
        bencher.iter(|| {
            let client = ClientHandshake::new(black_box(&hello)).unwrap();
            black_box(ServerHandshake::new().push(client.output()))
        });
    });
}

/// What looking for known content costs a copy in that is sent all the same.
fn content(criterion: &mut Criterion) {
    for kib in [4u32, 64, 1024] {
        let bytes: Vec<u8> = (0..kib * 256).flat_map(u32::to_le_bytes).collect();
        criterion.bench_function(&format!("content: fingerprint of {kib} KiB"), |bencher| {
            bencher.iter(|| Fingerprint::of(black_box(&bytes)));
        });
        criterion.bench_function(&format!("content: digest of {kib} KiB"), |bencher| {
            bencher.iter(|| Digest::of(black_box(&bytes)));
        });
    }
}

criterion_group!(benches, protocol, content);
criterion_main!(benches);
