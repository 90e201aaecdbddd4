"""CUDA C++ programs on libcudart.so.13, directly on softgpu and through the remoting; they check their values themselves."""

import json
import os
import pathlib
import subprocess

import pytest
from compilers import HERE, ROOT

LIB = pathlib.Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
DIST = LIB.parent.parent
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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The variables of a client whose server has two devices."""
    folder = tmp_path_factory.mktemp("server")
    token = folder / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    (folder / "home").mkdir()
    words = ["--driver", DIST / "lib/softgpu/libcuda.so.1", "--listen", f"unix://{folder}/rgpud.sock", "--token-file", token]
    environment = {**os.environ, "SOFTGPU_HOME": str(folder / "home"), "SOFTGPU_DEVICES": "2"}
    environment.pop("LD_LIBRARY_PATH")
    with subprocess.Popen([DIST / "bin/rgpud", *words], stdout=subprocess.PIPE, env=environment, text=True) as daemon:
        ready = json.loads(daemon.stdout.readline())
        yield {
            "LD_LIBRARY_PATH": str(DIST / "lib/rgpu"),
            "RGPU_SERVERS": ready["listen"][0],
            "RGPU_TOKEN_FILE": str(token),
        }
        daemon.terminate()


@pytest.mark.parametrize("where", ["direct", "remote"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, where, build, request):
    program = build(name)
    variables = {"SOFTGPU_DEVICES": "2"} if where == "direct" else request.getfixturevalue("server")
    run = subprocess.run([program], env={**os.environ, **variables}, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0 and run.stdout.endswith("ok\n"), run.stdout + run.stderr
