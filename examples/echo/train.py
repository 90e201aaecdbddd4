"""Trains the network of network.py in plain numpy and writes weights.safetensors.

    python -m pip install -r requirements-train.txt
    python train.py [--seed N] [--steps N] [--strict] [--out FILE]

The pictures come inside the packages pydicom, pydicom-data and deid-data; the label of each is read from its own header
(`label_of`). Whole files are held out; of one recording, another second of it is trained on, unless --strict. With one
BLAS build and its thread count the result is the same to the bit; another BLAS sums in another order and ends at
slightly other weights.
"""

import argparse
import importlib.util
import json
import os
import struct
import sys
import time
import zipfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import numpy as np
import pydicom
from PIL import Image

import clip

CLASSES = ("echocardiogram", "other-ultrasound", "ct", "mr", "x-ray")
CHANNELS = (1, 8, 16, 32, 64)

# (package folder, file, held out[, frames]): one line a source; the same picture in another encoding is not listed twice. Left out:
# drawings and phantoms of other things (ctbrain*.dcm, SC_*.dcm), derived maps (eCT_Supplemental.dcm), clutter
# (ExplVR_BigEnd.dcm), dicomdirtests (16x16 thumbnails), modalities with a single source (NM, SEG, RTDOSE).
SOURCES = (
    # Four seconds of one examination. The 30 frames that the pydicom package itself ships are its first second, at half
    # the size: that second is held out, the last two are trained on. --strict holds out the whole recording.
    ("data_store/data", "color3d_jpeg_baseline.dcm", None, (60, 120)),
    ("data_store/data", "color-pl.dcm", False),
    ("deid_data/data/ultrasounds", "ultrasound-multiframe.dcm", False),
    ("pydicom/data/test_files", "examples_ybr_color.dcm", True),
    ("data_store/data", "OBXXXX1A.dcm", False),
    ("data_store/data", "gdcm-US-ALOKA-16.dcm", False),
    ("data_store/data", "US1_UNCR.dcm", False),
    ("deid_data/data/ultrasounds", "GREYSCALE_IMAGE.dcm", False),
    ("deid_data/data/ultrasounds", "RGB_CINE.zip", False),
    ("deid_data/data/ultrasounds", "RGB_IMAGE.dcm", True),
    ("data_store/data", "693_UNCR.dcm", False),
    ("data_store/data", "explicit_VR-UN.dcm", False),
    ("pydicom/data/test_files", "CT_small.dcm", True),
    ("data_store/data", "MR-SIEMENS-DICOM-WithOverlays.dcm", False),
    ("data_store/data", "emri_small.dcm", False),
    ("pydicom/data/test_files", "MR_small.dcm", False),
    ("data_store/data", "MR2_UNCR.dcm", True),
    ("data_store/data", "RG1_UNCR.dcm", False),
    ("data_store/data", "RG3_UNCR.dcm", False),
    ("deid_data/data/animals", "cat.dcm", True),
)
MAX_PER_SOURCE = 30  # frames kept of a clip, evenly spread


def label_of(ds):
    """The class that the file's own header states, or None."""
    modality = ds.get("Modality")
    if modality == "US":
        # Value 3 of Image Type names the kind of examination (DICOM PS3.3 C.8.5.6.1.1).
        kind = list(ds.get("ImageType") or []) + [""] * 3
        cardiac = kind[2] in ("EPICARDIAL", "CARDIOLOGY", "TEE", "TTE")
        return 0 if cardiac or "echocardiogra" in str(ds.get("StudyDescription", "")).lower() else 1
    return {"CT": 2, "MR": 3, "CR": 4, "DX": 4}.get(modality)


def package_folder(name):
    spec = importlib.util.find_spec(name.split("/")[0])
    if spec is None:
        sys.exit(f"package of {name} is missing: python -m pip install -r requirements-train.txt")
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*name.split("/")[1:])


def load_source(folder, name, window=None):
    path = package_folder(folder) / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as z:
            ds = pydicom.dcmread(z.open(z.namelist()[0]))
            ds.PixelData  # read now, the archive is closed afterwards
    else:
        ds = clip.open_clip(str(path))
    label = label_of(ds)
    first, end = window or (0, clip.frame_count(ds))
    keep = set(np.linspace(first, end - 1, min(end - first, MAX_PER_SOURCE)).round().astype(int).tolist())
    pictures = [f for i, f in enumerate(clip.frames(ds)) if i in keep]
    return label, pictures


