//! Textures and surfaces as kernels use them. What a lookup finds is tested in the engine's own tests of `texture`, by a
//! model; here it is whether instructions ask for it.

mod compiled;
mod lookups;
mod queries;
mod surfaces;
mod wild;

use softgpu_engine::texture::{Channel, Format, Image, Kind, Level};

use crate::common::{Machine, Random};
use crate::coverage::tested;

/// Every form, for the count of those that are tested.
pub fn all() {
    lookups::every_form_of_tex();
    lookups::every_form_of_tld4();
    surfaces::every_form_of_suld();
    surfaces::every_form_of_sust();
    surfaces::every_form_of_formatted_sust();
    surfaces::every_form_of_sured();
    queries::attributes_of_textures();
    queries::attributes_of_levels_samplers_and_surfaces();
    queries::types_of_handles();
}

const CHANNELS: [Channel; 8] = [
    Channel::U8,
    Channel::U16,
    Channel::U32,
    Channel::S8,
    Channel::S16,
    Channel::S32,
    Channel::F16,
    Channel::F32,
];

/// The image that a geometry of the instructions goes with; sizes are odd, so that axes cannot be mixed up.
fn shape(geometry: &str) -> (Kind, u32, [u32; 3]) {
    match geometry {
        "1d" => (Kind::Plain(1), 0, [13, 1, 1]),
        "2d" => (Kind::Plain(2), 0, [9, 6, 1]),
        "3d" => (Kind::Plain(3), 0, [5, 7, 4]),
        "a1d" => (Kind::Plain(1), 3, [11, 1, 3]),
        "a2d" => (Kind::Plain(2), 4, [5, 6, 4]),
        "cube" => (Kind::Cube, 0, [6, 6, 6]),
        "acube" => (Kind::Cube, 2, [4, 4, 12]),
        _ => panic!("{geometry}"),
    }
}

/// An image of random bytes; floats are ordinary ones.
fn image(
    machine: &mut Machine,
    geometry: &str,
    format: Format,
    levels: u32,
    random: &mut Random,
) -> Image {
    let (kind, layers, [width, height, slices]) = shape(geometry);
    let halved = |size: u32, level: u32| (size >> level).max(1);
    let levels = (0..levels).map(|level| {
        let (width, height) = (halved(width, level), halved(height, level));
        let slices = match kind {
            Kind::Plain(3) => halved(slices, level),
            _ => slices,
        };
        let pitch = (u64::from(width) * format.size() as u64).next_multiple_of(16) + 16;
        let slice = pitch * u64::from(height) + 48;
        let bytes: Vec<u8> = match format.channel {
            Channel::F32 => (0..slice * u64::from(slices) / 4)
                .flat_map(|_| ((random.next() & 0xffff) as f32 / 64.0).to_le_bytes())
                .collect(),
            Channel::F16 => (0..slice * u64::from(slices) / 2)
                .flat_map(|_| ((random.next() & 0x3fff) as u16).to_le_bytes())
                .collect(),
            _ => (0..slice * u64::from(slices))
                .map(|_| random.next() as u8)
                .collect(),
        };
        Level {
            base: machine.buffer(&bytes),
            width,
            height,
            slices,
            pitch,
            slice,
        }
    });
    let levels: Vec<Level> = levels.collect();
    Image {
        format,
        kind,
        layers,
        mipmapped: levels.len() > 1,
        levels,
    }
}

/// Registers %c0, %c1 … of each thread, from its row of the input; %o0 … to its row of the output, for those threads that
/// take part: `%q` says so. `%t`, `%s` are parameters.
fn kernel(head: &str, body: &str, results: usize) -> String {
    let loads: String = (0..COLUMNS)
        .map(|at| format!("ld.global.b32 %c{at}, [%pi+{}];\n", at * 4))
        .collect();
    let stores: String = (0..results)
        .map(|at| format!("st.global.b32 [%po+{}], %o{at};\n", at * 4))
        .collect();
    format!(
        ".version 8.0\n.target sm_86\n.address_size 64\n{head}
.visible .entry k(.param .u64 out, .param .u64 in, .param .u64 t, .param .u64 s)
{{
.reg .b32 %i, %n, %b, %o<8>, %c<{COLUMNS}>; .reg .b16 %h<8>; .reg .b64 %po, %pi, %w, %t, %s, %d<8>; .reg .pred %q, %p;
ld.param.u64 %po, [out]; ld.param.u64 %pi, [in]; ld.param.u64 %t, [t]; ld.param.u64 %s, [s];
mov.u32 %i, %tid.x; mov.u32 %n, %ctaid.x; mov.u32 %b, %ntid.x;
mad.lo.u32 %i, %n, %b, %i;
mul.wide.u32 %w, %i, {}; add.u64 %pi, %pi, %w;
mul.wide.u32 %w, %i, {}; add.u64 %po, %po, %w;
{loads}
rem.u32 %n, %i, 5; setp.ne.u32 %q, %n, 3;
{body}
@!%q bra DONE;
{stores}
DONE: ret;
}}",
        COLUMNS * 4,
        results * 4
    )
}

/// Words of a thread's input.
const COLUMNS: usize = 16;
const THREADS: u32 = 70;
const BLOCKS: u32 = 2;
const ALL: usize = (THREADS * BLOCKS) as usize;
/// What is there before.
const BEFORE: u32 = 0xa5a5_a5a5;

/// Whether a thread takes part.
fn takes_part(thread: usize) -> bool {
    thread % 5 != 3
}

/// Run the kernel; rows of results.
fn run(machine: &mut Machine, input: &[u32], handles: [u64; 2], results: usize) -> Vec<Vec<u32>> {
    assert_eq!(input.len(), ALL * COLUMNS);
    let from = machine.buffer(input);
    let to = machine.buffer(&vec![BEFORE; ALL * results.max(1)]);
    machine.launch("k", BLOCKS, THREADS, &[to, from, handles[0], handles[1]]);
    let words = machine.read::<u32>(to, ALL * results);
    words.chunks(results.max(1)).map(<[u32]>::to_vec).collect()
}
