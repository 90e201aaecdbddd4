"""One linear layer and a softmax: 64 pixels in, a probability for each class out. Plain Python; `gpu` computes the layer elsewhere."""

import hashlib
import json
import math
import os
import random

from pictures import PIXELS

MAX_BYTES = 1 << 20
MAX_CLASSES = 64
POINTER = "newest.json"


class Model:
    """`weights`: a row of 64 numbers for each class; `bias`: a number for each. Pixels are divided by 255 first."""

    def __init__(self, classes, weights, bias, name="built-in"):
        self.classes, self.weights, self.bias, self.name = classes, weights, bias, name

    def logits(self, pictures):
        return [
            [sum(w * p for w, p in zip(row, picture)) + b for row, b in zip(self.weights, self.bias)] for picture in pictures
        ]

    def probabilities(self, pictures, layer=None):
        """For each picture of 64 numbers of 0 to 255; `layer` computes instead of this process (`gpu.Layer`)."""
        scaled = [[pixel / 255 for pixel in picture] for picture in pictures]
        return [softmax(row) for row in (layer or self.logits)(scaled)]

    def accuracy(self, samples):
        answers = self.probabilities([pixels for _, pixels in samples])
        right = sum(self.classes[best(row)] == name for row, (name, _) in zip(answers, samples))
        return right / len(samples)

    def text(self):
        """As a file. Four digits are more than the last bit of a picture is worth."""
        rounded = [[round(w, 4) for w in row] for row in self.weights]
        body = {"classes": self.classes, "weights": rounded, "bias": [round(b, 4) for b in self.bias]}
        return json.dumps(body, separators=(",", ":")) + "\n"


def softmax(row):
    top = max(row)
    e = [math.exp(value - top) for value in row]
    return [value / sum(e) for value in e]


def best(row):
    return max(range(len(row)), key=row.__getitem__)


def train(samples, seed, steps=40, rate=1.0):
    """A model of these (name, pixels), by stochastic gradient descent on the cross-entropy."""
    chance = random.Random(seed)
    classes = sorted({name for name, _ in samples})
    model = Model(classes, [[0.0] * PIXELS for _ in classes], [0.0] * len(classes))
    scaled = [(classes.index(name), [pixel / 255 for pixel in pixels]) for name, pixels in samples]
    for step in range(steps):
        chance.shuffle(scaled)
        for right, picture in scaled:
            for number, p in enumerate(softmax(model.logits([picture])[0])):
                change = rate / (1 + step) ** 0.5 * ((number == right) - p)
                if abs(change) > 1e-6:
                    row = model.weights[number]
                    model.weights[number] = [w + change * x for w, x in zip(row, picture)]
                    model.bias[number] += change
    return model


def parse(text, name):
    """A model's file, checked: it is what decides, and somebody else may have written it."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"{name}: {len(text)} bytes are no model")
    body = json.loads(text)
    classes, weights, bias = body["classes"], body["weights"], body["bias"]
    is_number = lambda it: isinstance(it, (int, float)) and math.isfinite(it)
    right = (
        1 <= len(classes) <= MAX_CLASSES
        and len(weights) == len(bias) == len(classes)
        and all(isinstance(it, str) for it in classes)
        and all(len(row) == PIXELS and all(map(is_number, row)) for row in weights)
        and all(map(is_number, bias))
    )
    if not right:
        raise ValueError(f"{name}: its classes, weights and bias do not fit each other")
    return Model(classes, weights, bias, name)


def newest(folder):
    """The model that the folder's pointer names, or None without one. The pointer came in one step, after the model: it names a whole file."""
    try:
        with open(os.path.join(folder, POINTER), encoding="utf-8") as file:
            pointer = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
    name = pointer["file"]
    if os.path.basename(name) != name or name.startswith("."):
        raise ValueError(f"the pointer names {name!r}, which is no file beside it")
    with open(os.path.join(folder, name), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if hashlib.sha256(data).hexdigest() != pointer["sha256"]:
        raise ValueError(f"{name} is not the file that the pointer means")
    return parse(data.decode(), name)
