"""The job: samples in, a model and a pointer to it out. A model that is not good enough is no output."""

import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("DIGITS_HOME") or os.path.join(HERE, "..", "digits"))

from model import MAX_CLASSES, POINTER, train  # noqa: E402
from pictures import checked  # noqa: E402

MAX_BYTES = 64 << 20
MAX_SAMPLES = 20_000
MIN_OF_A_CLASS = 10
SEED = 2026


def read(path):
    """(name, pixels) of each line `{"class": "7", "pixels": [64 numbers]}`."""
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    samples = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                sample = json.loads(line)
                name = sample["class"]
                if not isinstance(name, str) or not 1 <= len(name) <= 32:
                    raise ValueError("a class is a name of 1 to 32 characters")
                samples.append((name, checked(sample["pixels"])))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
            if number == MAX_SAMPLES:
                break
    return samples


def split(samples):
    """Every fifth picture of each class is kept out of training, to tell how good the model is."""
    seen, kept_in, kept_out = {}, [], []
    for name, pixels in samples:
        seen[name] = seen.get(name, 0) + 1
        (kept_out if seen[name] % 5 == 0 else kept_in).append((name, pixels))
    few = [name for name, count in seen.items() if count < MIN_OF_A_CLASS]
    if not 2 <= len(seen) <= MAX_CLASSES or few:
        raise ValueError(f"2 to {MAX_CLASSES} classes with {MIN_OF_A_CLASS} samples each are needed; too few of: {', '.join(few) or 'classes'}")
    return kept_in, kept_out


def main():
    try:
        kept_in, kept_out = split(read(os.environ["INPUT_FILE_PATH"]))
    except (KeyError, OSError, ValueError) as error:
        print(f"cannot learn from the samples: {error}")
        return 2
    model = train(kept_in, SEED)
    accuracy, least = model.accuracy(kept_out), float(os.environ.get("LEAST_ACCURACY", "0.85"))
    print(f"accuracy on {len(kept_out)} pictures kept out of training: {accuracy:.3f}")
    if accuracy < least:
        print(f"less than {least}: the model before it stays")
        return 3
    data = model.text().encode()
    digest = hashlib.sha256(data).hexdigest()
    # Outputs appear in the order of their names: the model is there before what points to it.
    name = f"model-{digest[:16]}.json"
    pointer = {"file": name, "sha256": digest, "accuracy": round(accuracy, 4), "classes": model.classes, "job": os.environ.get("JOB_UUID")}
    out = os.environ["TMP_OUTPUT_DIR"]
    assert name < POINTER
    with open(os.path.join(out, name), "wb") as file:
        file.write(data)
    with open(os.path.join(out, POINTER), "w", encoding="utf-8") as file:
        json.dump(pointer, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
