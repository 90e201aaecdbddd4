"""Checks the function's answer against an independent evaluation of the same network: numpy alone, on the CPU.

    python reference.py CLIP RESULT.json     exit code 0 when the classes agree and every probability is within 1e-3
    python reference.py CLIP --print         what this evaluation finds, as JSON

It shares no code with the function: clip, weights, network, the black and noise rule and the consensus are all read and
worked out again here, as README.md describes them, in double precision.
"""

import argparse
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import generate_frames

TOLERANCE = 1e-3
NET_ROWS, NET_COLUMNS = 120, 160
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


def luma_frames(path):
    """The clip's frames as grey pictures 0..255."""
    ds = pydicom.dcmread(path)
    count = int(ds.get("NumberOfFrames", 1) or 1)
    kind = ds.PhotometricInterpretation
    if ds.file_meta.TransferSyntaxUID == JPEG_BASELINE and kind.startswith("YBR"):
        pictures = []
        for data in generate_frames(ds.PixelData, number_of_frames=count):
            with Image.open(io.BytesIO(data)) as im:
                im.draft("L", im.size)  # JPEG stores luma by itself: no colour arithmetic at all
                pictures.append(np.array(im.convert("L")))
        return ds, pictures
    pixels = ds.pixel_array
    if count == 1:
        pixels = pixels[None]
    return ds, [_grey(p, kind, ds) for p in pixels]


