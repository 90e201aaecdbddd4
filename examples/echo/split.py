"""The first of three functions (function-split.yaml): a clip becomes files of one frame each, `<clip>-<number>.grey`: a byte for
each of the network's 120x160 pixels. Needs no GPU."""

import os
import sys

# numpy's only product here is small; more threads would spin on cores that are other jobs'.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import clip
from contract import answer


def split(source, folder):
    ds = clip.open_clip(source)
    name, count = os.path.splitext(os.path.basename(source))[0], 0
    for frame in clip.frames(ds):
        with open(os.path.join(folder, f"{name}-{count:04d}.grey"), "wb") as f:
            f.write(clip.shrink(frame).tobytes())
        count += 1
    return f"{name}: {count} frames"


def handle(job):
    sys.exit(answer("split", split))
