"""What becomes of the frames' answers: the consensus, and the contact sheet."""

import numpy as np
from PIL import Image, ImageDraw


def consensus(probabilities, quality, classes):
    """The clip's answer: the class of the highest mean probability over the frames that carry a picture.

    Black and noisy frames are left out. With no frame left the class is None. `agreement` is the share of the counted
    frames whose own answer is the consensus.
    """
    counted = [p for p, q in zip(probabilities, quality) if q == "ok"]
    left_out = {kind: sum(q == kind for q in quality) for kind in ("black", "noise")}
    if not counted:
        return {"class": None, "counted": 0, "left_out": left_out, "agreement": None, "probabilities": None}
    mean = np.mean(counted, axis=0)
    best = int(mean.argmax())
    return {
        "class": classes[best],
        "counted": len(counted),
        "left_out": left_out,
        "agreement": round(sum(int(p.argmax()) == best for p in counted) / len(counted), 6),
        "probabilities": [round(float(v), 6) for v in mean],
    }


def contact_sheet(small, quality, result, path, columns=6, rows=4):
    """A PNG of at most columns x rows frames, evenly spread over the clip, each with its number and answer."""
    shown = sorted(set(np.linspace(0, len(small) - 1, min(len(small), columns * rows)).round().astype(int).tolist()))
    height, width = small[0].shape
    columns = min(columns, len(shown))
    cell_w, cell_h, head = width + 4, height + 16, 16
    sheet = Image.new("RGB", (columns * cell_w, head + -(-len(shown) // columns) * cell_h))
    draw = ImageDraw.Draw(sheet)
    summary = result["consensus"]
    draw.text((3, 2), f"{result['clip'].encode('ascii', 'replace').decode()}: {summary['class'] or 'undecided'}", fill="white")
    for k, i in enumerate(shown):
        x, y = k % columns * cell_w, head + k // columns * cell_h
        frame = result["frames"][i]
        text, colour = (frame["class"], "palegreen") if quality[i] == "ok" else (quality[i], "orange")
        if quality[i] == "ok" and frame["class"] != summary["class"]:
            colour = "tomato"
        draw.text((x + 3, y + 2), f"{i + 1} {text}", fill=colour)
        sheet.paste(Image.fromarray(small[i]), (x + 2, y + 14))
    sheet.save(path, format="PNG")
