"""The example's function at the pace of the thesis: examples/echo/classify.py, with sleeps where the thesis's function computes longer on its CPU.

PACED_START_MS is slept once, before the network is loaded (imports and a larger model), PACED_FRAME_MS before each frame. Both are constants, so that
what a call to the device costs is never hidden in them. They are sleeps and no work, since each function of the thesis had a CPU of its own: here
many share a few cores.

PACED_AGAIN names more clips (a list with colons), which the same process then classifies, one after the other. PACED_TIMES is a file that gets what
each clip took, the first included: seconds, and those of each phase. PACED_WEIGHTS is a file of numbers that is put on the device too, as the weights of a larger model would be.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.environ["ECHO_HOME"])

import classify
import numpy as np

# A child of a shell that has no such variable sleeps for nothing.
START, FRAME = (float(os.environ.get(name, 0)) / 1000 for name in ("PACED_START_MS", "PACED_FRAME_MS"))
kept = []


def open_paced(weights, compiled, open_network=classify.open_network):
    if kept:  # a later clip of this process
        return kept[0]
    time.sleep(START)
    network = open_network(weights, compiled)
    if more := os.environ.get("PACED_WEIGHTS"):
        from tinygrad import Tensor

        network.more = Tensor(np.fromfile(more, np.float32)).realize()
    work = network.probabilities

    def probabilities(frame):
        time.sleep(FRAME)
        return work(frame)

    network.probabilities = probabilities
    kept.append(network)
    return network


def main():
    classify.open_network = open_paced
    if status := classify.main():
        return status
    folder = os.environ["TMP_OUTPUT_DIR"]
    times = []

    def note():
        seconds = time.perf_counter() - classify.started
        with open(os.path.join(folder, ".phases.json"), encoding="utf-8") as f:
            times.append({"seconds": seconds, "phases": json.load(f)["seconds"]})

    note()
    for clip in filter(None, os.environ.get("PACED_AGAIN", "").split(":")):
        classify.started = time.perf_counter()
        classify.run(clip, folder, classify.weights())
        note()
    if file := os.environ.get("PACED_TIMES"):
        with open(file, "w", encoding="utf-8") as f:
            json.dump(times, f)
    return 0


if __name__ == "__main__":
    status = main()
    classify.gc.freeze()  # as classify.py does
    sys.exit(status)
