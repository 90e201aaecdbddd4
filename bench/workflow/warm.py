"""The function of paced.py kept started, for the runner's warm functions: imports and the network are there before the first clip arrives."""

import os
import sys
import time

import paced

classify = paced.classify
classify.open_network = paced.open_paced
# The one that every clip then gets.
paced.open_paced(classify.weights(), os.environ.get("ECHO_COMPILED"))


def handle(job):
    classify.started = time.perf_counter()
    if status := classify.main():
        sys.exit(status)
