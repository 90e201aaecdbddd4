"""Runs one of taichi's examples as a program, on the architecture of HEADLESS_ARCH, with windows that are files.

A window's first pictures are kept as arrays; then the example is over.
"""

import json
import os
import pathlib
import runpy
import sys

import numpy as np
import taichi as ti

FRAMES = 3
example, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
arch = getattr(ti, os.environ["HEADLESS_ARCH"])


def finish():
    said = {"arch": ti.lang.impl.current_cfg().arch.name}
    (out / "said.json").write_text(json.dumps(said))
    # Threads and windows of the example's do not matter any more.
    sys.stdout.flush()
    os._exit(0)


class Window(ti.GUI):
    shown = 0

    def __init__(self, *arguments, **keywords):
        keywords["show_gui"] = False
        super().__init__(*arguments, **keywords)

    def show(self, file=None):
        np.save(out / f"{Window.shown}.npy", self.get_image())
        self.clear()
        Window.shown += 1
        if Window.shown == FRAMES:
            ti.sync()
            finish()

    def get_event(self, *filters):
        return False

    def get_events(self, *filters):
        return iter(())

    def get_cursor_pos(self):
        return 0.4, 0.6


begin = ti.init


def init(*arguments, **keywords):
    keywords |= {"arch": arch, "random_seed": 3, "offline_cache": False}
    return begin(**keywords)


ti.init, ti.GUI = init, Window
sys.argv = [str(example)]
sys.path.insert(0, str(example.parent))
np.random.seed(5)
runpy.run_path(str(example), run_name="__main__")
ti.sync()
finish()
