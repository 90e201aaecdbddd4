"""Keeps a handler alive for rgpu-faas: imports it once, then calls its `handle(job)` for each job (docs/faas.md, "Warm functions").

Written into the instance's folder by the runner, and run as `python3 rgpu_warm.py HANDLER.py`. Needs the standard library alone.
"""

import gc
import json
import os
import socket
import sys
import traceback
import types


def load(path):
    """The handler as a module; its own folder and the function's are where its imports are looked for."""
    folders = [os.path.dirname(os.path.abspath(path)), os.environ.get("RGPU_FUNCTION_DIR")]
    sys.path[:1] = [folder for folder in dict.fromkeys(folders) if folder]
    name = os.path.splitext(os.path.basename(path))[0]
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    # Not by way of a file of bytecode, which another version of the same second and length would be taken for.
    with open(path, "rb") as source:
        code = compile(source.read(), path, "exec")
    exec(code, module.__dict__)
    if not callable(getattr(module, "handle", None)):
        raise AttributeError(path + " defines no function handle(job)")
    return module


def call(handler, job):
    """Calls the handler with the job's variables and folder about it, as a script has them. What the answer says."""
    try:
        os.environ.update(job)
        os.chdir(os.path.dirname(job["TMP_OUTPUT_DIR"]))
        handler.handle(job)
        return {"ok": True}
    except SystemExit as end:
        if end.code is None or end.code == 0:
            return {"ok": True}
        code = end.code if isinstance(end.code, int) else 1
        if code is not end.code:
            print(end.code, file=sys.stderr)
        return {"error": "exit code %d" % code, "exit_code": code}
    except Exception as error:
        traceback.print_exc()
        return {"error": "".join(traceback.format_exception_only(type(error), error)).strip()[:2000]}


def restore(home, kept, job):
    """What the next job finds is what the last one found."""
    os.chdir(home)
    for name in job:
        os.environ.pop(name, None)
    os.environ.update({name: kept[name] for name in job if name in kept})
    if "tempfile" in sys.modules:
        # It remembers the folder of the job that was the first to ask.
        sys.modules["tempfile"].tempdir = None


def main(path):
    channel = socket.socket(fileno=int(os.environ.pop("RGPU_WARM_FD")))
    # Programs that the handler starts have no business with it.
    channel.set_inheritable(False)
    incoming = channel.makefile("rb")
    home, kept = os.getcwd(), dict(os.environ)

    def say(what):
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass  # the handler has closed it
        channel.sendall(json.dumps(what).encode() + b"\n")

    handler = load(path)
    idle, resume = getattr(handler, "idle", None), getattr(handler, "resume", None)
    # What has been loaded stays; looking through it again and again for garbage would cost every job.
    gc.collect()
    gc.freeze()
    say({"ready": True})
    while True:
        is_idle = False
        if idle is not None:
            channel.settimeout(float(getattr(handler, "IDLE_AFTER", 10)))
            try:
                # `incoming` holds nothing back: a job comes after the answer to the one before.
                channel.recv(1, socket.MSG_PEEK)
            except socket.timeout:
                idle()
                is_idle = True
            channel.settimeout(None)
        line = incoming.readline()
        if not line:
            return
        job = json.loads(line)
        if is_idle and resume is not None:
            resume()
        answer = call(handler, job)
        restore(home, kept, job)
        answer["job"] = job["JOB_UUID"]
        say(answer)


if __name__ == "__main__":
    main(sys.argv[1])
