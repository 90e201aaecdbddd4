//! Bounds of surfaces, and what formatted stores make of values.

use super::*;

#[test]
fn surfaces_have_bounds() {
    let mut random = Random(8);
    let format = Format {
        channel: Channel::U16,
        channels: 2,
    };
    let case = case(Kind::Plain(2), 3, [5, 4, 3], format, &mut random);
    let surface = Surface {
        image: case.texture.image.clone(),
    };
    let level = surface.image.levels[0];
    for outside in [Outside::Trap, Outside::Clamp, Outside::Zero] {
        for size in [1, 2, 4, 8, 16] {
            for x in [-16i64, -1, 0, 4, 8, 12, 16, 19, 20, i64::from(i32::MAX)] {
                for y in [-1i64, 0, 3, 4] {
                    for z in [-1i64, 0, 2, 3, i64::from(u32::MAX)] {
                        let inside =
                            x >= 0 && x + size <= 20 && (0..4).contains(&y) && (0..3).contains(&z);
                        let address = |x: i64, y: i64, z: i64| {
                            (z as u64) * level.slice + (y as u64) * level.pitch + x as u64
                        };
                        // Bytes of a row that whole accesses fill.
                        let whole = 20 / size * size;
                        let wanted = match (inside, outside) {
                            (true, _) => Place::At(address(x, y, z)),
                            (_, Outside::Trap) => Place::Trap,
                            (_, Outside::Zero) => Place::Nowhere,
                            _ => Place::At(address(
                                x.max(0).min(whole - size),
                                y.clamp(0, 3),
                                z.clamp(0, 2),
                            )),
                        };
                        let got = surface.place(x, y, z, size as u64, outside);
                        assert_eq!(got, wanted, "{x} {y} {z}, {size} bytes, {outside:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn formatted_stores_convert() {
    let image = |channel, channels| Image {
        format: Format { channel, channels },
        ..row(&[0.0]).0.image
    };
    let encode = |channel, channels, values| {
        let surface = Surface {
            image: image(channel, channels),
        };
        let (bytes, size) = surface.encode(values);
        bytes[..size].to_vec()
    };
    let values = [300, -300i32 as u32, 7, 1];
    assert_eq!(encode(Channel::U8, 4, values), [255, 255, 7, 1]);
    assert_eq!(encode(Channel::S8, 2, values), [127, 0x80]);
    assert_eq!(encode(Channel::S16, 2, values), [44, 1, 0xd4, 0xfe]);
    assert_eq!(encode(Channel::U32, 1, values), [44, 1, 0, 0]);
    let half = [1.5f32.to_bits(), (-2.0f32).to_bits(), 0, 0];
    assert_eq!(encode(Channel::F16, 2, half), [0, 0x3e, 0, 0xc0]);
    assert_eq!(encode(Channel::F32, 1, half), 1.5f32.to_le_bytes());
}
