"""CUDA C++ programs on libcudart.so.13 and two devices; they check their values themselves."""

import os
import pathlib
import subprocess

import pytest
from compilers import HERE, ROOT

LIB = pathlib.Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
PROGRAMS = {
    "launches": ["launches.cu"],
    "graphs": ["graphs.cu"],
    "memory": ["memory.cu"],
    "managed": ["managed.cu"],
    "images": ["images.cu"],
    "conditional": ["conditional.cu", "-rdc=true"],
    "threads": ["threads.cu", "--default-stream=per-thread"],
    "parts": ["parts.cu", "parts_more.cu", "-rdc=true"],
}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Programs as their users build them, with PTX alone, and linked with the shared library of this repository."""
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "libcudart.so").symlink_to(LIB / "libcudart.so.13")
    made = {}

    def make(name):
        if name not in made:
            sources = [HERE / "runtime" / word if word.endswith(".cu") else word for word in PROGRAMS[name]]
            options = ["-std=c++17", "-gencode=arch=compute_80,code=compute_80", "--cudart=shared", f"-L{folder}"]
            made[name] = folder / name
            subprocess.run([ROOT / "bin/nvcc", *options, "-o", made[name], *sources], check=True, capture_output=True, text=True)
        return made[name]

    return make


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, build):
    run = subprocess.run([build(name)], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0 and run.stdout.endswith("ok\n"), run.stdout + run.stderr
