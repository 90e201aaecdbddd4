"""The answers for a clip's frames become the clip's, in the form of examples/echo."""

import glob
import os
import sys

sys.path.insert(0, os.environ["ECHO_HOME"])

import numpy as np
from classify import write_json
from report import consensus, contact_sheet


def handle(job):
    files = sorted(glob.glob(os.path.join(job["INPUT_FILE_PATH"], "*.npz")))
    if not files:
        sys.exit("merge: the group has no frames")
    frames = []
    for file in files:
        with np.load(file) as frame:
            frames.append({name: frame[name] for name in frame.files})
    classes = frames[0]["classes"].tolist()
    probabilities = [frame["probabilities"] for frame in frames]
    quality = [str(frame["quality"]) for frame in frames]
    name = os.path.basename(files[0]).rsplit(".", 2)[0]
    result = {
        "clip": name + ".dcm",
        "modality": "US",
        "classes": classes,
        "consensus": consensus(probabilities, quality, classes),
        "frames": [
            {"class": classes[int(p.argmax())], "quality": q, "probabilities": [round(float(v), 6) for v in p]}
            for p, q in zip(probabilities, quality)
        ],
    }
    small, folder = [frame["frame"] for frame in frames], job["TMP_OUTPUT_DIR"]
    contact_sheet(small, quality, result, os.path.join(folder, name + ".png"))
    write_json(os.path.join(folder, name + ".json"), result)
