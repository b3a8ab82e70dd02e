"""A selection of the test suite on the device: the recipes, what they stand on, and what measures."""

from __future__ import annotations

import subprocess
import sys
import time
from xml.etree import ElementTree

from compress.machine import usable_cores
from tools.experiments.experiment import environment
from tools.gpu.workload import Workload
from tools.results import REPOSITORY

SELECTION = (
    "tests/recipes", "tests/training", "tests/deciding", "tests/elastic", "tests/evaluation", "tests/search",
    "tests/running", "tests/model/test_able_to_skip.py", "tests/model/test_next_aspect.py",
)  # fmt: skip
TINY = ("tests/training/test_ctc.py",)
CPU_ALONE = "not two_ranks and not two_processes"
"""Several processes cannot share one GPU."""
SHARE = 0.3
PROCESSES = 12


def suite_rows(work: Workload) -> list[list[str]]:
    """What became of the tests.

    Raises:
        ValueError: if one failed; the log names it.
    """
    report, log = work.folder / "tests.xml", work.folder / "tests.log"
    work.folder.mkdir(parents=True, exist_ok=True)
    processes = work.sized(min(PROCESSES, usable_cores()), 0)
    options = ["--numprocesses", str(processes), "--dist", "worksteal", f"--junitxml={report}"]
    selection = TINY if work.tiny else SELECTION
    command = [sys.executable, "-m", "pytest", "-q", "-k", CPU_ALONE, *options, *selection]
    start = time.perf_counter()
    with log.open("w") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment(), stdout=file, stderr=file, check=False,
            timeout=SHARE * work.seconds_left,
        )  # fmt: skip
    if done.returncode not in (0, 1):
        raise ValueError(f"pytest ended with {done.returncode}; {log} says why.")
    suite = ElementTree.parse(report).getroot()[0].attrib
    bad, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    passed = int(suite["tests"]) - bad - skipped
    if bad:
        print(log.read_text()[-8000:])
    return [[" ".join(selection), str(passed), str(bad), str(skipped), f"{time.perf_counter() - start:.0f}"]]
