"""Reading a DICOM clip: bounds, decoding frame by frame, the network's view of a frame, and which frames carry a picture.

Nothing here needs tinygrad, so training and the tests use it too. `reference.py` deliberately does not: it reads clips by itself.
"""

import os
import warnings

import numpy as np
import pydicom
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder

HEIGHT, WIDTH = 120, 160  # what the network sees, half of a 240x320 clip

# Hostile or absurd files are refused before anything of their size is allocated.
MAX_FILE_BYTES = 512 << 20
MAX_FRAMES = 3600  # two minutes at 30 frames a second
MIN_SIDE, MAX_SIDE = 16, 4096
MAX_TOTAL_PIXELS = 1 << 31

MODALITIES = ("US", "CT", "MR", "CR", "DX")  # what the network was trained on


class ClipError(Exception):
    """A file that cannot be classified. `code` is the process's exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# Exit codes, by the kind of trouble (README.md lists them).
NO_INPUT, NOT_DICOM, DAMAGED, UNSUITABLE = 2, 3, 4, 5


def open_clip(path):
    """The dataset at `path`, checked: everything `frames` relies on is there and within bounds."""
    try:
        size = os.path.getsize(path)
    except OSError as e:
        raise ClipError(NO_INPUT, f"cannot read the input {path!r}: {e.strerror}") from e
    if size == 0:
        raise ClipError(NO_INPUT, f"the input {path!r} is empty; upload it again")
    if size > MAX_FILE_BYTES:
        raise ClipError(UNSUITABLE, f"the input has {size} bytes, more than the {MAX_FILE_BYTES} that are accepted")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in headers that do not matter here
            ds = pydicom.dcmread(path)
    except InvalidDicomError as e:
        raise ClipError(NOT_DICOM, f"{os.path.basename(path)!r} is not a DICOM file (no DICM marker at byte 128)") from e
    except Exception as e:  # pydicom lets many kinds of exception out of damaged files
        raise ClipError(DAMAGED, f"{os.path.basename(path)!r} is truncated or damaged: {e}") from e
    try:
        _check(ds)
    except ClipError:
        raise
    except Exception as e:  # values of impossible types surface only when an element is looked at
        raise ClipError(DAMAGED, f"the header is damaged: {e}") from e
    return ds


def _check(ds):
    modality = ds.get("Modality")
    if modality is None:
        raise ClipError(DAMAGED, "the header names no modality (damaged, or not an image)")
    if modality not in MODALITIES:
        raise ClipError(UNSUITABLE, f"modality {modality!r} is none the network knows ({', '.join(MODALITIES)})")
    if "PixelData" not in ds:
        raise ClipError(DAMAGED if "Rows" in ds else UNSUITABLE, "the file holds no pixel data (truncated, or not an image)")
    rows, columns, samples = (int(ds.get(k) or 0) for k in ("Rows", "Columns", "SamplesPerPixel"))
    count = frame_count(ds)
    if not (MIN_SIDE <= rows <= MAX_SIDE and MIN_SIDE <= columns <= MAX_SIDE):
        raise ClipError(UNSUITABLE, f"frames of {rows}x{columns} pixels; each side must be {MIN_SIDE} to {MAX_SIDE}")
    if samples not in (1, 3):
        raise ClipError(UNSUITABLE, f"{samples} samples a pixel; 1 (grey, palette) or 3 (colour) are accepted")
    if not 1 <= count <= MAX_FRAMES:
        raise ClipError(UNSUITABLE, f"{count} frames; 1 to {MAX_FRAMES} are accepted")
    if count * rows * columns > MAX_TOTAL_PIXELS:
        raise ClipError(UNSUITABLE, f"{count} frames of {rows}x{columns} are more than {MAX_TOTAL_PIXELS} pixels")


def frame_count(ds):
    return int(ds.get("NumberOfFrames") or 1)


def frames(ds):
    """Yields each frame as 8-bit grey, rows x columns; raises ClipError when one is missing or cannot be decoded."""
    expected, got = frame_count(ds), 0
    # A JPEG inside may claim any size; Pillow refuses more than twice this.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, int(ds.Rows) * int(ds.Columns)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
            # raw: no colour conversion, so that JPEG's own luma arrives untouched
            for pixels, meta in decoder.iter_array(ds, raw=True):
                if pixels.shape[:2] != (ds.Rows, ds.Columns):
                    raise ValueError(f"frame {got} is {pixels.shape[0]}x{pixels.shape[1]}, the header says {ds.Rows}x{ds.Columns}")
                yield grey(pixels, meta["photometric_interpretation"], ds)
                got += 1
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as e:
        raise ClipError(DAMAGED, f"frame {got} of {expected} cannot be decoded (truncated or damaged): {e}") from e
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if got != expected:
        raise ClipError(DAMAGED, f"the file holds {got} of the {expected} frames that its header promises (truncated?)")


def grey(pixels, photometric, ds):
    """One decoded frame as 8-bit grey: JPEG's luma, BT.601 luma of RGB, or the 1st..99.5th percentile of a wider range."""
    if photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, ds)
        if pixels.dtype != np.uint8:
            pixels = (pixels >> 8).astype(np.uint8)
        photometric = "RGB"
    if pixels.ndim == 3:
        if photometric.startswith("YBR"):
            luma = pixels[..., 0]
        else:
            luma = (pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32) + 500) // 1000
        if pixels.dtype.itemsize > 1:
            luma = luma >> (8 * pixels.dtype.itemsize - 8)
        return luma.astype(np.uint8)
    if pixels.dtype != np.uint8 or ds.get("Modality") != "US":
        low, high = np.percentile(pixels, (1.0, 99.5))
        pixels = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1) * 255
        pixels = np.floor(pixels + 0.5).astype(np.uint8)
    return 255 - pixels if photometric == "MONOCHROME1" else pixels


