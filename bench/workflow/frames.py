"""Writes what examples/echo sends to the device for each frame of a clip: `python frames.py CLIP FILE`, pictures of 120 x 160 bytes one after the other."""

import os
import sys

sys.path.insert(0, os.environ["ECHO_HOME"])

import clip

source, file = sys.argv[1:]
with open(file, "wb") as out:
    for frame in clip.frames(clip.open_clip(source)):
        out.write(clip.shrink(frame).tobytes())
