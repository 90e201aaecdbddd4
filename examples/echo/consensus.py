"""The last of three functions, when all frames of a clip have been looked at: what does the clip show? Into `<clip>.json` goes what
classify.py answers, but for modality, timings and the contact sheet. Frames without an answer are counted as `missing`."""

import json
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import clip
import numpy as np
from contract import answer, write_json
from report import consensus

MAX_ANSWER_BYTES = 64 << 10


def answers(folder):
    """The frames' answers, in their order."""
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            text = f.read(MAX_ANSWER_BYTES + 1)
        if len(text) > MAX_ANSWER_BYTES:
            raise clip.ClipError(clip.DAMAGED, f"{name!r} is no answer of frame.py: it is too long")
        try:
            yield json.loads(text)
        except ValueError as e:
            raise clip.ClipError(clip.DAMAGED, f"{name!r} is no answer of frame.py: {e}") from e


def together(source, folder):
    frames = list(answers(source))
    with open(os.environ["RGPU_GROUP_FILE"], encoding="utf-8") as f:
        counts = json.load(f)["counts"]
    if not frames:
        raise clip.ClipError(clip.NO_INPUT, "no frame of the clip has an answer")
    try:
        probabilities = [np.array(frame["probabilities"], np.float64) for frame in frames]
        quality = [frame["quality"] for frame in frames]
        classes = [str(name) for name in frames[0]["classes"]]
        name = os.path.basename(frames[0]["frame"]).rpartition("-")[0]
    except (KeyError, TypeError, ValueError) as e:
        raise clip.ClipError(clip.DAMAGED, f"an answer is none of frame.py: {e!r}") from e
    result = {
        "clip": name + ".dcm",
        "classes": classes,
        "consensus": consensus(probabilities, quality, classes),
        "frames": [
            {"class": frame["class"], "quality": frame["quality"], "probabilities": [round(v, 6) for v in frame["probabilities"]]}
            for frame in frames
        ],
        "missing": counts["failed"] + counts["cancelled"],
    }
    write_json(os.path.join(folder, name + ".json"), result)
    return f"{name}: {result['consensus']['class'] or 'undecided'} ({len(frames)} frames, {result['missing']} missing)"


def handle(job):
    sys.exit(answer("consensus", together))
