"""A sample of broken inputs of every kind: each is taken, or refused in words that name what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.hostile import BAD, KINDS, HostileConfig, mutate, run_hostile, table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory as Linux does")


def test_no_kind_of_broken_input_ends_badly() -> None:
    verdicts = run_hostile(HostileConfig(count=4, seed=7))
    assert [verdict for verdict in verdicts if verdict.outcome in BAD] == []
    assert {verdict.kind for verdict in verdicts} == set(KINDS)
    lines = table(verdicts).splitlines()
    assert len(lines) == 1 + len(KINDS)
    assert lines[0].split()[-len(BAD) :] == list(BAD)


def test_the_same_seed_breaks_alike(tmp_path: Path) -> None:
    import random

    KINDS["structure"].make(tmp_path)
    file = tmp_path / "structure.json"
    whole = file.read_bytes()
    results = []
    for _ in range(2):
        file.write_bytes(whole)
        results.append((mutate(file, random.Random("3")), file.read_bytes()))
    assert results[0] == results[1]
    assert results[0][1] != whole
