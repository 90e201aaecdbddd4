//! What CUDA leaves open, as an H200 was seen to do it.

use super::*;

/// One row of two texels, looked up at `x`.
fn bits(case: &Case, x: f32) -> [i32; 4] {
    let lookup = Lookup {
        dimensions: 1,
        cube: false,
        layer: 0,
        at: Coordinates::Float([x, 0.0, 0.0]),
        offset: [0; 3],
        lod: Lod::Base,
    };
    let texture = &case.texture;
    let found = texture.sample(&texture.sampler, &case.memory, &lookup);
    found.unwrap().bits().map(|bits| bits as i32)
}

fn of(channel: Channel, channels: u8, as_integers: bool) -> Case {
    let format = Format { channel, channels };
    let size = [2, 1, 1];
    let mut case = case(Kind::Plain(1), 0, size, format, &mut Random(1));
    case.texture.as_integers = as_integers;
    case
}

#[test]
fn borders() {
    let border = |channel, channels, as_integers| {
        let mut case = of(channel, channels, as_integers);
        case.texture.sampler.address = [AddressMode::Border; 3];
        case.texture.sampler.border = [1.5, 2.5, -3.5, 4.5];
        bits(&case, -2.0)
    };
    let [one, minus] = [1f32, -1.0].map(|value| value.to_bits() as i32);
    assert_eq!(border(Channel::U16, 2, false), [one, one, 0, 0]);
    assert_eq!(border(Channel::U16, 2, true), [0; 4]);
    assert_eq!(border(Channel::S16, 4, false), [one, one, minus, one]);
    assert_eq!(border(Channel::U8, 4, false), [one, one, 0, one]);
    let raw = [1_069_547_520, 1_075_838_976, 0, 0];
    assert_eq!(border(Channel::S32, 2, true), raw);
    assert_eq!(border(Channel::F32, 2, true), raw);
}

#[test]
fn small_integers_are_filtered() {
    let mut case = of(Channel::U8, 1, true);
    case.memory.0[..2].copy_from_slice(&[100, 200]);
    case.texture.sampler.linear = true;
    assert_eq!([0.0, 1.0, 2.0].map(|x| bits(&case, x)[0]), [100, 150, 200]);
}

#[test]
fn images_repeat_between_texels() {
    let values = [10f32, 20.0, 30.0, 40.0];
    let (mut texture, memory) = row(&values);
    texture.sampler.linear = true;
    texture.sampler.normalized = true;
    let wrapped = [
        40.0, 21.25, 12.5, 18.75, 25.0, 31.25, 37.5, 28.75, 10.0, 16.25, 22.5, 28.75, 35.0, 36.25,
        17.5, 13.75,
    ];
    let mirrored = [
        40.0, 40.0, 37.5, 31.25, 25.0, 18.75, 12.5, 10.0, 10.0, 16.25, 22.5, 28.75, 35.0, 40.0,
        40.0, 36.25,
    ];
    for (mode, wanted) in [
        (AddressMode::Wrap, wrapped),
        (AddressMode::Mirror, mirrored),
    ] {
        texture.sampler.address = [mode; 3];
        for (step, wanted) in wanted.into_iter().enumerate() {
            let x = step as f32 * 0.15625 - 1.125;
            assert_eq!(
                at(&texture, &memory, x, Lod::Base)[0],
                wanted,
                "{mode:?} {x}"
            );
        }
    }
}
