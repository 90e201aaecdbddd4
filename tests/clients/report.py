"""A pytest plugin: one JSON line a test in the file that CLIENT_REPORT names, when it starts and when it ends.

The lines outlive the process, so that a test which kills it is known; tests that are in the file are not run again.
"""

import json
import os

import pytest

_path = os.environ["CLIENT_REPORT"]
_seen = set()
if os.path.exists(_path):
    with open(_path) as lines:
        for line in lines:
            try:
                _seen.add(json.loads(line)["test"])
            except ValueError:
                pass  # Cut, when its process was killed, or empty.
_file = open(_path, "a", buffering=1)


def _say(**line):
    _file.write(json.dumps(line) + "\n")


@pytest.fixture
def driver_said(capfd):
    """What the driver says during the test: on stderr where it is in this process, else in the log of its server."""
    log = os.environ.get("CLIENT_DRIVER_LOG")
    begin = os.path.getsize(log) if log else 0

    def said():
        if not log:
            return capfd.readouterr().err
        with open(log, "rb") as file:
            before, now = (part.decode(errors="replace") for part in (file.read(begin), file.read()))
        # A kernel that could not be made is launched again by programs that keep it; it is said once.
        return now if "softgpu: " in now else before + now

    return said


@pytest.fixture(scope="class")
def initialize_from_pytest_config(request):
    # numba-cuda's tests ask for it by name; it stands in their conftest.py, which the wheel does not carry.
    request.cls._dump_failed_filechecks = False


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.nodeid not in _seen]


def pytest_runtest_logstart(nodeid, location):
    _say(test=nodeid)


def pytest_runtest_logreport(report):
    # A part of a test that has passed says nothing of the whole.
    if isinstance(report, pytest.SubtestReport) and report.outcome == "passed":
        return
    if report.when == "call" or report.outcome != "passed":
        _say(test=report.nodeid, outcome=report.outcome, why=_why(report))


def _why(report):
    if report.outcome == "passed":
        return ""
    if report.outcome == "skipped":
        skip = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
        return skip.removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    why = crash.message if crash else str(report.longrepr)
    # What the driver said names the function or the instruction.
    said = [line for line in report.capstderr.splitlines() if line.startswith(("softgpu: ", "rgpu: "))]
    return "\n".join([why.strip().split("\n")[0], *said[-1:]])
