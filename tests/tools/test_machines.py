"""Several machines on this one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tools import machines
from tools.kill_and_resume import launchers


def test_each_machine_is_a_launcher_with_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(words: list[str]) -> Any:
        started.append(words)
        number = len(started)
        return SimpleNamespace(wait=lambda: 3 * (number - 1))

    monkeypatch.setattr(machines.subprocess, "Popen", start)
    assert machines.start_machines(2, ["recipes/prune.py", "--seed", "1"]) == 3
    assert [words[-4:] for words in started] == [[rank, "recipes/prune.py", "--seed", "1"] for rank in "01"]
    assert started[0][:-4] == started[1][:-4]  # the same place to meet
    assert (launchers(1), launchers(2)) == ([], ["-m", "tools.machines", "2"])
