"""One frame's probabilities, at the pace of paced.py; the network stays on the device."""

import os

import paced

import clip
import numpy as np

network = paced.open_paced(paced.classify.weights(), os.environ.get("ECHO_COMPILED"))


def handle(job):
    source = job["INPUT_FILE_PATH"]
    frame = np.load(source)
    name = os.path.splitext(os.path.basename(source))[0]
    np.savez(
        os.path.join(job["TMP_OUTPUT_DIR"], name + ".npz"),
        frame=frame,
        quality=clip.quality(frame),
        probabilities=network.probabilities(frame),
        classes=network.classes,
    )
