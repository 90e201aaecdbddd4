//! Cubes: which face a direction meets, and where.

/// Face, and the place on it, both coordinates from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    pub face: u32,
    pub at: [f32; 2],
}

/// Where a face lies (CUDA C++ Programming Guide, "Cubemap Textures").
struct Face {
    /// The axis that it lies across, and whether at its positive end.
    axis: usize,
    positive: bool,
    /// Axes and signs of s and t.
    places: [(usize, f32); 2],
}

const fn face(axis: usize, positive: bool, places: [(usize, f32); 2]) -> Face {
    Face {
        axis,
        positive,
        places,
    }
}

const FACES: [Face; 6] = [
    face(0, true, [(2, -1.0), (1, -1.0)]),
    face(0, false, [(2, 1.0), (1, -1.0)]),
    face(1, true, [(0, 1.0), (2, 1.0)]),
    face(1, false, [(0, 1.0), (2, -1.0)]),
    face(2, true, [(0, 1.0), (1, -1.0)]),
    face(2, false, [(0, -1.0), (1, -1.0)]),
];

fn face_of(direction: [f32; 3]) -> usize {
    let [x, y, z] = direction.map(f32::abs);
    let axis = match () {
        () if z >= x && z >= y => 2,
        () if y >= x => 1,
        () => 0,
    };
    axis * 2 + usize::from(direction[axis].is_sign_negative())
}

/// Where a direction meets the cube.
pub fn hit(direction: [f32; 3]) -> Hit {
    let face = face_of(direction);
    let Face { axis, places, .. } = &FACES[face];
    let depth = direction[*axis].abs();
    Hit {
        face: face as u32,
        at: places.map(|(from, sign)| (sign * direction[from] / depth + 1.0) * 0.5),
    }
}

/// How the place moves on the face when the direction moves.
pub fn moved(direction: [f32; 3], by: [f32; 3]) -> [f32; 2] {
    let &Face {
        axis,
        positive,
        places,
    } = &FACES[face_of(direction)];
    let depth = direction[axis].abs();
    let deeper = if positive { by[axis] } else { -by[axis] };
    places.map(|(from, sign)| {
        0.5 * sign * (by[from] * depth - direction[from] * deeper) / (depth * depth)
    })
}

/// The texel that lies beside a face's edge, on the face behind it. Behind a corner there is none: that beside the
/// edge is taken.
pub fn across(face: u32, at: [i64; 2], size: u32) -> (u32, [u32; 2]) {
    let last = i64::from(size) - 1;
    let inside = |value: i64| value.clamp(0, last);
    if at.map(inside) == at {
        return (face, at.map(|value| value as u32));
    }
    let mut at = at;
    if inside(at[0]) != at[0] {
        at[1] = inside(at[1]);
    }
    let &Face {
        axis,
        positive,
        places,
    } = &FACES[face as usize % FACES.len()];
    let mut direction = [0.0; 3];
    direction[axis] = if positive { 1.0 } else { -1.0 };
    for ((to, sign), value) in places.into_iter().zip(at) {
        let place = (2.0 * value as f32 + 1.0) / size as f32 - 1.0;
        direction[to] = sign * place;
    }
    let found = hit(direction);
    let texel = |place: f32| inside((place * size as f32).floor() as i64) as u32;
    (found.face, found.at.map(texel))
}
