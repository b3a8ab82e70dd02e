"""The folder of a run is one folder, whichever machine looks at it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.training.loop import claim


def test_a_folder_that_only_one_machine_sees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(rank=lambda: 0, from_main=lambda value: value, gather=lambda value: [value, False])
    monkeypatch.setattr(claim, "processes", other)
    message = r"is not the same folder on every machine: process 1 does not see .* share"
    with pytest.raises(ValueError, match=message), claim.claimed(tmp_path / "run"):
        pass
    monkeypatch.setattr(claim, "processes", SimpleNamespace(**{**vars(other), "gather": lambda value: [value, value]}))
    with claim.claimed(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [claim.LOCK]
