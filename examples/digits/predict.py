"""The function: a request's pictures in, their classes out."""

import contextlib
import json
import os
import sys

import gpu
import model as models
from pictures import checked, read_pgm

HERE = os.path.dirname(os.path.abspath(__file__))
MAX_REQUEST = 8 << 20
MAX_INSTANCES = 1024


def read_request(path):
    """Pictures: of JSON `{"instances": [[64 numbers], …]}`, or one, of a PGM file."""
    with open(path, "rb") as file:
        data = file.read(MAX_REQUEST + 1)
    if len(data) > MAX_REQUEST:
        raise ValueError(f"a request has at most {MAX_REQUEST} bytes")
    if data[:2] in (b"P2", b"P5"):
        return [read_pgm(data)]
    request = json.loads(data)
    instances = request.get("instances") if isinstance(request, dict) else None
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
        raise ValueError(f'a request is {{"instances": [picture, …]}} with 1 to {MAX_INSTANCES} pictures, or a PGM file')
    return [checked(pixels) for pixels in instances]


def main():
    try:
        pictures = read_request(os.environ["INPUT_FILE_PATH"])
    except (KeyError, ValueError, RecursionError) as error:
        print(f"cannot read the request: {error}")
        return 2
    folder = os.environ.get("MODELS")
    model = folder and models.newest(folder)
    if not model:
        with open(os.path.join(HERE, "weights.json"), encoding="utf-8") as file:
            model = models.parse(file.read(), "built-in")
    cuda = gpu.driver()
    with gpu.Layer(cuda, model) if cuda else contextlib.nullcontext() as layer:
        answers = model.probabilities(pictures, layer)
    predictions = []
    for row in answers:
        number = models.best(row)
        probabilities = {name: round(p, 6) for name, p in zip(model.classes, row)}
        predictions.append({"class": model.classes[number], "probability": round(row[number], 6), "probabilities": probabilities})
    answer = {"model": model.name, "device": "gpu" if cuda else "cpu", "predictions": predictions}
    with open(os.path.join(os.environ["TMP_OUTPUT_DIR"], "answer.json"), "w", encoding="utf-8") as file:
        json.dump(answer, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
