"""What every function here has in common: the input and the folder it is given, the exit codes, and results that are whole."""

import json
import os
import sys

import clip

NO_OUTPUT = 7  # the exit codes beside clip.py's; 6 is classify.py's


def answer(who, work):
    """Prints what `work(source, folder)` says of the input and the results' folder, or what was wrong; the exit code."""
    source, folder = os.environ.get("INPUT_FILE_PATH"), os.environ.get("TMP_OUTPUT_DIR")
    try:
        if not source:
            raise clip.ClipError(clip.NO_INPUT, "INPUT_FILE_PATH is not set; it names the input")
        if not folder or not os.path.isdir(folder):
            raise clip.ClipError(NO_OUTPUT, f"TMP_OUTPUT_DIR ({folder or 'not set'}) is no folder; it takes the results")
        print(work(source, folder))
    except clip.ClipError as e:
        print(f"{who}:", " ".join(str(e).split()), file=sys.stderr)  # one line, whatever a library said
        return e.code
    except OSError as e:
        print(f"{who}: cannot write the results: {e}", file=sys.stderr)
        return NO_OUTPUT
    return 0


def write_json(path, value):
    # Written aside and renamed, so that nobody ever reads half of it.
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
    os.replace(path + ".part", path)
