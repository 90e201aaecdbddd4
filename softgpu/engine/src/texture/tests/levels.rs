//! Levels of detail, gathering, cubes.

use super::*;

/// Three levels of one value each: 10, 20, 30.
fn levels() -> (Texture, Bytes) {
    let mut values = vec![10f32; 4];
    values.extend([20.0; 2]);
    values.push(30.0);
    let (mut texture, memory) = row(&values);
    let all = [(0, 4), (16, 2), (24, 1)].map(|(base, width)| Level {
        base,
        width,
        height: 1,
        slices: 1,
        pitch: 16,
        slice: 16,
    });
    texture.image.levels = all.to_vec();
    texture.image.mipmapped = true;
    texture.sampler.normalized = true;
    (texture, memory)
}

#[test]
fn levels_of_detail() {
    let (mut texture, memory) = levels();
    let near = [
        (-1.0, 10.0),
        (0.0, 10.0),
        (0.49, 10.0),
        (0.5, 20.0),
        (1.2, 20.0),
        (1.5, 30.0),
        (9.0, 30.0),
    ];
    for (lod, wanted) in near {
        assert_eq!(
            at(&texture, &memory, 0.3, Lod::Level(lod))[0],
            wanted,
            "{lod}"
        );
    }
    assert_eq!(at(&texture, &memory, 0.3, Lod::Base)[0], 10.0);
    texture.sampler.mip_linear = true;
    for (lod, wanted) in [
        (-1.0, 10.0),
        (0.25, 12.5),
        (1.0, 20.0),
        (1.75, 27.5),
        (5.0, 30.0),
    ] {
        assert_eq!(
            at(&texture, &memory, 0.3, Lod::Level(lod))[0],
            wanted,
            "{lod}"
        );
    }
    texture.sampler.bias = 0.5;
    assert_eq!(at(&texture, &memory, 0.3, Lod::Level(0.25))[0], 17.5);
    texture.sampler.bias = 0.0;
    (texture.sampler.min_lod, texture.sampler.max_lod) = (0.5, 1.25);
    assert_eq!(at(&texture, &memory, 0.3, Lod::Level(0.0))[0], 15.0);
    assert_eq!(at(&texture, &memory, 0.3, Lod::Level(2.0))[0], 22.5);
    // The footprint of a pixel: so many texels of level 0, of which the longer side counts.
    (texture.sampler.min_lod, texture.sampler.max_lod) = (0.0, 8.0);
    for (right, down, wanted) in [
        (0.25, 0.0, 10.0),
        (0.5, 0.25, 20.0),
        (-0.125, -1.0, 30.0),
        (0.0, 0.0, 10.0),
    ] {
        let lod = Lod::Gradient([right, 0.0, 0.0], [down, 0.0, 0.0]);
        assert_eq!(at(&texture, &memory, 0.3, lod)[0], wanted, "{right} {down}");
    }
}

#[test]
fn gathers_counter_clockwise() {
    let mut random = Random(3);
    let format = Format {
        channel: Channel::F32,
        channels: 2,
    };
    let case = case(Kind::Plain(2), 0, [4, 4, 1], format, &mut random);
    let lookup = Lookup {
        dimensions: 2,
        cube: false,
        layer: 0,
        at: Coordinates::Float([2.2, 1.7, 0.0]),
        offset: [0; 3],
        lod: Lod::Base,
    };
    let value = |x: usize, y: usize| (case.values[y * 4 + x][1] as f32).to_bits();
    let got = case
        .texture
        .gather(&case.texture.sampler, &case.memory, &lookup, 1);
    assert_eq!(
        got,
        Ok([value(1, 2), value(2, 2), value(2, 1), value(1, 1)])
    );
}

