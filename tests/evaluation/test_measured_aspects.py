"""Every aspect of a model that runs in part is measured, by a file that nothing else of the evaluation names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from compress.evaluation import measured_aspects
from compress.evaluation.measured_aspects import MEASURED_ASPECTS
from compress.running.aspects import ASPECTS

OWN_FILES = {"measured_skipping.py", "measured_sizes.py", "usage.py", "skipping_plot.py", "measured_aspects.py"}
FOLDER = Path(measured_aspects.__file__).parent


def test_every_aspect_is_measured_under_its_name() -> None:
    assert {aspect.name for aspect in MEASURED_ASPECTS} == {aspect.name for aspect in ASPECTS}
    assert len(MEASURED_ASPECTS) == len(ASPECTS)


@pytest.mark.parametrize("aspect", MEASURED_ASPECTS, ids=lambda aspect: aspect.name)
def test_an_aspect_says_what_its_entry_holds_and_shows_nothing_without_one(aspect: Any) -> None:
    assert aspect.about
    assert aspect.sections({}) == []
    assert isinstance(aspect.held_still([]), AbstractContextManager)


def test_no_other_file_of_the_evaluation_names_one() -> None:
    files = [file for file in FOLDER.glob("*.py") if file.name not in OWN_FILES]
    words = ("subnet", "elastic", "skipper", "skipping", "activate(")
    assert not [(file.name, word) for file in files for word in words if word in file.read_text(encoding="utf-8")]
