"""A handler that first says when it was entered; for `cargo xtask bench faas`."""

import os
import shutil
import time


def handle(job):
    entered = time.time_ns()
    source, folder = job["INPUT_FILE_PATH"], job["TMP_OUTPUT_DIR"]
    name = os.path.basename(source)
    with open(os.path.join(folder, name + ".began"), "w") as file:
        file.write(str(entered))
    shutil.copy(source, folder)