def augment(rng, picture):
    """A random view of a picture: turned, mirrored, zoomed, stretched, brighter or darker, noisier, as the network sees frames."""
    im = Image.fromarray(picture)
    if max(im.size) > 480:
        im.thumbnail((480, 480), Image.BILINEAR)
    w, h = im.size
    zoom = np.exp(rng.uniform(-0.15, 0.55))
    fit = max(w / clip.WIDTH, h / clip.HEIGHT) / zoom
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    angle = rng.normal(0, 0.15)
    flip = -1 if rng.random() < 0.5 else 1
    c, s = np.cos(angle) * fit, np.sin(angle) * fit
    a, b, d, e = c * stretch * flip, -s, s * flip, c / stretch
    # Centre of the output lands near the centre of the picture.
    room_x = max(0.0, w - clip.WIDTH * fit) / 2 + 0.06 * w
    room_y = max(0.0, h - clip.HEIGHT * fit) / 2 + 0.06 * h
    cx, cy = w / 2 + rng.uniform(-room_x, room_x), h / 2 + rng.uniform(-room_y, room_y)
    ox, oy = cx - a * clip.WIDTH / 2 - b * clip.HEIGHT / 2, cy - d * clip.WIDTH / 2 - e * clip.HEIGHT / 2
    # Shrink first when many pixels fall on one, else the transform would skip them.
    steps = max(1, int(fit))
    if steps > 1:
        im = im.reduce(steps)
        a, b, ox, d, e, oy = (v / steps for v in (a, b, ox, d, e, oy))
    x = np.asarray(im.transform((clip.WIDTH, clip.HEIGHT), Image.AFFINE, (a, b, ox, d, e, oy), Image.BILINEAR), np.float32)
    x = 255 * (x / 255) ** np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.15))
    if rng.random() < 0.5:
        x += rng.normal(0, rng.uniform(0, 12), x.shape)
    if rng.random() < 0.3:  # a burnt-in caption or a covered corner tells nothing
        y0, x0 = rng.integers(0, clip.HEIGHT - 20), rng.integers(0, clip.WIDTH - 40)
        x[y0 : y0 + rng.integers(4, 20), x0 : x0 + rng.integers(8, 40)] = rng.uniform(0, 255)
    return np.clip(x, 0, 255).astype(np.uint8)


# The network, forward and backward. Arrays are batch, channel, row, column.
def columns(x):
    """im2col of a 3x3, stride 2, padding 1 convolution: (batch, channels * 9, rows * columns of the output)."""
    n, c, h, w = x.shape
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    oh, ow = (h + 1) // 2, (w + 1) // 2
    out = np.empty((n, c, 3, 3, oh, ow), np.float32)
    for i in range(3):
        for j in range(3):
            out[:, :, i, j] = p[:, :, i : i + 2 * oh - 1 : 2, j : j + 2 * ow - 1 : 2]
    return out.reshape(n, c * 9, oh * ow), (oh, ow)


def columns_back(g, shape, oh, ow):
    n, c, h, w = shape
    g = g.reshape(n, c, 3, 3, oh, ow)
    p = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            p[:, :, i : i + 2 * oh - 1 : 2, j : j + 2 * ow - 1 : 2] += g[:, :, i, j]
    return p[:, :, 1:-1, 1:-1]


def forward(weights, images):
    x, kept = images[:, None].astype(np.float32) / 255, []
    for k in range(1, len(CHANNELS)):
        cols, (oh, ow) = columns(x)
        w = weights[f"conv{k}.weight"]
        y = np.maximum(w.reshape(len(w), -1) @ cols + weights[f"conv{k}.bias"][:, None], 0)
        kept.append((cols, x.shape, y, oh, ow))
        x = y.reshape(len(x), -1, oh, ow)
    pooled = x.mean(axis=(2, 3))
    return pooled @ weights["head.weight"].T + weights["head.bias"], pooled, kept


def backward(weights, g_logits, pooled, kept):
    grads = {"head.weight": g_logits.T @ pooled, "head.bias": g_logits.sum(0)}
    _, _, y, oh, ow = kept[-1]
    g = np.broadcast_to((g_logits @ weights["head.weight"])[:, :, None] / (oh * ow), y.shape)
    for k in range(len(CHANNELS) - 1, 0, -1):
        cols, shape, y, oh, ow = kept[k - 1]
        g = g * (y > 0)
        w = weights[f"conv{k}.weight"]
        grads[f"conv{k}.weight"] = np.matmul(g, cols.transpose(0, 2, 1)).sum(0).reshape(w.shape)
        grads[f"conv{k}.bias"] = g.sum(axis=(0, 2))
        if k > 1:
            x = columns_back(w.reshape(len(w), -1).T @ g, shape, oh, ow)
            g = x.reshape(len(x), x.shape[1], -1)
    return grads


