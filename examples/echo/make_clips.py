"""Makes test clips from the real echocardiogram that the pydicom package ships (30 frames of 240x320, JPEG).

    python make_clips.py --frames 30 60 90 120 --out DIR [--seed N] [--black SHARE] [--noise SHARE]

Each clip repeats the real frames, their JPEG bytes untouched, and puts black and noisy ones between, as real recordings
have them. The same seed and Pillow give the same bytes.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

MAX_FRAMES = 3600


def jpeg(rgb):
    out = io.BytesIO()
    # 4:2:2 like the real frames, so that the header stays true for every frame.
    Image.fromarray(rgb).convert("YCbCr").save(out, "JPEG", quality=90, subsampling="4:2:2")
    return out.getvalue()


def plan(count, rng, black_share, noise_share):
    """What each of `count` frames is: the number of a real frame, 'black' or 'noise'. At least one of each kind from 6 frames on."""
    few = 1 if count >= 6 else 0
    black = max(few, round(count * black_share)) if black_share else 0
    noise = max(few, round(count * noise_share)) if noise_share else 0
    black, noise = min(black, count), min(noise, max(0, count - black))
    kinds = ["black"] * black + ["noise"] * noise + [None] * (count - black - noise)
    order = [kinds[i] for i in rng.permutation(count)]
    real = iter(range(count))
    return [kind or next(real) for kind in order]


def make_clip(count, seed, black_share=0.1, noise_share=0.1):
    """A dataset of `count` frames, and the plan it was made by."""
    source = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm"))
    real = list(generate_frames(source.PixelData, number_of_frames=int(source.NumberOfFrames)))
    rng = np.random.default_rng([seed, count])
    rows, columns = source.Rows, source.Columns
    parts, described = [], plan(count, rng, black_share, noise_share)
    for kind in described:
        if kind == "black":
            parts.append(jpeg(np.zeros((rows, columns, 3), np.uint8)))
        elif kind == "noise":
            with Image.open(io.BytesIO(real[int(rng.integers(len(real)))])) as im:
                picture = np.asarray(im.convert("RGB"), np.float64)
            grain = rng.normal(0, 100, (rows, columns, 1))  # a probe without contact, or interference: the picture drowns
            parts.append(jpeg(np.clip(0.4 * picture + 60 + grain, 0, 255).astype(np.uint8)))
        else:
            parts.append(real[kind % len(real)])
    ds = source.copy()
    uid = pydicom.uid.generate_uid(entropy_srcs=["echo clip", str(seed), str(count), str(black_share), str(noise_share)])
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.NumberOfFrames = count
    ds.PixelData = encapsulate(parts)
    ds["PixelData"].is_undefined_length = True
    # Per-frame times of the original would no longer match.
    for keyword in ("FrameTimeVector", "StartTrim", "StopTrim"):
        if keyword in ds:
            del ds[keyword]
    return ds, described


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[30, 60, 90, 120], help="one clip of each length")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--black", type=float, default=0.1, help="share of black frames")
    parser.add_argument("--noise", type=float, default=0.1, help="share of noisy frames")
    args = parser.parse_args()
    if any(not 1 <= n <= MAX_FRAMES for n in args.frames):
        parser.error(f"--frames must be 1 to {MAX_FRAMES}")
    if not (0 <= args.black <= 1 and 0 <= args.noise <= 1 and args.black + args.noise <= 1):
        parser.error("--black and --noise are shares from 0 to 1, together at most 1")
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"seed {args.seed}", file=sys.stderr)
    for number, count in enumerate(args.frames, 1):
        ds, described = make_clip(count, args.seed + number, args.black, args.noise)
        path = args.out / f"clip{number}_{count}f.dcm"
        ds.save_as(path, enforce_file_format=True)
        print(f"{path}  # {count} frames, {described.count('black')} black, {described.count('noise')} noise")


if __name__ == "__main__":
    main()
