"""A pytest plugin: one JSON line a test in the file that CLIENT_REPORT names, when it starts and when it ends.

The lines outlive the process, so that a test which kills it is known.
"""

import json
import os

import pytest

_file = open(os.environ["CLIENT_REPORT"], "a", buffering=1)


def _say(**line):
    _file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="class")
def initialize_from_pytest_config(request):
    # Stands in the repository's conftest.py, which the wheel does not carry.
    request.cls._dump_failed_filechecks = False


def pytest_collection_modifyitems(items):
    done = set(filter(None, os.environ.get("CLIENT_DONE", "").split("\n")))
    items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_logstart(nodeid, location):
    _say(test=nodeid)


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        why = ""
        if report.outcome == "skipped":
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        elif report.outcome == "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
        _say(test=report.nodeid, outcome=report.outcome, why=why)
