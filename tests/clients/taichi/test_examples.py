"""taichi's examples, unmodified, with windows that nobody sees: what they show on CUDA beside what they show on the CPU."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import taichi

EXAMPLES = pathlib.Path(taichi.__path__[0]) / "examples"
# What needs more than CUDA.
NEEDS = {"ggui_examples": "GGUI, which needs Vulkan", "graph/texture": "Vulkan", "taichi_ngp": "a file to download", "circle_packing": "opencv and cairo",
         "fullscreen": "a screen", "export_videos": "ffmpeg"}  # fmt: skip
# Threads draw random numbers in no order, and clocks go on.
CHANCE = re.compile(r"ti\.rand(om|n)\(|\btime\.")


def examples():
    for path in sorted(EXAMPLES.rglob("*.py")):
        if path.name != "__init__.py" and "if __name__" in path.read_text() or path.name == "minimal.py":
            yield path


@pytest.mark.parametrize("path", examples(), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_example(path, tmp_path):
    name = str(path.relative_to(EXAMPLES))
    text = path.read_text()
    for part, need in NEEDS.items():
        if part in name:
            pytest.skip(f"needs {need}")
    if "ti.ui" in text or "taichi.ui" in text:
        pytest.skip("needs GGUI, which needs Vulkan")
    shown = {}
    for arch in ("x64", "cuda"):
        out = tmp_path / arch
        out.mkdir()
        command = [sys.executable, str(pathlib.Path(__file__).parent / "headless.py"), str(path), str(out)]
        try:
            done = subprocess.run(command, env=os.environ | {"HEADLESS_ARCH": arch}, cwd=out, capture_output=True, text=True, timeout=145)
        except subprocess.TimeoutExpired:
            if arch == "cuda":
                raise
            pytest.skip("taichi's CPU backend takes too long to compare with")
        if arch == "x64" and done.returncode != 0:
            pytest.skip("taichi's CPU backend does not run it either")
        assert done.returncode == 0, done.stderr[-2000:]
        shown[arch] = sorted(out.glob("*.npy"))
        said = json.loads((out / "said.json").read_text())
        assert said["arch"] == arch
    assert len(shown["cuda"]) == len(shown["x64"])
    for cuda, x64 in zip(shown["cuda"], shown["x64"]):
        a, b = (np.load(file).astype(np.float64) for file in (cuda, x64))
        assert a.shape == b.shape
        assert np.isfinite(a).all() == np.isfinite(b).all()
        if CHANCE.search(text):
            # No two runs show the same: it is as bright as the other.
            assert abs(a.mean() - b.mean()) <= 0.05 * max(np.abs(b).max(), 1)
        else:
            # Sums of floats are in no order on either: a few pixels may differ.
            assert np.abs(a - b).mean() <= 0.02 * max(np.abs(b).max(), 1)
