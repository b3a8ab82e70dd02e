"""The house: which room may import which, named floor by floor, and how long its files are."""

from __future__ import annotations

import re

import pytest

from tools.house import PACKAGE, arrows, room_of_file, rooms

FLOORS = (
    ("files", "structure", "config", "machine"),
    ("reports", "conformers", "data/formats"),
    ("surgery", "data"),
    ("running",),
    ("cost", "curvature"),
    ("latency",),
    ("deciding",),
    ("model",),
    ("checkpoint",),
    ("elastic/supernet", "elastic", "training/loop", "runtimes"),
    ("evaluation",),
    ("exporting",),
    ("profiling",),
    ("shrinking",),
    ("training", "transcription"),
    ("search",),
    ("", "demo", "layers"),
    ("cli",),
)
"""A room imports from floors above its own line only; "" is what `import compress` gives, and `__main__`."""
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
LONGEST_FILE = 400
LOOSE_FILES = 6


def test_no_import_climbs_and_floors_hold_no_circle() -> None:
    """Verbs are at the top, and `__main__` calls them: with that exception every arrow points to a lower floor."""
    climbing = [
        f"{arrow.file} ({arrow.room}) imports {arrow.other}"
        for arrow in arrows()
        if FLOOR[arrow.room] <= FLOOR[arrow.other] and arrow.file != "__main__.py"
    ]
    assert not climbing


def test_every_room_has_a_floor() -> None:
    assert rooms() == set(FLOOR)
    loose = {room_of_file(file) for file in PACKAGE.glob("*.py")} - {""}
    assert len(loose) <= LOOSE_FILES


@pytest.mark.parametrize("folder", ["compress", "recipes", "tests", "tools"])
def test_files_are_short(folder: str) -> None:
    lengths = {
        file.relative_to(PACKAGE.parent).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in (PACKAGE.parent / folder).rglob("*.py")
        if "fixtures" not in file.parts
    }
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_FILE} == {}


def test_tests_share_helpers_and_import_no_other_test() -> None:
    tests = PACKAGE.parent / "tests"
    named = [
        (file.relative_to(tests).as_posix(), line)
        for file in tests.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(from|import) tests\b(?!\.helpers| import helpers)", line)
    ]
    assert not named