#[test]
fn faces_of_a_cube() {
    // From the table of the guide.
    let hits = [
        ([4.0, 2.0, -1.0], 0, [0.625, 0.25]),
        ([-4.0, 2.0, -1.0], 1, [0.375, 0.25]),
        ([2.0, 4.0, -1.0], 2, [0.75, 0.375]),
        ([2.0, -4.0, -1.0], 3, [0.75, 0.625]),
        ([2.0, -1.0, 4.0], 4, [0.75, 0.625]),
        ([2.0, -1.0, -4.0], 5, [0.25, 0.625]),
    ];
    for (direction, face, place) in hits {
        let hit = cube::hit(direction);
        assert_eq!((hit.face, hit.at), (face, place), "{direction:?}");
        // The derivative is that of small steps.
        for axis in 0..3 {
            let mut by = [0.0; 3];
            by[axis] = 1e-2;
            let mut beside = direction;
            beside[axis] += 1e-2;
            let after = cube::hit(beside);
            let moved = cube::moved(direction, by);
            let places = after.at.iter().zip(hit.at);
            for ((after, before), moved) in places.zip(moved) {
                assert!((after - before - moved).abs() < 1e-4);
            }
        }
    }
}

/// A function of the direction, sampled on the faces, is continuous over the edges where they are seamless.
#[test]
fn edges_of_a_cube() {
    const N: u32 = 8;
    let value = |[x, y, z]: [f32; 3]| {
        let most = x.abs().max(y.abs()).max(z.abs());
        (x + 2.0 * y + 3.0 * z) / most
    };
    let mut values = Vec::new();
    for face in 0..6 {
        for t in 0..N {
            for s in 0..N {
                let [s, t] = [s, t].map(|at| (2 * at + 1) as f32 / N as f32 - 1.0);
                let direction = match face {
                    0 => [1.0, -t, -s],
                    1 => [-1.0, -t, s],
                    2 => [s, 1.0, t],
                    3 => [s, -1.0, -t],
                    4 => [s, -t, 1.0],
                    _ => [-s, -t, -1.0],
                };
                values.push(value(direction));
            }
        }
    }
    let (mut texture, memory) = row(&values);
    texture.image.kind = Kind::Cube;
    texture.image.levels[0] = Level {
        base: 0,
        width: N,
        height: N,
        slices: 6,
        pitch: u64::from(N) * 4,
        slice: u64::from(N * N) * 4,
    };
    texture.sampler.linear = true;
    let sample = |texture: &Texture, direction: [f32; 3]| {
        let lookup = Lookup {
            dimensions: 3,
            cube: true,
            layer: 5,
            at: Coordinates::Float(direction),
            offset: [0; 3],
            lod: Lod::Base,
        };
        match texture.sample(&texture.sampler, &memory, &lookup) {
            Ok(Texel::Floats(values)) => values[0],
            other => panic!("{other:?}"),
        }
    };
    let mut random = Random(11);
    let (mut seams, mut edges) = (0.0f32, 0.0f32);
    for _ in 0..2000 {
        let direction = [0; 3].map(|_| random.real(-1.0, 1.0));
        let [x, y, z] = direction.map(f32::abs);
        let mut sorted = [x, y, z];
        sorted.sort_by(f32::total_cmp);
        if sorted[2] < 0.1 {
            continue;
        }
        let wrong = (sample(&texture, direction) - value(direction)).abs();
        // A clamped edge is wrong by half a texel's difference at most.
        assert!(wrong < 0.6, "{direction:?}: {wrong}");
        // On an edge, but for the corners: both faces give the same.
        let at = direction
            .map(f32::abs)
            .iter()
            .position(|&part| part == sorted[1]);
        let mut edge = direction;
        if let (Some(at), true) = (at, sorted[0] < 0.8 * sorted[2]) {
            edge[at] = sorted[2].copysign(edge[at]);
            let (mut a, mut b) = (edge, edge);
            a[at] *= 0.9999;
            b[at] *= 1.0001;
            texture.sampler.seamless = false;
            seams = seams.max((sample(&texture, a) - sample(&texture, b)).abs());
            texture.sampler.seamless = true;
            edges = edges.max((sample(&texture, a) - sample(&texture, b)).abs());
            texture.sampler.seamless = false;
        }
    }
    assert!(edges < 0.05 && seams > 0.1, "{edges} {seams}");
}
