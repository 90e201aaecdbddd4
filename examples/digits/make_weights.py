"""Makes weights.json and the samples, and says how many pictures it never saw come out right: `python3 make_weights.py`."""

import json
import random

from model import train
from pictures import SIDE, draw, samples

DIGITS = [str(n) for n in range(10)]

if __name__ == "__main__":
    model = train(samples(DIGITS, 60, seed=2026), seed=2026)
    with open("weights.json", "w", encoding="utf-8") as file:
        file.write(model.text())
    print(f"accuracy on 500 pictures kept out of training: {model.accuracy(samples(DIGITS, 50, seed=1)):.3f}")
    chance = random.Random(7)
    with open("sample.json", "w", encoding="utf-8") as file:
        json.dump({"instances": [draw(name, chance) for name in "407"]}, file)
        file.write("\n")
    with open("sample.pgm", "w", encoding="ascii") as file:
        pixels = draw("3", chance)
        rows = [" ".join(map(str, pixels[at : at + SIDE])) for at in range(0, len(pixels), SIDE)]
        file.write(f"P2\n# a three\n{SIDE} {SIDE}\n255\n" + "\n".join(rows) + "\n")
