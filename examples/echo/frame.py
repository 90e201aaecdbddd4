"""The second of three functions: what does one frame show? Into `<clip>-<number>.json` go class, quality and probabilities."""

import os
import sys

import classify
import clip
import numpy as np
from contract import answer, write_json

network = classify.load(classify.weights())


def read(path):
    size = clip.HEIGHT * clip.WIDTH
    with open(path, "rb") as f:
        pixels = f.read(size + 1)
    if len(pixels) != size:
        raise clip.ClipError(clip.DAMAGED, f"{os.path.basename(path)!r} is no frame of split.py, which has {size} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(clip.HEIGHT, clip.WIDTH)


def one(source, folder):
    small = read(source)
    p = network.probabilities(small)
    name = os.path.splitext(os.path.basename(source))[0]
    result = {
        "frame": name,
        "classes": network.classes,
        "class": network.classes[int(p.argmax())],
        "quality": clip.quality(small),
        "probabilities": [float(v) for v in p],
    }
    write_json(os.path.join(folder, name + ".json"), result)
    return f"{name}: {result['class']}"


def handle(job):
    sys.exit(answer("frame", one))
