"""Makes samples.jsonl: 40 pictures of each digit and of the letters A, E and H, which the built-in model of ../digits does not know."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "digits"))

from pictures import SHAPES, samples  # noqa: E402

if __name__ == "__main__":
    with open("samples.jsonl", "w", encoding="utf-8") as file:
        for name, pixels in samples(SHAPES, int(sys.argv[1]) if sys.argv[1:] else 40, seed=5):
            file.write(json.dumps({"class": name, "pixels": pixels}, separators=(",", ":")) + "\n")
