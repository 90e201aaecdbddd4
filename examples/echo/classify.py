"""The function: what does each frame of the clip at $INPUT_FILE_PATH show, and what does the clip show?

Writes <clip>.json, <clip>.png (contact sheet) and .phases.json into $TMP_OUTPUT_DIR. README.md describes them and the exit codes.
"""

import gc
import os
import sys
import time

started = time.perf_counter()

# tinygrad reads these as it is imported.
os.environ.setdefault("DEV", "CUDA:PTX")
# Compile in this process: six small kernels do not repay starting workers, and a worker that is killed would hang the job.
os.environ.setdefault("PARALLEL", "0")
# numpy's only product here is small; more threads would spin on cores that are other jobs'.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A job's folder is thrown away, and with it a cache on disk; what lasts is the file of build.py.
os.environ.setdefault("CACHELEVEL", "0")

import clip  # numpy, pydicom, Pillow
from contract import answer, write_json
from network import open_network
from report import consensus, contact_sheet

PHASES = ("input_output", "import_modules", "load_model", "processing")
NO_MODEL = 6  # the exit code beside clip.py's and contract.py's


class Phases:
    """Seconds of each phase of the thesis; `now` closes the running phase and charges it."""

    def __init__(self, start):
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.last = start

    def now(self, name):
        t = time.perf_counter()
        self.seconds[name] += t - self.last
        self.last = t


def weights():
    return os.environ.get("ECHO_WEIGHTS") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights.safetensors")


def load(weights):
    try:
        return open_network(weights, os.environ.get("ECHO_COMPILED"))
    except Exception as e:  # no device, no driver, no server, damaged weights: tinygrad has no common error type
        raise clip.ClipError(NO_MODEL, f"cannot put the network on {os.environ['DEV']}: {e}") from e


def run(source, folder, weights, network=None, start=None):
    """`network`: one that is loaded already, in which case `start` is when this clip's turn came."""
    phases = Phases(start or started)
    phases.now("import_modules")

    ds = clip.open_clip(source)
    small = [clip.shrink(frame) for frame in clip.frames(ds)]
    quality = [clip.quality(frame) for frame in small]
    phases.now("input_output")

    network = network or load(weights)
    phases.now("load_model")

    probabilities = [network.probabilities(frame) for frame in small]
    summary = consensus(probabilities, quality, network.classes)
    phases.now("processing")

    name = os.path.splitext(os.path.basename(source))[0]
    result = {
        "clip": os.path.basename(source),
        "modality": str(ds.Modality),
        "classes": network.classes,
        "consensus": summary,
        "frames": [
            {"class": network.classes[int(p.argmax())], "quality": q, "probabilities": [round(float(v), 6) for v in p]}
            for p, q in zip(probabilities, quality)
        ],
    }
    contact_sheet(small, quality, result, os.path.join(folder, name + ".png"))
    phases.now("input_output")
    timings = {
        "seconds": {k: round(v, 6) for k, v in phases.seconds.items()},
        "frames": len(small),
        "compiled_ahead": network.compiled_ahead,
        "ms_per_frame": round(1000 * phases.seconds["processing"] / len(small), 4),
    }
    result["timings"] = timings
    write_json(os.path.join(folder, name + ".json"), result)
    phases.now("input_output")
    timings["seconds"]["input_output"] = round(phases.seconds["input_output"], 6)
    write_json(os.path.join(folder, ".phases.json"), timings)
    return f"{name}: {summary['class'] or 'undecided'} ({summary['counted']} of {len(small)} frames counted)"


def main():
    return answer("classify", lambda source, folder: run(source, folder, weights()))


if __name__ == "__main__":
    status = main()
    # Python would walk the compiler's hundred thousand objects once more before it leaves, for 0.3 s.
    gc.freeze()
    sys.exit(status)
