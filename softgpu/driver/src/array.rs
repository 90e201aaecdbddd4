//! CUDA arrays: images in device memory of the library's own. Their layout is opaque to programs; here it is rows, one
//! behind the other, so that copies are copies of boxes.

use std::sync::Arc;

use softgpu_engine::texture::{Channel, Format, Image, Kind, Level};

use crate::abi::{Array3dDescriptor, ArrayDescriptor};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handles;
use crate::limits::{self, Extent};
use crate::memory;
use crate::runtime::Runtime;

/// CUDA_ARRAY3D_*
const LAYERED: u32 = 1;
pub const SURFACE_LDST: u32 = 2;
const CUBEMAP: u32 = 4;
const TEXTURE_GATHER: u32 = 8;
const COLOR_ATTACHMENT: u32 = 0x20;
const FLAGS: u32 = LAYERED | SURFACE_LDST | CUBEMAP | TEXTURE_GATHER | COLOR_ATTACHMENT;
/// DEPTH_TEXTURE, SPARSE, DEFERRED_MAPPING, VIDEO_ENCODE_DECODE.
const REFUSED_FLAGS: u32 = 0x1d0;

/// Rows begin at multiples of this many bytes, levels where textures may begin.
const ROW_ALIGN: u64 = 32;
const LEVEL_ALIGN: u64 = limits::ALIGNMENT as u64;

/// One image, alone or a level of a mipmapped array.
pub struct Array {
    pub handle: u64,
    pub context: Arc<Context>,
    pub descriptor: Array3dDescriptor,
    /// Of one level.
    pub image: Image,
    /// Its memory is that of a mipmapped array.
    pub of_mipmapped: bool,
}

pub struct Mipmapped {
    pub handle: u64,
    pub context: Arc<Context>,
    pub descriptor: Array3dDescriptor,
    pub levels: Vec<Arc<Array>>,
    pub image: Image,
}

