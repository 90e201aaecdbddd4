"""Pictures of 8x8 grey pixels: drawn ones with noise to learn from, and what a caller sends."""

import random

SIDE = 8
PIXELS = SIDE * SIDE
MAX_SIDE = 1024

# Five columns and seven rows each, a row a number of five bits.
SHAPES = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "H": (17, 17, 17, 31, 17, 17, 17),
}


def draw(name, chance):
    """One picture: a shape somewhere in its frame, of some brightness, with noise. A list of 64 numbers of 0 to 255."""
    left, top = chance.randint(0, SIDE - 5), chance.randint(0, SIDE - 7)
    light, dark = chance.randint(150, 255), chance.randint(0, 60)
    pixels = [dark] * PIXELS
    for row, bits in enumerate(SHAPES[name]):
        for column in range(5):
            if bits >> (4 - column) & 1:
                pixels[(top + row) * SIDE + left + column] = light
    return [min(255, max(0, round(value + chance.gauss(0, 20)))) for value in pixels]


def samples(names, count, seed):
    """`count` pictures of each name, as (name, pixels), in an order of their own."""
    chance = random.Random(seed)
    made = [(name, draw(name, chance)) for name in names for _ in range(count)]
    chance.shuffle(made)
    return made


def checked(pixels):
    """The 64 numbers of a picture, if they are that."""
    if not isinstance(pixels, list) or len(pixels) != PIXELS:
        raise ValueError(f"a picture is a list of {PIXELS} numbers")
    if not all(isinstance(p, (int, float)) and not isinstance(p, bool) and 0 <= p <= 255 for p in pixels):
        raise ValueError("a pixel is a number from 0 to 255")
    return pixels


def read_pgm(data):
    """The pixels of a PGM file (Netpbm's P2 or P5, 8 bits), shrunk to 8x8 by the means of its parts."""
    fields, at = [], 0
    while len(fields) < 4:
        while at < len(data) and (data[at : at + 1].isspace() or data[at : at + 1] == b"#"):
            # A comment goes to the end of its line.
            at = (data.find(b"\n", at) if data[at : at + 1] == b"#" else at) + 1
            if at == 0:
                raise ValueError("the picture's head has no end")
        end = at
        while end < len(data) and not data[end : end + 1].isspace():
            end += 1
        if end == at or end - at > 8:
            raise ValueError("the picture's head is cut off, or no PGM head")
        fields.append(data[at:end])
        at = end
    kind, numbers = fields[0], fields[1:]
    if kind not in (b"P2", b"P5") or not all(number.isdigit() for number in numbers):
        raise ValueError("no PGM picture (P2 or P5)")
    width, height, most = map(int, numbers)
    if not (SIDE <= width <= MAX_SIDE and SIDE <= height <= MAX_SIDE and 1 <= most <= 255):
        raise ValueError(f"a picture has sides of {SIDE} to {MAX_SIDE} pixels and 8 bits")
    if kind == b"P5":
        values = list(data[at + 1 : at + 1 + width * height])
    else:
        values = [int(word) for word in data[at:].split()[: width * height] if word.isdigit()]
    if len(values) != width * height or max(values) > most:
        raise ValueError("the picture has fewer pixels than its head says, or brighter ones")
    small = []
    for row in range(SIDE):
        for column in range(SIDE):
            rows = range(row * height // SIDE, (row + 1) * height // SIDE)
            columns = range(column * width // SIDE, (column + 1) * width // SIDE)
            part = [values[y * width + x] for y in rows for x in columns]
            small.append(sum(part) / len(part) * 255 / most)
    return small
