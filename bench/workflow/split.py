"""A clip becomes a file for each of its frames, as examples/echo shrinks them."""

import os
import sys

sys.path.insert(0, os.environ["ECHO_HOME"])

import clip
import numpy as np


def handle(job):
    source = job["INPUT_FILE_PATH"]
    name = os.path.splitext(os.path.basename(source))[0]
    for number, frame in enumerate(clip.frames(clip.open_clip(source))):
        np.save(os.path.join(job["TMP_OUTPUT_DIR"], f"{name}.{number:05}.npy"), clip.shrink(frame))