def probabilities(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def initial(rng):
    weights = {}
    for k, (i, o) in enumerate(zip(CHANNELS, CHANNELS[1:]), 1):
        weights[f"conv{k}.weight"] = rng.normal(0, (2 / (9 * i)) ** 0.5, (o, i, 3, 3)).astype(np.float32)
        weights[f"conv{k}.bias"] = np.zeros(o, np.float32)
    weights["head.weight"] = rng.normal(0, 0.1, (len(CLASSES), CHANNELS[-1])).astype(np.float32)
    weights["head.bias"] = np.zeros(len(CLASSES), np.float32)
    return weights


def train(rng, sources, steps, batch, rate):
    weights = initial(rng)
    moments = {k: (np.zeros_like(v), np.zeros_like(v)) for k, v in weights.items()}
    by_class = [[pictures for label, pictures in sources if label == c] for c in range(len(CLASSES))]
    right = 0
    for step in range(1, steps + 1):
        # Each class as often as the others, and within it each source as often as the others.
        labels = np.arange(batch) % len(CLASSES)
        images = []
        for c in labels:
            source = by_class[c][rng.integers(len(by_class[c]))]
            images.append(augment(rng, source[rng.integers(len(source))]))
        logits, pooled, kept = forward(weights, np.stack(images))
        p = probabilities(logits)
        target = np.full_like(p, 0.05 / len(CLASSES))  # smoothed: so few pictures justify no certainty
        target[np.arange(batch), labels] += 0.95
        grads = backward(weights, ((p - target) / batch).astype(np.float32), pooled, kept)
        now = rate * min(1, step / 50) * (0.02 + 0.98 * (1 + np.cos(np.pi * step / steps)) / 2)
        for name, g in grads.items():
            m, v = moments[name]
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            weights[name] -= np.float32(now) * (update + (1e-2 * weights[name] if name.endswith("weight") else 0)).astype(np.float32)
        right += (p.argmax(1) == labels).sum()
        if step % 50 == 0:
            print(f"step {step}/{steps}: {right / (50 * batch):.3f} of augmented training views right", flush=True)
            right = 0
    return weights


def evaluate(weights, name, label, pictures):
    small = np.stack([clip.shrink(p) for p in pictures])
    p = probabilities(np.concatenate([forward(weights, small[i : i + 16])[0] for i in range(0, len(small), 16)]))
    right = int((p.argmax(1) == label).sum())
    print(f"  {name:36} {CLASSES[label]:17} {right:3}/{len(small):<3} right, mean p of each class " + " ".join(f"{v:.2f}" for v in p.mean(0)))
    return right, len(small)


def save(path, weights, metadata):
    header, blob = {"__metadata__": metadata}, b""
    for name, w in weights.items():
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [len(blob), len(blob) + w.nbytes]}
        blob += np.ascontiguousarray(w, np.float32).tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + blob)


def load(path):
    """What `save` wrote."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, blob = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.pop("__metadata__")
    if json.loads(metadata["classes"]) != list(CLASSES):
        sys.exit(f"{path}: weights of other classes")
    weights = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        weights[name] = np.frombuffer(blob[begin:end], np.float32).reshape(tensor["shape"])
    return weights


def report(weights, loaded):
    """How many frames come out right, file by file."""
    for title, want in (("trained on", False), ("held out", True)):
        print(f"{title}:")
        counts = [evaluate(weights, name, label, pictures) for name, held, label, pictures in loaded if held is want]
        print(f"  {sum(r for r, _ in counts)} of {sum(n for _, n in counts)} frames; {sum(2 * r > n for r, n in counts)} of {len(counts)} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--strict", action="store_true", help="hold out the recording that the tests' clips come from, wholly")
    parser.add_argument("--out", default=str(Path(__file__).with_name("weights.safetensors")))
    parser.add_argument("--evaluate", action="store_true", help="train nothing: say how good the weights in --out are")
    args = parser.parse_args()
    started = time.time()
    loaded = [
        (name, args.strict if held is None else held, *load_source(folder, name, *window)) for folder, name, held, *window in SOURCES
    ]
    if args.evaluate:
        return report(load(args.out), loaded)
    print(f"seed {args.seed}")
    weights = train(np.random.default_rng(args.seed), [(l, p) for _, held, l, p in loaded if not held], args.steps, args.batch, args.rate)
    report(weights, loaded)
    save(args.out, weights, {"classes": json.dumps(CLASSES), "seed": str(args.seed), "steps": str(args.steps)})
    print(f"{args.out}: {os.path.getsize(args.out)} bytes, after {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