def _grey(p, kind, ds):
    if kind == "PALETTE COLOR":
        p = pydicom.pixels.apply_color_lut(p, ds)
        p = p if p.dtype == np.uint8 else (p // 256).astype(np.uint8)
    if p.ndim == 3:
        if p.dtype.itemsize > 1:
            p = p // 2 ** (8 * p.dtype.itemsize - 8)
        red, green, blue = (p[..., i].astype(np.float64) for i in range(3))
        return np.floor((299 * red + 587 * green + 114 * blue) / 1000 + 0.5)
    p = p.astype(np.float64)
    if ds.BitsAllocated > 8 or ds.Modality != "US":
        ordered = np.sort(p, axis=None)

        def percentile(q):
            at = q / 100 * (ordered.size - 1)
            k = min(int(at), ordered.size - 2)
            return ordered[k] + (at - k) * (ordered[k + 1] - ordered[k])

        low, high = percentile(1.0), percentile(99.5)
        p = np.floor(np.minimum(np.maximum((p - low) / max(high - low, 1e-9), 0), 1) * 255 + 0.5)
    return 255 - p if kind == "MONOCHROME1" else p


def fit(picture):
    """The picture at the network's size by area averages, from running sums; aspect kept, centred on black."""
    rows, columns = picture.shape
    factor = min(NET_ROWS / rows, NET_COLUMNS / columns)
    h, w = max(1, round(rows * factor)), max(1, round(columns * factor))
    whole = np.zeros((rows + 1, columns + 1))
    whole[1:, 1:] = np.cumsum(np.cumsum(picture.astype(np.float64), axis=0), axis=1)

    def at(edges, table):  # the running sum at fractional row edges: linear between whole rows
        low = np.minimum(edges.astype(int), table.shape[0] - 2)
        part = (edges - low)[:, None]
        return table[low] * (1 - part) + table[low + 1] * part

    sums = np.diff(np.diff(at(np.arange(w + 1) * columns / w, at(np.arange(h + 1) * rows / h, whole).T).T, axis=0), axis=1)
    small = np.floor(sums * (h * w) / (rows * columns) + 0.5 + 1e-6)  # the last term: halves go up, whatever the last bits of the sums
    out = np.zeros((NET_ROWS, NET_COLUMNS))
    top, left = (NET_ROWS - h) // 2, (NET_COLUMNS - w) // 2
    out[top : top + h, left : left + w] = small
    return out


def carries_picture(small):
    if (small > 24).mean() < 0.01:
        return "black"
    centred = small - small.mean()
    rough = (np.square(small[1:] - small[:-1]).mean() + np.square(small[:, 1:] - small[:, :-1]).mean()) / 2
    return "noise" if 1 - rough / max(2 * np.square(centred).mean(), 1e-9) < 0.6 else "ok"


def load_weights(path):
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode())
    classes = json.loads(header.pop("__metadata__")["classes"])
    weights = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        weights[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return weights, classes


def evaluate(weights, small):
    """Class probabilities of one shrunk frame; the convolutions as nine shifted products each."""
    x = small[None] / 255.0
    for k in (1, 2, 3, 4):
        kernel, bias = weights[f"conv{k}.weight"], weights[f"conv{k}.bias"]
        channels, rows, columns = x.shape
        oh, ow = (rows + 1) // 2, (columns + 1) // 2
        framed = np.zeros((channels, rows + 3, columns + 3))
        framed[:, 1 : rows + 1, 1 : columns + 1] = x
        y = np.zeros((kernel.shape[0], oh, ow)) + bias[:, None, None]
        for dy in range(3):
            for dx in range(3):
                y += np.tensordot(kernel[:, :, dy, dx], framed[:, dy : dy + 2 * oh : 2, dx : dx + 2 * ow : 2], axes=1)
        x = np.maximum(y, 0)
    scores = weights["head.weight"] @ x.reshape(x.shape[0], -1).mean(axis=1) + weights["head.bias"]
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


def reference(clip_path, weights_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, pictures = luma_frames(clip_path)
    weights, classes = load_weights(weights_path)
    small = [fit(p) for p in pictures]
    probabilities = [evaluate(weights, s) for s in small]
    quality = [carries_picture(s) for s in small]
    kept = [p for p, q in zip(probabilities, quality) if q == "ok"]
    mean = sum(kept) / len(kept) if kept else None
    return {
        "consensus": {
            "class": classes[int(np.argmax(mean))] if kept else None,
            "counted": len(kept),
            "probabilities": mean.tolist() if kept else None,
        },
        "frames": [
            {"class": classes[int(np.argmax(p))], "quality": q, "probabilities": p.tolist()} for p, q in zip(probabilities, quality)
        ],
    }


def compare(ours, theirs):
    """(list of differences, largest difference of a probability)."""
    wrong, worst = [], 0.0

    def check(where, a, b):
        nonlocal worst
        pa, pb = a["probabilities"], b["probabilities"]
        if (pa is None) != (pb is None) or (pa is not None and len(pa) != len(pb)):
            wrong.append(f"{where}: {'no' if pb is None else len(pb)} probabilities, expected {'none' if pa is None else len(pa)}")
            return
        off = max((abs(x - y) for x, y in zip(pa or [], pb or [])), default=0.0)
        if not off <= TOLERANCE:  # also catches NaN
            wrong.append(f"{where}: a probability is off by {off:.2g}")
        worst = max(worst, off)
        if a["class"] != b["class"]:
            # Two classes as good as tied may swap within the tolerance.
            top = sorted(pa or [0, 1])
            if top[-1] - top[-2] > 2 * TOLERANCE:
                wrong.append(f"{where}: class {b['class']!r}, expected {a['class']!r}")

    if len(ours["frames"]) != len(theirs["frames"]):
        return [f"{len(theirs['frames'])} frames, expected {len(ours['frames'])}"], worst
    for i, (a, b) in enumerate(zip(ours["frames"], theirs["frames"]), 1):
        check(f"frame {i}", a, b)
        if a["quality"] != b["quality"]:
            wrong.append(f"frame {i}: quality {b['quality']!r}, expected {a['quality']!r}")
    check("consensus", ours["consensus"], theirs["consensus"])
    if ours["consensus"]["counted"] != theirs["consensus"]["counted"]:
        wrong.append(f"consensus: {theirs['consensus']['counted']} frames counted, expected {ours['consensus']['counted']}")
    return wrong, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clip")
    parser.add_argument("result", nargs="?", help="the function's JSON for this clip")
    parser.add_argument("--print", action="store_true", dest="show", help="print this evaluation's own answer")
    parser.add_argument("--weights", default=str(Path(__file__).with_name("weights.safetensors")))
    args = parser.parse_args()
    if not args.result and not args.show:
        parser.error("give RESULT.json to check, or --print")
    try:
        ours = reference(args.clip, args.weights)
    except Exception as e:
        print(f"reference: cannot evaluate {args.clip}: {e}", file=sys.stderr)
        return 1
    if args.show:
        json.dump(ours, sys.stdout, indent=1)
        print()
    if not args.result:
        return 0
    try:
        wrong, worst = compare(ours, json.loads(Path(args.result).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as e:
        print(f"reference: {args.result} is no answer of the function: {e!r}", file=sys.stderr)
        return 1
    if wrong:
        print(f"WRONG {args.result}: " + "; ".join(wrong[:5]) + (f"; {len(wrong) - 5} more" if len(wrong) > 5 else ""), file=sys.stderr)
        return 1
    print(
        f"right {args.result}: {ours['consensus']['class']}, {ours['consensus']['counted']} of {len(ours['frames'])} frames counted, "
        f"largest difference of a probability {worst:.1e}",
        file=sys.stderr if args.show else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
