"""A selection of the test suite on the device: the recipes, what they stand on, and what measures."""

from __future__ import annotations

import sys
import time
from xml.etree import ElementTree

from compress.machine import usable_cores
from tools.experiments.experiment import execute
from tools.gpu.workload import Workload

SELECTION = (
    "tests/recipes", "tests/training", "tests/deciding", "tests/curvature", "tests/shrinking", "tests/elastic",
    "tests/evaluation", "tests/search", "tests/running", "tests/model/test_able_to_skip.py",
    "tests/model/test_next_aspect.py",
)  # fmt: skip
TINY = ("tests/training/loop/test_losses.py",)
CPU_ALONE = "not two_ranks and not two_processes and not two_machines"
"""Several processes cannot share one GPU."""
LEAST_SECONDS, SPARED = 30, 5
LOGGED = 8000
PROCESSES = 12


def suite_rows(work: Workload) -> list[list[str]]:
    """What became of the tests.

    Raises:
        ValueError: if one failed, with the end of the log, which names it.
    """
    report, log = work.folder.absolute() / "tests.xml", work.folder.absolute() / "tests.log"
    if work.seconds_left < LEAST_SECONDS:
        return [["no time was left", "", "", "", ""]]
    processes = work.sized(min(PROCESSES, usable_cores()), 0)
    options = ["--numprocesses", str(processes), "--dist", "worksteal", f"--junitxml={report}"]
    selection = TINY if work.tiny else SELECTION
    start = time.perf_counter()
    command = (sys.executable, "-m", "pytest", "-q", "-k", CPU_ALONE, *options, *selection)
    execute(command, log, stop=False, seconds=work.seconds_left - SPARED)
    if not report.exists():
        raise ValueError(f"pytest has left no report; {log} says why.")
    suite = ElementTree.parse(report).getroot()[0].attrib
    bad, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    passed = int(suite["tests"]) - bad - skipped
    if bad:
        raise ValueError(f"{bad} of {passed + bad} tests failed:\n{log.read_text()[-LOGGED:]}")
    return [[" ".join(selection), str(passed), str(bad), str(skipped), f"{time.perf_counter() - start:.0f}"]]