def shrink(image):
    """Fits a grey frame into HEIGHT x WIDTH, aspect kept, centred on black; each new pixel is the mean of the area under it."""
    rows, columns = image.shape
    scale = min(HEIGHT / rows, WIDTH / columns)
    h, w = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (HEIGHT - h) // 2, (WIDTH - w) // 2
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    if rows % h == 0 and columns % w == 0:  # the usual case, without the matrices
        ky, kx = rows // h, columns // w
        sums = image.reshape(h, ky, w, kx).sum(axis=(1, 3), dtype=np.uint32)
        small = (2 * sums + ky * kx) // (2 * ky * kx)
    else:
        # Halves go up, whatever the last bits of the sums say.
        small = np.floor(_areas(rows, h) @ image.astype(np.float64) @ _areas(columns, w).T + 0.5 + 1e-6)
    out[top : top + h, left : left + w] = small
    return out


_area_cache = {}


def _areas(old, new):
    """The new x old matrix whose rows average the stretch of old pixels that each new pixel covers."""
    if (old, new) not in _area_cache:
        edges = np.arange(new + 1) * (old / new)
        pixel = np.arange(old)
        overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        _area_cache[old, new] = np.clip(overlap, 0, None) * (new / old)
    return _area_cache[old, new]


# A frame is black when under 1 % of it is brighter than 24/255, and noise when neighbouring pixels hardly agree.
BLACK_LEVEL, BLACK_SHARE, NOISE_CORRELATION = 24, 0.01, 0.6


def quality(small):
    """'ok', 'black' or 'noise', of a shrunk frame. README.md says where the limits come from."""
    if np.count_nonzero(small > BLACK_LEVEL) < BLACK_SHARE * small.size:
        return "black"
    return "noise" if neighbour_correlation(small) < NOISE_CORRELATION else "ok"


def neighbour_correlation(small):
    """How well a pixel predicts the one beside and below it: near 1 for pictures, near 0 for noise."""
    x = small.astype(np.float64)
    spread = 2 * ((x - x.mean()) ** 2).mean()
    steps = (np.diff(x, axis=0) ** 2).mean() / 2 + (np.diff(x, axis=1) ** 2).mean() / 2
    return 1 - steps / max(spread, 1e-9)