/// CUarray_format and a number of channels.
pub fn format(number: u32, channels: u32) -> Result<Format> {
    let channel = match number {
        0x01 => Channel::U8,
        0x02 => Channel::U16,
        0x03 => Channel::U32,
        0x08 => Channel::S8,
        0x09 => Channel::S16,
        0x0a => Channel::S32,
        0x10 => Channel::F16,
        0x20 => Channel::F32,
        // Planar, block-compressed, normalized by name.
        0x40..=0xff => return Err(Error::ERROR_NOT_SUPPORTED),
        _ => return Err(Error::ERROR_INVALID_VALUE),
    };
    match channels {
        1 | 2 | 4 => Ok(Format {
            channel,
            channels: channels as u8,
        }),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// Dimensions, layers, and the sizes of an image.
struct Shape {
    format: Format,
    kind: Kind,
    layers: u32,
    size: [u32; 3],
}

impl Shape {
    fn new(descriptor: &Array3dDescriptor, mipmapped: bool) -> Result<Shape> {
        let invalid = Error::ERROR_INVALID_VALUE;
        let format = format(descriptor.format, descriptor.channels)?;
        let flags = descriptor.flags;
        if flags & !(FLAGS | REFUSED_FLAGS) != 0 {
            return Err(invalid);
        }
        if flags & REFUSED_FLAGS != 0 {
            return Err(Error::ERROR_NOT_SUPPORTED);
        }
        let number = |size: usize| u32::try_from(size).map_err(|_| invalid);
        let (width, height) = (number(descriptor.width)?, number(descriptor.height)?);
        let depth = number(descriptor.depth)?;
        let (layered, cube) = (flags & LAYERED != 0, flags & CUBEMAP != 0);
        let all = match flags & SURFACE_LDST != 0 {
            true => limits::SURFACE,
            false => limits::TEXTURE,
        };
        let plain = |dimensions, layers, limit: Extent| (Kind::Plain(dimensions), layers, limit);
        let (kind, layers, limit) = match (layered, cube, height, depth) {
            (_, true, ..) if width != height => return Err(invalid),
            (false, true, _, 6) => (Kind::Cube, 0, all.cube),
            (true, true, _, 1..) if depth % 6 == 0 => (Kind::Cube, depth / 6, all.layered_cube),
            (_, true, ..) | (true, _, _, 0) => return Err(invalid),
            (true, _, 0, _) => plain(1, depth, all.layered_1d),
            (true, ..) => plain(2, depth, all.layered_2d),
            (false, _, 0, 0) if mipmapped => plain(1, 0, limits::MIPMAPPED_1D),
            (false, _, 0, 0) => plain(1, 0, all.d1),
            (false, _, 0, _) => return Err(invalid),
            (false, _, _, 0) if mipmapped => plain(2, 0, limits::MIPMAPPED_2D),
            (false, _, _, 0) if flags & TEXTURE_GATHER != 0 => plain(2, 0, limits::GATHER),
            (false, _, _, 0) => plain(2, 0, all.d2),
            (false, ..) => plain(3, 0, all.d3),
        };
        if flags & TEXTURE_GATHER != 0 && !(kind == Kind::Plain(2) || kind == Kind::Cube) {
            return Err(invalid);
        }
        let fits = [width, height, depth]
            .iter()
            .zip(limit)
            .all(|(&size, limit)| size <= limit);
        if width == 0 || !fits {
            return Err(invalid);
        }
        Ok(Shape {
            format,
            kind,
            layers,
            size: [width, height.max(1), depth.max(1)],
        })
    }

    /// Sizes of a level of detail.
    fn level(&self, level: u32) -> [u32; 3] {
        let [width, height, slices] = self.size;
        let less = |size: u32| (size >> level).max(1);
        let slices = match self.kind {
            Kind::Plain(3) => less(slices),
            _ => slices,
        };
        [less(width), less(height), slices]
    }

    /// Levels of detail that there can be.
    fn levels(&self) -> u32 {
        let [width, height, slices] = self.size;
        let slices = match self.kind {
            Kind::Plain(3) => slices,
            _ => 1,
        };
        width.max(height).max(slices).ilog2() + 1
    }

    /// Layout of so many levels from address 0 on, and their bytes.
    fn layout(&self, count: u32) -> (Vec<Level>, u64) {
        let mut end = 0u64;
        let levels = (0..count).map(|level| {
            let [width, height, slices] = self.level(level);
            // The limits of sizes keep these products within 64 bits.
            let row = u64::from(width) * self.format.size() as u64;
            let pitch = row.next_multiple_of(ROW_ALIGN);
            let slice = pitch * u64::from(height);
            let base = end.next_multiple_of(LEVEL_ALIGN);
            end = base + slice * u64::from(slices);
            Level {
                base,
                width,
                height,
                slices,
                pitch,
                slice,
            }
        });
        let levels = levels.collect();
        (levels, end)
    }

    /// Memory for so many levels.
    fn allocate(&self, runtime: &Runtime, context: &Context, count: u32) -> Result<Image> {
        let (mut levels, bytes) = self.layout(count);
        let base = runtime.memory.allocate(
            context.device.ordinal,
            context.handle,
            bytes,
            memory::Kind::Array,
        )?;
        levels.iter_mut().for_each(|level| level.base += base);
        Ok(Image {
            format: self.format,
            kind: self.kind,
            layers: self.layers,
            levels,
            mipmapped: false,
        })
    }
}

impl Array {
    pub fn create(
        runtime: &Runtime,
        context: &Arc<Context>,
        descriptor: &Array3dDescriptor,
    ) -> Result<Arc<Array>> {
        let image = Shape::new(descriptor, false)?.allocate(runtime, context, 1)?;
        let array = Arc::new(Array {
            handle: handles::fresh(),
            context: context.clone(),
            descriptor: *descriptor,
            image,
            of_mipmapped: false,
        });
        runtime.arrays.insert(array.handle, array.clone());
        Ok(array)
    }

    pub fn level(&self) -> &Level {
        &self.image.levels[0]
    }

    /// Bytes of a row that hold texels.
    pub fn row_bytes(&self) -> u64 {
        u64::from(self.level().width) * self.image.format.size() as u64
    }

    pub fn flat_descriptor(&self) -> ArrayDescriptor {
        ArrayDescriptor {
            width: self.descriptor.width,
            height: self.descriptor.height,
            format: self.descriptor.format,
            channels: self.descriptor.channels,
        }
    }

    /// Takes it from the program. Nothing that was enqueued uses it afterwards.
    pub fn destroy(&self, runtime: &Runtime) -> Result {
        if self.of_mipmapped {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.arrays.take(self.handle)?;
        free(runtime, &self.context, self.level().base)
    }
}

fn free(runtime: &Runtime, context: &Context, base: u64) -> Result {
    runtime.still(|| runtime.memory.free_array(base))?;
    context.check()
}

impl Mipmapped {
    /// The number of levels is brought into the range that the sizes allow, as CUDA does it.
    pub fn create(
        runtime: &Runtime,
        context: &Arc<Context>,
        descriptor: &Array3dDescriptor,
        levels: u32,
    ) -> Result<Arc<Mipmapped>> {
        let shape = Shape::new(descriptor, true)?;
        let count = levels.clamp(1, shape.levels());
        let image = Image {
            mipmapped: true,
            ..shape.allocate(runtime, context, count)?
        };
        let levels = image.levels.iter().zip(0..).map(|(place, level)| {
            let [width, height, slices] = shape.level(level);
            let present = |given: usize, size: u32| if given == 0 { 0 } else { size as usize };
            let array = Arc::new(Array {
                handle: handles::fresh(),
                context: context.clone(),
                descriptor: Array3dDescriptor {
                    width: width as usize,
                    height: present(descriptor.height, height),
                    depth: present(descriptor.depth, slices),
                    ..*descriptor
                },
                image: Image {
                    levels: vec![*place],
                    mipmapped: false,
                    ..image.clone()
                },
                of_mipmapped: true,
            });
            runtime.arrays.insert(array.handle, array.clone());
            array
        });
        let mipmapped = Arc::new(Mipmapped {
            handle: handles::fresh(),
            context: context.clone(),
            descriptor: *descriptor,
            levels: levels.collect(),
            image,
        });
        runtime
            .mipmapped
            .insert(mipmapped.handle, mipmapped.clone());
        Ok(mipmapped)
    }

    pub fn destroy(&self, runtime: &Runtime) -> Result {
        runtime.mipmapped.take(self.handle)?;
        for level in &self.levels {
            let _ = runtime.arrays.take(level.handle);
        }
        free(runtime, &self.context, self.image.levels[0].base)
    }
}
