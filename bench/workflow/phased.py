"""The example's function, which says where it is: examples/echo/classify.py, unchanged, with a word to the benchmark before each phase that uses the GPU.

RGPU_PHASES is where the benchmark listens (HOST:PORT). It gets a line `PHASE JOB DEVICE` and answers with one when the function may go on, so that whatever happens
to the link happens in that phase.
"""

import os
import socket
import sys

sys.path.insert(0, os.environ["ECHO_HOME"])

import classify
from tinygrad import Device

# The frame before which `inference` is said: in the middle of a short clip.
MIDDLE = 5


def say(phase):
    host, port = os.environ["RGPU_PHASES"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as benchmark:
        words = (phase, os.environ["JOB_UUID"], os.environ.get("CUDA_VISIBLE_DEVICES", "-"))
        benchmark.sendall((" ".join(words) + "\n").encode())
        if not benchmark.makefile().readline():
            sys.exit("phased: the benchmark has gone")


def open_phased(weights, compiled, open_network=classify.open_network):
    say("connect")
    Device[Device.DEFAULT]  # cuInit and a context
    say("load")
    network = open_network(weights, compiled)
    work, frames = network.probabilities, [0]

    def probabilities(frame):
        frames[0] += 1
        if frames[0] == MIDDLE:
            say("inference")
        return work(frame)

    network.probabilities = probabilities
    return network


def sheet_phased(*arguments, contact_sheet=classify.contact_sheet):
    say("output")
    return contact_sheet(*arguments)


classify.open_network = open_phased
classify.contact_sheet = sheet_phased
status = classify.main()
classify.gc.freeze()  # as classify.py does
sys.exit(status)
