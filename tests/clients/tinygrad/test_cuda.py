"""tinygrad with its CUDA renderer, through nvrtc."""

import os

os.environ["CLIENT_DEVICE"] = "CUDA"

from api import *  # noqa: E402, F403
