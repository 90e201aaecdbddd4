"""tinygrad with its PTX renderer."""

import os

os.environ["CLIENT_DEVICE"] = "CUDA:PTX"

from api import *  # noqa: E402, F403
