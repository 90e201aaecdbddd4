"""Compiles the network ahead: `python build.py FILE`, then ECHO_COMPILED=FILE for classify.py, whose every start is 2 s shorter.

Takes the weights and the device that classify.py takes (ECHO_WEIGHTS, DEV). The code runs on devices of the same or a higher
compute capability; softgpu is as good as a GPU to compile on.
"""

import os
import sys

import classify  # sets what tinygrad reads as it is imported
from network import Network


def main():
    if len(sys.argv) != 2:
        print("usage: build.py FILE", file=sys.stderr)
        return 2
    Network(classify.weights()).save(sys.argv[1], classify.weights())
    return 0


if __name__ == "__main__":
    sys.exit(main())
